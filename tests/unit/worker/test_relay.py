"""The order in which claimed rows go out; what a database has to say is in the integration tests."""

import uuid
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.errors import Outage
from worker.relay import Row, confirmed, waves


def rows(keys: Sequence[str]) -> list[Row]:
    return [Row(uuid.UUID(int=n), "t", key, b"", "", n) for n, key in enumerate(keys)]


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
