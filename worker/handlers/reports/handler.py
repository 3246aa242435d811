"""The reports worker's handler: a report that was asked for is queued, and the desk is told to look.

The event only says that there is something to look at; what is to be done stands in the database, and so does what has
been done. A report that takes minutes holds no delivery.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final

from svc.chassis.database import Database, Transaction
from weft.analytics.v1.events_pb2 import ReportRequested
from worker import inbox
from worker.delivery import Event
from worker.errors import Permanent
from worker.handlers.reports import ledger

CONSUMER: Final = "reports"

#: What is told of a report whose event was put aside.
NOT_QUEUED: Final = "it could not be queued; ask for it again"

_NAME: Final = re.compile(r"reports/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})")


class ReportsHandler:
    """Queues reports, each once."""

    def __init__(self, database: Database, wake: Callable[[], None]) -> None:
        self._database = database
        self._wake = wake

    def handle(self, events: Sequence[Event]) -> None:
        """Queue a batch in one transaction."""
        # Read before anything is claimed: an event that names no report must not spoil its neighbours' transaction.
        named = {event.id: _report_id(event) for event in events}

        def effect(tx: Transaction, fresh: Sequence[Event]) -> None:
            ledger.queue(tx, [named[event.id] for event in fresh])

        inbox.once(self._database, CONSUMER, events, effect)
        self._wake()

    def abandon(self, event: Event) -> None:
        """Whoever asked is told that nothing will come."""
        try:
            report_id = _report_id(event)
        except Permanent:
            return
        inbox.transaction(self._database, lambda tx: ledger.refuse(tx, report_id, NOT_QUEUED))


def _report_id(event: Event) -> str:
    if not isinstance(event.payload, ReportRequested):
        raise Permanent(f"reports are not made from {event.type}")
    found = _NAME.fullmatch(event.payload.report)
    if found is None:
        raise Permanent("report is not a name of one")
    return found[1]
