"""What the daemon does at its end."""

import asyncio
import random
import signal
import subprocess
from datetime import UTC, datetime
from pathlib import Path

from deploy.supervisor import procfs, readiness
from deploy.supervisor.config import Settings
from deploy.supervisor.daemon import Daemon
from deploy.supervisor.desired import Desired
from deploy.supervisor.layout import Layout
from deploy.supervisor.part import Command, Kind, Server, Task
from deploy.supervisor.record import Entry, Record
from deploy.supervisor.slot import Host
from deploy.supervisor.starvation import Lag
from deploy.supervisor.supervisor import Supervisor


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
