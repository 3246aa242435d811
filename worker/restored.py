"""After a restore: every event that a consumer has not handled is marked as unpublished, so that the relay sends it.

The databases of a backup are of one moment each, consumers' first. So what a consumer has handled is in some outbox;
but an event that was published and still lay in the broker, or in a worker's hands, is in no database as work to be
done. Here it becomes that again. Whoever has handled it already drops it as a double.

Run by `python -m worker restored`, while no relay runs.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

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
    """It has the columns `message_id` and `create_time`."""


#: By consumer. Notes and effect are of one transaction, so what is noted has happened.
NOTES: Final[Mapping[str, Handled]] = {one.name: Handled(one.database, one.notes) for one in mesh_parts.WORKERS}

_PUBLISHED: Final = (
    "SELECT sequence, id, type, publish_time FROM outbox "
    "WHERE publish_time IS NOT NULL AND sequence > %s ORDER BY sequence LIMIT %s"
)
_AGAIN: Final = "UPDATE outbox SET publish_time = NULL WHERE id = ANY(%s::uuid[])"


@dataclass(frozen=True, slots=True)
class _Row:
    sequence: int
    id: uuid.UUID
    type: str
    publish_time: datetime


def noted(consumer: str, handled: Handled) -> str:
    """Selects `message_id` and `create_time` of what a consumer has handled."""
    found = f"SELECT message_id, create_time FROM inbox WHERE consumer = '{consumer}'"
    return found + (f" UNION ALL SELECT message_id, create_time FROM {handled.table}" if handled.table else "")


def mark(secrets: Secrets) -> Mapping[str, int]:
    """Mark them in every outbox; how many events each outbox has to publish again. Raises AppError."""
    opened: dict[str, Database] = {}

    def database(name: str) -> Database:
        return opened.setdefault(name, Database(secrets.database_url(name), pool_size=1, name=name))

    try:
        consumers = {name: _Consumer(name, one, database(one.database)) for name, one in NOTES.items()}
        return {outbox: _mark(database(outbox), consumers) for outbox in OUTBOXES}
    finally:
        for one in opened.values():
            one.close()


class _Consumer:
    """What one consumer has handled."""

    def __init__(self, name: str, handled: Handled, database: Database) -> None:
        self._database = database
        notes = noted(name, handled)
        self._oldest = f"SELECT min(create_time) FROM ({notes}) AS noted"
        self._missing = (
            "SELECT id FROM unnest(%s::uuid[]) AS asked (id) "
            f"WHERE NOT EXISTS (SELECT 1 FROM ({notes}) AS noted WHERE message_id = asked.id)"
        )
        self._since: datetime | None = database.read(self._first, deadline=Deadline.after(_STEP_S))

    def missing(self, rows: Sequence[_Row]) -> set[uuid.UUID]:
        """Ids of the events that it has not handled."""
        # Notes are swept after a while: what was published before the oldest of them was handled long ago.
        ids = [row.id for row in rows if self._since is None or row.publish_time >= self._since]
        if not ids:
            return set()

        def ask(tx: Transaction) -> set[uuid.UUID]:
            return {uuid.UUID(str(row.id)) for row in tx.exec_driver_sql(self._missing, (ids,))}

        return self._database.read(ask, deadline=Deadline.after(_STEP_S))

    def _first(self, tx: Transaction) -> datetime | None:
        first: datetime | None = tx.exec_driver_sql(self._oldest).scalar()
        return first


def _mark(outbox: Database, consumers: Mapping[str, _Consumer]) -> int:
    types = {name: frozenset(topology.event_types(name)) for name in consumers}
    marked, sequence = 0, 0
    while rows := _batch(outbox, sequence):
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


def _batch(outbox: Database, after: int) -> list[_Row]:
    def read(tx: Transaction) -> list[_Row]:
        found = tx.exec_driver_sql(_PUBLISHED, (after, BATCH))
        return [_Row(row.sequence, uuid.UUID(str(row.id)), row.type, row.publish_time) for row in found]

    return outbox.read(read, deadline=Deadline.after(_STEP_S))


def uncovered() -> frozenset[str]:
    """Consumers that the contracts name and NOTES does not: nobody would know what they have missed."""
    return frozenset({*mesh_parts.OF_ALL, *policy.queues()} - set(NOTES))
