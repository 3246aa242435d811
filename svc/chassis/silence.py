"""Whether a server that said nothing is worth asking again: pure but for the clock, used by `database`.

A server that hangs costs everyone who asks it all of their time, and the connection they ask on. So the first who found
it silent tells the others: for a moment nobody asks, then one caller a moment does, until there is an answer.
"""

import threading
import time
from typing import Final

#: A moment. A server that goes on is found after this, and one that does not costs one caller so often.
MOMENT_S: Final = 0.5


class Silence:
    """Of one server. Thread-safe."""

    def __init__(self) -> None:
        """It answers, as far as anybody knows."""
        self._lock = threading.Lock()
        self._until: float | None = None

    def noted(self) -> bool:
        """Somebody got no answer in time; whether that is news."""
        with self._lock:
            news = self._until is None
            self._until = time.monotonic() + MOMENT_S
            return news

    def broken(self) -> None:
        """It answered."""
        # Without the lock where there is nothing to do, which is nearly always.
        if self._until is not None:
            with self._lock:
                self._until = None

    def lasts(self) -> bool:
        """Whether it was silent a moment ago."""
        until = self._until
        return until is not None and time.monotonic() < until

    def refuses(self) -> bool:
        """Whether this caller should leave it alone; who may ask, asks for all others of the moment."""
        if self._until is None:
            return False
        with self._lock:
            now = time.monotonic()
            if self._until is None:
                return False
            if now < self._until:
                return True
            self._until = now + MOMENT_S
            return False
