"""A dead letter to rehearse with: a copy of an event that a worker has handled, put aside as if it had failed.

Nothing is missing while it lies there, and it can be looked at and sent back like any other. Sent back it takes no
effect: its worker has noted the event's ID.
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
from worker import restored
from worker.amqp import topology
from worker.amqp.deadletters import DeadLetters
from worker.amqp.ladder import Ladder
from worker.amqp.publisher import Publisher
from worker.config import OUTBOXES
from worker.delivery import TRACEPARENT_HEADER, DeadLetter, Delivery
from worker.errors import Outage

#: What the letter says of itself.
REASON: Final = "a copy of an event that was handled, put aside to rehearse with"

#: So many of the newest events of each outbox are looked at; the very last ones may still be on their way.
_NEWEST: Final = 100
_STEP_S: Final = 10.0
_CONNECT_S: Final = 10.0

_PUBLISHED: Final = (
    "SELECT id, type, envelope, traceparent, publish_time FROM outbox "
    "WHERE publish_time IS NOT NULL AND type = ANY(%s::text[]) ORDER BY sequence DESC LIMIT %s"
)


@dataclass(frozen=True, slots=True)
class _Published:
    id: uuid.UUID
    type: str
    envelope: bytes
    traceparent: str
    publish_time: datetime


def put_aside(secrets: Secrets, worker: str) -> Mapping[str, object]:
    """Put one among a worker's dead letters; its queue, ID and type, or nothing where none was handled lately.

    Raises AppError where a database, and Outage where the broker is away.
    """
    published = sorted(_published(secrets, worker), key=lambda one: one.publish_time, reverse=True)
    noted = _noted(secrets, worker, [one.id for one in published])
    queue = topology.work_queue(worker)
    with DeadLetters(secrets.amqp_url(), queue) as letters:
        # What lies there may have been noted, too, as one whose effect is still to come.
        lying = {letter.id for letter in letters.look()}
    for one in published:
        if one.id in noted and str(one.id) not in lying:
            _park(secrets, queue, one)
            return {"queue": queue.name, "id": str(one.id), "type": one.type}
    return {}


def _published(secrets: Secrets, worker: str) -> list[_Published]:
    types = list(topology.event_types(worker))

    def read(tx: Transaction) -> list[_Published]:
        return [
            _Published(uuid.UUID(str(row.id)), row.type, bytes(row.envelope), row.traceparent, row.publish_time)
            for row in tx.exec_driver_sql(_PUBLISHED, (types, _NEWEST))
        ]

    found: list[_Published] = []
    for outbox in OUTBOXES:
        database = Database(secrets.database_url(outbox), pool_size=1, name=outbox)
        try:
            found += database.read(read, deadline=Deadline.after(_STEP_S))
        finally:
            database.close()
    return found


def _noted(secrets: Secrets, worker: str, ids: Sequence[uuid.UUID]) -> frozenset[uuid.UUID]:
    handled = restored.NOTES[worker]
    query = f"SELECT message_id FROM ({restored.noted(worker, handled)}) AS noted WHERE message_id = ANY(%s::uuid[])"

    def read(tx: Transaction) -> frozenset[uuid.UUID]:
        return frozenset(uuid.UUID(str(row.message_id)) for row in tx.exec_driver_sql(query, (list(ids),)))

    database = Database(secrets.database_url(handled.database), pool_size=1, name=handled.database)
    try:
        return database.read(read, deadline=Deadline.after(_STEP_S))
    finally:
        database.close()


def _park(secrets: Secrets, queue: topology.WorkQueue, event: _Published) -> None:
    headers = {TRACEPARENT_HEADER: event.traceparent} if event.traceparent else {}
    publisher = Publisher(secrets.amqp_url(), name="rehearsal")
    publisher.start()
    try:
        if not publisher.ready(_CONNECT_S):
            raise Outage(f"the broker does not answer within {_CONNECT_S:.0f} s")
        letter = Delivery(queue.name, event.envelope, str(event.id), event.type, headers=headers)
        Ladder(publisher, queue).move(letter, DeadLetter(REASON))
    finally:
        publisher.stop(_CONNECT_S)
