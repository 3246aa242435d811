"""What the daemon does about another desired state, and at its own end. Its parts are few and quick to start."""

import asyncio
import json
import random
import resource
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from deploy.supervisor import procfs, readiness
from deploy.supervisor.config import Settings
from deploy.supervisor.daemon import Daemon
from deploy.supervisor.desired import Desired
from deploy.supervisor.errors import RefusedError
from deploy.supervisor.layout import Layout
from deploy.supervisor.messages import Scaled
from deploy.supervisor.part import Command, Kind, Part, Server, Task
from deploy.supervisor.ports import Ports
from deploy.supervisor.record import Entry, Record
from deploy.supervisor.secrets import Secrets
from deploy.supervisor.slot import Host
from deploy.supervisor.stack import Stack
from deploy.supervisor.starvation import Lag
from deploy.supervisor.supervisor import Supervisor


@contextmanager
def full_disk() -> Iterator[None]:
    """No file grows beyond a few bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class Started:
    """A supervisor that only counts what it is told to go over to."""

    def __init__(self) -> None:
        self.parts: list[frozenset[str]] = []

    async def change(self, parts: Sequence[Part]) -> Scaled:
        self.parts.append(frozenset(part.name for part in parts))
        return Scaled((), ())


class Changing(Daemon):
    """A daemon whose mesh is up."""

    def __init__(self, layout: Layout, started: object) -> None:
        desired = replace(Desired.of(Settings(data=layout.root)), free_ports=True)
        super().__init__(layout, desired, now=lambda: datetime.now(UTC), rng=random.Random(1))
        ports = Ports(layout.ports, base=21000, is_free=lambda _: True)
        self._stack = Stack(desired, layout, ports=ports, secrets=Secrets(layout.secrets), account=None)
        self._stack.parts()
        desired.write(layout.desired)
        self._supervisor = started  # type: ignore[assignment]

    async def go_over(self, change: Callable[[Desired], Desired]) -> Scaled:
        return await self._change(change)

    def sizes(self) -> dict[str, int]:
        return dict(self._desired.sizes)


def test_a_size_that_cannot_be_written_down_is_refused_and_changes_nothing(layout: Layout) -> None:
    started = Started()

    async def run() -> None:
        daemon = Changing(layout, started)
        before = (layout.ports.read_text(), layout.desired.read_text(), daemon.sizes())
        with full_disk(), pytest.raises(RefusedError, match="cannot be written down, so nothing is changed"):
            await daemon.go_over(lambda desired: desired.resized("orders", 5))
        assert before == (layout.ports.read_text(), layout.desired.read_text(), daemon.sizes())
        assert [] == started.parts

        await daemon.go_over(lambda desired: desired.resized("orders", 5))
        assert 5 == daemon.sizes()["orders"] == json.loads(layout.desired.read_text())["sizes"]["orders"]
        assert "orders-5" in started.parts[0]

    asyncio.run(run())


class Unfinished(Daemon):
    """A successor that waits for what a part needs, and has not come to the part itself, when it is told to stop."""

    async def _start_once(self) -> None:
        gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        async def wait() -> None:
            self._stop.set()
            await gate

        late = Server(
            "late-1", Kind.SERVICE, "late", SLEEPING, readiness.Http(9, "/"), ports=(9,), after=("need",), grace_s=5.0
        )
        host = Host(
            layout=self._layout,
            record=self._record,
            heavy=asyncio.Semaphore(1),
            emit=self._emit,
            now=self._now,
            rng=self._rng,
            lag=Lag(),
            dies_with_us=False,
        )
        self._supervisor = Supervisor([Task("need", wait), late], host)
        await self._supervisor.start()


SLEEPING = Command(("/bin/sleep", "600"), {}, Path("/"))


def test_a_stop_also_ends_what_a_dead_supervisor_left_and_nobody_has_taken_over_yet(layout: Layout) -> None:
    output = layout.log_of("late-1").open("w")
    left = subprocess.Popen(SLEEPING.argv, start_new_session=True, stdout=output, stderr=output)
    output.close()
    started = procfs.start_time(left.pid)
    assert started is not None
    Record(layout.processes).put(
        Entry("late-1", left.pid, started, SLEEPING.digest(), (9,), 1, datetime.now(UTC).isoformat(), 1, 15, 5.0)
    )

    async def run() -> int:
        desired = Desired.of(Settings(data=layout.root), ephemeral=True)
        daemon = Unfinished(layout, desired, now=lambda: datetime.now(UTC), rng=random.Random(1), takeovers=1)
        ending = asyncio.create_task(asyncio.to_thread(left.wait))  # as its parent, which it had lost
        code = await daemon.run()
        if not ending.done():
            left.kill()
        assert -signal.SIGTERM == await ending
        return code

    assert 0 == asyncio.run(run())
