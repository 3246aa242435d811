"""How long to wait before the next attempt: exponential, with full jitter above a floor, bounded."""

import random
from typing import Final

MINIMUM_S: Final = 0.1
MAXIMUM_S: Final = 1.0


class Backoff:
    """One sequence of waits. Jitter keeps a fleet that lost etcd at one moment from coming back at one moment."""

    def __init__(self, source: random.Random | None = None) -> None:
        self._random = source or random.Random()
        self._ceiling = MINIMUM_S

    def next(self) -> float:
        """Seconds to wait now; the ceiling doubles with every call, up to `MAXIMUM_S`."""
        wait = self._random.uniform(MINIMUM_S, self._ceiling)
        self._ceiling = min(MAXIMUM_S, self._ceiling * 2)
        return wait

    def reset(self) -> None:
        """Begin again at the shortest wait: the last attempt went well."""
        self._ceiling = MINIMUM_S
