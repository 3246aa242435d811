"""After a restore: every event that a consumer has not handled is marked as unpublished, so that the relay sends it.

The databases of a backup are of one moment each, consumers' first. So what a consumer has handled is in some outbox;
but an event that was published and still lay in the broker, or in a worker's hands, is in no database as work to be
done. Here it becomes that again. Whoever has handled it already drops it as a double.

What is older than notes are kept is left alone: of it nobody can tell whether it was handled, and whoever had would
handle it twice.

Run by `python -m worker restored`, while no relay runs.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from svc.chassis import retention
from svc.chassis.config import Secrets
from svc.chassis.context import Deadline
from svc.chassis.database import Database, Transaction
from weft_protos import mesh_parts, policy
from worker.amqp import topology
from worker.config import OUTBOXES

#: Events that are looked at in one go.
BATCH: Final = 5000
_STEP_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Handled:
    """Where a consumer notes what it has handled: in the inbox of a database, and there in a table of its own."""

    database: str
    table: str = ""
    """It has the column `message_id`."""
    only: str = ""
    """The condition under which a row of it says that the event is handled."""
    owes: str = ""
    """A query for ordering keys whose events it has noted, and has not done all that follows from them."""


#: By consumer. Notes and effect are of one transaction, so what is noted has happened.
NOTES: Final[Mapping[str, Handled]] = {
    one.name: Handled(one.database, one.notes, one.noted, one.owes) for one in mesh_parts.WORKERS
}

#: How long a note is kept at the least after its event has happened.
KEPT: Final = timedelta(seconds=retention.INBOX.kept_s)

_PUBLISHED: Final = (
    "SELECT sequence, id, type, ordering_key FROM outbox "
    "WHERE publish_time IS NOT NULL AND create_time >= %s AND sequence > %s ORDER BY sequence LIMIT %s"
)
_AGAIN: Final = "UPDATE outbox SET publish_time = NULL WHERE id = ANY(%s::uuid[])"


@dataclass(frozen=True, slots=True)
class _Row:
    sequence: int
    id: uuid.UUID
    type: str
    ordering_key: str


def noted(consumer: str, handled: Handled) -> str:
    """Selects `message_id` and `create_time` of what a consumer has handled."""
    found = f"SELECT message_id, create_time FROM inbox WHERE consumer = '{consumer}'"
    if not handled.table:
        return found
    return f"{found} UNION ALL SELECT message_id, create_time FROM {handled.table} WHERE {handled.only or 'true'}"


def mark(secrets: Secrets, moment: datetime) -> Mapping[str, int]:
    """Mark them in every outbox; how many events each outbox has to publish again. Raises AppError.

    `moment`: when the consumers' databases were as they are now. Notes have not been swept since.
    """
    opened: dict[str, Database] = {}

    def database(name: str) -> Database:
        return opened.setdefault(name, Database(secrets.database_url(name), pool_size=1, name=name))

    try:
        consumers = {name: _Consumer(name, one, database(one.database)) for name, one in NOTES.items()}
        return {outbox: _mark(database(outbox), consumers, moment - KEPT) for outbox in OUTBOXES}
    finally:
        for one in opened.values():
            one.close()


class _Consumer:
    """What one consumer has handled."""

    def __init__(self, name: str, handled: Handled, database: Database) -> None:
        self._database = database
        self._missing = (
            "SELECT id FROM unnest(%s::uuid[], %s::text[]) AS asked (id, key) "
            f"WHERE NOT EXISTS (SELECT 1 FROM ({noted(name, handled)}) AS noted WHERE message_id = asked.id)"
        )
        if handled.owes:
            self._missing += f" OR key IN ({handled.owes})"

    def missing(self, rows: Sequence[_Row]) -> set[uuid.UUID]:
        """Ids of the events that it has not handled, or not to the end."""
        if not rows:
            return set()
        asked = [row.id for row in rows], [row.ordering_key for row in rows]

        def ask(tx: Transaction) -> set[uuid.UUID]:
            return {uuid.UUID(str(row.id)) for row in tx.exec_driver_sql(self._missing, asked)}

        return self._database.read(ask, deadline=Deadline.after(_STEP_S))


def _mark(outbox: Database, consumers: Mapping[str, _Consumer], since: datetime) -> int:
    types = {name: frozenset(topology.event_types(name)) for name in consumers}
    marked, sequence = 0, 0
    while rows := _batch(outbox, since, sequence):
        sequence = rows[-1].sequence
        again: set[uuid.UUID] = set()
        for name, consumer in consumers.items():
            again |= consumer.missing([row for row in rows if row.type in types[name]])
        if again:
            ids = sorted(again)

            def mark_again(tx: Transaction, ids: Sequence[uuid.UUID] = ids) -> None:
                tx.exec_driver_sql(_AGAIN, (ids,))

            outbox.serializable(mark_again, deadline=Deadline.after(_STEP_S))
        marked += len(again)
    return marked


def _batch(outbox: Database, since: datetime, after: int) -> list[_Row]:
    def read(tx: Transaction) -> list[_Row]:
        # By the time at which it happened: it was handled after that, however often it was published.
        found = tx.exec_driver_sql(_PUBLISHED, (since, after, BATCH))
        return [_Row(row.sequence, uuid.UUID(str(row.id)), row.type, row.ordering_key) for row in found]

    return outbox.read(read, deadline=Deadline.after(_STEP_S))


def uncovered() -> frozenset[str]:
    """Consumers that the contracts name and NOTES does not: nobody would know what they have missed."""
    return frozenset({*mesh_parts.OF_ALL, *policy.queues()} - set(NOTES))
