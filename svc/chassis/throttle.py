"""When a failed call to a peer is worth another attempt: the retry throttle of gRFC A6, and the pauses in between.

A retry helps where one of many instances fails, and harms where all of them do. So retries are paid for: each failed
attempt takes a token, each answer gives a tenth of one back, and while no more than half of the tokens are left there
are none. In an outage that costs half of TOKENS_MAX in retries, once, however long it lasts. gRPC has this throttle
itself, but its channels take their retries from the route table, and there it cannot be said.
"""

import random
import threading
from typing import Final

#: An instance that is killed fails the calls of every thread of the caller at once, and all of them may be repeated.
TOKENS_MAX: Final = 40.0
#: What an answer gives back: in the long run at most one retry for ten answers.
TOKEN_RATIO: Final = 0.1
#: The pause before the first retry, in seconds; each further one is twice as long, up to PAUSE_MAX_S.
PAUSE_FIRST_S: Final = 0.02
PAUSE_MAX_S: Final = 0.2


class Throttle:
    """The tokens for one peer. Thread-safe."""

    def __init__(self) -> None:
        """Full."""
        self._tokens = TOKENS_MAX
        self._lock = threading.Lock()

    def answered(self) -> None:
        """An attempt was answered, well or not: somebody is there."""
        with self._lock:
            self._tokens = min(TOKENS_MAX, self._tokens + TOKEN_RATIO)

    def failed(self) -> bool:
        """An attempt failed in a way that is worth a retry. Whether there may be one."""
        with self._lock:
            self._tokens = max(0.0, self._tokens - 1.0)
            return self._tokens > TOKENS_MAX / 2


def pause_s(attempt: int) -> float:
    """How long to wait after the given failed attempt, counted from 1; at random, so that callers do not march."""
    doubled: float = PAUSE_FIRST_S * 2 ** (attempt - 1)
    return min(PAUSE_MAX_S, doubled) * random.uniform(0.5, 1.5)
