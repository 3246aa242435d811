"""The relay: publishes outbox rows, and marks them published after the broker has confirmed them.

One `Relay` for each service's database, each in a thread of its own, so that one database that is away stops nothing
but itself. Any number of relay processes may run. What holds:

- A row is marked in the transaction that locked it and after its confirm: a crash publishes it again (consumers drop
  doubles) and never loses it.
- Rows of one ordering key are published in their order. A relay takes rows with FOR UPDATE SKIP LOCKED, so it may
  skip a row that another relay holds and see a later one of the same key. It therefore asks, *after* locking, which
  of its keys have an older unpublished row that it does not hold itself, and leaves those keys alone. The question
  is a statement of its own with a newer snapshot than the locks: an older row it reports as published was confirmed
  and committed by the other relay before. Within a batch, a key's next row goes out only when the one before is
  confirmed.
- With no broker nothing is locked; the backlog is measured all the same.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

import sqlalchemy as sa
import structlog
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, SpanKind, TraceFlags
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.exc import DBAPIError
from sqlalchemy.types import Text, Uuid

from svc.chassis import metrics, telemetry
from svc.chassis.context import Deadline
from svc.chassis.database import Database, Transaction
from svc.chassis.errors import AppError
from svc.chassis.tables import outbox
from worker.delivery import EXCHANGE, TRACEPARENT_HEADER, Outgoing
from worker.errors import Outage
from worker.retry import pause_s

BATCH_MAX: Final = 200
#: How often an outbox is looked at: soon after it had something, and at the most this late when it is idle.
POLL_MIN_S: Final = 0.05
POLL_MAX_S: Final = 0.2
MEASURE_EVERY_S: Final = 2.0
#: The broker's time for one batch. Rows are locked that long at the most, and other relays pass them by.
CONFIRM_TIMEOUT_S: Final = 5.0
TRANSACTION_S: Final = 15.0

log = structlog.get_logger(__name__)

# Looking for work is not work that anyone asked for: those transactions are in no trace. The spans of published
# events name their parent themselves.
_UNTRACED: Final = NonRecordingSpan(SpanContext(trace_id=1, span_id=1, is_remote=False, trace_flags=TraceFlags(0)))

_COLUMNS: Final = (
    outbox.c.id,
    outbox.c.type,
    outbox.c.ordering_key,
    outbox.c.envelope,
    outbox.c.traceparent,
    outbox.c.sequence,
)
_CLAIM: Final = (
    sa.select(*_COLUMNS)
    .where(outbox.c.publish_time.is_(None))
    .order_by(outbox.c.sequence)
    .limit(BATCH_MAX)
    .with_for_update(skip_locked=True)
)
_OLDER: Final = (
    sa.select(outbox.c.id, outbox.c.ordering_key)
    .where(outbox.c.publish_time.is_(None), outbox.c.sequence < sa.bindparam("newest"))
    .where(outbox.c.ordering_key == sa.any_(sa.bindparam("keys", type_=ARRAY(Text))))
)
_MARK: Final = (
    sa.update(outbox)
    .where(outbox.c.id == sa.any_(sa.bindparam("ids", type_=ARRAY(Uuid))))
    .values(publish_time=sa.func.now())
)
_BACKLOG: Final = sa.select(
    sa.func.count().label("pending"), sa.func.min(outbox.c.create_time).label("oldest"), sa.func.now().label("now")
).where(outbox.c.publish_time.is_(None))


class Publisher(Protocol):
    """Publishing with confirms: `worker.amqp.publisher.Publisher`."""

    def ready(self, timeout_s: float) -> bool:
        """Whether publishing can be tried, waiting that long for it."""
        ...

    def publish(self, messages: Sequence[Outgoing], *, timeout_s: float) -> list[bool]:
        """For each message whether it was taken; Outage: nothing is known."""
        ...


@dataclass(frozen=True, slots=True)
class Row:
    """One claimed row of the outbox."""

    id: uuid.UUID
    type: str
    ordering_key: str
    envelope: bytes
    traceparent: str
    sequence: int


class Relay:
    """Drains the outbox of one database."""

    def __init__(self, database: Database, publisher: Publisher, *, name: str, routing_keys: Mapping[str, str]) -> None:
        """`name` is the database's, for metrics; `routing_keys` by event type."""
        self._database = database
        self._publisher = publisher
        self._name = name
        self._routing_keys = routing_keys
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"relay-{name}", daemon=True)
        self._measured = float("-inf")

    def start(self) -> None:
        """Start draining."""
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """Finish the batch in hand and end."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout)

    def alive(self) -> bool:
        """Whether the loop runs; neither broker nor database can end it."""
        return self._thread.is_alive()

    def _run(self) -> None:
        failures, pause = 0, POLL_MIN_S
        while not self._stopping.wait(pause):
            try:
                self.measure()
                published = self.drain_once() if self._publisher.ready(POLL_MAX_S) else 0
            except (Outage, AppError, DBAPIError) as error:
                failures += 1
                pause = pause_s(failures)
                log.warning("relay_waits", database=self._name, reason=str(error), failures=failures)
            else:
                failures = 0
                pause = _pause_after(published, pause)

    def drain_once(self) -> int:
        """Claim, publish and mark one batch; how many rows were published."""
        deadline = Deadline.after(TRANSACTION_S)
        with trace.use_span(_UNTRACED):
            published, outage = self._database.read_committed(lambda tx: self._drain(tx, deadline), deadline=deadline)
        if outage is not None:
            raise outage
        return published

    def measure(self) -> None:
        """Report the backlog, if that was not done just now."""
        if time.monotonic() - self._measured < MEASURE_EVERY_S:
            return
        with trace.use_span(_UNTRACED):
            pending, oldest_s = self._database.read_committed(backlog, deadline=Deadline.after(TRANSACTION_S))
        metrics.OUTBOX_PENDING.labels(self._name).set(pending)
        metrics.OUTBOX_OLDEST.labels(self._name).set(oldest_s)
        self._measured = time.monotonic()

    def _drain(self, tx: Transaction, deadline: Deadline) -> tuple[int, Outage | None]:
        published: list[uuid.UUID] = []
        outage: Outage | None = None
        try:
            for row in confirmed(claim(tx), lambda rows: self._send(rows, deadline)):
                published.append(row.id)
                metrics.OUTBOX_PUBLISHED.labels(row.type).inc()
        except Outage as error:
            # Not raised through the transaction: what was confirmed before it is marked, the rest is unlocked.
            outage = error
        if published:
            tx.execute(_MARK, {"ids": published})
        return len(published), outage

    def _send(self, rows: Sequence[Row], deadline: Deadline) -> list[bool]:
        spans = [self._span(row) for row in rows]
        try:
            messages = [self._message(row, span) for row, span in zip(rows, spans, strict=True)]
            timeout_s = min(CONFIRM_TIMEOUT_S, max(0.0, deadline.remaining() - CONFIRM_TIMEOUT_S))
            return self._publisher.publish(messages, timeout_s=timeout_s)
        finally:
            for span in spans:
                span.end()

    def _message(self, row: Row, span: Span) -> Outgoing:
        with trace.use_span(span):
            traceparent = telemetry.current_traceparent() or row.traceparent
        return Outgoing(
            exchange=EXCHANGE,
            # A type that no contract knows routes nowhere but to the audit queue, whose worker puts it aside.
            routing_key=self._routing_keys.get(row.type, row.type),
            body=row.envelope,
            message_id=str(row.id),
            type=row.type,
            headers={TRACEPARENT_HEADER: traceparent},
        )

    def _span(self, row: Row) -> Span:
        return telemetry.tracer().start_span(
            f"{EXCHANGE} publish",
            context=telemetry.context_of(row.traceparent),
            kind=SpanKind.PRODUCER,
            attributes={
                "messaging.system": "rabbitmq",
                "messaging.destination.name": EXCHANGE,
                "messaging.message.id": str(row.id),
                "messaging.message.type": row.type,
            },
        )


def claim(tx: Transaction) -> list[Row]:
    """Lock the oldest unpublished rows that may be published now."""
    rows = [
        Row(row.id, row.type, row.ordering_key, bytes(row.envelope), row.traceparent, row.sequence)
        for row in tx.execute(_CLAIM)
    ]
    keys = {row.ordering_key for row in rows if row.ordering_key}
    if not keys:
        return rows
    older = tx.execute(_OLDER, {"newest": rows[-1].sequence, "keys": sorted(keys)})
    mine = {row.id for row in rows}
    held_elsewhere = {row.ordering_key for row in older if row.id not in mine}
    return [row for row in rows if row.ordering_key not in held_elsewhere]


def confirmed(rows: Sequence[Row], send: Callable[[Sequence[Row]], list[bool]]) -> Iterator[Row]:
    """Send rows wave by wave, and yield those that were taken. After a refusal its key waits for another batch."""
    refused: set[str] = set()
    for wave in waves(rows):
        sendable = [row for row in wave if row.ordering_key not in refused]
        if not sendable:
            continue
        for row, taken in zip(sendable, send(sendable), strict=True):
            if taken:
                yield row
            else:
                log.error("event_not_taken", event_id=str(row.id), type=row.type)
                refused.add(row.ordering_key)


def waves(rows: Sequence[Row]) -> list[list[Row]]:
    """Split rows so that each wave has at most one row of a key, in their order; rows without a key have no order."""
    split: list[list[Row]] = []
    seen: defaultdict[str, int] = defaultdict(int)
    for row in rows:
        wave = seen[row.ordering_key] if row.ordering_key else 0
        seen[row.ordering_key] += 1
        if wave == len(split):
            split.append([])
        split[wave].append(row)
    return split


def backlog(tx: Transaction) -> tuple[int, float]:
    """How many rows are unpublished, and for how many seconds the oldest has been, by the database's clock."""
    row = tx.execute(_BACKLOG).one()
    oldest: datetime | None = row.oldest
    return int(row.pending), max(0.0, (row.now - oldest).total_seconds()) if oldest is not None else 0.0


def _pause_after(published: int, pause: float) -> float:
    """None after a batch that was at least half full: there is more. Otherwise longer and longer while idle."""
    if published >= BATCH_MAX // 2:
        return 0.0
    return POLL_MIN_S if published else min(max(pause * 2, POLL_MIN_S), POLL_MAX_S)
