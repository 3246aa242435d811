"""How long to wait before a part that died is started again. Pure; used by `slot.py`."""

import random

FIRST_S = 0.2
"""A single crash should cost its clients less than a second."""
CEILING_S = 15.0
"""A crash loop may not eat the machine, and may not outlast the patience of whoever just fixed its cause."""
STABLE_S = 30.0
"""Ready for this long: the next death starts counting afresh."""
QUARANTINE_S = 60.0
"""The longest pause between two attempts with a part that has died again and again."""


def delay_s(failures: int, rng: random.Random) -> float:
    """Exponential with full jitter, for the `failures`-th death in a row: who died together starts apart."""
    if failures <= 0:
        return 0.0
    return rng.uniform(0.0, min(CEILING_S, FIRST_S * 2.0 ** min(failures - 1, 16)))


def quarantine_s(rng: random.Random) -> float:
    """For a part that is in quarantine: rarely, and not all at once."""
    return QUARANTINE_S * rng.uniform(0.5, 1.0)
