"""Publishing with confirms, a window at a time: a message counts as published when the broker has said so.

Used by the relay (several threads at once) and by the retry ladder. Messages are `mandatory`: one that no queue took
comes back and counts as not published, although the broker confirms it. A broker that is away, blocked by an alarm
or slower than the caller's patience is an `Outage`: then nothing is known, and publishing again is the caller's to
decide (every consumer drops doubles). Nothing is written once that patience is over, also where the whole process was
stopped meanwhile.

A broker that lost a caller's patience loses the session too: what it has not confirmed by then would otherwise stay
in memory, and more would follow. Until there is a new session, nothing is tried.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any, Final

import pika
import structlog

from svc.chassis import metrics, purity
from worker.amqp.connection import Link, Session
from worker.delivery import CONTENT_TYPE, Outgoing
from worker.errors import Outage

#: Messages of one caller that may be on their way at once (measured: a window is four times one by one).
WINDOW: Final = 500

log = structlog.get_logger(__name__)


class _Window:
    """Messages published together, and what became of each. Filled in the link's thread, awaited in the caller's."""

    def __init__(self, messages: Sequence[Outgoing], until: float) -> None:
        self.messages = messages
        #: When it must not be written any more, on the monotonic clock.
        self.until = until
        self.confirmed = [False] * len(messages)
        self.outage: str | None = None
        self.unroutable: list[str] = []
        self.done = threading.Event()
        #: Set by the caller: it has gone.
        self.abandoned = False
        #: The session it was written to.
        self.session = 0
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
        # The rest belongs to the link's thread. Ready is: the session confirms, and no alarm blocks the connection.
        self._confirms = False
        self._blocked = False
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
        purity.refuse("publishing")
        deadline = time.monotonic() + timeout_s
        confirmed: list[bool] = []
        for start in range(0, len(messages), WINDOW):
            window = _Window(messages[start : start + WINDOW], deadline)
            self._send(window)
            confirmed += window.confirmed
        return confirmed

    def _send(self, window: _Window) -> None:
        left_s = window.until - time.monotonic()
        if left_s <= 0:
            raise Outage("no time is left to publish")
        if not self._ready.is_set():
            raise Outage("no connection to the broker, or the broker is blocked")
        self._link.submit(lambda session: self._write(session, window))
        if not window.done.wait(left_s):
            window.abandoned = True
            self._link.submit(lambda session: self._give_up(session, window))
            raise Outage("the broker did not confirm in time")
        if window.unroutable:
            metrics.MESSAGES_RETURNED.inc(len(window.unroutable))
            log.error("amqp_unroutable", messages=len(window.unroutable), routing_keys=sorted(set(window.unroutable)))
        if window.outage is not None:
            raise Outage(window.outage)

    def _write(self, session: Session | None, window: _Window) -> None:
        if window.abandoned:
            return
        if session is None or not self._ready.is_set():
            window.fail("the connection to the broker was lost or blocked")
            return
        if time.monotonic() >= window.until:
            # The process was stopped in between: by now somebody else may have gone on with these messages.
            window.fail("the time to publish was over before it began")
            return
        window.session = session.number
        for index, message in enumerate(window.messages):
            self._tag += 1
            self._inflight[self._tag] = (window, index)
            session.channel.basic_publish(
                message.exchange, message.routing_key, message.body, properties_of(message), mandatory=True
            )

    def _give_up(self, session: Session | None, window: _Window) -> None:
        if session is None or session.number != window.session:
            # Never written, or its session is over anyway.
            return
        log.warning("amqp_session_given_up", session=session.number, unconfirmed=len(self._inflight))
        self._forget("given up: the broker did not confirm in time")
        session.channel.close()

    def opened(self, session: Session) -> None:
        """Turn confirms on; ready when the broker has agreed."""
        self._tag = 0
        session.channel.add_on_return_callback(self._on_return)
        session.channel.confirm_delivery(self._on_confirm, callback=lambda _frame: self._set(confirms=True))

    def lost(self, reason: str) -> None:
        """Nothing that is on its way will be confirmed any more."""
        self._forget(f"connection lost: {reason}")

    def blocked(self, blocked: bool) -> None:
        """The broker has raised or cleared an alarm. Waiting callers are let go: they hold database locks."""
        self._set(blocked=blocked)
        if blocked:
            self._fail_all("the broker is blocked by an alarm")

    def _set(self, *, confirms: bool | None = None, blocked: bool | None = None) -> None:
        self._confirms = self._confirms if confirms is None else confirms
        self._blocked = self._blocked if blocked is None else blocked
        if self._confirms and not self._blocked:
            self._ready.set()
        else:
            self._ready.clear()

    def _forget(self, reason: str) -> None:
        self._set(confirms=False)
        self._fail_all(reason)
        self._inflight.clear()
        self._returned.clear()

    def _fail_all(self, reason: str) -> None:
        for window, _ in self._inflight.values():
            window.fail(reason)

    def _on_return(self, _channel: Any, method: Any, properties: Any, _body: bytes) -> None:
        # A return names no delivery tag; it is found by what identifies the message.
        for tag, (window, index) in self._inflight.items():
            message = window.messages[index]
            if (message.routing_key, message.message_id) == (method.routing_key, properties.message_id):
                self._returned.add(tag)
                window.unroutable.append(method.routing_key)

    def _on_confirm(self, frame: Any) -> None:
        acknowledged = isinstance(frame.method, pika.spec.Basic.Ack)
        tag = frame.method.delivery_tag
        tags = [one for one in self._inflight if one <= tag] if frame.method.multiple else [tag]
        for one in tags:
            if one not in self._inflight:
                # Given up a moment ago; the channel is about to close.
                continue
            window, index = self._inflight.pop(one)
            window.settle(index, confirmed=acknowledged and one not in self._returned)
            self._returned.discard(one)


def properties_of(message: Outgoing) -> Any:
    """AMQP properties of a message: persistent, typed, with its headers."""
    return pika.BasicProperties(
        message_id=message.message_id,
        type=message.type,
        content_type=CONTENT_TYPE,
        delivery_mode=pika.DeliveryMode.Persistent,
        headers=dict(message.headers),
    )
