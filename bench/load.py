"""Load by h2load, and what a path costs under it: CPU of the measured process for each request that was answered.

h2load takes every HTTP 200 for a success, and gRPC refuses with 200 too. So each path is called once and its answer
read before it is measured, and after each run the backend must have answered exactly as many calls.
"""

import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.measure import cpu_s
from bench.report import BenchError
from bench.stand import HOST, Backend, cores

RUN_TIMEOUT_S: Final = 300.0
#: The first requests open connections and verify the token: they are not counted.
WARM_UP: Final = 200

_STATUSES = re.compile(r"^status codes: (\d+) 2xx", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Shape:
    """What h2load sends."""

    path: str
    headers: tuple[str, ...] = ()
    body: Path | None = None
    http1: bool = False
    connections: int = 4
    streams: int = 4


@dataclass(frozen=True, slots=True)
class Target:
    """A gateway under load."""

    pid: int
    port: int


def cost(target: Target, shape: Shape, backend: Backend, *, token: Callable[[], str], requests: int) -> float:
    """CPU microseconds of the target for each request. Raises BenchError where not every request was answered."""
    fresh = token()
    send(target, shape, fresh, WARM_UP)
    before, began = backend.answered(), cpu_s(target.pid)
    succeeded = send(target, shape, fresh, requests)
    spent, answered = cpu_s(target.pid) - began, backend.answered() - before
    if succeeded != requests or answered != requests:
        raise BenchError(f"of {requests} requests {succeeded} were answered with 2xx, {answered} reached the backend")
    return spent / requests * 1e6


def arguments(target: Target, shape: Shape, token: str, requests: int) -> Sequence[str]:
    """The command line. The token in it is of a key that lives as long as this run."""
    flags = ["-n", str(requests), "-c", str(shape.connections), "-t", "1"]
    flags += ["--h1"] if shape.http1 else ["-m", str(shape.streams)]
    flags += ["-d", str(shape.body)] if shape.body else []
    for header in (f"authorization: Bearer {token}", *shape.headers):
        flags += ["-H", header]
    return [*flags, f"http://{HOST}:{target.port}{shape.path}"]


def send(target: Target, shape: Shape, token: str, requests: int) -> int:
    """Have h2load send so many; how many were answered with 2xx, which says nothing of their gRPC status."""
    program = shutil.which("h2load")
    if program is None:
        raise BenchError("h2load is missing: run `deploy/setup.sh bench`")
    command = ["taskset", "-c", cores()[1], program, *arguments(target, shape, token, requests)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=RUN_TIMEOUT_S, check=False)
    found = _STATUSES.search(done.stdout)
    if done.returncode != 0 or found is None:
        raise BenchError(f"h2load: {(done.stderr or done.stdout).strip()[-500:]}")
    return int(found[1])
