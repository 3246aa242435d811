"""What callers saw: answers, refusals, latencies, and the longest time without a success. No I/O; thread-safe.

Latencies count from the moment a call was due, not from when it was sent: a load that waits for the mesh would
otherwise leave out what the mesh made it wait for.
"""

import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from hdrh.histogram import HdrHistogram

#: Of each latency three digits are kept, from a microsecond to two minutes.
LATENCY_MAX_US: Final = 120_000_000
_DIGITS: Final = 3
#: Refusals that are told word for word.
REFUSALS_SHOWN: Final = 10


@dataclass(frozen=True, slots=True)
class Seen:
    """What was seen of something: a whole load, or the time around one change."""

    requests: int
    errors: int
    worst_gap_s: float
    """The longest time without a success."""
    worst_gap_at_s: float
    """When that began, in seconds from the beginning of the load."""


class Window:
    """A part of the load's time. Opened and closed by the tally."""

    def __init__(self, began: float) -> None:
        """`began`: monotonic seconds."""
        self.requests = 0
        self.errors = 0
        self.last = began
        self.worst = 0.0
        self.worst_at = began

    def passed(self, now: float) -> None:
        """Time went on until a success, or until the end."""
        if now - self.last > self.worst:
            self.worst, self.worst_at = now - self.last, self.last

    def seen(self, since: float) -> Seen:
        """The figures, with times from `since` on."""
        return Seen(self.requests, self.errors, max(0.0, self.worst), max(0.0, self.worst_at - since))


class Tally:
    """Counts one load. All times are monotonic seconds."""

    def __init__(self, began: float) -> None:
        self._began = began
        self._lock = threading.Lock()
        self._latencies = HdrHistogram(1, LATENCY_MAX_US, _DIGITS)
        self._whole = Window(began)
        self._windows: set[Window] = set()
        self._methods: Counter[str] = Counter()
        self._refusals: Counter[str] = Counter()
        self._repeated: Counter[str] = Counter()

    def succeeded(self, method: str, *, due: float, now: float) -> None:
        """A call was answered."""
        with self._lock:
            self._methods[method] += 1
            self._latencies.record_value(min(LATENCY_MAX_US, max(1, round((now - due) * 1_000_000))))
            for window in (self._whole, *self._windows):
                window.requests += 1
                window.passed(now)
                window.last = max(window.last, now)

    def refused(self, method: str, reason: str) -> None:
        """A call ended with an error, as its caller saw it."""
        with self._lock:
            self._methods[method] += 1
            self._refusals[f"{method}: {reason}"] += 1
            for window in (self._whole, *self._windows):
                window.requests += 1
                window.errors += 1

    def repeated(self, code: str) -> None:
        """A call was sent again on another connection. It is counted once it is answered or given up."""
        with self._lock:
            self._repeated[code] += 1

    def open(self, now: float) -> Window:
        """Begin to look at a part of the time."""
        window = Window(now)
        with self._lock:
            self._windows.add(window)
        return window

    def close(self, window: Window, now: float) -> Seen:
        """End it; what was seen in it."""
        with self._lock:
            self._windows.discard(window)
            window.passed(now)
            return window.seen(self._began)

    def result(self, now: float) -> Mapping[str, Any]:
        """Everything, for machines. `now`: when the load ended."""
        with self._lock:
            self._whole.passed(now)
            seen, seconds = self._whole.seen(self._began), max(now - self._began, 1e-9)
            answered = self._latencies.get_total_count() > 0
            # The histogram gives the upper end of what it cannot tell apart.
            latency = {
                name: round(self._latencies.get_value_at_percentile(rank) / 1000, 3) if answered else None
                for name, rank in (("p50", 50.0), ("p99", 99.0), ("max", 100.0))
            }
            return {
                "seconds": round(seconds, 3),
                "requests": seen.requests,
                "errors": seen.errors,
                "per_second": round(seen.requests / seconds, 1),
                "latency_ms": latency,
                "worst_gap_s": round(seen.worst_gap_s, 3),
                "worst_gap_at_s": round(seen.worst_gap_at_s, 3),
                "methods": dict(sorted(self._methods.items())),
                "repeated": dict(sorted(self._repeated.items())),
                "refusals": dict(self._refusals.most_common(REFUSALS_SHOWN)),
            }
