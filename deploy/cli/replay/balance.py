"""The balance at the end of a run: what every part says happened, held against each other. Pure.

Its rows are the platform's invariants that can be counted from outside: conservation of stock, one audit record for
each outbox row, one confirmation and one count for each order (ARCHITECTURE.md lists all of them).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

_PLACED: Final = "weft.orders.v1.OrderPlaced"
_CANCELLED: Final = "weft.orders.v1.OrderCancelled"


@dataclass(frozen=True, slots=True)
class Row:
    """One comparison: both sides by name, and whether they agree."""

    name: str
    left: str
    right: str
    even: bool


@dataclass(frozen=True, slots=True)
class Facts:
    """What was read of the parts: the services' facts by name, the workers', and the mail sink's count."""

    services: Mapping[str, Mapping[str, Any]]
    workers: Mapping[str, Any]
    mail: Mapping[str, Any]


def rows(facts: Facts) -> Sequence[Row]:
    """Compare what the parts say, in the order of the data's way: outbox, audit, roll-up, mail, stock."""
    outbox: dict[str, int] = {}
    for service in facts.services.values():
        for event, count in service["outbox"].items():
            outbox[event] = outbox.get(event, 0) + int(count)
    audit = {event: int(count) for event, count in facts.workers["audit"].items()}
    result = [
        _compare(f"{event.rsplit('.', 1)[-1]} events", ("outbox", outbox.get(event, 0)), ("audit", audit.get(event, 0)))
        for event in sorted(outbox.keys() | audit.keys())
    ]
    placed, cancelled = outbox.get(_PLACED, 0), outbox.get(_CANCELLED, 0)
    orders, rollup = facts.services["orders"], facts.workers["rollup"]
    email, kinds = facts.workers["email"], facts.mail["by_kind"]
    result += [
        _compare("orders stored", ("orders", int(orders["orders"])), ("OrderPlaced", placed)),
        _compare("orders counted", ("roll-up", int(rollup["orders"])), ("OrderPlaced", placed)),
        _compare("cancellations counted", ("roll-up", int(rollup["cancellations"])), ("OrderCancelled", cancelled)),
        _compare("confirmations sent", ("e-mail worker", int(email["confirmations"])), ("OrderPlaced", placed)),
        _compare("confirmations received", ("mailbox", int(kinds.get("order-placed", 0))), ("OrderPlaced", placed)),
    ]
    stock = orders["stock"]
    left = int(stock["movements"])
    right = int(stock["on_hand"]) + int(stock["ordered_net"])
    wrong = stock["mismatched"]
    note = f" (not for {', '.join(wrong)})" if wrong else ""
    result.append(
        Row("stock conserved", f"put in {left:,}", f"left + ordered {right:,}{note}", left == right and not wrong)
    )
    return result


def lines_row(*, lines: int, taken: int, merged: int, refused: int) -> Row:
    """Every line of the file is accounted for once."""
    booked = taken + merged + refused
    left = f"taken {taken:,} + merged {merged:,} + refused {refused:,}"
    return Row("lines of the file", left, f"lines {lines:,}", booked == lines)


def steps_row(*, planned: int, done: int) -> Row:
    """Every call that the plan asks for was answered."""
    return _compare("orders and cancellations", ("planned", planned), ("acknowledged", done))


def _compare(name: str, left: tuple[str, int], right: tuple[str, int]) -> Row:
    return Row(name, f"{left[0]} {left[1]:,}", f"{right[0]} {right[1]:,}", left[1] == right[1])
