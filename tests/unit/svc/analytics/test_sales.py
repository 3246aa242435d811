"""Reading sales."""

from datetime import date

import pytest
from google.type.date_pb2 import Date

from svc.analytics.model import DailySales
from svc.analytics.rpc import AnalyticsHandler
from svc.chassis.errors import InvalidArgument
from svc.chassis.pages import PageTokens
from tests.fakes.analytics import FakeAnalytics, FakeStore, make_call
from weft.analytics.v1 import analytics_pb2

ROWS = (
    DailySales(date(2026, 2, 1), "GBP", 2, 0, 30, 12345),
    DailySales(date(2026, 1, 31), "GBP", 0, 1, -4, -250),
    DailySales(date(2026, 1, 31), "EUR", 1, 0, 1, 0),
)


def sales(start: Date | None = None, end: Date | None = None) -> list[analytics_pb2.DailySales]:
    request = analytics_pb2.GetSalesRequest(start_date=start, end_date=end)
    handler = AnalyticsHandler(FakeAnalytics(sales=FakeStore(ROWS)).ports(), PageTokens(bytes(32)))
    return list(handler.GetSales(request, make_call()).days)


def test_every_day_and_currency_is_one_entry_the_earliest_first() -> None:
    days = sales()

    assert [(31, "EUR"), (31, "GBP"), (1, "GBP")] == [(day.date.day, day.revenue.currency_code) for day in days]
    assert (2, 0, 30) == (days[2].orders, days[2].cancellations, days[2].pieces)
    assert (123, 450_000_000) == (days[2].revenue.units, days[2].revenue.nanos)


def test_a_day_on_which_more_came_back_has_negative_revenue() -> None:
    day = sales()[1]

    assert (-4, -2, -500_000_000) == (day.pieces, day.revenue.units, day.revenue.nanos)


@pytest.mark.parametrize(
    ("start", "end", "found"),
    [
        (Date(year=2026, month=2, day=1), None, 1),
        (None, Date(year=2026, month=1, day=31), 2),
        (Date(year=2026, month=1, day=31), Date(year=2026, month=2, day=1), 3),
        (Date(year=2026, month=3, day=1), None, 0),
    ],
)
def test_both_ends_belong_to_the_period_and_may_be_open(start: Date | None, end: Date | None, found: int) -> None:
    assert found == len(sales(start, end))


def test_a_day_that_does_not_exist_is_refused() -> None:
    with pytest.raises(InvalidArgument) as refusal:
        sales(end=Date(year=2026, month=2, day=30))

    assert (("end_date", "there is no such day"),) == refusal.value.violations


def test_a_period_does_not_end_before_it_starts() -> None:
    with pytest.raises(InvalidArgument) as refusal:
        sales(Date(year=2026, month=2, day=2), Date(year=2026, month=2, day=1))

    assert ["end_date"] == [field for field, _ in refusal.value.violations]
