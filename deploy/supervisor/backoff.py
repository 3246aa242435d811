"""How long to wait before a part that died is started again. Pure; used by `slot.py`."""

import random

FIRST_S = 0.2
"""A single crash should cost its clients less than a second."""
CEILING_S = 15.0
"""A crash loop may not eat the machine, and may not outlast the patience of whoever just fixed its cause."""
STABLE_S = 30.0
"""Ready for this long: the next death starts counting afresh."""


def delay_s(failures: int, rng: random.Random) -> float:
    """Exponential with jitter (half to full), for the `failures`-th death in a row."""
    if failures <= 0:
        return 0.0
    bound = min(CEILING_S, FIRST_S * 2.0 ** min(failures - 1, 16))
    return bound * rng.uniform(0.5, 1.0)
