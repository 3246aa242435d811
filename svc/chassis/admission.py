"""Which calls wait for a thread, in which order, and which are refused before they cost anything. Pure: no clock.

Three queues in strict order: a thread that becomes free takes the oldest critical call, then the oldest default one,
then the oldest sheddable one. The signal is the time that calls wait, as in CoDel (RFC 8289) and in WeChat's DAGOR, not
their number: a queue whose oldest call has waited longer than TARGET_S for INTERVAL_S on end is not a burst but
standing, and a standing queue makes every call late without serving one more. While it stands, its own class may fill
one place for each thread, so that none is idle, and the classes below get nothing. It ends with the first call that
finds a short queue, so that there is nothing to recover from.

Refused is also who could only be served after its deadline, who has waited longer than its class has patience, and,
where the queue is full to its hard bound, the latest of the least class.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

from svc.chassis.criticality import Criticality

#: A wait beyond this is a queue, not a coincidence.
TARGET_S: Final = 0.02
#: A queue that stays for this long is not a burst.
INTERVAL_S: Final = 0.1
#: The longest a call waits. An answer to a critical call is worth having until most contracts' timeouts.
PATIENCE_S: Final = {Criticality.SHEDDABLE: 0.25, Criticality.DEFAULT: 0.5, Criticality.CRITICAL: 2.0}
#: Weight of the latest call in the mean time of service.
_MEMORY: Final = 0.05
_FALLING: Final = tuple(sorted(Criticality, reverse=True))

Work = TypeVar("Work")


@dataclass(frozen=True, slots=True)
class _Waiting(Generic[Work]):
    work: Work
    since: float
    until: float


@dataclass(slots=True)
class _Queue(Generic[Work]):
    patience_s: float
    waiting: deque[_Waiting[Work]] = field(default_factory=deque)
    long_since: float | None = None
    """Since when the oldest call has always been one that waited longer than TARGET_S."""

    def look(self, now: float) -> bool:
        """Whether it stands."""
        if not self.waiting or now - self.waiting[0].since < TARGET_S:
            self.long_since = None
            return False
        if self.long_since is None:
            self.long_since = now
        return now - self.long_since >= INTERVAL_S

    def take_late(self, now: float) -> list[Work]:
        """Remove whoever has waited too long."""
        late: list[Work] = []
        while self.waiting and self._is_late(self.waiting[0], now):
            late.append(self.waiting.popleft().work)
        return late

    def _is_late(self, one: _Waiting[Work], now: float) -> bool:
        return now >= one.until or now - one.since > self.patience_s


class Admission(Generic[Work]):
    """The queues of one process. Not thread-safe. Times are seconds of one monotonic clock."""

    def __init__(self, *, threads: int, places: int) -> None:
        """`threads` serve; at most `places` calls wait, whatever their class."""
        self._threads = threads
        self._places = places
        self._queues = {level: _Queue[Work](PATIENCE_S[level]) for level in _FALLING}
        self._service_s = 0.0

    @property
    def waiting(self) -> int:
        """How many calls wait."""
        return sum(len(queue.waiting) for queue in self._queues.values())

    def offer(self, work: Work, level: Criticality, *, now: float, until: float = float("inf")) -> list[Work]:
        """A call that came in; `until` its deadline. Returns whom to refuse instead: it, another one, or nobody."""
        if self._closed(level, now) or self._hopeless(level, now, until):
            return [work]
        refused: list[Work] = []
        if self.waiting >= self._places:
            least = next((each for each in reversed(_FALLING) if self._queues[each].waiting), level)
            if least >= level:
                return [work]
            refused.append(self._queues[least].waiting.pop().work)
        self._queues[level].waiting.append(_Waiting(work, now, until))
        return refused

    def hurried(self, level: Criticality, *, now: float, until: float) -> bool:
        """Whether a call is refused for its own deadline alone, and one with the patience of its class is not.

        That says nothing of how much there is to do: whoever set a deadline of milliseconds would else be able to have
        the gateway refuse the calls of others.
        """
        if self._closed(level, now) or self.waiting >= self._places:
            return False
        return self._hopeless(level, now, until) and not self._hopeless(level, now, now + PATIENCE_S[level])

    def take(self, *, now: float) -> tuple[Work | None, list[Work]]:
        """What a free thread does next, None where nobody waits; and whom to refuse, because it waited too long."""
        late = [work for queue in self._queues.values() for work in queue.take_late(now)]
        for queue in self._queues.values():
            queue.look(now)
        for level in _FALLING:
            if self._queues[level].waiting:
                return self._queues[level].waiting.popleft().work, late
        return None, late

    def served(self, seconds: float) -> None:
        """A call kept its thread for that long."""
        self._service_s += (seconds - self._service_s) * (_MEMORY if self._service_s else 1.0)

    def drain(self) -> list[Work]:
        """Everybody who waits; nobody waits any more."""
        left = [one.work for queue in self._queues.values() for one in queue.waiting]
        for queue in self._queues.values():
            queue.waiting.clear()
        return left

    def _closed(self, level: Criticality, now: float) -> bool:
        if level is Criticality.CRITICAL:
            return False
        above = any(self._queues[each].look(now) for each in _FALLING if each > level)
        return above or (self._queues[level].look(now) and len(self._queues[level].waiting) >= self._threads)

    def _hopeless(self, level: Criticality, now: float, until: float) -> bool:
        ahead = sum(len(self._queues[each].waiting) for each in _FALLING if each >= level)
        return now + (ahead // self._threads) * self._service_s >= until
