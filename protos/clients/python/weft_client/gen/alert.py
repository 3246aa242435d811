"""AlertService. Generated from the contracts by `make gen`; never edited."""

from weft.operations.v1 import alerts_pb2
from weft_client.calls import AsyncCalls, Calls, bound


class Alert:
    """What fires."""

    def __init__(self, calls: Calls) -> None:
        self._calls = bound(calls, alerts_pb2.DESCRIPTOR.services_by_name["AlertService"])

    def list_alerts(
        self,
        *,
        page_size: int | None = None,
        page_token: str | None = None,
        timeout: float | None = None,
    ) -> alerts_pb2.ListAlertsResponse:
        """Lists what fires or is about to, the gravest first.

        page_size: The most alerts in one page; 0: 100. More than 1000 counts as 1000.
        page_token: `next_page_token` of the page before; empty: the first page.
        timeout: seconds for the whole call, repetitions included; the contract's where it is not said

        Raises:
            SourceUnavailable: whoever tells of alerts does not answer
        """
        fields = {"page_size": page_size, "page_token": page_token}
        answer: alerts_pb2.ListAlertsResponse = self._calls.call("ListAlerts", fields, timeout=timeout)
        return answer


class AsyncAlert:
    """What fires."""

    def __init__(self, calls: AsyncCalls) -> None:
        self._calls = bound(calls, alerts_pb2.DESCRIPTOR.services_by_name["AlertService"])

    async def list_alerts(
        self,
        *,
        page_size: int | None = None,
        page_token: str | None = None,
        timeout: float | None = None,
    ) -> alerts_pb2.ListAlertsResponse:
        """Lists what fires or is about to, the gravest first.

        page_size: The most alerts in one page; 0: 100. More than 1000 counts as 1000.
        page_token: `next_page_token` of the page before; empty: the first page.
        timeout: seconds for the whole call, repetitions included; the contract's where it is not said

        Raises:
            SourceUnavailable: whoever tells of alerts does not answer
        """
        fields = {"page_size": page_size, "page_token": page_token}
        answer: alerts_pb2.ListAlertsResponse = await self._calls.call("ListAlerts", fields, timeout=timeout)
        return answer
