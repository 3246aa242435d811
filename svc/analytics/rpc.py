"""AnalyticsService: protobuf in, use case, protobuf out. Decides nothing.

The chassis calls these with requests that are valid by the contract's rules; every method returns its answer or
raises an `AppError`.
"""

import datetime
from typing import Final

from google.type import date_pb2

from svc.analytics import usecases
from svc.analytics.model import LIMIT_DEFAULT, Cursor, DailySales, Kind, Period, Question, Report, State
from svc.analytics.usecases import Ports
from svc.chassis import money
from svc.chassis.context import CallContext
from svc.chassis.errors import InvalidArgument
from svc.chassis.pages import PageTokens
from weft.analytics.v1 import analytics_pb2

REPORTS_DEFAULT: Final = 20
REPORTS_MAX: Final = 200
ROWS_DEFAULT: Final = 100
#: With the longest names well below 4 MiB, which is what a gRPC client takes unless it is told otherwise.
ROWS_MAX: Final = 1000

_REPORTS: Final = "reports/"
_KINDS: Final = {
    analytics_pb2.Report.KIND_TOP_PRODUCTS: Kind.TOP_PRODUCTS,
    analytics_pb2.Report.KIND_COHORTS: Kind.COHORTS,
    analytics_pb2.Report.KIND_BASKET_PAIRS: Kind.BASKET_PAIRS,
    analytics_pb2.Report.KIND_REVENUE_BY_COUNTRY: Kind.REVENUE_BY_COUNTRY,
}
_KIND_VALUES: Final = {kind: value for value, kind in _KINDS.items()}
_STATES: Final = {
    State.PENDING: analytics_pb2.Report.STATE_PENDING,
    State.QUEUED: analytics_pb2.Report.STATE_PENDING,
    State.RUNNING: analytics_pb2.Report.STATE_RUNNING,
    State.SUCCEEDED: analytics_pb2.Report.STATE_SUCCEEDED,
    State.FAILED: analytics_pb2.Report.STATE_FAILED,
    State.CANCELLED: analytics_pb2.Report.STATE_CANCELLED,
}


class AnalyticsHandler:
    """Serves `weft.analytics.v1.AnalyticsService`."""

    def __init__(self, ports: Ports, pages: PageTokens) -> None:
        self._ports = ports
        self._pages = pages

    def GetSales(self, request: analytics_pb2.GetSalesRequest, call: CallContext) -> analytics_pb2.Sales:
        """Sum up the sales of some days."""
        days = usecases.get_sales(self._ports, _period(request), call=call)
        return analytics_pb2.Sales(days=[_sales(day) for day in days])

    def CreateReport(self, request: analytics_pb2.CreateReportRequest, call: CallContext) -> analytics_pb2.Report:
        """Ask for a report."""
        question = Question(_KINDS[request.kind], _period(request), request.limit or LIMIT_DEFAULT)
        answer = usecases.create_report(self._ports, question, request_id=request.request_id, call=call)
        return analytics_pb2.Report.FromString(answer)

    def GetReport(self, request: analytics_pb2.GetReportRequest, call: CallContext) -> analytics_pb2.Report:
        """Read a report and a page of its rows."""
        scope = f"{call.method} {request.name}"
        answer = usecases.get_report(
            self._ports,
            request.name.removeprefix(_REPORTS),
            start=self._position(request.page_token, scope),
            limit=min(request.page_size or ROWS_DEFAULT, ROWS_MAX),
            call=call,
        )
        message = to_message(answer.report)
        message.rows.extend(analytics_pb2.ReportRow.FromString(row) for row in answer.rows)
        if answer.next is not None:
            message.next_page_token = self._pages.encode((str(answer.next),), scope=scope)
        return message

    def ListReports(
        self, request: analytics_pb2.ListReportsRequest, call: CallContext
    ) -> analytics_pb2.ListReportsResponse:
        """List the caller's reports."""
        # A token is good for one method and one user: it holds the position in that user's list.
        scope = f"{call.method} {call.caller.subject}"
        page = usecases.list_reports(
            self._ports,
            before=self._cursor(request.page_token, scope),
            limit=min(request.page_size or REPORTS_DEFAULT, REPORTS_MAX),
            call=call,
        )
        token = ""
        if page.next is not None:
            token = self._pages.encode((page.next.create_time.isoformat(), page.next.report_id), scope=scope)
        reports = [to_message(report) for report in page.reports]
        return analytics_pb2.ListReportsResponse(reports=reports, next_page_token=token)

    def CancelReport(self, request: analytics_pb2.CancelReportRequest, call: CallContext) -> analytics_pb2.Report:
        """Give up a report."""
        return to_message(usecases.cancel_report(self._ports, request.name.removeprefix(_REPORTS), call=call))

    def _position(self, token: str, scope: str) -> int:
        values = self._pages.decode(token, scope=scope)
        return int(values[0]) if values else 0

    def _cursor(self, token: str, scope: str) -> Cursor | None:
        values = self._pages.decode(token, scope=scope)
        return Cursor(datetime.datetime.fromisoformat(values[0]), values[1]) if values else None


def answer(report: Report) -> bytes:
    """A report as the bytes that are kept for a repeat."""
    return to_message(report).SerializeToString(deterministic=True)


def to_message(report: Report) -> analytics_pb2.Report:
    """A report as the wire has it, without its rows."""
    question = report.question
    message = analytics_pb2.Report(
        name=_REPORTS + report.id,
        kind=_KIND_VALUES[question.kind],
        limit=question.limit,
        state=_STATES[report.state],
        progress_percent=report.progress_percent,
        events=report.events,
        events_read=report.events_read,
        failure=report.failure,
        total_rows=report.rows,
        truncated=report.truncated,
        start_date=_date(question.period.start),
        end_date=_date(question.period.end),
    )
    message.create_time.FromDatetime(report.create_time)
    if report.start_time is not None:
        message.start_time.FromDatetime(report.start_time)
    if report.end_time is not None:
        message.end_time.FromDatetime(report.end_time)
    return message


def _period(request: analytics_pb2.GetSalesRequest | analytics_pb2.CreateReportRequest) -> Period:
    return Period(
        start=_day(request.start_date, "start_date") if request.HasField("start_date") else None,
        end=_day(request.end_date, "end_date") if request.HasField("end_date") else None,
    )


def _day(message: date_pb2.Date, field: str) -> datetime.date:
    """A calendar day; the contract's rules let the 31st of any month through."""
    try:
        return datetime.date(message.year, message.month, message.day)
    except ValueError:
        raise InvalidArgument(violations=[(field, "there is no such day")]) from None


def _date(day: datetime.date | None) -> date_pb2.Date | None:
    return None if day is None else date_pb2.Date(year=day.year, month=day.month, day=day.day)


def _sales(sales: DailySales) -> analytics_pb2.DailySales:
    return analytics_pb2.DailySales(
        date=_date(sales.day),
        orders=sales.orders,
        cancellations=sales.cancellations,
        pieces=sales.pieces,
        revenue=money.from_minor(sales.currency, sales.revenue_minor),
    )
