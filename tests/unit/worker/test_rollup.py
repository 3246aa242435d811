"""The fold from events to the sales of days."""

from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.worker import NOON, event, order_cancelled, order_placed, user_created
from weft.orders.v1.events_pb2 import OrderPlaced
from worker.delivery import Event
from worker.errors import Permanent
from worker.handlers.analytics.rollup import Change, fold

DAY = NOON.date()
MIDNIGHT = datetime(2011, 12, 6, tzinfo=UTC)


def test_orders_add_and_cancellations_take_back() -> None:
    events = [event(order_placed(minor=250)), event(order_placed(minor=1000)), event(order_cancelled(minor=125))]

    assert [Change(DAY, "GBP", orders=2, cancellations=1, pieces=3, revenue_minor=1125)] == fold(events)


def test_each_counts_on_its_own_day_in_utc() -> None:
    late = MIDNIGHT - timedelta(microseconds=1)
    elsewhere = MIDNIGHT.astimezone(timezone(timedelta(hours=-5)))
    events = [event(order_cancelled(when=elsewhere)), event(order_placed(when=late))]

    assert [(date(2011, 12, 5), 1, 0), (date(2011, 12, 6), 0, 1)] == [
        (change.day, change.orders, change.cancellations) for change in fold(events)
    ]


def test_currencies_are_not_mixed_and_come_in_order() -> None:
    euro = order_placed()
    euro.total.currency_code = "EUR"

    assert ["EUR", "GBP"] == [change.currency for change in fold([event(order_placed()), event(euro)])]


def test_nothing_changes_nothing() -> None:
    assert [] == fold([])


def without(field: str) -> OrderPlaced:
    placed = order_placed()
    placed.ClearField(field)
    return placed


def with_total(**fields: object) -> OrderPlaced:
    placed = order_placed()
    for name, value in fields.items():
        setattr(placed.total, name, value)
    return placed


@pytest.mark.parametrize(
    "payload",
    [
        user_created(),
        without("place_time"),
        without("total"),
        with_total(currency_code="gbp"),
        with_total(nanos=1),
        with_total(units=2**63 - 1),
    ],
)
def test_what_cannot_be_counted_is_refused(payload: OrderPlaced) -> None:
    with pytest.raises(Permanent):
        fold([event(payload)])


SALES = st.builds(
    lambda placed, minor, hours: event(
        (order_placed if placed else order_cancelled)(minor=minor, when=NOON + timedelta(hours=hours))
    ),
    st.booleans(),
    st.integers(0, 10**9),
    st.integers(0, 72),
)


@given(st.lists(SALES, max_size=20), st.integers(0, 20))
def test_neither_order_nor_batches_change_a_sum(events: list[Event], cut: int) -> None:
    def sums(*batches: list[Event]) -> dict[object, tuple[int, ...]]:
        totals: dict[object, tuple[int, ...]] = {}
        for batch in batches:
            for change in fold(batch):
                key = (change.day, change.currency)
                new = (change.orders, change.cancellations, change.pieces, change.revenue_minor)
                totals[key] = tuple(map(sum, zip(totals.get(key, (0, 0, 0, 0)), new, strict=True)))
        return totals

    assert sums(events) == sums(events[cut:], events[:cut]) == sums(events[::-1])
