"""AnalyticsService: protobuf in, use case, protobuf out. Decides nothing.

The chassis calls these with requests that are valid by the contract's rules; every method returns its answer or
raises an `AppError`.
"""

import datetime

from google.type import date_pb2

from svc.analytics import usecases
from svc.analytics.model import DailySales, Period
from svc.analytics.usecases import Ports
from svc.chassis import money
from svc.chassis.context import CallContext
from svc.chassis.errors import InvalidArgument
from weft.analytics.v1 import analytics_pb2


class AnalyticsHandler:
    """Serves `weft.analytics.v1.AnalyticsService`."""

    def __init__(self, ports: Ports) -> None:
        self._ports = ports

    def GetSales(self, request: analytics_pb2.GetSalesRequest, call: CallContext) -> analytics_pb2.Sales:
        """Sum up the sales of some days."""
        period = Period(
            start=_day(request.start_date, "start_date") if request.HasField("start_date") else None,
            end=_day(request.end_date, "end_date") if request.HasField("end_date") else None,
        )
        days = usecases.get_sales(self._ports, period, call=call)
        return analytics_pb2.Sales(days=[_sales(day) for day in days])


def _day(message: date_pb2.Date, field: str) -> datetime.date:
    """A calendar day; the contract's rules let the 31st of any month through."""
    try:
        return datetime.date(message.year, message.month, message.day)
    except ValueError:
        raise InvalidArgument(violations=[(field, "there is no such day")]) from None


def _sales(sales: DailySales) -> analytics_pb2.DailySales:
    return analytics_pb2.DailySales(
        date=date_pb2.Date(year=sales.day.year, month=sales.day.month, day=sales.day.day),
        orders=sales.orders,
        cancellations=sales.cancellations,
        pieces=sales.pieces,
        revenue=money.from_minor(sales.currency, sales.revenue_minor),
    )
