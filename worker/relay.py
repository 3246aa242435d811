"""The relay: publishes outbox rows, and marks them published after the broker has confirmed them.

One `Relay` for each service's database, each in a thread of its own, so that one database that is away stops nothing
but itself. Any number of relay processes may run. What holds:

- A row is marked in the transaction that locked it and after its confirm: a crash publishes it again (consumers drop
  doubles) and never loses it.
- The transaction is also the fence. A relay that is stopped in the middle, and wakes after others have gone on with its
  rows, finds its transaction ended by the server and can mark nothing; and the publisher writes nothing to the broker
  after the time the relay gave it, which ends well before the server takes the locks away (`LOCKS_OUTLAST_S`).
- Rows of one ordering key are published in their order. A relay takes rows with FOR UPDATE SKIP LOCKED, so it may
  skip a row that another relay holds and see a later one of the same key. It therefore asks, *after* locking, which
  of its keys have an older unpublished row that it does not hold itself, and leaves those keys alone. The question
  is a statement of its own with a newer snapshot than the locks: an older row it reports as published was confirmed
  and committed by the other relay before. Within a batch, a key's next row goes out only when the one before is
  confirmed.
- With no broker nothing is locked; the backlog is measured all the same.
- What the broker refuses (a full queue, a type that no queue takes) is tried again after a pause that grows, and keeps
  no other key waiting, see `Scan`.
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
from worker import sweep
from worker.delivery import EXCHANGE, TRACEPARENT_HEADER, Outgoing
from worker.errors import Outage
from worker.retry import pause_s

#: Rows of one batch. After an outage less is tried, and more again with each success: a broker that takes too long for
#: many would otherwise be given the same many for ever.
BATCH_MAX: Final = 500
BATCH_MIN: Final = 10
#: How often an outbox is looked at: soon after it had something, and at the most this late when it is idle.
POLL_MIN_S: Final = 0.05
POLL_MAX_S: Final = 0.2
MEASURE_EVERY_S: Final = 2.0
SWEEP_EVERY_S: Final = 30.0
#: The broker's time for one batch. Rows are locked that long at the most, and other relays pass them by.
CONFIRM_TIMEOUT_S: Final = 5.0
TRANSACTION_S: Final = 15.0
#: The server keeps a silent transaction, and its locks, at least this much longer than anything may be written.
LOCKS_OUTLAST_S: Final = CONFIRM_TIMEOUT_S
#: A round measures and drains, each in one transaction, after a pause that grows; one that takes longer is stuck.
STUCK_S: Final = 120.0

log = structlog.get_logger(__name__)

# Looking for work is not work that anyone asked for: those transactions are in no trace. The spans of published
# events name their parent themselves.
_UNTRACED: Final = NonRecordingSpan(SpanContext(trace_id=1, span_id=1, is_remote=False, trace_flags=TraceFlags(0)))

# Before the first row.
_START: Final = -1

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
    .where(outbox.c.publish_time.is_(None), outbox.c.sequence > sa.bindparam("after"))
    .order_by(outbox.c.sequence)
    .limit(sa.bindparam("most"))
    .with_for_update(skip_locked=True)
)
_OLDER: Final = (
    sa.select(outbox.c.ordering_key)
    .distinct()
    .where(outbox.c.publish_time.is_(None), outbox.c.sequence < sa.bindparam("newest"))
    .where(outbox.c.id != sa.all_(sa.bindparam("mine", type_=ARRAY(Uuid))))
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


@dataclass(frozen=True, slots=True)
class Claim:
    """A batch of locked rows."""

    #: Those that may be published now.
    rows: Sequence[Row]
    #: All that were locked, and the last one's sequence.
    locked: int
    newest: int


@dataclass(frozen=True, slots=True)
class Batch:
    """What became of a claim."""

    published: int
    refused: int = 0
    #: Sequence of the first row that was refused.
    refused_first: int | None = None
    locked: int = 0
    newest: int = _START
    #: How many it could have been.
    most: int = BATCH_MAX

    @property
    def stuck(self) -> bool:
        """Whether the broker was asked in vain."""
        return bool(self.refused and not self.published)


class Scan:
    """Where in the outbox the next batch begins: at the oldest row, as long as the broker takes what it gets.

    After a refusal the pass goes on behind each batch, so that refused rows keep no other key waiting, however many
    they are (later rows of their keys stay, `claim` sees to that). At the end it takes what is new, and starts over
    when a pause is over. The pause grows for as long as passes fail at the same row.
    """

    def __init__(self) -> None:
        self._after = _START
        self._refusing = False
        self._ended = False
        self._stuck_at: int | None = None
        self._failures = 0
        self._again_at = 0.0

    def begin(self, now: float) -> int:
        """The sequence behind which to claim."""
        if self._refusing and self._ended and now >= self._again_at:
            self._after, self._refusing, self._ended = _START, False, False
        return self._after

    def end(self, batch: Batch, now: float) -> None:
        """Learn what became of the batch that was claimed there."""
        ended = batch.locked < batch.most
        if batch.refused_first is not None and not self._refusing:
            self._failures = self._failures + 1 if batch.refused_first == self._stuck_at else 1
            self._stuck_at = batch.refused_first
            self._again_at = now + pause_s(self._failures)
            self._refusing = True
        if self._refusing:
            self._after, self._ended = max(self._after, batch.newest), ended
        elif ended:
            self._stuck_at, self._failures = None, 0


class Relay:
    """Drains the outbox of one database."""

    def __init__(self, database: Database, publisher: Publisher, *, name: str, routing_keys: Mapping[str, str]) -> None:
        """`name` is the database's, for metrics; `routing_keys` by event type."""
        self._database = database
        self._publisher = publisher
        self._name = name
        self._routing_keys = routing_keys
        self._scan = Scan()
        self._most = BATCH_MAX
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"relay-{name}", daemon=True)
        self._measured = float("-inf")
        self._sweep_at = float("-inf")
        self._turned = time.monotonic()

    def start(self) -> None:
        """Start draining."""
        self._thread.start()

    def ask_to_stop(self) -> None:
        """Begin no further batch; returns at once."""
        self._stopping.set()

    def stop(self, timeout: float) -> None:
        """Finish the batch in hand and end."""
        self.ask_to_stop()
        if self._thread.is_alive():
            self._thread.join(timeout)

    def alive(self) -> bool:
        """Whether the loop runs; neither broker nor database can end it."""
        return self._thread.is_alive()

    def turns(self) -> bool:
        """Whether it has begun a round not too long ago."""
        return time.monotonic() - self._turned < STUCK_S

    def _run(self) -> None:
        failures, pause = 0, POLL_MIN_S
        while not self._stopping.wait(pause):
            self._turned = time.monotonic()
            try:
                self.measure()
                batch = self.drain_once() if self._publisher.ready(POLL_MAX_S) else Batch(published=0)
                self.sweep()
            except (Outage, AppError, DBAPIError) as error:
                failures += 1
                pause = pause_s(failures)
                log.warning("relay_waits", database=self._name, reason=str(error), failures=failures)
            else:
                failures = failures + 1 if batch.stuck else 0
                pause = pause_s(failures) if failures else _pause_after(batch, pause)

    def drain_once(self) -> Batch:
        """Claim, publish and mark one batch."""
        deadline = Deadline.after(TRANSACTION_S)
        after = self._scan.begin(time.monotonic())
        with trace.use_span(_UNTRACED):
            batch, outage = self._database.read_committed(
                lambda tx: self._drain(tx, claim(tx, after, most=self._most), deadline), deadline=deadline
            )
        if outage is not None:
            self._most = max(BATCH_MIN, self._most // 2)
            raise outage
        self._scan.end(batch, time.monotonic())
        self._most = min(BATCH_MAX, self._most * 2)
        return batch

    def measure(self) -> None:
        """Report the backlog, if that was not done just now."""
        if time.monotonic() - self._measured < MEASURE_EVERY_S:
            return
        with trace.use_span(_UNTRACED):
            pending, oldest_s = self._database.read_committed(backlog, deadline=Deadline.after(TRANSACTION_S))
        metrics.OUTBOX_PENDING.labels(self._name).set(pending)
        metrics.OUTBOX_OLDEST.labels(self._name).set(oldest_s)
        self._measured = time.monotonic()

    def sweep(self) -> None:
        """Delete what was kept for long enough, if that was not done just now; one batch each time."""
        if time.monotonic() < self._sweep_at:
            return
        with trace.use_span(_UNTRACED):
            swept = self._database.read_committed(sweep.sweep, deadline=Deadline.after(TRANSACTION_S))
        for event_type, events in swept.items():
            metrics.OUTBOX_SWEPT.labels(event_type).inc(events)
        if max(swept.values(), default=0) < sweep.BATCH_MAX:
            self._sweep_at = time.monotonic() + SWEEP_EVERY_S

    def _drain(self, tx: Transaction, claimed: Claim, deadline: Deadline) -> tuple[Batch, Outage | None]:
        published: list[uuid.UUID] = []
        refused: list[Row] = []
        outage: Outage | None = None
        try:
            for row, taken in answers(claimed.rows, lambda rows: self._send(rows, deadline)):
                if taken:
                    published.append(row.id)
                    metrics.OUTBOX_PUBLISHED.labels(row.type).inc()
                else:
                    refused.append(row)
        except Outage as error:
            # Not raised through the transaction: what was confirmed before it is marked, the rest is unlocked.
            outage = error
        if published:
            tx.execute(_MARK, {"ids": published})
        first = min(refused, key=lambda row: row.sequence, default=None)
        if first is not None:
            types = sorted({row.type for row in refused})
            log.error("events_not_taken", database=self._name, events=len(refused), first=str(first.id), types=types)
        batch = Batch(
            published=len(published),
            refused=len(refused),
            refused_first=first.sequence if first is not None else None,
            locked=claimed.locked,
            newest=claimed.newest,
            most=self._most,
        )
        return batch, outage

    def _send(self, rows: Sequence[Row], deadline: Deadline) -> list[bool]:
        timeout_s = min(CONFIRM_TIMEOUT_S, deadline.remaining() - LOCKS_OUTLAST_S)
        if timeout_s <= 0:
            raise Outage("the broker is too slow for a whole batch")
        spans = [self._span(row) for row in rows]
        try:
            messages = [self._message(row, span) for row, span in zip(rows, spans, strict=True)]
            return self._publisher.publish(messages, timeout_s=timeout_s)
        finally:
            for span in spans:
                span.end()

    def _message(self, row: Row, span: Span) -> Outgoing:
        traceparent = telemetry.traceparent_of(span) or row.traceparent
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


class Relays:
    """Several relays as one part of a process: all are asked to stop before the first is waited for."""

    def __init__(self, relays: Sequence[Relay]) -> None:
        self._relays = relays

    def start(self) -> None:
        """Start draining all databases."""
        for relay in self._relays:
            relay.start()

    def stop(self, timeout: float) -> None:
        """Finish the batches in hand and end, all within the timeout."""
        deadline = Deadline.after(timeout)
        for relay in self._relays:
            relay.ask_to_stop()
        for relay in self._relays:
            relay.stop(deadline.remaining())

    def alive(self) -> bool:
        """Whether all loops run."""
        return all(relay.alive() for relay in self._relays)

    def turns(self) -> bool:
        """Whether all loops turn."""
        return all(relay.turns() for relay in self._relays)


def claim(tx: Transaction, after: int = _START, *, most: int = BATCH_MAX) -> Claim:
    """Lock the oldest unpublished rows behind that sequence, and find out which of them may be published now."""
    rows = [
        Row(row.id, row.type, row.ordering_key, bytes(row.envelope), row.traceparent, row.sequence)
        for row in tx.execute(_CLAIM, {"after": after, "most": most})
    ]
    newest = rows[-1].sequence if rows else after
    keys = {row.ordering_key for row in rows if row.ordering_key}
    if not keys:
        return Claim(rows, len(rows), newest)
    older = tx.execute(_OLDER, {"newest": newest, "mine": [row.id for row in rows], "keys": sorted(keys)})
    not_mine = {row.ordering_key for row in older}
    return Claim([row for row in rows if row.ordering_key not in not_mine], len(rows), newest)


def answers(rows: Sequence[Row], send: Callable[[Sequence[Row]], list[bool]]) -> Iterator[tuple[Row, bool]]:
    """Send rows wave by wave; each that was sent, and whether it was taken. After a refusal its key is left alone."""
    refused: set[str] = set()
    for wave in waves(rows):
        sendable = [row for row in wave if row.ordering_key not in refused]
        if not sendable:
            continue
        for row, taken in zip(sendable, send(sendable), strict=True):
            if not taken:
                refused.add(row.ordering_key)
            yield row, taken


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


def _pause_after(batch: Batch, pause: float) -> float:
    """None after a batch that was at least half full: there is more. Otherwise longer and longer while idle."""
    if batch.published >= batch.most // 2:
        return 0.0
    return POLL_MIN_S if batch.published else min(max(pause * 2, POLL_MIN_S), POLL_MAX_S)
