"""AnalyticsService. Generated from the contracts by `make gen`; never edited."""

from collections.abc import Mapping
from google.type import date_pb2
from typing import Any
from weft.analytics.v1 import analytics_pb2
from weft_client.calls import AsyncCalls, Calls, bound


class Analytics:
    """Answers from roll-ups that a worker keeps up to date with the events, and reports that workers make of all
    events.
    """

    def __init__(self, calls: Calls) -> None:
        self._calls = bound(calls, analytics_pb2.DESCRIPTOR.services_by_name["AnalyticsService"])

    def get_sales(
        self,
        *,
        start_date: date_pb2.Date | Mapping[str, Any] | None = None,
        end_date: date_pb2.Date | Mapping[str, Any] | None = None,
        timeout: float | None = None,
    ) -> analytics_pb2.Sales:
        """Sums up the sales of some days.

        start_date: The first day, in UTC; absent: the first with sales.
        end_date: The last day, in UTC; absent: the last with sales.
        timeout: seconds for the whole call, repetitions included; the contract's where it is not said

        Raises:
            PeriodEmpty: the period ends before it starts
        """
        fields = {"start_date": start_date, "end_date": end_date}
        answer: analytics_pb2.Sales = self._calls.call("GetSales", fields, timeout=timeout)
        return answer

    def create_report(
        self,
        kind: int | str,
        *,
        start_date: date_pb2.Date | Mapping[str, Any] | None = None,
        end_date: date_pb2.Date | Mapping[str, Any] | None = None,
        limit: int | None = None,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> analytics_pb2.Report:
        """Asks for a report. It is made by a worker, from the archive of all events: GetReport tells how far it
        is, and has its rows once it is done.

        kind: What is asked.
        start_date: The first day that counts, in UTC; absent: the first that the archive holds.
        end_date: The last day that counts, in UTC; absent: the last that the archive holds.
        limit: The most products of one currency, or the most pairs; 0: 100.
        request_id: UUID that makes the call safe to repeat (AIP-155).
        timeout: seconds for the whole call, repetitions included; the contract's where it is not said

        Raises:
            PeriodEmpty: the period ends before it starts
            TooManyReports: as many of the caller's reports are unfinished as may be
            RequestIdReused: `request_id` belongs to a call with another body
        """
        fields = {"kind": kind, "start_date": start_date, "end_date": end_date, "limit": limit, "request_id": request_id}
        answer: analytics_pb2.Report = self._calls.call("CreateReport", fields, timeout=timeout)
        return answer

    def get_report(
        self,
        name: str,
        *,
        page_size: int | None = None,
        page_token: str | None = None,
        timeout: float | None = None,
    ) -> analytics_pb2.Report:
        """Reads a report of the caller's own: its state, how far it is, and a page of its rows once it is done.

        name: The report to read, `reports/{report}`.
        page_size: The most rows in one page; 0: 100. More than 1000 counts as 1000.
        page_token: `next_page_token` of the page before; empty: the first page.
        timeout: seconds for the whole call, repetitions included; the contract's where it is not said

        Raises:
            ReportNotFound: there is no such report, or it is another's
        """
        fields = {"name": name, "page_size": page_size, "page_token": page_token}
        answer: analytics_pb2.Report = self._calls.call("GetReport", fields, timeout=timeout)
        return answer

    def list_reports(
        self,
        *,
        page_size: int | None = None,
        page_token: str | None = None,
        timeout: float | None = None,
    ) -> analytics_pb2.ListReportsResponse:
        """Lists the caller's own reports without their rows, the newest first.

        page_size: The most reports in one page; 0: 20. More than 200 counts as 200.
        page_token: `next_page_token` of the page before; empty: the first page.
        timeout: seconds for the whole call, repetitions included; the contract's where it is not said
        """
        fields = {"page_size": page_size, "page_token": page_token}
        answer: analytics_pb2.ListReportsResponse = self._calls.call("ListReports", fields, timeout=timeout)
        return answer

    def cancel_report(
        self,
        name: str,
        *,
        timeout: float | None = None,
    ) -> analytics_pb2.Report:
        """Gives up a report of the caller's own that is not done. One that was cancelled before stays so.

        name: The report to give up, `reports/{report}`.
        timeout: seconds for the whole call, repetitions included; the contract's where it is not said

        Raises:
            ReportNotFound: there is no such report, or it is another's
            ReportFinished: it is done, or has failed: nothing is left to give up
        """
        fields = {"name": name}
        answer: analytics_pb2.Report = self._calls.call("CancelReport", fields, timeout=timeout)
        return answer


class AsyncAnalytics:
    """Answers from roll-ups that a worker keeps up to date with the events, and reports that workers make of all
    events.
    """

    def __init__(self, calls: AsyncCalls) -> None:
        self._calls = bound(calls, analytics_pb2.DESCRIPTOR.services_by_name["AnalyticsService"])

    async def get_sales(
        self,
        *,
        start_date: date_pb2.Date | Mapping[str, Any] | None = None,
        end_date: date_pb2.Date | Mapping[str, Any] | None = None,
        timeout: float | None = None,
    ) -> analytics_pb2.Sales:
        """Sums up the sales of some days.

        start_date: The first day, in UTC; absent: the first with sales.
        end_date: The last day, in UTC; absent: the last with sales.
        timeout: seconds for the whole call, repetitions included; the contract's where it is not said

        Raises:
            PeriodEmpty: the period ends before it starts
        """
        fields = {"start_date": start_date, "end_date": end_date}
        answer: analytics_pb2.Sales = await self._calls.call("GetSales", fields, timeout=timeout)
        return answer

    async def create_report(
        self,
        kind: int | str,
        *,
        start_date: date_pb2.Date | Mapping[str, Any] | None = None,
        end_date: date_pb2.Date | Mapping[str, Any] | None = None,
        limit: int | None = None,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> analytics_pb2.Report:
        """Asks for a report. It is made by a worker, from the archive of all events: GetReport tells how far it
        is, and has its rows once it is done.

        kind: What is asked.
        start_date: The first day that counts, in UTC; absent: the first that the archive holds.
        end_date: The last day that counts, in UTC; absent: the last that the archive holds.
        limit: The most products of one currency, or the most pairs; 0: 100.
        request_id: UUID that makes the call safe to repeat (AIP-155).
        timeout: seconds for the whole call, repetitions included; the contract's where it is not said

        Raises:
            PeriodEmpty: the period ends before it starts
            TooManyReports: as many of the caller's reports are unfinished as may be
            RequestIdReused: `request_id` belongs to a call with another body
        """
        fields = {"kind": kind, "start_date": start_date, "end_date": end_date, "limit": limit, "request_id": request_id}
        answer: analytics_pb2.Report = await self._calls.call("CreateReport", fields, timeout=timeout)
        return answer

    async def get_report(
        self,
        name: str,
        *,
        page_size: int | None = None,
        page_token: str | None = None,
        timeout: float | None = None,
    ) -> analytics_pb2.Report:
        """Reads a report of the caller's own: its state, how far it is, and a page of its rows once it is done.

        name: The report to read, `reports/{report}`.
        page_size: The most rows in one page; 0: 100. More than 1000 counts as 1000.
        page_token: `next_page_token` of the page before; empty: the first page.
        timeout: seconds for the whole call, repetitions included; the contract's where it is not said

        Raises:
            ReportNotFound: there is no such report, or it is another's
        """
        fields = {"name": name, "page_size": page_size, "page_token": page_token}
        answer: analytics_pb2.Report = await self._calls.call("GetReport", fields, timeout=timeout)
        return answer

    async def list_reports(
        self,
        *,
        page_size: int | None = None,
        page_token: str | None = None,
        timeout: float | None = None,
    ) -> analytics_pb2.ListReportsResponse:
        """Lists the caller's own reports without their rows, the newest first.

        page_size: The most reports in one page; 0: 20. More than 200 counts as 200.
        page_token: `next_page_token` of the page before; empty: the first page.
        timeout: seconds for the whole call, repetitions included; the contract's where it is not said
        """
        fields = {"page_size": page_size, "page_token": page_token}
        answer: analytics_pb2.ListReportsResponse = await self._calls.call("ListReports", fields, timeout=timeout)
        return answer

    async def cancel_report(
        self,
        name: str,
        *,
        timeout: float | None = None,
    ) -> analytics_pb2.Report:
        """Gives up a report of the caller's own that is not done. One that was cancelled before stays so.

        name: The report to give up, `reports/{report}`.
        timeout: seconds for the whole call, repetitions included; the contract's where it is not said

        Raises:
            ReportNotFound: there is no such report, or it is another's
            ReportFinished: it is done, or has failed: nothing is left to give up
        """
        fields = {"name": name}
        answer: analytics_pb2.Report = await self._calls.call("CancelReport", fields, timeout=timeout)
        return answer
