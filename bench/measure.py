"""How a cost is measured: CPU of a process tree, in turns, ratios round by round, and the machine's speed meanwhile."""

import os
import statistics
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from math import comb
from pathlib import Path
from typing import Any, Final, TypeVar

#: Iterations of the loop that tells how fast this machine is at the moment.
CALIBRATION_LOOPS: Final = 300_000
#: So many rounds are taken for undisturbed: more than one, for one may have been lucky.
CHEAPEST: Final = 3
#: How sure an interval is to hold the median.
CONFIDENCE: Final = 0.95

_PROC: Final = Path("/proc")
# Fields of /proc/PID/stat (proc_pid_stat(5)), counted from the one after the command's closing parenthesis.
_PARENT, _WAITED_FOR = 1, slice(13, 15)
# What clock_getcpuclockid(3) answers with: the clock of all threads of a process, those that ended among them.
_CLOCK_KIND, _CLOCK_BITS = 2, 3

T = TypeVar("T")
Side = TypeVar("Side", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Usage:
    """CPU that one process has used, in nanoseconds: its own, and that of the children it has waited for."""

    parent: int
    cpu_ns: int


@dataclass(frozen=True, slots=True)
class Middle:
    """The median of some figures, and between which of them that of all there could be lies for sure."""

    median: float
    low: float
    high: float

    def as_object(self) -> dict[str, Any]:
        """As results hold it."""
        numbers = {"median": self.median, "low": self.low, "high": self.high}
        return {"confidence": CONFIDENCE} | {name: round(number, 3) for name, number in numbers.items()}


def parse_stat(text: str, own_ns: int) -> Usage:
    """Read a line of /proc/PID/stat, of a process that used so much itself.

    Of the children only the kernel's ticks are known. A command may hold spaces and parentheses, so what counts is the
    last one.
    """
    fields = text.rpartition(")")[2].split()
    waited_for_ns = sum(map(int, fields[_WAITED_FOR])) * 10**9 // os.sysconf("SC_CLK_TCK")
    return Usage(int(fields[_PARENT]), own_ns + waited_for_ns)


def tree_ns(processes: Mapping[int, Usage], root: int) -> int:
    """What a process and all below it used. Raises KeyError where there is no such process."""
    below: dict[int, list[int]] = {}
    for pid, usage in processes.items():
        below.setdefault(usage.parent, []).append(pid)
    pending, total = [root], 0
    while pending:
        pid = pending.pop()
        total += processes[pid].cpu_ns
        pending += below.get(pid, ())
    return total


def cpu_s(root: int) -> float:
    """CPU seconds of a living process and of all below it. Raises KeyError where it is gone."""
    processes: dict[int, Usage] = {}
    for path in _PROC.glob("[0-9]*/stat"):
        pid = int(path.parent.name)
        try:
            processes[pid] = parse_stat(path.read_text(), _own_ns(pid))
        except OSError:
            continue  # it ended between the looks
    return tree_ns(processes, root) / 1e9


def own_cpu_s(pid: int) -> float:
    """CPU seconds of one living process without its children, by its own clock: nanoseconds, where /proc has 10 ms.

    Raises OSError where it is gone.
    """
    return _own_ns(pid) / 1e9


def _own_ns(pid: int) -> int:
    return time.clock_gettime_ns(~pid << _CLOCK_BITS | _CLOCK_KIND)


def calibration_ms() -> float:
    """CPU milliseconds of a fixed loop of pure Python: figures of two runs compare as their calibrations do."""
    began = time.process_time()
    total = 0
    for number in range(CALIBRATION_LOOPS):
        total += number & 7
    return (time.process_time() - began) * 1000


def in_turns(sides: Mapping[Side, Callable[[], T]], rounds: int) -> dict[Side, list[T]]:
    """Measure every side once a round, each round beginning with another one, so that noise meets all alike."""
    found: dict[Side, list[T]] = {name: [] for name in sides}
    names = list(sides)
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            found[name].append(sides[name]())
    return found


def paired(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Ours as a multiple of theirs: the median of the rounds' own ratios, each of two figures from one moment.

    A machine that others use changes its speed by half within a minute; within a round both sides meet that alike.
    """
    return statistics.median(ratios(ours, theirs))


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Ours as a multiple of theirs, round by round. Raises ValueError where the rounds are not pairs.

    What slows a machine down for a while slows both sides of a round alike and leaves their ratio.
    """
    return [one / other for one, other in zip(ours, theirs, strict=True)]


def undisturbed(samples: Sequence[float]) -> float:
    """What a cost is where nothing disturbs it: the mean of the cheapest rounds. Raises ValueError where there is none.

    Noise is added to CPU and never taken away: what else runs on the machine, or on the host of it, empties caches, and
    the more a process does the more it suffers. So noise makes not only costs dearer but ratios larger, for minutes on
    end, and a median only keeps out what disturbs less than half of the rounds.
    """
    if not samples:
        raise ValueError("nothing was measured")
    return statistics.fmean(sorted(samples)[:CHEAPEST])


def middle(figures: Sequence[float]) -> Middle:
    """The median, with the interval of CONFIDENCE. Raises ValueError where there is no figure.

    The interval is that of the sign test: it holds for any distribution, if the figures are independent, and its ends
    are figures. With fewer than six it is all of them.
    """
    if not figures:
        raise ValueError("nothing was measured")
    ordered, out = sorted(figures), _outside(len(figures))
    return Middle(statistics.median(ordered), ordered[out], ordered[-1 - out])


def _outside(count: int) -> int:
    """How many of so many sorted samples lie outside the median's interval at each end."""
    tail = 0.0
    for out in range(count):
        tail += comb(count, out) / 2**count
        if 2 * tail > 1 - CONFIDENCE:
            return max(0, out - 1)
    return 0


def summary(samples: Sequence[float]) -> dict[str, float | list[float]]:
    """One side of a comparison as results hold it."""
    rounded = [round(sample, 2) for sample in samples]
    return {"median": round(statistics.median(samples), 2), "min": min(rounded), "samples": rounded}
