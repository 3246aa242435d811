"""Publishing with confirms, a window at a time: a message counts as published when the broker has said so.

Used by the relay (several threads at once) and by the retry ladder. Messages are `mandatory`: one that no queue took
comes back and counts as not published, although the broker confirms it. A broker that is away, blocked by an alarm
or slower than the caller's patience is an `Outage`: then nothing is known, and publishing again is the caller's to
decide (every consumer drops doubles).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any, Final

import pika
import structlog

from worker.amqp.connection import Link, Session
from worker.delivery import CONTENT_TYPE, Outgoing
from worker.errors import Outage

#: Messages of one caller that may be on their way at once (measured: a window is four times one by one).
WINDOW: Final = 200

log = structlog.get_logger(__name__)


class _Window:
    """Messages published together, and what became of each. Filled in the link's thread, awaited in the caller's."""

    def __init__(self, messages: Sequence[Outgoing]) -> None:
        self.messages = messages
        self.confirmed = [False] * len(messages)
        self.outage: str | None = None
        self.done = threading.Event()
        self._open = len(messages)

    def settle(self, index: int, *, confirmed: bool) -> None:
        self.confirmed[index] = confirmed
        self._open -= 1
        if not self._open:
            self.done.set()

    def fail(self, reason: str) -> None:
        if not self.done.is_set():
            self.outage = reason
            self.done.set()


class Publisher:
    """Publishes messages and tells which of them the broker has taken."""

    def __init__(self, url: str, *, name: str, link: type[Link] = Link) -> None:
        """Opens nothing yet. `link` is for tests."""
        self._link = link(url, name=f"{name}-publish", owner=self)
        self._ready = threading.Event()
        # The rest belongs to the link's thread.
        self._tag = 0
        self._inflight: dict[int, tuple[_Window, int]] = {}
        self._returned: set[int] = set()

    def start(self) -> None:
        """Start connecting."""
        self._link.start()

    def stop(self, timeout: float) -> None:
        """Close the connection."""
        self._link.stop(timeout)

    def alive(self) -> bool:
        """Whether the connection is looked after."""
        return self._link.alive()

    def ready(self, timeout_s: float) -> bool:
        """Whether publishing can be tried, waiting that long for it."""
        return self._ready.wait(timeout_s)

    def publish(self, messages: Sequence[Outgoing], *, timeout_s: float) -> list[bool]:
        """Publish in order; for each message whether it was confirmed and routed. Outage: nothing is known."""
        deadline = time.monotonic() + timeout_s
        confirmed: list[bool] = []
        for start in range(0, len(messages), WINDOW):
            window = _Window(messages[start : start + WINDOW])
            self._send(window, deadline)
            confirmed += window.confirmed
        return confirmed

    def _send(self, window: _Window, deadline: float) -> None:
        if not self._ready.is_set():
            raise Outage("no connection to the broker, or the broker is blocked")
        self._link.submit(lambda session: self._write(session, window))
        if not window.done.wait(max(0.0, deadline - time.monotonic())):
            # Not told to the link's thread: a late confirm settles a window that nobody reads any more.
            raise Outage("the broker did not confirm in time")
        if window.outage is not None:
            raise Outage(window.outage)

    def _write(self, session: Session | None, window: _Window) -> None:
        if session is None or not self._ready.is_set():
            window.fail("the connection to the broker was lost or blocked")
            return
        for index, message in enumerate(window.messages):
            self._tag += 1
            self._inflight[self._tag] = (window, index)
            session.channel.basic_publish(
                message.exchange, message.routing_key, message.body, _properties(message), mandatory=True
            )

    def opened(self, session: Session) -> None:
        """Turn confirms on; ready when the broker has agreed."""
        self._tag = 0
        session.channel.add_on_return_callback(self._on_return)
        session.channel.confirm_delivery(self._on_confirm, callback=lambda _frame: self._ready.set())

    def lost(self, reason: str) -> None:
        """Nothing that is on its way will be confirmed any more."""
        self._ready.clear()
        self._fail_all(f"connection lost: {reason}")
        self._inflight.clear()
        self._returned.clear()

    def blocked(self, blocked: bool) -> None:
        """The broker has raised or cleared an alarm. Waiting callers are let go: they hold database locks."""
        if blocked:
            self._ready.clear()
            self._fail_all("the broker is blocked by an alarm")
        else:
            self._ready.set()

    def _fail_all(self, reason: str) -> None:
        for window, _ in self._inflight.values():
            window.fail(reason)

    def _on_return(self, _channel: Any, method: Any, properties: Any, _body: bytes) -> None:
        # A return names no delivery tag; it is found by what identifies the message.
        log.error("amqp_unroutable", routing_key=method.routing_key, message_id=properties.message_id)
        for tag, (window, index) in self._inflight.items():
            message = window.messages[index]
            if (message.routing_key, message.message_id) == (method.routing_key, properties.message_id):
                self._returned.add(tag)

    def _on_confirm(self, frame: Any) -> None:
        acknowledged = isinstance(frame.method, pika.spec.Basic.Ack)
        tag = frame.method.delivery_tag
        tags = [one for one in self._inflight if one <= tag] if frame.method.multiple else [tag]
        for one in tags:
            window, index = self._inflight.pop(one)
            window.settle(index, confirmed=acknowledged and one not in self._returned)
            self._returned.discard(one)


def _properties(message: Outgoing) -> Any:
    return pika.BasicProperties(
        message_id=message.message_id,
        type=message.type,
        content_type=CONTENT_TYPE,
        delivery_mode=pika.DeliveryMode.Persistent,
        headers=dict(message.headers),
    )
