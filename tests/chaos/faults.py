"""Does the steps of a schedule to a running mesh, and notes in the history whether each was felt.

A fault was felt when the process it was meant for has really ended or really stood still; a signal that was sent is no
evidence. Parts are hurt through the supervisor where it can; what it does not know (a server process of PostgreSQL, the
children of a frozen part) is found below it.
"""

import contextlib
import re
import signal
import threading
import time
from collections.abc import Sequence
from typing import Final

import psutil

from deploy.supervisor.errors import SupervisorError
from deploy.supervisor.mesh import Mesh
from deploy.supervisor.messages import Process, Status
from tests.chaos.history import Pending, Recorder
from tests.chaos.schedule import Fault, Step, Target

#: How long a victim is waited for: what was hurt before may not be back yet.
VICTIM_S: Final = 20.0
#: Longer than any part takes to end in order.
GONE_S: Final = 30.0
FROZEN_S: Final = 2.0
HEALED_S: Final = 180.0
POLL_S: Final = 0.02

#: Services of which one member leads.
LED: Final = frozenset({"postgres", "rabbitmq", "etcd"})
#: What PostgreSQL calls a process that serves a TCP connection: the cluster's name where it has one, as under Patroni,
#: user, database, address and port. One that sends the log to a standby has no database.
BACKEND: Final = re.compile(r"postgres: (?:\S+: )?(?!walsender )\S+ \S+ [0-9.]+\([0-9]+\)")


class NoVictimError(Exception):
    """There is nobody to hurt."""


class Faults:
    """Hurts one mesh. Each fault has a thread of its own, so that a long one keeps no other from its time."""

    def __init__(self, mesh: Mesh, recorder: Recorder) -> None:
        self._mesh = mesh
        self._recorder = recorder
        self._threads: list[threading.Thread] = []

    def begin(self, number: int, step: Step) -> None:
        """Do a step; `number` is its place among the schedule's faults."""
        thread = threading.Thread(target=self._do, args=[number, step], name=f"fault-{number}")
        self._threads.append(thread)
        thread.start()

    def heal(self) -> None:
        """Wait until every fault is over and every part is ready again. Raises RefusedError where one is not."""
        for thread in self._threads:
            thread.join()
        self._mesh.wait_ready(timeout_s=HEALED_S)

    def _do(self, number: int, step: Step) -> None:
        pending = self._recorder.begin("fault", step=number, fault=step.fault, target=step.target)
        try:
            name, victims = self._victims(step)
            if step.fault is Fault.FREEZE:
                freeze(pending, name, victims, step.duration_s)
            else:
                self._end(pending, name, victims[0], step)
        except (NoVictimError, SupervisorError, psutil.Error, OSError) as error:
            pending.fail(why=f"{type(error).__name__}: {error}")

    def _victims(self, step: Step) -> tuple[str, list[psutil.Process]]:
        """The part's name and the processes to hurt, the part's own first."""
        assert step.target is not None
        give_up = time.monotonic() + VICTIM_S
        while True:
            found = candidates(self._mesh.status(), step.target)
            with contextlib.suppress(psutil.NoSuchProcess):
                if step.target is Target.DATABASE:
                    # Of several servers some may serve nobody at the moment.
                    found_at = [(part.name, each) for part in found for each in backends(part)]
                    if found_at:
                        name, backend = found_at[step.pick % len(found_at)]
                        return name, [backend]
                elif found:
                    chosen = found[step.pick % len(found)]
                    root = psutil.Process(chosen.pid)
                    return chosen.name, [root, *root.children(recursive=True)]
            if time.monotonic() > give_up:
                raise NoVictimError(f"no {step.target} is there")
            threading.Event().wait(POLL_S)

    def _end(self, pending: Pending, name: str, victim: psutil.Process, step: Step) -> None:
        number = signal.SIGKILL if step.fault is Fault.KILL else signal.SIGTERM
        if step.target is Target.DATABASE:
            victim.send_signal(number)
        else:
            # The supervisor's own way: it says in its log who sent it.
            self._mesh.kill(name, number)
        try:
            victim.wait(GONE_S)
        except psutil.TimeoutExpired:
            pending.fail(why=f"{name} (pid {victim.pid}) is still there", name=name)
        else:
            pending.ok(name=name, pid=victim.pid)


def candidates(status: Status, target: Target) -> list[Process]:
    """The parts that run and are of that kind, by name; for a server process of PostgreSQL, the server."""

    def fits(process: Process) -> bool:
        match target:
            case Target.WORKER:
                return process.kind == "worker" and process.service != "relay"
            case Target.RELAY:
                return process.service == "relay"
            case Target.LEADER:
                return process.role == "leader" and process.service in LED
            case Target.RABBITMQ:
                return process.name.startswith("rabbitmq-")
            case _:
                return process.kind == target.value

    found = [process for process in status.processes if process.pid and process.state == "ready" and fits(process)]
    return sorted(found, key=lambda process: process.name)


def backends(part: Process) -> list[psutil.Process]:
    """The processes of a PostgreSQL server that serve connections. Its first is no child of Patroni's, but listens."""
    port = int(part.address.rpartition(":")[2])
    listening = [
        each.pid
        for each in psutil.net_connections("tcp")
        if each.status == psutil.CONN_LISTEN and each.laddr.port == port and each.pid
    ]
    children = [each for pid in listening for each in psutil.Process(pid).children()]
    return [each for each in children if BACKEND.search(" ".join(each.cmdline()))]


def freeze(pending: Pending, name: str, victims: Sequence[psutil.Process], duration_s: float) -> None:
    """Stop a part with all below it, and have it go on. It goes on whatever happens in between."""
    felt = False
    try:
        for victim in victims:
            with contextlib.suppress(psutil.NoSuchProcess):
                victim.suspend()
        until = time.monotonic() + FROZEN_S
        with contextlib.suppress(psutil.NoSuchProcess):
            while not felt and time.monotonic() < until:
                felt = victims[0].status() == psutil.STATUS_STOPPED
                threading.Event().wait(POLL_S)
        # It may not live that long: one that hangs is ended and started again.
        with contextlib.suppress(psutil.TimeoutExpired):
            victims[0].wait(duration_s)
    finally:
        for victim in victims:
            with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
                victim.resume()
    if felt:
        pending.ok(name=name, pid=victims[0].pid)
    else:
        pending.fail(why=f"{name} (pid {victims[0].pid}) did not stand still", name=name)
