"""One Memcached node: whether it is worth asking, what it is asked, and what it is still to forget.

What a node could not be told to forget is a debt. It is paid before anything is read from the node by this process, and
by a thread that tries until the node answers; a debt is void when everything it can be about has expired. Nothing of
this outlives the process: what it leaves unpaid is forgotten by the relay, see `worker.forgetting`.
"""

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Final, TypeVar

import structlog

from svc.chassis import metrics
from svc.chassis.cache.health import Health
from svc.chassis.cache.wire import CONNECTIONS_MAX, REFUSED, STALE, Answer, Connection, Incarnation, Pool

R = TypeVar("R")

_log: Final = structlog.get_logger(__name__)

#: Debts beyond this many are paid by forgetting everything.
OWED_MAX: Final = 10_000
# Deletions in one message.
_BATCH: Final = 500
# How often a node that could not be paid is tried.
_COLLECT_FIRST_S: Final = 0.05
_COLLECT_MAX_S: Final = 1.0

_FORGOTTEN: Final = (b"HD", b"NF")


class SilentError(Exception):
    """The node is left alone, or did not do what it was asked."""


class Node:
    """Thread-safe."""

    def __init__(self, name: str, address: tuple[str, int], *, answer_s: float) -> None:
        """`name` is `host:port`."""
        self.name = name
        self._pool = Pool(address, answer_s=answer_s)
        self._health = Health()
        self._debts = threading.Lock()
        self._owed: dict[str, float] = {}
        # How often everything came to be owed, and which of those times are paid for: a flush that is under way when
        # everything is owed once more does not pay for that.
        self._owed_all = 0
        self._paid_all = 0
        self._collector: threading.Thread | None = None
        self._closing = threading.Event()

    def ask(self, request: bytes) -> tuple[Answer, Incarnation | None]:
        """One command, and which start of the node answered. Raises SilentError where there is no answer to be had."""
        if not self._health.ask(time.monotonic()):
            raise SilentError
        if self._owed or self._paid_all < self._owed_all:
            # Before anything is read from it: what it was to forget is out of date.
            self._pay()
        return self._send(lambda connection: (connection.meta(request)[0], connection.incarnation))

    def tell(self, request: bytes, incarnation: Incarnation | None) -> bytes:
        """One command for one start of the node and no other. Returns the answer's code; empty: it has started anew."""

        def command(connection: Connection) -> bytes:
            if connection.incarnation is None:
                connection.meta(b"mn\r\n")
            if connection.incarnation != incarnation:
                return b""
            return connection.meta(request)[0].code

        if not self._health.ask(time.monotonic()):
            raise SilentError
        return self._send(command)

    def forget(self, slots: Iterable[str], *, keep_s: float) -> bool:
        """Have it forget: now, or as soon as it answers again. Whether it has. Asks even a node that is left alone.

        `keep_s`: how long anything that it holds under these slots can live.
        """
        until = time.monotonic() + keep_s
        with self._debts:
            self._owed.update((slot, until) for slot in slots)
            if len(self._owed) > OWED_MAX:
                self._owed.clear()
                self._owed_all += 1
                _log.warning("cache_owes_everything", node=self.name)
            self._report()
        try:
            self._pay()
        except SilentError:
            self._collect()
            return False
        return True

    def answers(self) -> bool:
        """Whether it answers now."""
        try:
            self._send(lambda connection: connection.meta(b"mn\r\n"))
        except SilentError:
            return False
        return True

    def close(self) -> None:
        """Close the connections, and give up what is owed."""
        self._closing.set()
        if self._collector is not None:
            self._collector.join()
        self._pool.close()

    def _pay(self) -> None:
        now = time.monotonic()
        with self._debts:
            for slot in [slot for slot, until in self._owed.items() if until <= now]:
                del self._owed[slot]
            debts, everything = dict(self._owed), self._owed_all
        if self._paid_all < everything:
            self._flush(everything)
        slots = list(debts)
        for first in range(0, len(slots), _BATCH):
            batch = slots[first : first + _BATCH]
            self._send(lambda connection, batch=batch: _delete(connection, batch))  # type: ignore[misc]
        with self._debts:
            for slot, until in debts.items():
                # A debt that came meanwhile is another one: this payment may have been before that caller's commit.
                if self._owed.get(slot) == until:
                    del self._owed[slot]
            self._report()

    def _report(self) -> None:
        metrics.CACHE_OWED.labels(self.name).set(len(self._owed))

    def _flush(self, everything: int) -> None:
        """Pay for everything that came to be owed up to that time: owed until the node has answered."""
        self._send(lambda connection: connection.flush_all(noreply=False))
        with self._debts:
            self._paid_all = max(self._paid_all, everything)
        metrics.CACHE_FLUSHES.labels(self.name).inc()
        _log.warning("cache_flushed", node=self.name)

    def _collect(self) -> None:
        """Have a thread pay as soon as the node answers; one at a time, and none when nothing is owed."""
        with self._debts:
            if self._closing.is_set() or (self._collector is not None and self._collector.is_alive()):
                return
            self._collector = threading.Thread(target=self._collecting, name=f"cache-{self.name}", daemon=True)
            self._collector.start()

    def _collecting(self) -> None:
        pause_s = _COLLECT_FIRST_S
        while not self._closing.wait(pause_s):
            pause_s = min(2 * pause_s, _COLLECT_MAX_S)
            try:
                self._pay()
            except SilentError:
                continue
            with self._debts:
                if not self._owed and self._paid_all == self._owed_all:
                    self._collector = None
                    return

    def _send(self, command: Callable[[Connection], R]) -> R:
        # After a restart of the node every pooled connection is dead; each says so at once and is dropped.
        for _ in range(CONNECTIONS_MAX):
            try:
                with self._pool.connection() as connection:
                    answer = command(connection)
            except STALE:
                continue
            except OSError as error:
                self._failed(error)
                raise SilentError from error
            except REFUSED as error:
                _log.warning("cache_refused", node=self.name, error=type(error).__name__)
                raise SilentError from error
            if self._health.answered():
                _log.info("cache_node_back", node=self.name)
            return answer
        self._failed(ConnectionResetError())
        raise SilentError

    def _failed(self, error: OSError) -> None:
        if self._health.failed(time.monotonic()):
            _log.warning("cache_node_silent", node=self.name, error=type(error).__name__)


def _delete(connection: Connection, slots: Sequence[str]) -> None:
    answers = connection.meta(b"".join(b"md %b\r\n" % slot.encode() for slot in slots), len(slots))
    if any(answer.code not in _FORGOTTEN for answer in answers):
        raise ValueError("a deletion was refused")
