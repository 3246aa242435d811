"""One look for all who watch, whatever it is that they watch."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import pytest

from svc.chassis.errors import Unavailable
from svc.chassis.watches import Watches

WAIT_S = 10.0


class Revisions:
    """Answers looks, counts them, and fails while it is told to."""

    def __init__(self) -> None:
        self.known: dict[str, int] = {}
        self.asked: list[list[str]] = []
        self.failure: Exception | None = None
        self.looked = threading.Event()

    def __call__(self, keys: Sequence[str]) -> Mapping[str, int]:
        self.asked.append(list(keys))
        self.looked.set()
        if self.failure is not None:
            raise self.failure
        return {key: self.known[key] for key in keys if key in self.known}


@contextmanager
def looking(revisions: Revisions) -> Iterator[Watches]:
    watches = Watches(revisions, kind="things", poll_s=0.001)
    watches.start()
    try:
        yield watches
    finally:
        watches.stop()


def test_all_that_is_watched_is_looked_at_together_and_only_while_watched() -> None:
    revisions = Revisions()
    revisions.known = {"a": 1, "b": 5}

    with looking(revisions) as watches:
        with watches.open("a"), watches.open("b") as b, watches.open("b"):
            assert b.wait(after=4, timeout_s=WAIT_S)
        assert {"a", "b"} == set(revisions.asked[-1])
        with watches.open("c"):
            revisions.looked.clear()
            assert revisions.looked.wait(WAIT_S)
            revisions.looked.clear()
            assert revisions.looked.wait(WAIT_S)
        assert ["c"] == revisions.asked[-1]


def test_a_change_before_the_wait_is_not_missed() -> None:
    revisions = Revisions()
    revisions.known = {"a": 2}

    with looking(revisions) as watches, watches.open("a") as watch:
        assert watch.wait(after=1, timeout_s=WAIT_S)
        assert not watch.wait(after=2, timeout_s=0.01)


@pytest.mark.parametrize("failure", [Unavailable(), KeyError("unforeseen")])
def test_looking_goes_on_after_a_failure(failure: Exception) -> None:
    revisions = Revisions()
    revisions.failure = failure

    with looking(revisions) as watches, watches.open("a") as watch:
        assert revisions.looked.wait(WAIT_S)
        revisions.known = {"a": 2}
        revisions.failure = None
        assert watch.wait(after=1, timeout_s=WAIT_S)


def test_stopping_ends_every_watch_with_unavailable() -> None:
    watches = Watches(Revisions(), kind="things", poll_s=0.001)
    watches.start()
    outcomes: list[BaseException] = []

    def wait() -> None:
        try:
            with watches.open("a") as watch:
                watch.wait(after=1, timeout_s=WAIT_S)
        except Unavailable as error:
            outcomes.append(error)

    waiting = threading.Thread(target=wait)
    waiting.start()
    watches.stop()
    waiting.join(WAIT_S)

    assert 1 == len(outcomes)
    assert not watches.alive()
    with pytest.raises(Unavailable), watches.open("b"):
        pass
