"""Whether a node is worth asking. Pure but for its lock: times are monotonic seconds handed in."""

import threading
from typing import Final

# One answer that came too late is a busy machine; two in a row are a node that is gone.
STRIKES: Final = 2
# How long a node is left alone after the second failure in a row; doubled for each further one, up to the second.
_REST_FIRST_S: Final = 0.2
_REST_MAX_S: Final = 1.0
# While one caller tries a node that failed before, the others still do without it.
_PROBE_S: Final = 0.2


class Health:
    """What is known of one node. Thread-safe."""

    def __init__(self) -> None:
        """A node is taken for well at first."""
        self._lock = threading.Lock()
        self._failures = 0
        self._rest_until = 0.0

    def ask(self, now: float) -> bool:
        """Whether to ask now. After a rest one caller at a time is told yes."""
        if self._failures < STRIKES:
            return True
        with self._lock:
            if now < self._rest_until:
                return False
            self._rest_until = now + _PROBE_S
            return True

    def failed(self, now: float) -> bool:
        """Note a failure; whether it is the one by which the node counts as gone."""
        with self._lock:
            self._failures += 1
            beyond = self._failures - STRIKES
            if beyond >= 0:
                self._rest_until = now + min(_REST_MAX_S, _REST_FIRST_S * 2 ** min(beyond, 10))
            return beyond == 0

    def answered(self) -> bool:
        """Note an answer; whether it is the first of a node that was gone."""
        if self._failures == 0:
            return False
        with self._lock:
            again = self._failures >= STRIKES
            self._failures = 0
            return again
