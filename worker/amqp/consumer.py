"""Taking deliveries off one queue, with a bounded number in hand.

The runner takes batches in the order the queue gave them and acknowledges a batch as a whole when every delivery of
it is settled. What was not acknowledged when a session ends belongs to the queue again: the buffer is emptied, and an
acknowledgement that comes later is dropped. Ending the session is also how deliveries are given back before the
broker asks for them: it closes the channel of a consumer that holds one for longer than its `consumer_timeout`.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import Any, Final

import structlog

from worker.amqp.connection import Link, Session
from worker.delivery import Delivery

#: Deliveries in hand at most, those in the buffer included: some batches, so that the next one is here in time.
PREFETCH: Final = 200

SHORT_STRING_MAX: Final = 255

log = structlog.get_logger(__name__)


class Consumer:
    """The deliveries of one queue."""

    def __init__(self, url: str, *, queue: str, name: str, link: type[Link] = Link) -> None:
        """Opens nothing yet. `link` is for tests."""
        self._queue = queue
        self._link = link(url, name=f"{name}-consume", owner=self)
        self._buffer: deque[Delivery] = deque()
        self._filled = threading.Condition()
        self._session = 0
        self._cancelled = False
        self._paused = False
        self._consumer_tag: str | None = None

    def start(self) -> None:
        """Start connecting and consuming."""
        self._link.start()

    def stop(self, timeout: float) -> None:
        """Send the acknowledgements that are due, then close; the queue has everything else again."""
        self._link.stop(timeout)

    def alive(self) -> bool:
        """Whether the connection is looked after."""
        return self._link.alive()

    def cancel(self) -> None:
        """Ask for no more deliveries. Those in the buffer can still be taken; the rest is the queue's at the end."""
        with self._filled:
            self._cancelled = True
            self._filled.notify_all()
        self._link.submit(self._cancel)

    def give_back(self) -> None:
        """Return everything in hand to the queue, and take nothing until `resume`."""
        with self._filled:
            self._paused = True
            self._session = 0
            self._buffer.clear()
        self._link.submit(_end)

    def resume(self) -> None:
        """Take deliveries again."""
        with self._filled:
            self._paused = False
        self._link.submit(self._consume)

    def take(self, limit: int, *, timeout_s: float) -> list[Delivery]:
        """Up to `limit` deliveries, as many as there are; waits for the first one only."""
        with self._filled:
            self._filled.wait_for(lambda: self._buffer or self._cancelled, timeout_s)
            return [self._buffer.popleft() for _ in range(min(limit, len(self._buffer)))]

    def holds(self, delivery: Delivery) -> bool:
        """Whether the delivery is still ours to settle; if not, the queue hands it out again."""
        return delivery.session == self._session

    def acknowledge(self, last: Delivery) -> None:
        """Settle this delivery and every one that was taken before it."""

        def ack(session: Session | None) -> None:
            if session is not None and session.number == last.session:
                session.channel.basic_ack(last.tag, multiple=True)

        self._link.submit(ack)

    def opened(self, session: Session) -> None:
        """Consume on the new channel."""
        self._consume(session)

    def lost(self, _reason: str) -> None:
        """Forget what the queue has taken back."""
        with self._filled:
            self._session = 0
            self._buffer.clear()
        self._consumer_tag = None

    def blocked(self, _blocked: bool) -> None:
        """Not told to a connection that publishes nothing."""

    def _consume(self, session: Session | None) -> None:
        with self._filled:
            if session is None or self._consumer_tag is not None or self._cancelled or self._paused:
                return
            self._session = session.number
        session.channel.add_on_cancel_callback(lambda _frame: session.channel.close())
        session.channel.basic_qos(prefetch_count=PREFETCH)
        self._consumer_tag = session.channel.basic_consume(self._queue, on_message_callback=self._on_message)

    def _cancel(self, session: Session | None) -> None:
        if session is not None and self._consumer_tag is not None:
            session.channel.basic_cancel(self._consumer_tag)

    def _on_message(self, _channel: Any, method: Any, properties: Any, body: bytes) -> None:
        delivery = received(self._queue, method, properties, body, session=self._session)
        with self._filled:
            if not self._paused:
                self._buffer.append(delivery)
                self._filled.notify()


def received(queue: str, method: Any, properties: Any, body: bytes, *, session: int = 0) -> Delivery:
    """A message as the driver hands it over."""
    return Delivery(
        queue=queue,
        body=body,
        message_id=_text(properties.message_id),
        type=_text(properties.type),
        reply_to=_text(properties.reply_to),
        headers=properties.headers or {},
        tag=method.delivery_tag,
        session=session,
    )


def _end(session: Session | None) -> None:
    if session is not None:
        session.channel.close()


def _text(value: str | bytes | None) -> str | None:
    # The driver hands bytes over where a publisher wrote something that is not UTF-8. Escaped, it is longer, and has
    # to fit into the same short string again when it goes to the dead letters.
    return value.decode("ascii", "backslashreplace")[:SHORT_STRING_MAX] if isinstance(value, bytes) else value
