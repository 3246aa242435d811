"""The one consumer loop: take a batch, decode it, handle it, settle every delivery, acknowledge.

Made by `wiring`, one for each worker process. What holds: a delivery is acknowledged only after its effect was
committed, or after the broker confirmed its copy on the retry or dead-letter queue; garbage is put aside at its
first delivery and is never asked for again.

A batch is handled as a whole first. If that fails, each event is handled alone, so that one poisoned event costs its
neighbours a moment and nothing else; a batch that is too much for one transaction is split the same way. During an
outage the batch stays in hand, unacknowledged, and no attempt is counted: the bounded prefetch is what keeps the rest
in the queue.

A broker lets nobody hold a delivery for ever, and counts each one it takes back. So after `HOLD_S` everything in hand
is given back, once, and the batch, of which nothing is forgotten, is tried until the outage is over. Then the queue is
consumed again, and brings what has taken effect already, to be acknowledged.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import structlog
from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind

from svc.chassis import metrics, telemetry
from weft_protos import redaction
from worker import retry
from worker.delivery import Ack, DeadLetter, Delivery, Event, Outcome, Retry, decode
from worker.errors import Outage, Overrun, Permanent, Transient

TAKE_TIMEOUT_S: Final = 0.5

#: Every wait of a handler is bounded, so one that takes longer is stuck: sixteen mails to a slow server take less.
STUCK_S: Final = 300.0

#: Longest a delivery is held through an outage: well below the 30 min after which brokers take it back by default.
HOLD_S: Final = 600.0

#: Times that a batch may overrun its transaction as a whole. The first may have been the database's bad moment.
OVERRUNS_MAX: Final = 2

log = structlog.get_logger(__name__)


class Source(Protocol):
    """A queue's deliveries: `worker.amqp.consumer.Consumer`."""

    def take(self, limit: int, *, timeout_s: float) -> list[Delivery]:
        """Up to `limit` deliveries in the queue's order; waits that long for the first."""
        ...

    def holds(self, delivery: Delivery) -> bool:
        """Whether the delivery is still ours to settle."""
        ...

    def acknowledge(self, last: Delivery) -> None:
        """Settle this delivery and all that were taken before it."""
        ...

    def cancel(self) -> None:
        """Ask the queue for nothing more; what is in hand can still be taken."""
        ...

    def give_back(self) -> None:
        """Return everything in hand to the queue, and take nothing until `resume`."""
        ...

    def resume(self) -> None:
        """Take deliveries again."""
        ...


class Ladder(Protocol):
    """The way out for what failed: `worker.amqp.ladder.Ladder`."""

    def move(self, delivery: Delivery, outcome: Retry | DeadLetter) -> None:
        """Have the broker confirm a copy where the outcome says; Outage: it did not."""
        ...


class Handler(Protocol):
    """Lets events take effect, each once, however often they come."""

    def handle(self, events: Sequence[Event]) -> None:
        """Return when all of them have taken effect; raising says what to do with them."""
        ...

    def abandon(self, event: Event) -> None:
        """The event becomes a dead letter: leave nothing behind that waits for it. It may come again all the same."""
        ...


@dataclass(slots=True)
class _Work:
    """One delivery on its way to an outcome."""

    delivery: Delivery
    span: Span
    event: Event | None = None
    outcome: Outcome | None = None
    abandoned: bool = False
    moved: bool = False


class Runner:
    """Feeds one handler from one queue."""

    def __init__(self, source: Source, ladder: Ladder, handler: Handler, *, queue: str, batch_max: int) -> None:
        self._source = source
        self._ladder = ladder
        self._handler = handler
        self._queue = queue
        self._batch_max = batch_max
        self._overruns = 0
        self._turned = time.monotonic()
        self._stopping = threading.Event()
        self._stop_at = float("inf")
        self._thread = threading.Thread(target=self._run, name=f"runner-{queue}", daemon=True)

    def start(self) -> None:
        """Start handling."""
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """Ask for nothing more, finish what is in hand as far as the time allows, and end.

        What goes back to the queue counts as tried, and an event must not end as a dead letter because its worker was
        rolled some times.
        """
        self._stop_at = time.monotonic() + timeout
        self._stopping.set()
        self._source.cancel()
        if self._thread.is_alive():
            self._thread.join(timeout)

    def alive(self) -> bool:
        """Whether the loop runs; outages are waited out and do not end it."""
        return self._thread.is_alive()

    def turns(self) -> bool:
        """Whether it has begun something not too long ago: looked for events, handled some, waited out an outage."""
        return time.monotonic() - self._turned < STUCK_S

    def _run(self) -> None:
        while time.monotonic() < self._stop_at:
            stopping = self._stopping.is_set()
            self._turned = time.monotonic()
            deliveries = self._source.take(self._batch_max, timeout_s=TAKE_TIMEOUT_S)
            settled = self.settle(deliveries) if deliveries else not stopping
            if stopping and not settled:
                return

    def settle(self, deliveries: Sequence[Delivery]) -> bool:
        """Bring a batch to its end; False where it was stopped, or where the queue took the batch back."""
        self._overruns = 0
        batch = [_Work(delivery, self._span(delivery)) for delivery in deliveries]
        for work in batch:
            self._decode(work)
        # What the handler does hangs under the first span; the others lead there.
        for work in batch[1:]:
            work.span.add_link(batch[0].span.get_span_context())
        try:
            settled = self._through_outages(batch, lambda: self._handle_all(batch)) and self._through_outages(
                batch, lambda: self._move_all(batch)
            )
            if settled:
                self._source.acknowledge(deliveries[-1])
                self._count(batch)
            return settled
        finally:
            for work in batch:
                work.span.end()

    def _decode(self, work: _Work) -> None:
        try:
            work.event = decode(work.delivery)
            if work.event.lane:
                work.span.set_attribute(telemetry.LANE, work.event.lane)
        except Permanent as error:
            self._fail(work, error)

    def _handle_all(self, batch: Sequence[_Work]) -> None:
        left = [work for work in batch if work.outcome is None]
        try:
            if self._overruns < OVERRUNS_MAX:
                self._handle(left)
            else:
                self._handle_each(left)
        except Overrun:
            self._overruns += 1
            raise

    def _handle_each(self, batch: Sequence[_Work]) -> None:
        for work in batch:
            self._handle([work])

    def _handle(self, batch: Sequence[_Work]) -> None:
        events = [work.event for work in batch if work.event is not None]
        if not events:
            return
        self._turned = time.monotonic()
        try:
            with trace.use_span(batch[0].span, record_exception=False, set_status_on_exception=False):
                self._handler.handle(events)
        except Outage:
            raise
        except Exception as error:  # noqa: BLE001 - see below
            # The table in `retry` decides: whatever it is, it must not stop the queue, and it gets a bounded number
            # of turns. Counted in weft_events_handled_total by its outcome.
            if len(batch) == 1:
                self._fail(batch[0], error)
                return
            log.info("batch_split", queue=self._queue, size=len(batch), error=type(error).__name__)
            self._handle_each(batch)
        else:
            for work in batch:
                work.outcome = Ack()

    def _move_all(self, batch: Sequence[_Work]) -> None:
        for work in batch:
            if isinstance(work.outcome, Retry | DeadLetter) and not work.moved:
                self._abandon(work)
                self._ladder.move(work.delivery, work.outcome)
                work.moved = True

    def _abandon(self, work: _Work) -> None:
        if work.event is None or work.abandoned or not isinstance(work.outcome, DeadLetter):
            return
        try:
            self._handler.abandon(work.event)
        except Outage:
            raise
        except Exception:
            # Whatever it is, the dead letter has its reason already and must not stop the queue.
            metrics.UNEXPECTED_ERRORS.labels(place="abandon").inc()
            without = redaction.values(work.event.payload)
            message_id = work.delivery.message_id
            log.exception("event_not_abandoned", queue=self._queue, message_id=message_id, without=without)
        work.abandoned = True

    def _fail(self, work: _Work, error: Exception) -> None:
        pauses = retry.ladder(work.event.type if work.event is not None else "")
        work.outcome = retry.outcome(work.delivery.attempt, error, pauses)
        telemetry.fail(work.span, type(error).__name__)
        fields = {"queue": self._queue, "message_id": work.delivery.message_id, "attempt": work.delivery.attempt}
        if not isinstance(error, Permanent | Transient):
            without = redaction.values(work.event.payload if work.event is not None else None)
            log.error("event_failed_unexpectedly", exc_info=error, without=without, **fields)
        if isinstance(work.outcome, DeadLetter):
            log.error("event_dead_lettered", reason=work.outcome.reason, **fields)
        else:
            log.warning("event_retried", error=type(error).__name__, **fields)

    def _through_outages(self, batch: Sequence[_Work], step: Callable[[], None]) -> bool:
        """Repeat a step until no outage stops it. False: the batch is not ours to settle any more."""
        failures, since, given_back = 0, time.monotonic(), False
        while True:
            try:
                step()
            except Outage as error:
                failures += 1
                self._turned = time.monotonic()
                log.warning("worker_waits", queue=self._queue, reason=str(error), failures=failures)
            else:
                if given_back:
                    self._source.resume()
                return not given_back
            if self._stopping.wait(retry.pause_s(failures)):
                return False
            if not given_back:
                if not self._source.holds(batch[0].delivery):
                    return False
                if time.monotonic() - since >= HOLD_S:
                    log.warning("deliveries_given_back", queue=self._queue, held_s=HOLD_S)
                    self._source.give_back()
                    given_back = True

    def _span(self, delivery: Delivery) -> Span:
        return telemetry.tracer().start_span(
            f"{self._queue} process",
            context=telemetry.context_of(delivery.traceparent),
            kind=SpanKind.CONSUMER,
            attributes={
                "messaging.system": "rabbitmq",
                "messaging.destination.name": self._queue,
                "messaging.message.id": delivery.message_id or "",
                "messaging.message.type": delivery.type or "",
            },
        )

    def _count(self, batch: Sequence[_Work]) -> None:
        for work in batch:
            # A type that no contract knows would let a publisher make as many series as it likes.
            event_type = work.event.type if work.event is not None else "unknown"
            outcome = type(work.outcome).__name__.lower()
            work.span.set_attribute("outcome", outcome)
            metrics.EVENTS_HANDLED.labels(self._queue, event_type, outcome).inc()
