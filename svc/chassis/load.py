"""How busy an instance is, as callers are told: an ORCA report in the trailers of every unary answer.

gRPC clients of the mesh give each instance a share of the calls in proportion to calls per second over utilisation
(gRFC A58), so only that quotient matters: it is what one call costs here. Utilisation is the larger of two:

    the house   thread-seconds that calls are inside, waiting or served, of all that the threads have. A call that takes
                ten times as long is ten times as dear, whatever the reason.
    the CPU     what the process used of what it may use (its cgroups' quota, one core at most), and the share of time
                in which it could not run although it wanted to. Nobody tells a process the latter in every case (a
                quota, a busy machine, a hypervisor, SIGSTOP), so a thread that wants to wake up every TICK_S notes how
                late it does.

What is not scarce says nothing: below IDLE the CPU is left out, or an instance without calls would look dear for what
it does by itself, and get still fewer.
"""

import math
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

#: Key of the trailer (gRFC A51).
TRAILER: Final = "endpoint-load-metrics-bin"
TICK_S: Final = 0.05
#: Waking up this late is the way of any busy machine.
LATE_S: Final = 0.005
#: How often the report is made anew.
EVERY_S: Final = 0.25
#: How long the past counts: a call is worth 1/e after so many seconds. Clients look once a second.
MEMORY_S: Final = 2.0
#: Share of the CPU that an instance uses for itself, without a call.
IDLE: Final = 0.05
#: Utilisation is never nothing: clients would take the report for missing.
LEAST: Final = 1e-6
#: One Python process computes on one core, however many there are.
CORES: Final = 1.0

# xds.data.orca.v3.OrcaLoadReport: cpu_utilization = 1, rps_fractional = 6, application_utilization = 9, all doubles.
# Written by hand, because Envoy's descriptors would cost each instance 13 MB.
_REPORT: Final = struct.Struct("<BdBdBd")
_CPU_TAG, _RATE_TAG, _APPLICATION_TAG = 0x09, 0x31, 0x49

_PROC: Final = Path("/proc/self")
_CGROUPS: Final = Path("/sys/fs/cgroup")


def encode(*, rate: float, cpu: float, house: float) -> bytes:
    """An OrcaLoadReport of an instance with `rate` calls per second; `cpu` and `house` are 1 where they are full."""
    utilization = max(LEAST, house, cpu if cpu > IDLE else 0.0)
    return _REPORT.pack(_CPU_TAG, cpu, _RATE_TAG, rate, _APPLICATION_TAG, utilization)


def cores(*, proc: Path = _PROC, cgroups: Path = _CGROUPS) -> float:
    """How much this process may compute at once: one core, or less where its cgroups (of version 2 or 1) say so."""
    try:
        memberships = (proc / "cgroup").read_text().splitlines()
    except OSError:
        return CORES
    allowed = [CORES]
    for line in memberships:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            allowed.append(_quota(cgroups / path.strip("/"), "cpu.max"))
        elif "cpu" in controllers.split(","):
            allowed.append(_quota(cgroups / controllers / path.strip("/"), "cpu.cfs_quota_us", "cpu.cfs_period_us"))
    return min(allowed)


def _quota(group: Path, *files: str) -> float:
    """Cores of one cgroup: quota over period, in one file or in two; CORES where none is set."""
    try:
        quota, period = " ".join((group / name).read_text() for name in files).split()
        return int(quota) / int(period) if int(quota) > 0 else CORES
    except (OSError, ValueError, ZeroDivisionError):
        return CORES  # no such cgroup here, or "max"


@dataclass(frozen=True, slots=True)
class _Sums:
    """What has happened, the older the less it counts."""

    calls: float = 0.0
    occupied_s: float = 0.0
    """Thread-seconds that calls were inside."""
    used_s: float = 0.0
    """CPU-seconds, of a process that may use one core."""
    late_s: float = 0.0
    all_s: float = 0.0

    def then(self, new: "_Sums") -> "_Sums":
        """These, faded, and what has come since."""
        kept = math.exp(-new.all_s / MEMORY_S)
        return _Sums(
            self.calls * kept + new.calls,
            self.occupied_s * kept + new.occupied_s,
            self.used_s * kept + new.used_s,
            self.late_s * kept + new.late_s,
            self.all_s * kept + new.all_s,
        )


class Meter:
    """Counts the calls of one server, and says how busy it is. Thread-safe."""

    def __init__(
        self,
        threads: int,
        *,
        clock: Callable[[], float] = time.monotonic,
        cpu_s: Callable[[], float] = time.process_time,
        allowed: Callable[[], float] = cores,
    ) -> None:
        """`threads` serve calls; `cpu_s` is the CPU used so far, `allowed` how many cores there are for it."""
        self.report = b""
        """A serialised OrcaLoadReport; empty until a call has ended."""
        self._threads = threads
        self._clock, self._cpu_s, self._allowed = clock, cpu_s, allowed
        self._lock = threading.Lock()
        self._inside = self._ended = 0
        self._occupied_s = self._late_s = 0.0
        self._moved = self._sampled = clock()
        self._used_s = cpu_s()
        self._sums = _Sums()
        self._stopping = threading.Event()

    def arrived(self) -> None:
        """A call was let in: it waits for a thread, or has one."""
        with self._lock:
            self._move()
            self._inside += 1

    def left(self) -> None:
        """A call that was let in has been answered, or is refused after all."""
        with self._lock:
            self._move()
            self._inside -= 1
            self._ended += 1

    def start(self, name: str) -> None:
        """Report from now on, from a thread of that name."""
        threading.Thread(target=self._watch, name=name, daemon=True).start()

    def stop(self) -> None:
        """Report no more."""
        self._stopping.set()

    def late(self, seconds: float) -> None:
        """Note that the process wanted to run, and did so this much later."""
        self._late_s += max(0.0, seconds - LATE_S)

    def sample(self) -> None:
        """Make the report anew."""
        with self._lock:
            self._move()
            now, used_s = self._moved, self._cpu_s()
            used = (used_s - self._used_s) / self._allowed()
            new = _Sums(self._ended, self._occupied_s, used, self._late_s, now - self._sampled)
            self._sums = sums = self._sums.then(new)
            self._sampled, self._used_s = now, used_s
            self._ended, self._occupied_s, self._late_s = 0, 0.0, 0.0
        if sums.calls and sums.all_s:
            self.report = encode(
                rate=sums.calls / sums.all_s,
                cpu=(sums.used_s + sums.late_s) / sums.all_s,
                house=sums.occupied_s / (sums.all_s * self._threads),
            )

    def _move(self) -> None:
        now = self._clock()
        self._occupied_s += self._inside * (now - self._moved)
        self._moved = now

    def _watch(self) -> None:
        due = self._clock() + TICK_S
        while not self._stopping.wait(max(0.0, due - self._clock())):
            now = self._clock()
            self.late(now - due)
            if now - self._sampled >= EVERY_S:
                self.sample()
            due = self._clock() + TICK_S
