"""One connection with one channel, kept open by a thread of its own for as long as it is wanted.

Publisher and consumer each hold a `Link`; everything that touches a channel runs in its thread, others hand work in
with `submit`. Whatever breaks a connection or its channel ends in the same place: the owner is told once that the
session is over, and after a pause (growing, with jitter) there is a new one, numbered one higher. Where the broker has
several nodes, each attempt goes to the next one.

The thread only runs pika's I/O loop, so heartbeats are answered however long a handler takes, and a broker that
vanished without a word is noticed after two missed ones.
"""

from __future__ import annotations

import itertools
import logging
import random
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Final, Protocol

import pika
import structlog
from pika.exceptions import AMQPError

from worker.amqp import topology
from worker.delivery import EXCHANGE
from worker.retry import pause_s

HEARTBEAT_S: Final = 10
CONNECT_TIMEOUT_S: Final = 5

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Session:
    """One opened channel. Valid in the link's thread until `lost` was called for it."""

    number: int
    #: pika's Channel; the driver publishes no types.
    channel: Any


#: Something to be done on the session there is, or without one.
Work = Callable[[Session | None], None]


class Owner(Protocol):
    """Whoever uses the link. All calls come from the link's thread; `lost` once after each `opened`."""

    def opened(self, session: Session) -> None:
        """The topology is declared and the channel usable."""
        ...

    def lost(self, reason: str) -> None:
        """The session is over; another one will follow."""
        ...

    def blocked(self, blocked: bool) -> None:
        """The broker takes nothing more from this connection for now, or takes it again.

        False as well when a blocked connection ends: the next one begins unblocked.
        """
        ...


class GatheringConnection(pika.SelectConnection):  # type: ignore[misc]  # the driver publishes no types
    """Hands the socket as one piece what belongs together.

    The driver writes each of a message's three frames by itself: three system calls, three packets, and as many reads
    at the broker. Sent as one, a window costs both sides a fraction of that.
    """

    _held: list[bytes] | None = None

    @contextmanager
    def gathered(self) -> Iterator[None]:
        """Send what is written within the block at its end."""
        self._held = []
        try:
            yield
        finally:
            held, self._held = self._held, None
            if held:
                super()._adapter_emit_data(b"".join(held))

    def _adapter_emit_data(self, data: bytes) -> None:
        if self._held is None:
            super()._adapter_emit_data(data)
        else:
            self._held.append(data)


class Link:
    """Keeps one connection and one channel open."""

    def __init__(self, url: str, *, name: str, owner: Owner) -> None:
        """`url`: of one node, or of several with commas between them."""
        nodes = [_parameters(each, name) for each in url.split(",")]
        # Not all begin with the same one.
        self._nodes = itertools.cycle(random.sample(nodes, len(nodes)))
        self._nodes_max = len(nodes)
        self._name = name
        self._owner = owner
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"amqp-{name}", daemon=True)
        self._lock = threading.Lock()
        self._connection: Any = None
        self._session: Session | None = None
        self._sessions = 0
        self._blocked = False
        self._pending: deque[Work] = deque()

    def start(self) -> None:
        """Start connecting; returns at once."""
        # The driver logs every failed attempt several times over; this module logs each once.
        logging.getLogger("pika").setLevel(logging.CRITICAL)
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """Close the connection after everything that was submitted before, and end the thread."""
        self._stop.set()
        self._call(self._close)
        if self._thread.is_alive():
            self._thread.join(timeout)

    def alive(self) -> bool:
        """Whether the thread does its work; says nothing about the broker."""
        return self._thread.is_alive()

    def submit(self, work: Work) -> None:
        """Run work in the link's thread, in the order it was submitted; with None where there is no session then."""
        with self._lock:
            connection = self._connection
            if connection is not None:
                self._pending.append(work)
                connection.ioloop.add_callback_threadsafe(self._work_off)
        if connection is None:
            work(None)

    def _work_off(self) -> None:
        with self._connection.gathered() if self._connection is not None else nullcontext():
            while self._pending:
                work = self._pending.popleft()
                usable = self._session is not None and self._session.channel.is_open
                work(self._session if usable else None)

    def _call(self, callback: Callable[[], None]) -> None:
        with self._lock:
            if self._connection is not None:
                self._connection.ioloop.add_callback_threadsafe(callback)

    def _run(self) -> None:
        failures = 0
        while not self._stop.is_set():
            before = self._sessions
            self._live()
            failures = 1 if self._sessions > before else failures + 1
            # All of them are tried before the pauses grow.
            self._stop.wait(pause_s(1 + (failures - 1) // self._nodes_max))

    def _live(self) -> None:
        """One connection from its first to its last byte."""
        connection = GatheringConnection(
            next(self._nodes),
            on_open_callback=self._on_connection_open,
            on_open_error_callback=self._on_connection_end,
            on_close_callback=self._on_connection_end,
        )
        with self._lock:
            self._connection = connection
        try:
            if self._stop.is_set():
                self._call(self._close)
            connection.ioloop.start()
        except (AMQPError, OSError) as error:
            self._end(repr(error))
        except AssertionError:
            # The driver's own, where it is closed in the middle of the handshake; its socket is closed by then.
            if not self._stop.is_set():
                raise
        finally:
            with self._lock:
                self._connection = None
            # Nobody who submitted waits for work that no loop will run any more.
            self._work_off()
            connection.ioloop.close()
            if self._blocked:
                self._blocked = False
                self._owner.blocked(False)

    def _close(self) -> None:
        if self._connection is not None and not (self._connection.is_closing or self._connection.is_closed):
            self._connection.close()

    def _on_connection_open(self, connection: Any) -> None:
        connection.add_on_connection_blocked_callback(lambda *_: self._on_blocked(True))
        connection.add_on_connection_unblocked_callback(lambda *_: self._on_blocked(False))
        connection.channel(on_open_callback=self._on_channel_open)

    def _on_channel_open(self, channel: Any) -> None:
        channel.add_on_close_callback(self._on_channel_closed)
        declare(channel, lambda: self._on_declared(channel))

    def _on_declared(self, channel: Any) -> None:
        self._sessions += 1
        self._session = Session(self._sessions, channel)
        log.info("amqp_session_opened", link=self._name, session=self._sessions)
        self._owner.opened(self._session)

    def _on_blocked(self, blocked: bool) -> None:
        log.warning("amqp_blocked" if blocked else "amqp_unblocked", link=self._name)
        self._blocked = blocked
        self._owner.blocked(blocked)

    def _on_channel_closed(self, _channel: Any, reason: Exception) -> None:
        self._end(repr(reason))
        self._close()

    def _on_connection_end(self, connection: Any, reason: Exception | str) -> None:
        self._end(repr(reason))
        connection.ioloop.stop()

    def _end(self, reason: str) -> None:
        if self._session is None:
            # Before a session: the broker is away. After it: the rest of a connection whose end was told already.
            level = logging.INFO if self._stop.is_set() else logging.WARNING
            log.log(level, "amqp_connection_ended", link=self._name, reason=reason)
            return
        self._session = None
        log.warning("amqp_session_lost", link=self._name, reason=reason)
        self._owner.lost(reason)


def declare(channel: Any, done: Callable[[], None]) -> None:
    """Declare the whole topology on an asynchronous channel, then call `done`.

    All but the last frame ask for no answer: a refusal closes the channel, and frames of one channel are worked off
    in their order, so the answer to the last one stands for all.
    """
    channel.exchange_declare(EXCHANGE, "topic", durable=True)
    for work in topology.work_queues():
        for queue in work.queues():
            channel.queue_declare(queue.name, durable=True, arguments=dict(queue.arguments))
        for routing_key in work.routing_keys:
            channel.queue_bind(work.name, EXCHANGE, routing_key)
    channel.exchange_declare(EXCHANGE, "topic", passive=True, callback=lambda _frame: done())


def _parameters(url: str, name: str) -> Any:
    parameters = pika.URLParameters(url)
    parameters.heartbeat = HEARTBEAT_S
    parameters.socket_timeout = CONNECT_TIMEOUT_S
    parameters.stack_timeout = 2 * CONNECT_TIMEOUT_S
    parameters.client_properties = {"connection_name": f"weft {name}"}
    return parameters
