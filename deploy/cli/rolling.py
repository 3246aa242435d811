"""A roll: every instance of a service makes place for a new process, one after another. Used by `weft roll`.

Instances keep their name and port, so that whoever has not heard of a change yet finds them where they were. What can
be resized gets one more instance for the time of the roll; the others are at least two, and take each other's work.
"""

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from deploy.supervisor.chores import ROLLABLE
from deploy.supervisor.desired import SCALABLE, instances_max
from deploy.supervisor.errors import RefusedError
from deploy.supervisor.mesh import Mesh
from deploy.supervisor.messages import Status

#: Tells of something that is done to a part: its name and what it is.
Step = Callable[[str, str], AbstractContextManager[dict[str, Any]]]


def instances(status: Status, service: str) -> Sequence[str]:
    """Names of a service's instances, in their order. Raises RefusedError where it cannot be rolled now."""
    found = [process for process in status.processes if process.service == service and process.kind in ROLLABLE]
    if not found:
        known = dict.fromkeys(process.service for process in status.processes if process.kind in ROLLABLE)
        raise RefusedError(f"nothing that can be rolled is called {service}; known are {', '.join(known)}")
    late = [process.name for process in found if process.state != "ready"]
    if late:
        raise RefusedError(f"{', '.join(late)} of {service} is not ready; nothing was begun")
    return [process.name for process in found]


def roll(mesh: Mesh, service: str, names: Sequence[str], *, step: Step) -> None:
    """Renew each instance. Raises RefusedError where a new process does not come up; the others are left as they are.

    KeyboardInterrupt is raised when the instance at hand is done and the extra one is gone again.
    """
    with _uninterrupted() as interrupted, _one_more(mesh, service, len(names), step=step):
        for name in names:
            if interrupted.is_set():
                break
            with step(name, "renewed") as told:
                told["old_pid"] = mesh.restart(name).pid
                told["new_pid"] = mesh.status().process(name).pid
    if interrupted.is_set():
        raise KeyboardInterrupt


@contextmanager
def _one_more(mesh: Mesh, service: str, size: int, *, step: Step) -> Iterator[None]:
    """Have one more instance for a while. It stays where the roll failed: what did not come up is missing already."""
    if service not in SCALABLE or size >= instances_max(service):
        yield
        return
    with step(service, f"to {size + 1}") as told:
        started = mesh.scale(service, size + 1, for_now=True).started
        told["started"] = list(started)
    yield
    now = [process.name for process in mesh.status().processes if process.service == service]
    if len(now) == size + 1:  # else somebody else has changed the size meanwhile, and it is not ours to say
        with step(service, f"to {size}") as told:
            told["stopped"] = list(mesh.scale(service, size, for_now=True).stopped)


@contextmanager
def _uninterrupted() -> Iterator[threading.Event]:
    """Note Ctrl-C instead of obeying it at once; a second one is obeyed. Only the main thread has signals."""
    interrupted = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield interrupted
        return

    def noted(_number: int, _frame: object) -> None:
        if interrupted.is_set():
            raise KeyboardInterrupt
        interrupted.set()

    before = signal.signal(signal.SIGINT, noted)
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, before)
