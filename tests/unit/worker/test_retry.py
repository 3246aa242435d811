"""The table of outcomes."""

import pytest

from worker.delivery import DeadLetter, Outcome, Retry
from worker.errors import Permanent, Transient
from worker.retry import ATTEMPTS_MAX, PAUSE_MAX_S, PAUSE_MIN_S, outcome, pause_s

LATER = Retry(2.0)


@pytest.mark.parametrize(
    ("attempt", "error", "expected"),
    [
        (1, Permanent("no"), DeadLetter("no")),
        (1, Transient("not yet"), LATER),
        (4, Transient("not yet"), LATER),
        (5, Transient("not yet"), DeadLetter("failed 5 times, the last time: not yet")),
        (1, KeyError("secret"), LATER),
        (5, KeyError("secret"), DeadLetter("failed 5 times, the last time: unexpected KeyError")),
        (10**6, Transient("forged"), DeadLetter("failed 1000000 times, the last time: forged")),
    ],
)
def test_failure_is_answered_by_kind_and_count(attempt: int, error: Exception, expected: Outcome) -> None:
    assert expected == outcome(attempt, error)


def test_an_event_is_delivered_five_times_at_the_most() -> None:
    deliveries = [attempt for attempt in range(1, 10) if isinstance(outcome(attempt, Transient("")), Retry)]

    assert ATTEMPTS_MAX - 1 == len(deliveries)


def test_a_reason_is_bounded() -> None:
    assert DeadLetter("x" * 500) == outcome(1, Permanent("x" * 10_000))


def test_pauses_grow_to_a_bound_and_are_never_the_same_for_all() -> None:
    assert all(PAUSE_MIN_S / 2 <= pause_s(1) <= PAUSE_MIN_S for _ in range(100))
    assert all(PAUSE_MAX_S / 2 <= pause_s(10_000) <= PAUSE_MAX_S for _ in range(100))
    assert len({pause_s(3) for _ in range(100)}) > 1
