"""The one consumer loop: take a batch, decode it, handle it, settle every delivery, acknowledge.

Made by `wiring`, one for each worker process. What holds: a delivery is acknowledged only after its effect was
committed, or after the broker confirmed its copy on the retry or dead-letter queue; garbage is put aside at its
first delivery and is never asked for again.

A batch is handled as a whole first. If that fails, each event is handled alone, so that one poisoned event costs its
neighbours a moment and nothing else. During an outage the batch stays in hand, unacknowledged, and no attempt is
counted: the bounded prefetch is what keeps the rest in the queue.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import structlog
from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind

from svc.chassis import metrics, telemetry
from worker import retry
from worker.delivery import Ack, DeadLetter, Delivery, Event, Outcome, Retry, decode
from worker.errors import Outage, Permanent, Transient

TAKE_TIMEOUT_S: Final = 0.5

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
        """Take nothing more off the queue."""
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


@dataclass(slots=True)
class _Work:
    """One delivery on its way to an outcome."""

    delivery: Delivery
    span: Span
    event: Event | None = None
    outcome: Outcome | None = None
    moved: bool = False


class Runner:
    """Feeds one handler from one queue."""

    def __init__(self, source: Source, ladder: Ladder, handler: Handler, *, queue: str, batch_max: int) -> None:
        self._source = source
        self._ladder = ladder
        self._handler = handler
        self._queue = queue
        self._batch_max = batch_max
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"runner-{queue}", daemon=True)

    def start(self) -> None:
        """Start handling."""
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """Take nothing more, finish the batch in hand, and end."""
        self._stopping.set()
        self._source.cancel()
        if self._thread.is_alive():
            self._thread.join(timeout)

    def alive(self) -> bool:
        """Whether the loop runs; outages are waited out and do not end it."""
        return self._thread.is_alive()

    def _run(self) -> None:
        while not self._stopping.is_set():
            deliveries = self._source.take(self._batch_max, timeout_s=TAKE_TIMEOUT_S)
            if deliveries:
                self.settle(deliveries)

    def settle(self, deliveries: Sequence[Delivery]) -> None:
        """Bring a batch to its end; returns without one when stopped or when the queue took the batch back."""
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
        finally:
            for work in batch:
                work.span.end()

    def _decode(self, work: _Work) -> None:
        try:
            work.event = decode(work.delivery)
        except Permanent as error:
            self._fail(work, error)

    def _handle_all(self, batch: Sequence[_Work]) -> None:
        self._handle([work for work in batch if work.outcome is None])

    def _handle(self, batch: Sequence[_Work]) -> None:
        events = [work.event for work in batch if work.event is not None]
        if not events:
            return
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
            for work in batch:
                self._handle([work])
        else:
            for work in batch:
                work.outcome = Ack()

    def _move_all(self, batch: Sequence[_Work]) -> None:
        for work in batch:
            if isinstance(work.outcome, Retry | DeadLetter) and not work.moved:
                self._ladder.move(work.delivery, work.outcome)
                work.moved = True

    def _fail(self, work: _Work, error: Exception) -> None:
        work.outcome = retry.outcome(work.delivery.attempt, error)
        telemetry.fail(work.span, type(error).__name__)
        fields = {"queue": self._queue, "message_id": work.delivery.message_id, "attempt": work.delivery.attempt}
        if not isinstance(error, Permanent | Transient):
            log.error("event_failed_unexpectedly", exc_info=error, **fields)
        if isinstance(work.outcome, DeadLetter):
            log.error("event_dead_lettered", reason=work.outcome.reason, **fields)
        else:
            log.warning("event_retried", error=type(error).__name__, **fields)

    def _through_outages(self, batch: Sequence[_Work], step: Callable[[], None]) -> bool:
        """Repeat a step until no outage stops it. False: the batch is not ours to settle any more."""
        failures = 0
        while True:
            try:
                step()
            except Outage as error:
                failures += 1
                log.warning("worker_waits", queue=self._queue, reason=str(error), failures=failures)
            else:
                return True
            if self._stopping.wait(retry.pause_s(failures)) or not self._source.holds(batch[0].delivery):
                return False

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
