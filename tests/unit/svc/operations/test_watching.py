"""However many watch, each source is asked once a round; who hangs holds up nobody, and news is told at once."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import pytest

from svc.chassis.clock import SystemClock
from svc.chassis.errors import Unavailable
from svc.operations import watching
from svc.operations.sources import SourceAwayError
from svc.operations.watching import Poll, Reading, Watching
from tests.waiting import eventually

DEADLINE_S = 20.0


class Source:
    """Says what it was told to say, and counts how often it was asked."""

    def __init__(self, value: object = "first") -> None:
        self.value = value
        self.asked = 0
        self.error: Exception | None = None

    def __call__(self) -> object:
        self.asked += 1
        if self.error is not None:
            raise self.error
        return self.value


def seen(readings: Mapping[str, Reading], _now: datetime) -> Mapping[str, Reading]:
    return dict(readings)


@contextmanager
def running(*polls: Poll, compose: Callable[..., Any] = seen) -> Iterator[Watching[Any]]:
    made = Watching(polls, compose, clock=SystemClock())
    made.start()
    try:
        yield made
    finally:
        made.stop()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "PAUSE_S", 0.01)
    monkeypatch.setattr(watching, "EVERY_S", 0.1)
    monkeypatch.setattr(watching, "FIRST_S", 0.2)


def until(made: Watching[Any], fits: Callable[[Mapping[str, Reading]], bool]) -> Mapping[str, Reading]:
    """The first look that fits."""
    number, ends = 0, threading.Event()
    timer = threading.Timer(DEADLINE_S, ends.set)
    timer.start()
    try:
        while not ends.is_set():
            found = made.next(number, 1.0)
            if found is not None:
                number = found[0]
                if fits(found[1]):
                    return found[1]  # type: ignore[no-any-return]
    finally:
        timer.cancel()
    raise AssertionError("no look fitted")


def test_nobody_is_asked_before_somebody_watches() -> None:
    source = Source()
    with running(Poll("it", source, 0.01)) as made:
        assert made.next(0, 0.05) is None
        assert 0 == source.asked


def test_the_first_look_has_what_every_source_said() -> None:
    with running(Poll("one", Source(1), 60.0), Poll("two", Source(2), 60.0)) as made, made.open():
        found = made.next(0, DEADLINE_S)

    assert found is not None
    assert {"one": 1, "two": 2} == {name: reading.value for name, reading in found[1].items()}
    assert {""} == {reading.problem for reading in found[1].values()}


def test_many_watchers_cost_a_source_one_question_a_round() -> None:
    source = Source()
    with running(Poll("it", source, 60.0)) as made:
        for _ in range(50):
            with made.open():
                assert made.next(0, DEADLINE_S) is not None

    assert 1 == source.asked


def test_news_are_looked_at_before_the_next_round(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "EVERY_S", 600.0)
    source = Source()
    with running(Poll("it", source, 0.01)) as made, made.open():
        assert "first" == until(made, lambda look: True)["it"].value
        source.value = "second"

        assert until(made, lambda look: look["it"].value == "second")


def test_a_source_that_hangs_is_away_and_the_others_are_told_in_time() -> None:
    hangs = threading.Event()
    with running(Poll("hung", lambda: hangs.wait(DEADLINE_S), 1.0), Poll("well", Source(2), 0.01)) as made, made.open():
        found = until(made, lambda look: look["well"].value == 2)
        assert "it has not been asked yet" == found["hung"].problem
        hangs.set()


def test_an_answer_that_is_old_counts_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "LATE_S", 0.05)
    hangs, first = threading.Event(), threading.Event()

    def once() -> object:
        if not first.is_set():
            first.set()
            return 1
        return hangs.wait(DEADLINE_S)

    with running(Poll("it", once, 0.01), Poll("other", Source(), 0.01)) as made, made.open():
        found = until(made, lambda look: bool(look["it"].problem))
        assert found["it"].problem.startswith("it: no answer for")
        assert found["it"].value is None
        hangs.set()


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (SourceAwayError("it: nobody listens there"), "it: nobody listens there"),
        (ValueError("odd"), "it: odd"),
        (ZeroDivisionError(), "it: its answer could not be read"),
    ],
)
def test_a_source_that_fails_says_why_and_is_asked_again(error: Exception, says: str) -> None:
    source = Source()
    source.error = error
    with running(Poll("it", source, 0.01)) as made, made.open():
        assert until(made, lambda look: look["it"].problem == says)
        source.error = None
        assert until(made, lambda look: look["it"].value == "first")["it"].answered is not None


def test_a_look_that_cannot_be_made_is_no_end_of_looking() -> None:
    failing = [True]

    def compose(readings: Mapping[str, Reading], now: datetime) -> Mapping[str, Reading]:
        if failing.pop() if failing else False:
            raise KeyError("odd")
        return seen(readings, now)

    with running(Poll("it", Source(), 0.01), compose=compose) as made, made.open():
        assert until(made, lambda look: look["it"].value == "first")


def test_whoever_comes_back_later_gets_nothing_that_was_true_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "LINGER_S", 0.0)
    source = Source()
    with running(Poll("it", source, 0.01)) as made:
        with made.open():
            until(made, lambda look: True)
        resting = []
        eventually(lambda: resting.append(source.asked) or resting[-2:] == [source.asked] * 2)
        source.value = "second"

        with made.open():
            found = made.next(0, DEADLINE_S)

    assert found is not None
    assert "second" == found[1]["it"].value


def test_whoever_watches_when_looking_ends_is_told_to_go_elsewhere() -> None:
    with running(Poll("it", Source(), 60.0)) as made, made.open():
        number = until_number(made)
        threading.Timer(0.05, made.stop).start()
        with pytest.raises(Unavailable) as told:
            made.next(number + 10, DEADLINE_S)

    assert "DRAINING" == told.value.reason


def until_number(made: Watching[Any]) -> int:
    found = made.next(0, DEADLINE_S)
    assert found is not None
    return found[0]
