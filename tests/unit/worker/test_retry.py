"""The table of outcomes."""

import pytest

from weft.options.v1.policy_pb2 import EventPolicy
from weft_protos import policy
from worker.delivery import DeadLetter, Outcome, Retry
from worker.errors import Permanent, Transient
from worker.retry import PAUSE_MAX_S, PAUSE_MIN_S, ladder, outcome, pause_s

PAUSES = (1.0, 2.0, 30.0)


@pytest.mark.parametrize(
    ("attempt", "error", "expected"),
    [
        (1, Permanent("no"), DeadLetter("no")),
        (1, Transient("not yet"), Retry(1.0)),
        (3, Transient("not yet"), Retry(30.0)),
        (4, Transient("not yet"), DeadLetter("failed 4 times, the last time: not yet")),
        (1, KeyError("secret"), Retry(1.0)),
        (4, KeyError("secret"), DeadLetter("failed 4 times, the last time: unexpected KeyError")),
        (10**6, Transient("forged"), DeadLetter("failed 1000000 times, the last time: forged")),
    ],
)
def test_failure_is_answered_by_kind_and_count(attempt: int, error: Exception, expected: Outcome) -> None:
    assert expected == outcome(attempt, error, PAUSES)


def test_an_event_waits_what_its_contract_says_and_one_that_no_contract_knows_the_usual() -> None:
    assert (1.0, 2.0, 5.0, 10.0) == ladder("weft.orders.v1.OrderPlaced")
    assert policy.RETRY_PAUSES_S == ladder("weft.orders.v1.StockDepleted") == ladder("weft.nobody.v1.Knows")


def said(*pauses: float, deliveries: int = 0) -> tuple[float, ...]:
    found = EventPolicy(max_deliveries=deliveries)
    for pause in pauses:
        found.retry_after.add().FromNanoseconds(round(pause * 1e9))
    return policy.retry_pauses(found)


def test_a_contract_says_pauses_deliveries_or_both() -> None:
    assert policy.RETRY_PAUSES_S == said()
    assert (0.5, 60.0) == said(0.5, 60)
    assert (0.5, 60.0, 60.0, 60.0) == said(0.5, 60, deliveries=5)
    assert () == said(deliveries=1)
    assert (2.0,) * 9 == said(deliveries=10)


def test_a_reason_is_bounded() -> None:
    assert DeadLetter("x" * 500) == outcome(1, Permanent("x" * 10_000), PAUSES)


def test_pauses_grow_to_a_bound_and_are_never_the_same_for_all() -> None:
    assert all(PAUSE_MIN_S / 2 <= pause_s(1) <= PAUSE_MIN_S for _ in range(100))
    assert all(PAUSE_MAX_S / 2 <= pause_s(10_000) <= PAUSE_MAX_S for _ in range(100))
    assert len({pause_s(3) for _ in range(100)}) > 1
