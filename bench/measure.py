"""How a cost is measured: CPU of a process tree, rounds in turns, medians, and the speed of the machine meanwhile."""

import os
import statistics
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

#: Iterations of the loop that tells how fast this machine is at the moment.
CALIBRATION_LOOPS: Final = 300_000

_PROC: Final = Path("/proc")
# Fields of /proc/PID/stat (proc_pid_stat(5)), counted from the one after the command's closing parenthesis.
_PARENT, _CPU = 1, slice(11, 15)

T = TypeVar("T")
Side = TypeVar("Side", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Usage:
    """CPU that one process has used, in ticks: its own, and that of the children it has waited for."""

    parent: int
    ticks: int


def parse_stat(text: str) -> Usage:
    """Read a line of /proc/PID/stat. A command may hold spaces and parentheses, so what counts is the last one."""
    fields = text.rpartition(")")[2].split()
    return Usage(int(fields[_PARENT]), sum(map(int, fields[_CPU])))


def tree_ticks(processes: Mapping[int, Usage], root: int) -> int:
    """Ticks of a process and of all below it. Raises KeyError where there is no such process."""
    below: dict[int, list[int]] = {}
    for pid, usage in processes.items():
        below.setdefault(usage.parent, []).append(pid)
    pending, total = [root], 0
    while pending:
        pid = pending.pop()
        total += processes[pid].ticks
        pending += below.get(pid, ())
    return total


def cpu_s(root: int) -> float:
    """CPU seconds of a living process and of all below it. Raises KeyError where it is gone."""
    processes: dict[int, Usage] = {}
    for path in _PROC.glob("[0-9]*/stat"):
        try:
            processes[int(path.parent.name)] = parse_stat(path.read_text())
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended between the two looks
    return tree_ticks(processes, root) / os.sysconf("SC_CLK_TCK")


def own_cpu_s(pid: int) -> float:
    """CPU seconds of one living process without its children, by its own clock: nanoseconds, where /proc has 10 ms.

    Raises OSError where it is gone.
    """
    # The clock that clock_getcpuclockid(3) names: the complement of the pid above, CPUCLOCK_SCHED in the lowest bits.
    return time.clock_gettime((~pid << 3) | 2)


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
    return statistics.median(one / other for one, other in zip(ours, theirs, strict=True))


def summary(samples: Sequence[float]) -> dict[str, float | list[float]]:
    """One side of a comparison as results hold it."""
    rounded = [round(sample, 2) for sample in samples]
    return {"median": round(statistics.median(samples), 2), "min": min(rounded), "samples": rounded}
