"""The audit worker's handler: every event of every type becomes one record of the log."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from svc.chassis.database import Database
from worker import inbox
from worker.delivery import Event
from worker.handlers.audit import log

CONSUMER: Final = "audit"

#: Every append changes the head. Workers wait for it before their snapshot, and do not lose against each other.
HEAD: Final = "audit_head"


def build(database: Database) -> AuditHandler:
    """The handler over the worker's database."""
    return AuditHandler(database)


class AuditHandler:
    """Appends events to the audit log, each once."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def handle(self, events: Sequence[Event]) -> None:
        """Append a batch in one transaction: the price of a commit is paid once."""
        inbox.once(self._database, CONSUMER, events, log.append, hot_keys=[HEAD])

    def abandon(self, event: Event) -> None:
        """Have the events after it wait no longer: it has left no record, and may never."""
        inbox.pass_over(self._database, CONSUMER, event)
