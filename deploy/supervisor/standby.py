"""The supervisor's stand-by: a process of the same program that waits for the lock, and so for the supervisor's death.

Two of one kind, so that neither is one that nobody watches: the stand-by takes over from a supervisor that died, and
the supervisor starts another stand-by when that one did. What it costs is one sleeping process.
"""

import asyncio
import os
import random
import signal
import sys
from datetime import UTC, datetime

import structlog

from deploy.supervisor import process
from deploy.supervisor.backoff import delay_s
from deploy.supervisor.config import PROJECT, child_environ
from deploy.supervisor.layout import Layout
from deploy.supervisor.part import STOP_ORDER, Command
from deploy.supervisor.record import STANDBY, Entry, Record

log = structlog.get_logger()

STABLE_S = 30.0
"""A stand-by that lived this long was not started in vain."""
GRACE_S = 2.0


def environ() -> dict[str, str]:
    """A supervisor's own. It asks over gRPC and forks; its children exec at once, so gRPC need not prepare for that."""
    return {**child_environ(), "GRPC_ENABLE_FORK_SUPPORT": "0"}


class StandBy:
    """Keeps one stand-by waiting."""

    def __init__(self, layout: Layout, record: Record, *, takeovers: int, rng: random.Random) -> None:
        """`takeovers`: what it is told of how often supervisors died."""
        argv = (sys.executable, "-m", "deploy.supervisor", "standby", str(layout.root), str(takeovers))
        self._command = Command(argv, environ(), PROJECT)
        self._log = layout.log_of("supervisor")
        self._record = record
        self._rng = rng
        self._child: process.Child | None = None
        self._keeping: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Have one from now on."""
        if self._keeping is not None:
            return
        for entry in self._record.survivors():
            if entry.name == STANDBY:
                # Of a supervisor that was replaced by hand, or it is ourselves, who had been waiting.
                await self._replace(entry)
        self._keeping = asyncio.create_task(self._keep(), name="standby")

    async def stop(self) -> None:
        """Have none any more."""
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.gather(self._keeping, return_exceptions=True)
        if self._child is not None:
            await self._child.stop(signal.SIGKILL, grace_s=GRACE_S)
        self._record.remove(STANDBY)

    async def _replace(self, entry: Entry) -> None:
        if entry.pid != os.getpid():
            await process.stop_foreign(entry.pid, entry.start_time, signal.SIGKILL, grace_s=GRACE_S)
        self._record.remove(STANDBY)

    async def _keep(self) -> None:
        loop, failures = asyncio.get_running_loop(), 0
        while True:
            began = loop.time()
            try:
                code = await self._live_once()
                log.warning("standby_ended", code=code)
            except OSError as error:
                log.error("standby_not_started", reason=str(error))
            failures = 1 if loop.time() - began > STABLE_S else failures + 1
            await asyncio.sleep(delay_s(failures, self._rng))

    async def _live_once(self) -> int | None:
        self._child = child = process.spawn(self._command, log=self._log, dies_with_us=False)
        if child.start_time is not None:
            self._record.put(
                Entry(
                    name=STANDBY,
                    pid=child.pid,
                    start_time=child.start_time,
                    digest=self._command.digest(),
                    ports=(),
                    starts=1,
                    since=datetime.now(UTC).isoformat(),
                    stop_rank=-len(STOP_ORDER),  # before everything else
                    stop_signal=signal.SIGKILL,
                    grace_s=GRACE_S,
                )
            )
        return await child.wait()
