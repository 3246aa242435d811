"""The order in which claimed rows go out; what a database has to say is in the integration tests."""

import uuid
from collections.abc import Callable, Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.errors import Outage
from worker.relay import BATCH_MAX, Batch, Relays, Row, Scan, answers, waves
from worker.retry import PAUSE_MAX_S


def rows(keys: Sequence[str]) -> list[Row]:
    return [Row(uuid.UUID(int=n), "t", key, b"", "", n) for n, key in enumerate(keys)]


def confirmed(rows: Sequence[Row], send: Callable[[Sequence[Row]], list[bool]]) -> Iterator[Row]:
    return (row for row, taken in answers(rows, send) if taken)


class Broker:
    """Takes everything but the sequences it refuses; goes away after some calls."""

    def __init__(self, *, refused: Sequence[int] = (), away_after: int = 10**6) -> None:
        self.refused, self.away_after = refused, away_after
        self.calls: list[list[int]] = []

    def send(self, batch: Sequence[Row]) -> list[bool]:
        if len(self.calls) == self.away_after:
            raise Outage("broker away")
        self.calls.append([row.sequence for row in batch])
        return [row.sequence not in self.refused for row in batch]


def test_rows_of_different_keys_go_out_together() -> None:
    broker = Broker()

    assert [0, 1, 2] == [row.sequence for row in confirmed(rows(["a", "b", "c"]), broker.send)]
    assert [[0, 1, 2]] == broker.calls


def test_the_next_row_of_a_key_waits_for_the_one_before() -> None:
    broker = Broker()
    list(confirmed(rows(["a", "b", "a", "a", "b"]), broker.send))

    assert [[0, 1], [2, 4], [3]] == broker.calls


def test_rows_without_a_key_have_no_order() -> None:
    broker = Broker(refused=[0])

    assert [1, 2] == [row.sequence for row in confirmed(rows(["", "", ""]), broker.send)]
    assert [[0, 1, 2]] == broker.calls


def test_after_a_refusal_the_later_rows_of_its_key_stay() -> None:
    broker = Broker(refused=[0])

    assert [1, 3] == [row.sequence for row in confirmed(rows(["a", "b", "a", "b"]), broker.send)]
    assert [[0, 1], [3]] == broker.calls


def test_what_was_refused_is_told() -> None:
    broker = Broker(refused=[0])
    told = [(row.sequence, taken) for row, taken in answers(rows(["a", "b", "a"]), broker.send)]

    assert [(0, False), (1, True)] == told


def test_what_was_confirmed_before_an_outage_is_known() -> None:
    sending = confirmed(rows(["a", "a", "a"]), Broker(away_after=2).send)
    taken = [next(sending).sequence, next(sending).sequence]

    with pytest.raises(Outage):
        next(sending)
    assert [0, 1] == taken


@given(st.lists(st.sampled_from(["", "a", "b", "c"]), max_size=30))
def test_waves_keep_every_row_once_and_every_key_in_order(keys: list[str]) -> None:
    split = waves(rows(keys))

    assert list(range(len(keys))) == sorted(row.sequence for wave in split for row in wave)
    for wave in split:
        named = [row.ordering_key for row in wave if row.ordering_key]
        assert len(named) == len(set(named))
    for key in "abc":
        sent = [row.sequence for wave in split for row in wave if row.ordering_key == key]
        assert sorted(sent) == sent


def full(newest: int, *, refused_first: int | None = None, published: int = 0) -> Batch:
    refused = int(refused_first is not None)
    return Batch(published, refused, refused_first, locked=BATCH_MAX, newest=newest)


def rest(newest: int, *, refused_first: int | None = None, published: int = 0) -> Batch:
    refused = int(refused_first is not None)
    return Batch(published, refused, refused_first, locked=1, newest=newest)


def test_a_batch_that_the_broker_wholly_refused_is_stuck() -> None:
    assert [True, False, False] == [
        rest(9, refused_first=3).stuck,
        rest(9, refused_first=3, published=1).stuck,
        rest(9).stuck,
    ]


def test_while_the_broker_takes_everything_each_batch_begins_at_the_oldest_row() -> None:
    scan = Scan()
    scan.end(full(300, published=BATCH_MAX), 0.0)

    assert -1 == scan.begin(0.0)


def test_after_a_refusal_the_pass_goes_on_behind_it_to_its_end_and_starts_over_after_a_pause() -> None:
    scan = Scan()
    scan.end(full(300, refused_first=5), 0.0)
    assert 300 == scan.begin(100.0)

    scan.end(full(500, refused_first=301), 100.0)
    assert 500 == scan.begin(200.0)

    scan.end(rest(510, published=1), 200.0)
    assert -1 == scan.begin(200.0)


def test_what_is_new_is_taken_while_what_was_refused_rests() -> None:
    scan = Scan()
    scan.end(rest(10, refused_first=5), 0.0)
    assert 10 == scan.begin(0.0)

    scan.end(rest(12, published=2), 0.0)
    assert 12 == scan.begin(0.0)
    scan.end(rest(12), 0.0)
    assert (12, -1) == (scan.begin(0.0), scan.begin(PAUSE_MAX_S))


def pause_after(passes: int, *, progress: bool) -> float:
    """How long the last of some passes with a refusal makes the next one wait, roughly."""
    scan, now = Scan(), 0.0
    for number in range(passes):
        scan.begin(now)
        scan.end(rest(100, refused_first=number if progress else 0, published=1), now)
        waited = 0.0
        while scan.begin(now + waited) != -1:
            waited += 0.01
        now += waited
    return waited


def test_the_pause_grows_while_passes_fail_at_the_same_row_and_not_otherwise() -> None:
    assert 0.2 >= pause_after(8, progress=True)
    assert PAUSE_MAX_S / 2 <= pause_after(8, progress=False) <= PAUSE_MAX_S + 0.1


class StoppableRelay:
    """Notes in a shared list what it is asked."""

    def __init__(self, name: str, said: list[str]) -> None:
        self.name, self.said = name, said

    def ask_to_stop(self) -> None:
        self.said.append(f"ask {self.name}")

    def stop(self, timeout: float) -> None:
        self.said.append(f"join {self.name}")

    def alive(self) -> bool:
        return self.name != "dead"


def test_all_relays_are_asked_to_stop_before_the_first_is_waited_for() -> None:
    said: list[str] = []

    Relays([StoppableRelay("a", said), StoppableRelay("b", said)]).stop(5.0)

    assert ["ask a", "ask b", "join a", "join b"] == said


def test_relays_are_alive_when_all_of_them_are() -> None:
    assert [True, False] == [
        Relays([StoppableRelay(name, []) for name in names]).alive() for names in (["a", "b"], ["a", "dead"])
    ]
