"""What events add to the sales of a day: a pure fold.

An order counts on the day it was placed, a cancellation on the day it was made (both in UTC); a cancellation takes
pieces and revenue back. Addition commutes, so neither the order of events nor the size of a batch changes a sum.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import date
from typing import Final

from google.type.money_pb2 import Money

from svc.chassis import money
from svc.chassis.errors import InvalidArgument
from weft.orders.v1.events_pb2 import OrderCancelled, OrderPlaced
from worker.delivery import Event, timestamp
from worker.errors import Permanent

_CURRENCY: Final = re.compile(r"[A-Z]{3}")


@dataclass(frozen=True, slots=True)
class Change:
    """What is to be added to the sales of one day in one currency."""

    day: date
    currency: str
    orders: int = 0
    cancellations: int = 0
    pieces: int = 0
    revenue_minor: int = 0


def fold(events: Iterable[Event]) -> list[Change]:
    """The sum of what events change, by day and currency, in that order."""
    sums: dict[tuple[date, str], Change] = {}
    for event in events:
        change = change_of(event)
        key = (change.day, change.currency)
        sums[key] = _add(sums[key], change) if key in sums else change
    return [sums[key] for key in sorted(sums)]


def change_of(event: Event) -> Change:
    """What one event changes."""
    match event.payload:
        case OrderPlaced() as placed:
            currency, total = _amount(placed.total)
            day = timestamp(placed, "place_time").date()
            pieces = sum(item.quantity for item in placed.items)
            return Change(day, currency, orders=1, pieces=pieces, revenue_minor=total)
        case OrderCancelled() as cancelled:
            currency, total = _amount(cancelled.total)
            day = timestamp(cancelled, "cancel_time").date()
            pieces = sum(item.quantity for item in cancelled.items)
            return Change(day, currency, cancellations=1, pieces=-pieces, revenue_minor=-total)
        case _:
            raise Permanent(f"the roll-up does not consume {event.type}")


def _amount(total: Money) -> tuple[str, int]:
    if not _CURRENCY.fullmatch(total.currency_code):
        raise Permanent("total has no currency")
    try:
        return total.currency_code, money.to_minor(total)
    except InvalidArgument as error:
        raise Permanent("total is not an amount") from error


def _add(left: Change, right: Change) -> Change:
    return replace(
        left,
        orders=left.orders + right.orders,
        cancellations=left.cancellations + right.cancellations,
        pieces=left.pieces + right.pieces,
        revenue_minor=left.revenue_minor + right.revenue_minor,
    )
