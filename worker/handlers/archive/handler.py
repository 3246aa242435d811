"""The archive worker's handler: every event of every type becomes one row of one file that counts.

    look which events are new > write their files > one transaction: claim the events, name the files

A crash before the commit leaves files that do not count, and the events come again; one after it leaves events that
are found claimed. So files and manifest agree whatever dies when.
"""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, date
from typing import Final

from svc.chassis.database import Database, Transaction
from weft_protos import redaction
from worker import inbox, manifest
from worker.delivery import Event
from worker.errors import Outage
from worker.handlers.archive import columns
from worker.handlers.archive.folder import Folder

CONSUMER: Final = "archive"

_CLAIMED: Final = "SELECT message_id FROM inbox WHERE consumer = %s AND message_id = ANY(%s::uuid[])"


class ArchiveHandler:
    """Appends events to the archive, each once."""

    def __init__(self, database: Database, folder: Folder, *, passed: Callable[[str], None] = lambda _: None) -> None:
        """`passed` is told each step that a crash may come after; tests crash there."""
        self._database = database
        self._folder = folder
        self._passed = passed

    def handle(self, events: Sequence[Event]) -> None:
        """Archive a batch. Raises Outage where another worker archives some of it at the same moment."""
        ids = sorted({event.id for event in events})
        claimed = inbox.transaction(self._database, lambda tx: _claimed(tx, ids))
        fresh = {event.id: event for event in events if event.id not in claimed}
        if not fresh:
            return
        files = [
            self._folder.write(day, event_type, columns.table(group))
            for (day, event_type), group in _partitions(list(fresh.values())).items()
        ]
        self._passed("files written")

        def commit(tx: Transaction) -> None:
            if len(inbox.claim(tx, CONSUMER, list(fresh))) < len(fresh):
                raise Outage("archive: another worker has some of these events")
            manifest.add(tx, files)
            self._passed("files named")

        inbox.transaction(self._database, commit)
        self._passed("committed")

    def abandon(self, event: Event) -> None:
        """Nothing: an event that was put aside is in no file that counts."""


def _claimed(tx: Transaction, ids: Sequence[str]) -> frozenset[str]:
    rows = tx.exec_driver_sql(_CLAIMED, (CONSUMER, [uuid.UUID(one) for one in ids]))
    return frozenset(str(row.message_id) for row in rows)


def _partitions(events: Sequence[Event]) -> dict[tuple[date, str], list[Event]]:
    """Events by the UTC day on which they were written and their type, fit to be kept."""
    groups: dict[tuple[date, str], list[Event]] = defaultdict(list)
    for event in events:
        kept = replace(event, payload=redaction.redacted(event.payload))
        groups[event.occur_time.astimezone(UTC).date(), event.type].append(kept)
    return groups
