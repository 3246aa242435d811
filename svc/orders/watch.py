"""Who watches which order, and the one thread that looks for changes of all of them.

`wiring` starts and stops it; the use case of WatchOrder opens a watch and waits on it. However many clients watch,
the database is asked once per round, and not at all while nobody watches. A watch is level-triggered: it compares
revisions, so a change between two rounds, or between the first message and the first round, is never missed.
There are never more watches than the server's budget of streams allows: a stream above it is refused before it
opens one. When the thread stops, every watch ends with UNAVAILABLE: clients reconnect to an instance that still looks.
"""

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

import structlog

from svc.chassis import metrics
from svc.chassis.errors import AppError, Unavailable

_POLL_S: Final = 0.25
_RETRY_AFTER_S: Final = 1.0

_log: Final = structlog.get_logger(__name__)


class Watch:
    """One client's wait for changes of one order."""

    def __init__(self, watches: "Watches", order_id: str) -> None:
        """`Watches.open` makes them."""
        self._watches = watches
        self._order_id = order_id

    def wait(self, *, after: int, timeout_s: float) -> bool:
        """Whether the order has a later revision than `after`, as soon as it has. Unavailable when looking ends."""
        return self._watches.wait(self._order_id, after=after, timeout_s=timeout_s)


class Watches:
    """All watches of this instance."""

    def __init__(
        self,
        revisions: Callable[[Sequence[str]], Mapping[str, int]],
        *,
        poll_s: float = _POLL_S,
    ) -> None:
        """`revisions` reads the present revisions of some orders; it is called from the one thread only."""
        self._revisions = revisions
        self._poll_s = poll_s
        self._changed = threading.Condition()
        # All below are guarded by the condition.
        self._watched: Counter[str] = Counter()
        self._known: dict[str, int] = {}
        self._stopping = False
        self._ended = False
        self._thread = threading.Thread(target=self._look, name="order-watches", daemon=True)

    def start(self) -> None:
        """Begin to look for changes."""
        self._thread.start()

    def stop(self, timeout: float = 5.0) -> None:
        """End every watch, then the thread."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread.ident is not None:
            self._thread.join(timeout)

    def alive(self) -> bool:
        """Whether changes are still looked for."""
        return self._thread.is_alive()

    @contextmanager
    def open(self, order_id: str) -> Iterator[Watch]:
        """Watch an order for as long as the context lasts. How many may is the server's budget of streams."""
        with self._changed:
            self._refuse_stopped()
            self._watched[order_id] += 1
            self._changed.notify_all()
        try:
            yield Watch(self, order_id)
        finally:
            with self._changed:
                self._watched[order_id] -= 1
                if not self._watched[order_id]:
                    del self._watched[order_id]
                    self._known.pop(order_id, None)

    def wait(self, order_id: str, *, after: int, timeout_s: float) -> bool:
        """See `Watch.wait`."""
        with self._changed:
            changed = self._changed.wait_for(
                lambda: self._stopping or self._ended or self._known.get(order_id, 0) > after, timeout_s
            )
            self._refuse_stopped()
            return changed

    def _refuse_stopped(self) -> None:
        if self._stopping or self._ended:
            raise Unavailable(
                "This instance is stopping; watch on another.", reason="DRAINING", retry_after=_RETRY_AFTER_S
            )

    def _look(self) -> None:
        try:
            while order_ids := self._next_round():
                try:
                    revisions = self._revisions(order_ids)
                except AppError as error:
                    # The database is away or busy: the watches wait, and the next round looks again.
                    _log.warning("order_watch_round_failed", reason=error.reason)
                    continue
                except Exception:  # noqa: BLE001 - a thread that ends here would end every watch until a restart
                    metrics.UNEXPECTED_ERRORS.labels(place="orders.watch").inc()
                    _log.exception("order_watch_round_failed", reason="UNEXPECTED")
                    continue
                with self._changed:
                    # An order that nobody watches any more leaves no entry behind.
                    self._known.update({key: value for key, value in revisions.items() if key in self._watched})
                    self._changed.notify_all()
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def _next_round(self) -> list[str]:
        """What to look at, one pause after the last round and when somebody watches; nothing when stopping."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopping, self._poll_s)
            self._changed.wait_for(lambda: self._stopping or bool(self._watched))
            return [] if self._stopping else list(self._watched)
