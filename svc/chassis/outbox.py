"""The outbox: events are written in the transaction that makes them true, and the relay publishes them later.

Use cases build events with `event` (through their `events.py`) and `append` them before the transaction ends. The
envelope's bytes lie in the row and are the body of the AMQP message: the relay reads no payload.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, cast

from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message
from sqlalchemy import Connection

from svc.chassis import telemetry
from svc.chassis.clock import Clock, SystemClock
from svc.chassis.context import CallContext
from svc.chassis.ids import new_id
from weft.events.v1.envelope_pb2 import Envelope
from weft_protos.policy import event_policy

_APPEND: Final = "INSERT INTO outbox (id, type, ordering_key, envelope, traceparent) VALUES (%s, %s, %s, %s, %s)"
_COUNTS: Final = (
    "SELECT type, sum(n) AS n FROM (SELECT type, count(*) AS n FROM outbox GROUP BY type "
    "UNION ALL SELECT type, events FROM outbox_swept) AS counted GROUP BY type ORDER BY type"
)
_UNPUBLISHED: Final = "SELECT count(*) FROM outbox WHERE publish_time IS NULL"
_CLOCK: Final = SystemClock()


@dataclass(frozen=True, slots=True)
class Event:
    """One row of the outbox."""

    id: str
    """Random UUID: AMQP message id and inbox key."""
    type: str
    """Full name of the payload's message."""
    key: str
    """Ordering key; empty where the contract declares none."""
    envelope: bytes
    """Serialized `weft.events.v1.Envelope`."""
    traceparent: str
    """W3C Trace Context of the call that caused it."""


def event(payload: Message, *, source: str, call: CallContext | None, clock: Clock = _CLOCK) -> Event:
    """Wrap a fact for the outbox. `source` is the service; `call` the call that caused it, if one did.

    Raises ValueError where the payload's contract does not declare it an event, or its ordering key is empty.
    """
    # The stubs name two types for one thing: the pure and the compiled descriptor.
    descriptor = cast(Descriptor, payload.DESCRIPTOR)
    policy = event_policy(descriptor)
    if policy is None:
        raise ValueError(f"{descriptor.full_name} is not declared an event")
    key = str(getattr(payload, policy.ordering_key)) if policy.ordering_key else ""
    if policy.ordering_key and not key:
        raise ValueError(f"{descriptor.full_name}.{policy.ordering_key} orders events and is empty")
    principal = call.principal if call is not None else None
    envelope = Envelope(
        id=new_id(),
        type=descriptor.full_name,
        source=source,
        ordering_key=key,
        traceparent=telemetry.current_traceparent(),
        subject=principal.subject if principal is not None else "",
        actor=(principal.actor or "") if principal is not None else "",
        lane=call.lane if call is not None else "",
    )
    envelope.occur_time.FromDatetime(clock.now())
    envelope.payload.Pack(payload, deterministic=True)
    return Event(
        id=envelope.id,
        type=envelope.type,
        key=key,
        envelope=envelope.SerializeToString(deterministic=True),
        traceparent=envelope.traceparent,
    )


def append(tx: Connection, events: Sequence[Event]) -> None:
    """Write events in the transaction; they take their sequence in the order given."""
    if events:
        rows = [(uuid.UUID(item.id), item.type, item.key, item.envelope, item.traceparent) for item in events]
        tx.exec_driver_sql(_APPEND, rows)


def counts(tx: Connection) -> dict[str, int]:
    """Events by type, published or not, swept or not: what a balance compares with the audit log."""
    return {row.type: int(row.n) for row in tx.exec_driver_sql(_COUNTS)}


def unpublished(tx: Connection) -> int:
    """Rows that the relay has not published yet."""
    return int(tx.exec_driver_sql(_UNPUBLISHED).scalar_one())


def facts(tx: Connection, *, service: str) -> dict[str, object]:
    """What every service's `facts` say of its outbox, read in the caller's snapshot."""
    return {"service": service, "outbox": counts(tx), "unpublished": unpublished(tx)}
