"""One load for many who want the same at the same time, within one process.

The first caller of a key loads; those who come while it does wait for its result. Nobody depends on it: when the
first one fails, or takes longer than they would wait, each loads for itself.
"""

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class _Flight(Generic[T]):
    __slots__ = ("done", "result")

    def __init__(self) -> None:
        self.done = threading.Event()
        self.result: list[T] = []


class SingleFlight(Generic[T]):
    """The loads that are under way."""

    def __init__(self, *, wait_s: float) -> None:
        """`wait_s`: how long a caller waits for another's load before it starts its own."""
        self._wait_s = wait_s
        self._lock = threading.Lock()
        self._flights: dict[str, _Flight[T]] = {}

    def run(self, key: str, load: Callable[[], T], *, lead: bool = False) -> T:
        """The result of `load`, or of another caller's `load` for the key that was under way.

        `lead`: the caller's own load, come what may, and the one that later callers join.
        """
        with self._lock:
            flight = None if lead else self._flights.get(key)
            first = flight is None
            if flight is None:
                flight = self._flights[key] = _Flight()
        if not first:
            flight.done.wait(self._wait_s)
            return flight.result[0] if flight.result else load()
        try:
            result = load()
            flight.result.append(result)
            return result
        finally:
            with self._lock:
                if self._flights.get(key) is flight:
                    del self._flights[key]
            flight.done.set()

    def forget(self, beginning: str) -> None:
        """Let nobody join the loads under way of keys that begin so any more: what they read is out of date."""
        with self._lock:
            for key in [key for key in self._flights if key.startswith(beginning)]:
                del self._flights[key]
