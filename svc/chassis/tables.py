"""Tables that every service or worker has beside its own: outbox, idempotency records, inbox.

Migrations create them with `create_outbox(op)` and so on; `outbox`, `idempotency` and worker's inbox write them.
The definitions stay inside the subset that PostgreSQL and CockroachDB share, and no foreign key points at them or
away from them: each such check would read what other transactions write and cost serializable ones false conflicts.
"""

from typing import Final, Protocol

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    DateTime,
    Identity,
    Index,
    LargeBinary,
    MetaData,
    Table,
    Text,
    Uuid,
    func,
    text,
)


class Operations(Protocol):
    """The part of `alembic.op` that is used here."""

    def get_bind(self) -> Connection:
        """The connection that the migration runs on."""
        ...


METADATA: Final = MetaData()

# `sequence` is assigned inside the transaction. Transactions that write events of one ordering key also write one
# row of their own in common, so the later of them takes its snapshot, and its sequence, after the earlier committed:
# within a key `sequence` is the order of commits. Across keys it is not, and rows appear out of order: a relay claims
# by `publish_time IS NULL`, never by a cursor.
outbox: Final = Table(
    "outbox",
    METADATA,
    Column("id", Uuid, primary_key=True),
    Column("type", Text, nullable=False),
    Column("ordering_key", Text, nullable=False),
    Column("envelope", LargeBinary, nullable=False),
    Column("traceparent", Text, nullable=False),
    Column("create_time", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("sequence", BigInteger, Identity(always=False), nullable=False),
    Column("publish_time", DateTime(timezone=True), nullable=True),
    Index("outbox_unpublished", "sequence", postgresql_where=text("publish_time IS NULL")),
)

# How many events were swept out of the outbox, by type: with what is still there, all that ever happened.
outbox_swept: Final = Table(
    "outbox_swept",
    METADATA,
    Column("type", Text, primary_key=True),
    Column("events", BigInteger, nullable=False),
)

# `response` is null only inside the transaction that claimed the key: it commits completed or not at all.
idempotency: Final = Table(
    "idempotency",
    METADATA,
    Column("principal", Text, primary_key=True),
    Column("method", Text, primary_key=True),
    Column("request_id", Uuid, primary_key=True),
    Column("body_hash", LargeBinary, nullable=False),
    Column("response", LargeBinary, nullable=True),
    Column("create_time", DateTime(timezone=True), nullable=False, server_default=func.now()),
)

# One row for each message that took effect, written in the transaction of the effect.
inbox: Final = Table(
    "inbox",
    METADATA,
    Column("consumer", Text, primary_key=True),
    Column("message_id", Uuid, primary_key=True),
    Column("create_time", DateTime(timezone=True), nullable=False, server_default=func.now()),
)


def create_outbox(op: Operations) -> None:
    """Create the outbox and the index of what is not yet published."""
    outbox.create(op.get_bind())


def create_outbox_retention(op: Operations) -> None:
    """Create the count of what was swept, and the index that sweeping needs. After `create_outbox`."""
    outbox_swept.create(op.get_bind())
    # Not in the table's definition, which an earlier migration creates. Nothing on the way of a call pays for it: a row
    # enters the index when it is published.
    op.get_bind().exec_driver_sql(
        "CREATE INDEX outbox_published ON outbox (type, publish_time) WHERE publish_time IS NOT NULL"
    )


def drop_outbox_retention(op: Operations) -> None:
    """Undo `create_outbox_retention`."""
    op.get_bind().exec_driver_sql("DROP INDEX outbox_published")
    outbox_swept.drop(op.get_bind())


def create_idempotency(op: Operations) -> None:
    """Create the table of idempotency records."""
    idempotency.create(op.get_bind())


def create_inbox(op: Operations) -> None:
    """Create the inbox."""
    inbox.create(op.get_bind())


def create_idempotency_retention(op: Operations) -> None:
    """Create the index by which `retention` finds old records. After `create_idempotency`."""
    # Not in the table's definition, which an earlier migration creates.
    op.get_bind().exec_driver_sql("CREATE INDEX idempotency_create_time ON idempotency (create_time)")


def create_inbox_retention(op: Operations) -> None:
    """Create the index by which `retention` finds old rows. After `create_inbox`."""
    op.get_bind().exec_driver_sql("CREATE INDEX inbox_create_time ON inbox (create_time)")


def drop_index(op: Operations, name: str) -> None:
    """Undo one of them."""
    op.get_bind().exec_driver_sql(f"DROP INDEX {name}")
