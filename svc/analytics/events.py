"""Facts about reports as outbox events: the one place of this service where a fact meets its message.

Use cases build events here and append them in the transaction that makes the fact true.
"""

from typing import Final

from svc.analytics.model import Report
from svc.chassis import outbox
from svc.chassis.context import CallContext
from weft.analytics.v1 import events_pb2

SOURCE: Final = "analytics"


def report_requested(report: Report, *, call: CallContext) -> outbox.Event:
    """A report was asked for."""
    fact = events_pb2.ReportRequested(report=f"reports/{report.id}", user=f"users/{report.owner}")
    fact.request_time.FromDatetime(report.create_time)
    return outbox.event(fact, source=SOURCE, call=call)
