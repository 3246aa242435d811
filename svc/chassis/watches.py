"""Who watches which resource of one kind, and the one thread that looks for changes of all of them.

`wiring` starts and stops it; the use case of a Watch method opens a watch and waits on it. However many clients watch,
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
    """One client's wait for changes of one resource."""

    def __init__(self, watches: "Watches", key: str) -> None:
        """`Watches.open` makes them."""
        self._watches = watches
        self._key = key

    def wait(self, *, after: int, timeout_s: float) -> bool:
        """Whether it has a later revision than `after`, as soon as it has. Unavailable when looking ends."""
        return self._watches.wait(self._key, after=after, timeout_s=timeout_s)


class Watches:
    """All watches of one kind in this instance."""

    def __init__(
        self,
        revisions: Callable[[Sequence[str]], Mapping[str, int]],
        *,
        kind: str,
        poll_s: float = _POLL_S,
    ) -> None:
        """`revisions` reads the present revisions of some resources, by id; it is called from the one thread only.

        `kind` is what is watched, in the plural, for the thread's name and for logs.
        """
        self._revisions = revisions
        self._kind = kind
        self._poll_s = poll_s
        self._changed = threading.Condition()
        # All below are guarded by the condition.
        self._watched: Counter[str] = Counter()
        self._known: dict[str, int] = {}
        self._stopping = False
        self._ended = False
        self._thread = threading.Thread(target=self._look, name=f"{kind}-watches", daemon=True)

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
    def open(self, key: str) -> Iterator[Watch]:
        """Watch one for as long as the context lasts. How many may is the server's budget of streams."""
        with self._changed:
            self._refuse_stopped()
            self._watched[key] += 1
            self._changed.notify_all()
        try:
            yield Watch(self, key)
        finally:
            with self._changed:
                self._watched[key] -= 1
                if not self._watched[key]:
                    del self._watched[key]
                    self._known.pop(key, None)

    def wait(self, key: str, *, after: int, timeout_s: float) -> bool:
        """See `Watch.wait`."""
        with self._changed:
            changed = self._changed.wait_for(
                lambda: self._stopping or self._ended or self._known.get(key, 0) > after, timeout_s
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
            while keys := self._next_round():
                try:
                    revisions = self._revisions(keys)
                except AppError as error:
                    # The database is away or busy: the watches wait, and the next round looks again.
                    _log.warning("watch_round_failed", kind=self._kind, reason=error.reason)
                    continue
                except Exception:  # noqa: BLE001 - a thread that ends here would end every watch until a restart
                    metrics.UNEXPECTED_ERRORS.labels(place="watches").inc()
                    _log.exception("watch_round_failed", kind=self._kind, reason="UNEXPECTED")
                    continue
                with self._changed:
                    # What nobody watches any more leaves no entry behind.
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
