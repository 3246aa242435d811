"""One look at the mesh, shared by all who watch it.

Each source is asked by a thread of its own at its own pace, and only while somebody watches: however many do, it is
asked once a round, and one that hangs delays none of the others. Whatever they say is put together a second later at
the most, and at once where it is something new: a fifth of a second goes by between two looks.

So what the supervisor knows is seen by every watcher within three quarters of a second: half of one until it is asked,
and the pause between two looks.
"""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Generic, TypeVar

import structlog

from svc.chassis import metrics
from svc.chassis.clock import Clock
from svc.chassis.errors import Unavailable
from svc.operations.sources import SourceAwayError, SourceRefusedError

#: The longest between two looks, and the shortest.
EVERY_S: Final = 1.0
PAUSE_S: Final = 0.2
#: Sources are asked for so long after the last watcher has left: whoever looks now and then finds all of it there.
LINGER_S: Final = 5.0
#: How long the first look waits for sources that do not answer.
FIRST_S: Final = 2.0
#: A source whose last answer is so many rounds old, and at least so many seconds, is away: its thread hangs.
LATE_ROUNDS: Final = 3
LATE_S: Final = 4.0
STOP_S: Final = 3.0
_RETRY_AFTER_S: Final = 1.0

_log: Final = structlog.get_logger(__name__)

Look = TypeVar("Look")


@dataclass(frozen=True, slots=True)
class Poll:
    """Who is asked, and how often."""

    name: str
    read: Callable[[], Any]
    """Bounded in time; raises what `sources` raises, or ValueError for an answer that cannot be read."""
    every_s: float


@dataclass(frozen=True, slots=True)
class Reading:
    """What a source said last, or why it did not."""

    value: Any = None
    problem: str = "it has not been asked yet"
    """Empty: `value` is its answer."""
    answered: datetime | None = None
    """When it last answered; None: never."""


class Watching(Generic[Look]):
    """All who watch, in this instance."""

    def __init__(
        self, polls: tuple[Poll, ...], compose: Callable[[Mapping[str, Reading], datetime], Look], *, clock: Clock
    ) -> None:
        """`compose` makes a look of what sources said; it runs in a thread of its own."""
        self._polls = polls
        self._compose = compose
        self._clock = clock
        self._changed = threading.Condition()
        # All below are guarded by the condition.
        self._watchers = 0
        self._until = 0.0
        self._stopping = False
        self._readings = {poll.name: Reading() for poll in polls}
        self._read_at = dict.fromkeys(self._readings, 0.0)
        self._unasked = set(self._readings)
        self._new = False
        self._number = 0
        self._look: Look | None = None
        self._threads = [
            threading.Thread(target=self._ask, args=(poll,), name=f"ask-{poll.name}", daemon=True) for poll in polls
        ]
        self._threads.append(threading.Thread(target=self._put_together, name="look", daemon=True))

    def start(self) -> None:
        """Begin; nobody is asked before somebody watches."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End every watch, then the threads; one that hangs in an answer is left to the end of the process."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        ends = time.monotonic() + STOP_S
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(max(0.0, ends - time.monotonic()))

    @contextmanager
    def open(self) -> Iterator[None]:
        """Watch for as long as the context lasts."""
        with self._changed:
            self._wake()
            self._watchers += 1
            self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._watchers -= 1
                self._until = time.monotonic() + LINGER_S

    def next(self, after: int, timeout_s: float) -> tuple[int, Look] | None:
        """The look behind the one with this number (0: any that is fresh); None where the time was too short.

        Raises Unavailable when looking ends.
        """
        with self._changed:
            self._changed.wait_for(
                lambda: self._stopping or (self._look is not None and self._number > after), timeout_s
            )
            if self._stopping:
                raise Unavailable(
                    "This instance is stopping; watch on another.", reason="DRAINING", retry_after=_RETRY_AFTER_S
                )
            if self._look is None or self._number <= after:
                return None
            return self._number, self._look

    def _wake(self) -> None:
        """What was known before nobody watched is not known any more."""
        if not self._watched():
            self._unasked = set(self._readings)
            self._look = None
            self._changed.notify_all()

    def _watched(self) -> bool:
        return self._watchers > 0 or time.monotonic() < self._until

    def _await_watchers(self) -> bool:
        """Whether to go on: waits until somebody watches; False when stopping."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopping or self._watched())
            return not self._stopping

    def _ask(self, poll: Poll) -> None:
        while self._await_watchers():
            reading = self._read(poll)
            with self._changed:
                self._new = self._new or reading.value != self._readings[poll.name].value or poll.name in self._unasked
                self._readings[poll.name] = reading
                self._read_at[poll.name] = time.monotonic()
                self._unasked.discard(poll.name)
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._stopping or poll.name in self._unasked, poll.every_s)

    def _read(self, poll: Poll) -> Reading:
        before = self._readings[poll.name].answered
        try:
            return Reading(poll.read(), "", self._clock.now())
        except (SourceAwayError, SourceRefusedError) as error:
            return Reading(problem=str(error), answered=before)
        except ValueError as error:
            return Reading(problem=f"{poll.name}: {error}", answered=before)
        except Exception:  # noqa: BLE001 - a thread that ends here would leave its part out until a restart
            metrics.UNEXPECTED_ERRORS.labels(place="operations.watching").inc()
            _log.exception("source_failed", source=poll.name)
            return Reading(problem=f"{poll.name}: its answer could not be read", answered=before)

    def _put_together(self) -> None:
        while self._await_watchers():
            with self._changed:
                self._changed.wait_for(lambda: self._stopping or not self._unasked, FIRST_S)
                self._unasked.clear()  # whoever has not answered by now is away
                self._new = False
                readings = {poll.name: self._late(poll) for poll in self._polls}
            try:
                look = self._compose(readings, self._clock.now())
            except Exception:  # noqa: BLE001 - as above: the next round may find other answers
                metrics.UNEXPECTED_ERRORS.labels(place="operations.watching").inc()
                _log.exception("look_failed")
            else:
                with self._changed:
                    self._look, self._number = look, self._number + 1
                    self._changed.notify_all()
            with self._changed:
                self._changed.wait_for(lambda: self._stopping, PAUSE_S)
                self._changed.wait_for(lambda: self._stopping or self._new or bool(self._unasked), EVERY_S - PAUSE_S)

    def _late(self, poll: Poll) -> Reading:
        """What a source said; nothing where that is too long ago."""
        reading, silent_s = self._readings[poll.name], time.monotonic() - self._read_at[poll.name]
        if reading.problem or silent_s <= max(LATE_S, LATE_ROUNDS * poll.every_s):
            return reading
        return Reading(problem=f"{poll.name}: no answer for {silent_s:.0f} s", answered=reading.answered)
