"""The balance: even books are called even, and each way in which one part can lose something makes a row uneven."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from deploy.cli.replay.balance import Facts, lines_row, rows, steps_row
from deploy.cli.replay.report import percentile

PLACED, CANCELLED = "weft.orders.v1.OrderPlaced", "weft.orders.v1.OrderCancelled"

EVEN: dict[str, Any] = {
    "services": {
        "identity": {"outbox": {"weft.identity.v1.UserCreated": 4}},
        "orders": {
            "outbox": {PLACED: 3, CANCELLED: 1},
            "orders": 3,
            "stock": {"products": 2, "movements": 30, "on_hand": 20, "ordered_net": 10, "mismatched": []},
        },
    },
    "workers": {
        "audit": {PLACED: 3, CANCELLED: 1, "weft.identity.v1.UserCreated": 4},
        "rollup": {"orders": 3, "cancellations": 1},
        "email": {"confirmations": 3},
    },
    "mail": {"by_kind": {"order-placed": 3}},
}


def uneven(change: Callable[[dict[str, Any]], None]) -> list[str]:
    facts = copy.deepcopy(EVEN)
    change(facts)
    return [row.name for row in rows(Facts(**facts)) if not row.even]


def test_books_that_agree_are_even() -> None:
    assert [] == uneven(lambda facts: None)


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (lambda facts: facts["workers"]["audit"].update({PLACED: 2}), ["OrderPlaced events"]),
        (lambda facts: facts["workers"]["audit"].pop(CANCELLED), ["OrderCancelled events"]),
        (lambda facts: facts["workers"]["audit"].update({"weft.x.v1.Odd": 1}), ["Odd events"]),
        (lambda facts: facts["workers"]["rollup"].update(orders=4), ["orders counted"]),
        (lambda facts: facts["workers"]["rollup"].update(cancellations=0), ["cancellations counted"]),
        (lambda facts: facts["workers"]["email"].update(confirmations=2), ["confirmations sent"]),
        (lambda facts: facts["mail"]["by_kind"].clear(), ["confirmations received"]),
        (lambda facts: facts["services"]["orders"].update(orders=4), ["orders stored"]),
        (lambda facts: facts["services"]["orders"]["stock"].update(on_hand=21), ["stock conserved"]),
        (lambda facts: facts["services"]["orders"]["stock"]["mismatched"].append("22728"), ["stock conserved"]),
    ],
)
def test_what_one_part_loses_or_does_twice_shows(change: Callable[[dict[str, Any]], None], names: list[str]) -> None:
    assert names == uneven(change)


def test_lines_and_calls_are_counted_too() -> None:
    assert lines_row(lines=10, taken=5, merged=2, refused=3).even
    assert not lines_row(lines=10, taken=5, merged=2, refused=2).even
    assert not steps_row(planned=3, done=2).even


@pytest.mark.parametrize(("rank", "expected"), [(50, 2.0), (99, 4.0), (100, 4.0), (0, 1.0)])
def test_a_percentile_is_the_nearest_rank(rank: int, expected: float) -> None:
    assert expected == percentile([4.0, 1.0, 3.0, 2.0], rank)
    assert 0.0 == percentile([], rank)
