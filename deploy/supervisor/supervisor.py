"""Brings the parts of a stack to life in the order of the graph, keeps them alive, and stops them in reverse ranks.

Owned by `daemon.py`. Invariant: when `stop()` has returned, no process that `start()` spawned runs any more.
"""

import asyncio
import itertools
import signal
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

import psycopg
import structlog

from deploy.supervisor import graph, logfile, process
from deploy.supervisor.backoff import delay_s
from deploy.supervisor.errors import RefusedError, StartError, SupervisorError
from deploy.supervisor.life import State
from deploy.supervisor.messages import Event, Killed, Process, Scaled
from deploy.supervisor.part import Command, Part, Server, Task
from deploy.supervisor.probe import HOST
from deploy.supervisor.servers.etcd import EtcdError
from deploy.supervisor.slot import LOG_LINES, Host, Slot, describe

log = structlog.get_logger()

TASK_ATTEMPTS_MAX = 2
"""A task is idempotent; a second try gets over a server that dropped its first connection, a third would only hide."""
ROTATE_INTERVAL_S = 10.0
RESTART_TIMEOUT_S = 90.0
KILL_POLL_S = 0.05
RENEW_INTERVAL_S = 1.0
STATUS_LINES = 3
"""So many last lines of a process that is down are part of the status."""


class Supervisor:
    """One running mesh."""

    def __init__(self, parts: Sequence[Part], host: Host) -> None:
        self._parts = tuple(parts)
        self._host = host
        self._slots = {part.name: Slot(part, host) for part in parts if isinstance(part, Server)}
        self._done: dict[str, asyncio.Task[None]] = {}
        self._lives: dict[str, asyncio.Task[None]] = {}
        self._chores: list[asyncio.Task[None]] = []
        self.broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Fails when a slot's own loop ended by an error: then nobody keeps that part alive, and the mesh must stop."""

    async def start(self, *, resume: bool = False) -> None:
        """Start everything, as parallel as the graph allows. Raises StartError for the first part that fails.

        `resume`: continue a mesh that was up under an earlier supervisor. What runs is taken over, what does not is
        started, at once and in any order, as after any death; nothing is waited for.
        """
        chores = (self._rotate_logs(), self._host.lag.run(), self._renew_outdated())
        self._chores = [asyncio.create_task(chore) for chore in chores]
        for part in self._parts:
            self._done[part.name] = asyncio.create_task(self._bring_up(part, in_order=not resume), name=part.name)
        if not resume:
            await first_failure(self._done.values())

    async def stop(self) -> None:
        """Stop everything, rank by rank."""
        await cancel([*self._done.values(), *self._chores])
        for rank in graph.stop_ranks(slot.server for slot in self._slots.values()):
            slots = [self._slots[server.name] for server in rank]
            await asyncio.gather(*(slot.stop() for slot in slots))
            lives = [self._lives[server.name] for server in rank if server.name in self._lives]
            await asyncio.gather(*lives, return_exceptions=True)  # an error among them is in `broken`

    def processes(self) -> tuple[Process, ...]:
        """What `weft status` lists, in the order of the stack."""
        return tuple(_describe_slot(slot) for slot in self._slots.values())

    def kill(self, name: str, number: int) -> Killed:
        """Send a signal to one process. Raises RefusedError."""
        slot = self._slot(name)
        pid = slot.send(number)
        if pid is None:
            raise RefusedError(f"{slot.server.name} has no process at the moment")
        log.info("signal_sent", part=slot.server.name, pid=pid, signal=number)
        return Killed(slot.server.name, pid)

    async def restart(self, name: str) -> Killed:
        """Stop one process in an orderly way and wait until its successor is ready. Raises RefusedError.

        One that is down, in quarantine too, is started now. Its pid is the old one where there was one.
        """
        slot = self._slot(name)
        starts, before = slot.life.starts, slot.life.pid
        slot.revive()
        if before is not None:
            await slot.drain()
            if slot.life.starts == starts:  # else it died meanwhile, and what runs is its successor already
                slot.send(slot.server.stop_signal)
            log.info("renewing", part=name, pid=before)
        try:
            async with asyncio.timeout(RESTART_TIMEOUT_S):
                while slot.life.starts == starts or slot.life.state != "ready":
                    await asyncio.sleep(KILL_POLL_S)
        except TimeoutError as error:
            why = f": {slot.life.reason}" if slot.life.reason else ""
            raise RefusedError(f"{name} is not ready again after {RESTART_TIMEOUT_S:.0f} s{why}") from error
        pid = before or slot.life.pid
        assert pid is not None
        return Killed(name, pid)

    async def reread(self, name: str) -> None:
        """Have a process go by what it is given anew, without a restart. Raises RefusedError."""
        slot = self._slot(name)
        await slot.reread(slot.server)
        self.kill(name, signal.SIGHUP)

    async def change(self, parts: Sequence[Part], names: Collection[str]) -> Scaled:
        """Go over to another stack, of which other parts than `names` are as they were, or somebody else's to change.

        Raises RefusedError when a new part does not start. Then it is stopped again with every other new one.
        """
        self._parts = tuple(parts)
        wanted = {part.name for part in parts}
        added = [part for part in parts if part.name in names and part.name not in self._done]
        removed = [name for name in self._done if name in names and name not in wanted]
        strict = replace(self._host, lenient=False)  # whoever asked is told what does not start
        self._slots.update((part.name, Slot(part, strict)) for part in added if isinstance(part, Server))
        for part in added:
            self._done[part.name] = asyncio.create_task(self._bring_up(part, strict=True), name=part.name)
        try:
            await first_failure(self._done[part.name] for part in added)
        except StartError as error:
            await self._remove([part.name for part in added])
            raise RefusedError(f"{error}; everything else runs on as it was") from error
        for part in self._parts:  # which has everything that others have changed since
            if isinstance(part, Server) and part.rereads and part.name in self._slots and part not in added:
                await self._slots[part.name].reread(part)
        stopped = [name for name in removed if name in self._slots]
        await self._remove(removed)
        return Scaled(tuple(part.name for part in added if isinstance(part, Server)), tuple(stopped))

    async def _remove(self, names: Sequence[str]) -> None:
        await cancel(self._done.pop(name) for name in names)
        slots = [self._slots[name] for name in names if name in self._slots]
        await asyncio.gather(*(slot.retire() for slot in slots))
        for slot in slots:
            life = self._lives.pop(slot.server.name, None)
            if life is not None:
                await asyncio.gather(life, return_exceptions=True)  # an error of it is in `broken`
            del self._slots[slot.server.name]

    def _slot(self, name: str) -> Slot:
        if name not in self._slots:
            same = [slot.server.name for slot in self._slots.values() if slot.server.service == name]
            hint = f"its instances are {', '.join(same)}" if same else f"known are {', '.join(self._slots)}"
            raise RefusedError(f"no process is called {name}; {hint}")
        return self._slots[name]

    async def _bring_up(self, part: Part, *, in_order: bool = True, strict: bool = False) -> None:
        for need in part.after if in_order else ():
            if need in self._done:  # else it was sent away since, and there is nothing to wait for
                await self._needed(need, part.name)
        if isinstance(part, Task):
            await self._run_task(part, lenient=self._host.lenient and not strict)
            self._host.record.finish(part.name, part.digest())
            return
        slot = self._slots[part.name]
        life = asyncio.create_task(slot.run(), name=f"{part.name} life")
        life.add_done_callback(self._life_ended)
        self._lives[part.name] = life
        await slot.ready_once

    async def _needed(self, need: str, name: str) -> None:
        own = asyncio.current_task()
        assert own is not None
        try:
            # Shielded: when this part is cancelled, what it needs goes on and is stopped in its own turn.
            await asyncio.shield(self._done[need])
        except asyncio.CancelledError as error:
            if own.cancelling():
                raise
            raise StartError(name, f"{need}, which it needs, was given up") from error

    def _life_ended(self, life: "asyncio.Task[None]") -> None:
        error = None if life.cancelled() else life.exception()
        if error is not None and not self.broken.done():
            self.broken.set_exception(error)

    async def _run_task(self, task: Task, *, lenient: bool) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        if self._host.record.finished(task.name, task.digest()):
            # By an earlier supervisor of a mesh that runs on. A second time it might undo what was done since.
            self._host.emit(Event("part", part=task.name, state="done", seconds=0.0))
            return
        path, since, reason = self._host.layout.log_of(task.name), 0, ""
        for failures in itertools.count():
            if failures >= TASK_ATTEMPTS_MAX and not lenient:
                break
            await asyncio.sleep(delay_s(failures, self._host.rng))
            logfile.rotate(path)
            since = logfile.size(path)
            if task.heavy:
                await self._host.heavy.acquire()
            try:
                self._host.emit(Event("part", part=task.name, state="starting"))
                reason = await self._attempt(task)
            finally:
                if task.heavy:
                    self._host.heavy.release()
            if not reason:
                self._host.emit(Event("part", part=task.name, state="done", seconds=loop.time() - began))
                log.info("task_done", part=task.name, seconds=round(loop.time() - began, 3))
                return
            log.warning("task_failed", part=task.name, reason=reason)
        raise StartError(task.name, reason, log=logfile.tail(path, LOG_LINES, since=since))

    async def _attempt(self, task: Task) -> str:
        """Run a task once; what went wrong, or nothing."""
        try:
            if isinstance(task.run, Command):
                path = self._host.layout.log_of(task.name)
                # It belongs to this start: the next supervisor runs it again, and must not find it half-way.
                code = await process.run(task.run, log=path, timeout_s=task.timeout_s, dies_with_us=True)
                return "" if code == 0 else f"ended with {describe(code)}"
            async with asyncio.timeout(task.timeout_s):
                await task.run()
        except TimeoutError:
            return f"timed out after {task.timeout_s:.0f} s"
        except (OSError, SupervisorError, EtcdError, psycopg.Error) as error:
            return str(error).strip() or type(error).__name__
        return ""

    async def _renew_outdated(self) -> None:
        """Replace what was taken over and would be started otherwise now, until one of them does not come up.

        One by one, each when all others of its service are ready: an update reaches what runs as a roll would, and one
        that does not work costs one process.
        """
        while True:
            await asyncio.sleep(RENEW_INTERVAL_S)
            name = self._next_outdated()
            if name is None:
                continue
            try:
                await self.restart(name)
            except RefusedError as error:
                log.error("renewing_given_up", part=name, reason=str(error))
                return

    def _next_outdated(self) -> str | None:
        resting = {slot.server.service for slot in self._slots.values() if slot.life.state is not State.READY}
        found = (slot.server for slot in self._slots.values() if slot.outdated)
        return next((server.name for server in found if server.service not in resting), None)

    async def _rotate_logs(self) -> None:
        while True:
            await asyncio.sleep(ROTATE_INTERVAL_S)
            try:
                for slot in self._slots.values():
                    slot.rotate_log()
                logfile.rotate(self._host.layout.log_of("supervisor"))
            except OSError as error:
                log.error("logs_not_rotated", reason=str(error))  # a full disk, mostly; it is tried again


def _describe_slot(slot: Slot) -> Process:
    server, life = slot.server, slot.life
    return Process(
        name=server.name,
        kind=server.kind.value,
        service=server.service,
        pid=life.pid,
        address=f"{HOST}:{server.ports[0]}",
        state=life.state.value,
        restarts=life.restarts,
        since=life.since.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        role=server.role if isinstance(server.role, str) else server.role(),
        quarantined=life.quarantined,
        reason=life.reason,
        log=slot.last_words[-STATUS_LINES:] if life.state is not State.READY else (),
    )


async def first_failure(tasks: Iterable["asyncio.Task[None]"]) -> None:
    """Wait until all have succeeded, or raise the error of the first that failed."""
    pending = set(tasks)
    while pending:
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_EXCEPTION)
        errors = [error for task in done if not task.cancelled() and (error := task.exception()) is not None]
        if errors:
            raise errors[0]


async def cancel(tasks: Iterable["asyncio.Task[None]"]) -> None:
    """Cancel and wait; errors of tasks that had already failed are known and not raised again."""
    cancelled = list(tasks)
    for task in cancelled:
        task.cancel()
    await asyncio.gather(*cancelled, return_exceptions=True)
