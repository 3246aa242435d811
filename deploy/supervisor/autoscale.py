"""How many instances a part needs for its load. Pure: samples in, a number out; `autoscaler.py` brings both together.

Load is counted in instances: 1.0 is what keeps one instance busy all the time. A part grows when the load has asked for
more through the whole of a short time, and shrinks when it has asked for less through the whole of a long one; between
the two thresholds lies a factor in which nothing happens. So noise that stays within it changes nothing, a peak that is
over is not chased, and of two loads of which one is never the smaller, it never gets the fewer instances.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

OUT_AT = 0.7
"""An instance busier than this gets help: what comes in unevenly still needs room."""
IN_AT = 0.4
"""After shrinking, no instance would have been busier than this."""
OUT_FOR_S = 2.0
IN_FOR_S = 30.0
"""Longer than it takes to start an instance, so that what was just started is not sent away for being new."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """The fewest and the most instances."""

    least: int
    most: int

    def __post_init__(self) -> None:
        if not 1 <= self.least <= self.most:
            raise ValueError(f"{self.least}-{self.most} is no range: give at least 1, and no more than what follows")

    def __str__(self) -> str:
        return f"{self.least}-{self.most}"

    def clamp(self, size: int) -> int:
        """The nearest number within."""
        return max(self.least, min(size, self.most))


@dataclass(frozen=True, slots=True)
class Sample:
    """The load of one moment, on a monotonic clock in seconds."""

    at: float
    load: float


def size(samples: Sequence[Sample], *, current: int, bounds: Bounds, now: float) -> int:
    """How many instances there should be now, given the samples so far, oldest first."""
    least, most = 0, bounds.most
    if rising := _window(samples, OUT_FOR_S, now):
        least = min(_needed(sample.load, OUT_AT) for sample in rising)
    if falling := _window(samples, IN_FOR_S, now):
        most = max(_needed(sample.load, IN_AT) for sample in falling)
    return bounds.clamp(max(least, min(current, most)))


def settled(samples: Sequence[Sample], *, now: float) -> bool:
    """Whether they reach far enough back to send an instance away."""
    return bool(_window(samples, IN_FOR_S, now))


def backlog_load(waiting: float, *, each: int) -> float:
    """The load of a queue of which one instance is expected to look after `each` messages."""
    return waiting / each * OUT_AT


def recent(samples: Sequence[Sample], *, now: float) -> list[Sample]:
    """Those that a later decision can still depend on."""
    return [sample for sample in samples if now - sample.at <= IN_FOR_S * 2]


def _window(samples: Sequence[Sample], seconds: float, now: float) -> list[Sample]:
    """The samples of the last seconds; none where they do not reach that far back."""
    if not samples or now - samples[0].at < seconds:
        return []
    return [sample for sample in samples if now - sample.at <= seconds]


def _needed(load: float, busy: float) -> int:
    # Rounded first: 2.1 / 0.7 is a little more than 3 in binary, and would ask for a fourth.
    return math.ceil(round(load / busy, 6))
