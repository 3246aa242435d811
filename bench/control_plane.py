"""What one change of endpoints costs the control plane, beside Go's go-control-plane under the same load.

Three servers hold the same endpoints, ten to a service: Weft's, and go-control-plane with its linear and with its
snapshot cache (`bench/go_control_plane`). 200 clients, the same program for each, follow every service: two gateways by
delta, the others by state of the world. One endpoint moves; once all clients have been told, the next one does. What is
compared is the CPU of the server for each change, with everything that comes with it: serialising, sending to all
clients, reading their answers. Each server has one core to itself; the load has the other.

`control_plane_1000_tenth` is the same with clients that follow a tenth of the services each.
"""

import argparse
import json
import math
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from bench import go_toolchain, report
from bench.measure import cpu_s, in_turns, summary
from bench.report import ROOT, BenchError, Claim
from bench.stand import HOST, Stand, cores

GO: Final = ROOT / "bench" / "go_control_plane"
PER_SERVICE: Final = 10
GATEWAYS, CALLERS = 2, 198
OURS, LINEAR, SNAPSHOT = "weft", "go-control-plane, linear cache", "go-control-plane, snapshot cache"


@dataclass
class Side:
    """One server with its clients."""

    server: subprocess.Popen[bytes]
    load: subprocess.Popen[bytes]
    changes: int
    first: int = 0
    took_ms: list[float] = field(default_factory=list)
    bytes_sent: list[float] = field(default_factory=list)

    def series(self) -> float:
        """CPU milliseconds of the server for each change, over one series."""
        before = cpu_s(self.server.pid)
        found = json.loads(_answer(self.load, f"{self.first} {self.changes}\n"))
        spent = cpu_s(self.server.pid) - before
        self.first += self.changes
        self.took_ms += found["took_ms"]
        self.bytes_sent.append(found["bytes"] / self.changes)
        return spent * 1000 / self.changes

    def as_object(self, samples: Sequence[float]) -> dict[str, Any]:
        """What the result's file holds of it."""
        return {
            "CPU ms for each change": summary(samples),
            "ms until all clients have it, p50": round(statistics.median(self.took_ms), 2),
            "ms until all clients have it, p99": round(percentile(self.took_ms, 0.99), 2),
            "bytes sent for each change": round(statistics.median(self.bytes_sent)),
            "peak memory, MB": peak_mb(self.server.pid),
        }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=report.whole, default=5, help="rounds, in turns (default 5)")
    parser.add_argument("--changes", type=report.whole, default=40, help="changes in a round (default 40)")


def measure(options: argparse.Namespace) -> list[Claim]:
    binary = go_toolchain.built(GO)
    claims = []
    for endpoints, floor, goal in ((1_000, 2.0, None), (10_000, 3.0, 2.0)):
        # A full copy for each client at each change takes its time: fewer of them.
        counts = {OURS: options.changes, LINEAR: options.changes, SNAPSHOT: max(1, options.changes // 20)}
        found = _compared(binary, endpoints, counts, rounds=options.rounds, share=1)
        name = f"control_plane_{endpoints}"
        what = f"a change of one of {endpoints} endpoints, told to {GATEWAYS + CALLERS} clients that follow all of them"
        claims += [
            _claim(name, f"CPU of {what}, beside {LINEAR}", found, LINEAR, floor=floor, goal=goal),
            _claim(
                f"{name}_snapshot",
                f"CPU of {what}, beside {SNAPSHOT}",
                found,
                SNAPSHOT,
                floor=0.1 if endpoints == 10_000 else None,
            ),
        ]
    counts = {OURS: options.changes * 10, LINEAR: options.changes * 10}
    found = _compared(binary, 1_000, counts, rounds=options.rounds, share=10)
    says = f"CPU of a change of one of 1000 endpoints, told to those 22 of {GATEWAYS + CALLERS} clients that follow it"
    return [*claims, _claim("control_plane_1000_tenth", f"{says}, beside {LINEAR}", found, LINEAR)]


def percentile(samples: Sequence[float], share: float) -> float:
    """The sample below which so large a share of them lies, at least."""
    return sorted(samples)[math.ceil(share * len(samples)) - 1]


def peak_mb(pid: int) -> float:
    """The most memory that a living process has had resident, in MB."""
    return parse_peak((Path("/proc") / str(pid) / "status").read_text())


def parse_peak(status: str) -> float:
    """VmHWM of /proc/PID/status (proc_pid_status(5)), in MB."""
    line = next(each for each in status.splitlines() if each.startswith("VmHWM:"))
    return round(int(line.split()[1]) / 1024, 1)


def _claim(
    name: str,
    says: str,
    found: dict[str, dict[str, Any]],
    beside: str,
    *,
    floor: float | None = None,
    goal: float | None = None,
) -> Claim:
    ours, theirs = (found[side]["CPU ms for each change"]["median"] for side in (OURS, beside))
    sides = {side: found[side] for side in (OURS, beside)}
    return Claim(name, says, report.ratio(ours, theirs), floor=floor, goal=goal, sides=sides)


def _compared(
    binary: Path, endpoints: int, counts: dict[str, int], *, rounds: int, share: int
) -> dict[str, dict[str, Any]]:
    commands = {
        OURS: [sys.executable, "-m", "bench.control_plane_server"],
        LINEAR: [str(binary), "serve", "linear"],
        SNAPSHOT: [str(binary), "serve", "snapshot"],
    }
    services = endpoints // PER_SERVICE
    with tempfile.TemporaryDirectory(prefix="weft-bench-") as path, Stand(Path(path)) as stand:
        sides = {}
        for name, changes in counts.items():
            sizes = [str(services), str(PER_SERVICE)]
            server = stand.start([*commands[name], *sizes], core=cores()[0], stdout=subprocess.PIPE)
            ports = _line(server, f"{name} did not start").split()
            addresses = [f"{HOST}:{port}" for port in ports]
            who = [str(number) for number in (services, GATEWAYS, CALLERS, share)]
            load = stand.start([str(binary), "load", *addresses, *who], core=cores()[1], stdout=subprocess.PIPE)
            if _line(load, f"the clients of {name} did not start") != "ready":
                raise BenchError(f"the clients of {name} did not start")
            sides[name] = Side(server, load, changes)
        samples = in_turns({name: side.series for name, side in sides.items()}, rounds)
        return {name: side.as_object(samples[name]) for name, side in sides.items()}


def _answer(process: subprocess.Popen[bytes], question: str) -> str:
    assert process.stdin is not None
    process.stdin.write(question.encode())
    process.stdin.flush()
    return _line(process, "the load ended before its time")


def _line(process: subprocess.Popen[bytes], otherwise: str) -> str:
    assert process.stdout is not None
    line = process.stdout.readline().decode().strip()
    if not line:
        raise BenchError(otherwise)
    return line


if __name__ == "__main__":
    sys.exit(report.main(sys.modules[__name__]))
