"""How failure is answered: the outcome of a failed delivery, and the pause of a loop whose dependency is away.

The queue's own ladder is the only owner of an event's repetition: a handler never repeats by itself. How often an event
comes and what it waits in between stands in its contract. Pure.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Final

from weft_protos import policy
from worker.delivery import DeadLetter, Outcome, Retry
from worker.errors import Permanent, Transient

#: By event type: what its deliveries wait after each failure. The failure after the last pause makes a dead letter.
LADDERS: Final[Mapping[str, tuple[float, ...]]] = {
    event.full_name: policy.retry_pauses(policy.event_policy(event)) for event in policy.EVENTS
}

PAUSE_MIN_S: Final = 0.1
PAUSE_MAX_S: Final = 3.0

_REASON_LENGTH_MAX: Final = 500


def ladder(event_type: str) -> tuple[float, ...]:
    """The pauses of an event type; of one that no contract knows, those of a contract that says nothing."""
    return LADDERS.get(event_type, policy.RETRY_PAUSES_S)


def outcome(attempt: int, error: Exception, pauses: Sequence[float]) -> Outcome:
    """The answer to a delivery that failed: by what failed, and how often it has come.

    error               with a pause left     without
    Permanent           DeadLetter            DeadLetter
    Transient           Retry                 DeadLetter
    anything else       Retry                 DeadLetter      (a bug: a roll-out may mend it, so it gets its turns)
    """
    if isinstance(error, Permanent):
        return DeadLetter(_reason(str(error)))
    if attempt <= len(pauses):
        return Retry(pauses[attempt - 1])
    # The text of an unexpected error may quote data; its type says enough beside the log.
    text = str(error) if isinstance(error, Transient) else f"unexpected {type(error).__name__}"
    return DeadLetter(_reason(f"failed {attempt} times, the last time: {text}"))


def pause_s(failures: int) -> float:
    """How long to wait after the n-th failure in a row (from 1): doubled each time, the upper half at random."""
    ceiling = min(PAUSE_MAX_S, PAUSE_MIN_S * 2 ** min(failures - 1, 10))
    return random.uniform(ceiling / 2, ceiling)


def _reason(text: str) -> str:
    return text[:_REASON_LENGTH_MAX]
