"""Who may be ended, in which order, and when it is back. The order is pure: the same seed gives the same one.

Used by `weft kill`. A target counts as back when another process of its name is ready, or, where the same one was only
stopped and set going again, when that is ready.
"""

import itertools
import random
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from threading import Event
from typing import Final

from deploy.supervisor.errors import RefusedError
from deploy.supervisor.mesh import Mesh
from deploy.supervisor.messages import Process, Status
from deploy.supervisor.part import Kind

#: Of these any one may end, and nobody notices.
KINDS_ANY: Final = (Kind.SERVICE, Kind.CONTROL_PLANE, Kind.MEMCACHED, Kind.ETCD)
#: Signals that end whoever does not handle them, and our processes in any case.
DEADLY: Final = frozenset({signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGABRT})
#: A stopped process that nobody replaced is set going again after this: longer than it takes to notice a hung one.
STOPPED_S: Final = 15.0
BACK_S: Final = 120.0
#: Who is back is left alone for so long, and so are the others: gateways do not call at once again who failed them.
SETTLED_S: Final = 2.0
POLL_S: Final = 0.05


class NotBackError(RefusedError):
    """A target is not ready again in time."""


def candidates(status: Status, kinds: Sequence[Kind]) -> tuple[str, ...]:
    """Names of the processes of these kinds, sorted."""
    return tuple(sorted(process.name for process in status.processes if process.kind in {*kinds}))


def named(status: Status, name: str) -> str:
    """The name, where a process has it. Raises RefusedError."""
    processes = status.processes
    if name not in {process.name for process in processes}:
        same = [process.name for process in processes if process.service == name]
        hint = (
            f"its instances are {', '.join(same)}" if same else f"known are {', '.join(one.name for one in processes)}"
        )
        raise RefusedError(f"no process is called {name}; {hint}")
    return name


def order(names: Sequence[str], *, seed: int) -> Iterator[str]:
    """Names without an end: each once in a random order, then each once in another. The same seed gives the same."""
    chance = random.Random(seed)
    for _ in itertools.count():
        yield from chance.sample(sorted(names), len(names))


def strike(mesh: Mesh, name: str, number: signal.Signals) -> float:
    """Send a signal and wait until the target is back; how long that took, in seconds.

    Whatever ends the wait: a process that was stopped goes on. Raises RefusedError, NotBackError.
    """
    killed = mesh.kill(name, number)
    began = time.monotonic()
    if number not in DEADLY and number is not signal.SIGSTOP:
        return 0.0
    continued = False
    try:
        while True:
            now, process = time.monotonic(), _process(mesh, name)
            if process is not None and process.state == "ready" and (continued or process.pid != killed.pid):
                return now - began
            if number is signal.SIGSTOP and not continued and now - began > STOPPED_S:
                continued = _go_on(mesh, name, killed.pid)
            if now - began > BACK_S:
                raise NotBackError(f"{name} is not ready again {BACK_S:.0f} s after {number.name}")
            Event().wait(POLL_S)
    finally:
        if number is signal.SIGSTOP and not continued:
            _go_on(mesh, name, killed.pid)


def _process(mesh: Mesh, name: str) -> Process | None:
    return next((process for process in mesh.status().processes if process.name == name), None)


def _go_on(mesh: Mesh, name: str, pid: int) -> bool:
    """Let the process go on, unless another one has taken its place."""
    process = _process(mesh, name)
    if process is not None and process.pid == pid:
        with suppress(RefusedError):  # it ended between the look and the signal
            mesh.kill(name, signal.SIGCONT)
    return True
