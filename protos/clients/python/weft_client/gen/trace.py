"""TraceService. Generated from the contracts by `make gen`; never edited."""

from datetime import datetime
from google.protobuf import timestamp_pb2
from weft.operations.v1 import traces_pb2
from weft_client.calls import AsyncCalls, Calls, bound


class Trace:
    """What became of single calls, hop by hop."""

    def __init__(self, calls: Calls) -> None:
        self._calls = bound(calls, traces_pb2.DESCRIPTOR.services_by_name["TraceService"])

    def list_traces(
        self,
        *,
        page_size: int | None = None,
        page_token: str | None = None,
        service: str | None = None,
        operation: str | None = None,
        errors_only: bool | None = None,
        min_duration_ms: int | None = None,
        start_time: timestamp_pb2.Timestamp | datetime | None = None,
        end_time: timestamp_pb2.Timestamp | datetime | None = None,
        timeout: float | None = None,
    ) -> traces_pb2.ListTracesResponse:
        """Lists traces, those that began last first.

        page_size: The most traces in one page; 0: 50. More than 1000 counts as 1000.
        page_token: `next_page_token` of the page before; empty: the first page.
        service: Only those with a span of this service; empty: any.
        operation: Only those whose root's name has this in it, in upper or lower case; empty: any.
        errors_only: Only those in which something failed.
        min_duration_ms: Only those that took so long or longer, in milliseconds.
        start_time: Only those that began at this time or later.
        end_time: Only those that began before this time.
        timeout: seconds for the whole call, repetitions included; the contract's where it is not said

        Raises:
            SourceUnavailable: the trace store does not answer
        """
        fields = {"page_size": page_size, "page_token": page_token, "service": service, "operation": operation, "errors_only": errors_only, "min_duration_ms": min_duration_ms, "start_time": start_time, "end_time": end_time}
        answer: traces_pb2.ListTracesResponse = self._calls.call("ListTraces", fields, timeout=timeout)
        return answer

    def get_trace(
        self,
        name: str,
        *,
        timeout: float | None = None,
    ) -> traces_pb2.Trace:
        """Reads a trace with all its spans.

        name: The trace to read, `traces/{trace}`.
        timeout: seconds for the whole call, repetitions included; the contract's where it is not said

        Raises:
            SourceUnavailable: the trace store does not answer
            TraceNotFound: no span of it was kept
        """
        fields = {"name": name}
        answer: traces_pb2.Trace = self._calls.call("GetTrace", fields, timeout=timeout)
        return answer

    def list_trace_logs(
        self,
        parent: str,
        *,
        span_id: str | None = None,
        page_size: int | None = None,
        timeout: float | None = None,
    ) -> traces_pb2.ListTraceLogsResponse:
        """Lists what processes wrote into their logs for a trace, or for one span of it, the earliest first.

        parent: The trace, `traces/{trace}`.
        span_id: Only lines of this span; empty: of all.
        page_size: The most lines; 0: 200. More than 1000 counts as 1000. There are no further pages.
        timeout: seconds for the whole call, repetitions included; the contract's where it is not said

        Raises:
            SourceUnavailable: the trace store does not answer
        """
        fields = {"parent": parent, "span_id": span_id, "page_size": page_size}
        answer: traces_pb2.ListTraceLogsResponse = self._calls.call("ListTraceLogs", fields, timeout=timeout)
        return answer


class AsyncTrace:
    """What became of single calls, hop by hop."""

    def __init__(self, calls: AsyncCalls) -> None:
        self._calls = bound(calls, traces_pb2.DESCRIPTOR.services_by_name["TraceService"])

    async def list_traces(
        self,
        *,
        page_size: int | None = None,
        page_token: str | None = None,
        service: str | None = None,
        operation: str | None = None,
        errors_only: bool | None = None,
        min_duration_ms: int | None = None,
        start_time: timestamp_pb2.Timestamp | datetime | None = None,
        end_time: timestamp_pb2.Timestamp | datetime | None = None,
        timeout: float | None = None,
    ) -> traces_pb2.ListTracesResponse:
        """Lists traces, those that began last first.

        page_size: The most traces in one page; 0: 50. More than 1000 counts as 1000.
        page_token: `next_page_token` of the page before; empty: the first page.
        service: Only those with a span of this service; empty: any.
        operation: Only those whose root's name has this in it, in upper or lower case; empty: any.
        errors_only: Only those in which something failed.
        min_duration_ms: Only those that took so long or longer, in milliseconds.
        start_time: Only those that began at this time or later.
        end_time: Only those that began before this time.
        timeout: seconds for the whole call, repetitions included; the contract's where it is not said

        Raises:
            SourceUnavailable: the trace store does not answer
        """
        fields = {"page_size": page_size, "page_token": page_token, "service": service, "operation": operation, "errors_only": errors_only, "min_duration_ms": min_duration_ms, "start_time": start_time, "end_time": end_time}
        answer: traces_pb2.ListTracesResponse = await self._calls.call("ListTraces", fields, timeout=timeout)
        return answer

    async def get_trace(
        self,
        name: str,
        *,
        timeout: float | None = None,
    ) -> traces_pb2.Trace:
        """Reads a trace with all its spans.

        name: The trace to read, `traces/{trace}`.
        timeout: seconds for the whole call, repetitions included; the contract's where it is not said

        Raises:
            SourceUnavailable: the trace store does not answer
            TraceNotFound: no span of it was kept
        """
        fields = {"name": name}
        answer: traces_pb2.Trace = await self._calls.call("GetTrace", fields, timeout=timeout)
        return answer

    async def list_trace_logs(
        self,
        parent: str,
        *,
        span_id: str | None = None,
        page_size: int | None = None,
        timeout: float | None = None,
    ) -> traces_pb2.ListTraceLogsResponse:
        """Lists what processes wrote into their logs for a trace, or for one span of it, the earliest first.

        parent: The trace, `traces/{trace}`.
        span_id: Only lines of this span; empty: of all.
        page_size: The most lines; 0: 200. More than 1000 counts as 1000. There are no further pages.
        timeout: seconds for the whole call, repetitions included; the contract's where it is not said

        Raises:
            SourceUnavailable: the trace store does not answer
        """
        fields = {"parent": parent, "span_id": span_id, "page_size": page_size}
        answer: traces_pb2.ListTraceLogsResponse = await self._calls.call("ListTraceLogs", fields, timeout=timeout)
        return answer
