"""How failure is answered: the outcome of a failed delivery, and the pause of a loop whose dependency is away.

The queue's own ladder is the only owner of an event's repetition: a handler never repeats by itself. Pure.
"""

from __future__ import annotations

import random
from typing import Final

from worker.delivery import DeadLetter, Outcome, Retry
from worker.errors import Permanent, Transient

#: What the retry queues hold a message for; their `x-message-ttl` is made from this.
RETRY_AFTER_S: Final = 2.0

#: Deliveries through the ladder, the first included; the last failure makes a dead letter.
ATTEMPTS_MAX: Final = 5

PAUSE_MIN_S: Final = 0.1
PAUSE_MAX_S: Final = 3.0

_REASON_LENGTH_MAX: Final = 500


def outcome(attempt: int, error: Exception) -> Outcome:
    """The answer to a delivery that failed: by what failed, and how often it has come.

    error               attempt < 5       attempt >= 5
    Permanent           DeadLetter        DeadLetter
    Transient           Retry             DeadLetter
    anything else       Retry             DeadLetter      (a bug: it may be mended by a roll-out, so it gets its turns)
    """
    if isinstance(error, Permanent):
        return DeadLetter(_reason(str(error)))
    if attempt < ATTEMPTS_MAX:
        return Retry(RETRY_AFTER_S)
    # The text of an unexpected error may quote data; its type says enough beside the log.
    text = str(error) if isinstance(error, Transient) else f"unexpected {type(error).__name__}"
    return DeadLetter(_reason(f"failed {attempt} times, the last time: {text}"))


def pause_s(failures: int) -> float:
    """How long to wait after the n-th failure in a row (from 1): doubled each time, the upper half at random."""
    ceiling = min(PAUSE_MAX_S, PAUSE_MIN_S * 2 ** min(failures - 1, 10))
    return random.uniform(ceiling / 2, ceiling)


def _reason(text: str) -> str:
    return text[:_REASON_LENGTH_MAX]
