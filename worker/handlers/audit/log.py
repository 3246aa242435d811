"""The audit log: a gap-free sequence of records, each sealed by a hash over itself and the hash before it.

Changing, removing or inserting a record breaks every hash after it; cutting records off the end shows against
`audit_head`, which names the last one. The head is also what makes several audit workers take turns: whoever wants to
append locks it first, so sequence and chain never fork. On PostgreSQL a trigger refuses to change or remove records.

A record keeps the envelope of its event without what the contracts mark sensitive, and the hash is over what is kept:
whoever may read the log can verify it, learns of nobody's address, and nothing has to be removed from it later.
"""

from __future__ import annotations

import hashlib
import struct
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final

import sqlalchemy as sa
from sqlalchemy.types import BigInteger, DateTime, LargeBinary, SmallInteger, Text, Uuid

from svc.chassis.database import Transaction
from weft.events.v1.envelope_pb2 import Envelope
from weft_protos import redaction
from worker.delivery import Event

#: Name of the database.
DATABASE: Final = "audit"

METADATA: Final = sa.MetaData()

audit_log: Final = sa.Table(
    "audit_log",
    METADATA,
    sa.Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    sa.Column("event_id", Uuid, nullable=False, unique=True),
    sa.Column("type", Text, nullable=False),
    sa.Column("source", Text, nullable=False),
    sa.Column("subject", Text, nullable=False),
    sa.Column("actor", Text, nullable=False),
    sa.Column("occur_time", DateTime(timezone=True), nullable=False),
    sa.Column("envelope", LargeBinary, nullable=False),
    sa.Column("previous_hash", LargeBinary, nullable=False),
    sa.Column("hash", LargeBinary, nullable=False),
)

audit_head: Final = sa.Table(
    "audit_head",
    METADATA,
    sa.Column("id", SmallInteger, primary_key=True, autoincrement=False),
    sa.Column("sequence", BigInteger, nullable=False),
    sa.Column("hash", LargeBinary, nullable=False),
)

#: The hash before the first record.
GENESIS: Final = bytes(32)

_DOMAIN: Final = b"weft.audit.v1"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

_HEAD: Final = sa.select(audit_head.c.sequence, audit_head.c.hash).where(audit_head.c.id == 1).with_for_update()
# One statement for a batch; both databases know unnest of several arrays.
_INSERT: Final = (
    "INSERT INTO audit_log (sequence, event_id, type, source, subject, actor, occur_time, envelope, previous_hash, "
    "hash) SELECT * FROM unnest(%s::bigint[], %s::uuid[], %s::text[], %s::text[], %s::text[], %s::text[], "
    "%s::timestamptz[], %s::bytea[], %s::bytea[], %s::bytea[])"
)
_MOVE_HEAD: Final = (
    sa.update(audit_head)
    .where(audit_head.c.id == 1)
    .values(sequence=sa.bindparam("new_sequence"), hash=sa.bindparam("new_hash"))
)
_COUNTS: Final = sa.select(audit_log.c.type, sa.func.count().label("records")).group_by(audit_log.c.type)


@dataclass(frozen=True, slots=True)
class Head:
    """The last record: where the chain goes on."""

    sequence: int
    hash: bytes


def append(tx: Transaction, events: Sequence[Event]) -> None:
    """Write one record for each event, in their order, at the end of the chain."""
    row = tx.execute(_HEAD).one()
    head = Head(row.sequence, bytes(row.hash))
    records: list[tuple[object, ...]] = []
    for event in map(fit_to_keep, events):
        following = Head(head.sequence + 1, record_hash(head.hash, head.sequence + 1, event))
        records.append(
            (
                following.sequence,
                uuid.UUID(event.id),
                event.type,
                event.source,
                event.subject,
                event.actor,
                event.occur_time,
                event.envelope,
                head.hash,
                following.hash,
            )
        )
        head = following
    tx.exec_driver_sql(_INSERT, tuple(map(list, zip(*records, strict=True))))
    tx.execute(_MOVE_HEAD, {"new_sequence": head.sequence, "new_hash": head.hash})


def fit_to_keep(event: Event) -> Event:
    """The event as the log keeps it: its envelope without what must not be shown, and without unknown fields."""
    envelope = redaction.redacted(Envelope.FromString(event.envelope))
    return replace(event, envelope=envelope.SerializeToString(deterministic=True))


def record_hash(previous: bytes, sequence: int, event: Event) -> bytes:
    """SHA-256 over the hash before and every column, each with its length in front, so that none runs into the next."""
    fields = (
        _DOMAIN,
        previous,
        struct.pack(">q", sequence),
        uuid.UUID(event.id).bytes,
        event.type.encode(),
        event.source.encode(),
        event.subject.encode(),
        event.actor.encode(),
        struct.pack(">q", (event.occur_time - _EPOCH) // timedelta(microseconds=1)),
        event.envelope,
    )
    digest = hashlib.sha256()
    for one in fields:
        digest.update(struct.pack(">I", len(one)))
        digest.update(one)
    return digest.digest()


def counts(tx: Transaction) -> dict[str, int]:
    """Records by event type."""
    return {row.type: row.records for row in tx.execute(_COUNTS)}
