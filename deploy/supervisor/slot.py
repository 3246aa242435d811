"""The place of one server in the running mesh: keeps exactly one process of it alive until told to stop.

Level-triggered: each turn of the loop looks at what is there (a process or none, an answer or none) and moves it
towards ready. `supervisor.py` owns the slots; `life.py` makes the decisions.
"""

import asyncio
import contextlib
import math
import os
import random
import signal
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import structlog

from deploy.supervisor import graph, logfile, process, procfs, starvation
from deploy.supervisor.backoff import delay_s, quarantine_s
from deploy.supervisor.errors import StartError, SupervisorError
from deploy.supervisor.layout import Layout
from deploy.supervisor.life import Life, Verdict
from deploy.supervisor.messages import Event
from deploy.supervisor.part import Server
from deploy.supervisor.probe import HOST, TIMEOUT_S, Answer, ClosedError, NoAnswerError
from deploy.supervisor.record import Entry, Record
from deploy.supervisor.starvation import Lag

log = structlog.get_logger()

START_POLL_S = 0.05
WATCH_INTERVAL_S = 0.6
RETRY_INTERVAL_S = 0.1
"""Between probes once one was missed: three of them with their timeouts stay below five seconds."""
FIRST_ATTEMPTS_MAX = 3
"""Early deaths a part may have while the mesh comes up, before the whole start counts as failed."""
ADOPTED_TIMEOUT_S = 15.0
"""So long a process that was taken over and listens may take to answer: a busy machine is no reason to replace it."""
COMPANION_GRACE_S = 3.0
"""A server whose controller died has this long to end in an orderly way; a held one sees no signal but SIGKILL."""
LOG_LINES = 12


@dataclass(frozen=True, slots=True)
class Host:
    """What all slots share."""

    layout: Layout
    record: Record
    heavy: asyncio.Semaphore
    """Held during the start of heavy parts."""
    emit: Callable[[Event], None]
    now: Callable[[], datetime]
    rng: random.Random
    lag: Lag
    dies_with_us: bool
    lenient: bool = False
    """No part's failure ends the mesh: it was up before, and others go on."""


class Slot:
    """One server. `run()` is its whole life; everything else only looks or nudges."""

    HEAVY_HOLD_S = 10.0
    """A start that takes longer may be waiting for one that waits for its turn, so it gives its turn back."""

    def __init__(self, server: Server, host: Host) -> None:
        self.server = server
        self.life = Life(since=host.now())
        self.ready_once: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.last_words: tuple[str, ...] = ()
        """What the process that ended last wrote last."""
        self.outdated = False
        """Another supervisor started its process, and not as we would."""
        self._host = host
        self._log_path = host.layout.log_of(server.name)
        self._log_start = 0
        self._child: process.Child | None = None
        self._adopted = False
        self._hopeless = False
        self._asked = False
        self._leaves_by = 0.0
        self._excuses = 0
        self._closed_at = 0.0
        self._stopping = asyncio.Event()
        self._nudged = asyncio.Event()

    async def run(self) -> None:
        """Start, watch and start again, until `stop()`. What an earlier supervisor left running is taken over."""
        try:
            while not self._stopping.is_set():
                await self._live_once()
                if self._stopping.is_set():
                    break
                await self._pause()
        finally:
            await self.server.probe.close()

    async def stop(self) -> None:
        """Stop the process, and never start it again."""
        self._stopping.set()
        self._nudged.set()
        if not self.ready_once.done():
            self.ready_once.cancel()
        child = self._child
        if child is not None:
            await child.stop(self.server.stop_signal, grace_s=self.server.grace_s)

    async def retire(self) -> None:
        """Stop the process, and never start it again, without its clients noticing."""
        await self.drain()
        await self.stop()

    def revive(self) -> None:
        """Forget earlier deaths, and try now where a try was due later."""
        self.life = self.life.forgiven()
        self._nudged.set()

    async def drain(self) -> None:
        """Let the clients of a ready process leave it, where it has a way to tell them."""
        if self.server.drain is None or self.life.state != "ready":
            return
        try:
            await self.server.drain()
        except (OSError, TimeoutError) as error:
            # It is stopped all the same: what is still connected connects again.
            log.warning("drain_failed", part=self.server.name, reason=str(error) or type(error).__name__)

    async def reread(self, server: Server) -> None:
        """Have a server that reads what is prepared for it go by another description of itself."""
        self.server = server
        if server.prepare is not None:
            try:
                await server.prepare()
            except (OSError, SupervisorError) as error:
                log.error("not_prepared", part=server.name, reason=str(error))  # it goes on with what it has

    def send(self, number: int) -> int | None:
        """Send a signal to the process and return its pid; None when there is none.

        Whoever sends it wants to see what happens: it is not held against the process.
        """
        child = self._child
        if child is None or child.ended:
            return None
        if number in (self.server.stop_signal, signal.SIGKILL, signal.SIGTERM):
            self._asked = True
        if number in (self.server.stop_signal, signal.SIGTERM):
            self._leaves_by = asyncio.get_running_loop().time() + self.server.grace_s
        child.send(number)
        if number in (signal.SIGKILL, signal.SIGSTOP, signal.SIGCONT):
            self._companion(number)  # nobody can pass these on
        return child.pid

    def rotate_log(self) -> None:
        """Keep the log file small."""
        if logfile.rotate(self._log_path):
            self._log_start = 0

    async def _live_once(self) -> None:
        began = asyncio.get_running_loop().time()
        self._asked, self._leaves_by, self._closed_at = False, 0.0, 0.0
        if await self._adopt():
            reason = await self._until_ready(began, release=False)
        else:
            reason = await self._start_in_turn(began)
        if reason is None:
            reason = await self._watch()
        await self._clean_up(reason)

    async def _adopt(self) -> bool:
        """Take over the process that an earlier supervisor has left, if it is where ours would be.

        If it is not what we would start now, it is `outdated`: to be replaced, but not at once with all others.
        """
        entry, self._adopted, self.outdated = self._host.record.survivor(self.server.name), False, False
        if entry is None:
            return False
        if entry.ports != self.server.ports:
            log.warning("process_is_another", part=self.server.name, pid=entry.pid)
            await process.stop_foreign(entry.pid, entry.start_time, entry.stop_signal, grace_s=entry.grace_s)
            return False
        child = process.adopt(entry.pid, entry.start_time)
        if child is None:
            return False
        self._child, self._adopted = child, True
        self.outdated = entry.digest != self.server.command.digest()
        self._log_start = logfile.size(self._log_path)
        since = datetime.fromisoformat(entry.since)
        self.life = self.life.adopted(child.pid, starts=entry.starts, since=since)
        self._host.record.put(entry)
        log.info("process_adopted", part=self.server.name, pid=child.pid, outdated=self.outdated)
        if self.server.rereads:
            await self.reread(self.server)
        return True

    async def _start_in_turn(self, began: float) -> str | None:
        """Start the process and wait until it is ready; why it is not, or None."""
        held = self.server.heavy
        if held:
            await self._host.heavy.acquire()
        try:
            if self._stopping.is_set():
                return "stopped before it was started"
            reason = await self._start()
            if reason is None:
                release, held = held, False
                reason = await self._until_ready(began, release=release)
            return reason
        finally:
            if held:
                self._host.heavy.release()

    async def _start(self) -> str | None:
        """Prepare and spawn; what went wrong, or None."""
        self._emit("starting", 0.0)
        self._log_start = logfile.size(self._log_path)
        try:
            await self._end_companion()  # of a process that died while nobody supervised
            if self.server.prepare is not None:
                await self.server.prepare()
            if self._stopping.is_set():
                return "stopped before it was started"
            child = process.spawn(self.server.command, log=self._log_path, dies_with_us=self._host.dies_with_us)
        except (OSError, SupervisorError) as error:
            return f"cannot be started: {error}"
        self._child = child
        self.life = self.life.started(child.pid, now=self._host.now())
        if child.start_time is not None:
            self._host.record.put(self._entry(child.pid, child.start_time))
        log.info("process_started", part=self.server.name, pid=child.pid, restarts=self.life.restarts)
        return None

    def _entry(self, pid: int, start_time: int) -> Entry:
        return Entry(
            name=self.server.name,
            pid=pid,
            start_time=start_time,
            digest=self.server.command.digest(),
            ports=self.server.ports,
            starts=self.life.starts,
            since=self.life.since.isoformat(),
            stop_rank=graph.stop_rank(self.server),
            stop_signal=int(self.server.stop_signal),
            grace_s=self.server.grace_s,
        )

    async def _until_ready(self, began: float, *, release: bool) -> str | None:
        """Wait until the process is ready; why it is not, or None. Gives the turn of a heavy start back."""
        loop = asyncio.get_running_loop()
        child = self._child
        assert child is not None
        started = loop.time()
        obstacle: _Obstacle | None = _Obstacle("did not answer")
        try:
            while obstacle is not None and loop.time() - started < self._time_to_answer(obstacle):
                if await child.ended_within(START_POLL_S):
                    return f"exited early with {describe(child.exit_code)}"
                if release and loop.time() - started > self.HEAVY_HOLD_S:
                    self._host.heavy.release()
                    release = False
                obstacle = await self._obstacle(child.pid)
            if obstacle is None:
                self._became_ready(loop.time() - began)
                return None
            self._hopeless = True  # it had all the time there is; another try would only double the wait
            return f"timed out after {loop.time() - started:.0f} s: {obstacle.text}"
        finally:
            if release:
                self._host.heavy.release()

    def _time_to_answer(self, obstacle: "_Obstacle") -> float:
        if obstacle.alive and (self._host.lenient or self.ready_once.done()):
            # What it waits for is not its own (the keys of tokens, say), and a new process would wait for the same.
            return math.inf
        return ADOPTED_TIMEOUT_S if self._adopted and obstacle.listens else self.server.start_timeout_s

    async def _obstacle(self, pid: int) -> "_Obstacle | None":
        """What keeps the process from being ready; None when nothing does."""
        # A refused connection costs nothing, the kernel's table of sockets some milliseconds: so in this order.
        if not await accepts(self.server.ports[0]):
            return _Obstacle(f"nothing listens on port {self.server.ports[0]}")
        companion = self._companion()
        for port in self.server.ports:
            owned = procfs.owns_listener(port, pid, *(() if companion is None else (companion,)))
            if owned is None:
                return _Obstacle(f"nothing listens on port {port}")
            if not owned:
                return _Obstacle(f"port {port} belongs to {procfs.listener_name(port)}")
        try:
            answer = await self.server.probe.check()
        except NoAnswerError as error:
            return _Obstacle(str(error), listens=True)
        return None if answer is Answer.READY else _Obstacle("answers that it is not ready", listens=True, alive=True)

    def _became_ready(self, seconds: float) -> None:
        since = self.life.since if self._adopted else self._host.now()
        self.life = self.life.ready(at=asyncio.get_running_loop().time(), now=since)
        log.info("process_ready", part=self.server.name, seconds=round(seconds, 3))
        self._emit("ready", seconds)
        if not self.ready_once.done():
            self.ready_once.set_result(None)

    async def _watch(self) -> str:
        """Watch a ready process until it ends or has to be ended; why."""
        child, loop = self._child, asyncio.get_running_loop()
        assert child is not None
        interval = WATCH_INTERVAL_S
        while not await child.ended_within(interval):
            await self._look(child)
            interval = RETRY_INTERVAL_S if self.life.misses and self.server.watched else WATCH_INTERVAL_S
            if loop.time() < self._leaves_by:
                continue  # it was asked to end: what it does until then is its own affair
            match self.life.verdict(at=loop.time()):
                case Verdict.HUNG:
                    return "does not answer any more"
                case Verdict.STUCK:
                    return "refuses work and does not recover"
                case Verdict.KEEP:
                    pass
        return f"ended with {describe(child.exit_code)}"

    async def _look(self, child: process.Child) -> None:
        """Ask a process that is watched; of any other one see only whether it is held still."""
        loop = asyncio.get_running_loop()
        asked, had = loop.time(), procfs.cpu_s(child.pid)
        before = self.life.state
        try:
            companion = self._companion()
            if companion is not None and procfs.is_stopped(companion):
                raise NoAnswerError("what it has started is held still")
            if self.server.watched:
                answer = await self.server.probe.check()
            elif procfs.is_stopped(child.pid):
                raise NoAnswerError("is held still")
            else:
                answer = Answer.READY
        except NoAnswerError as error:
            closed = isinstance(error, ClosedError)
            self._closed_at = (self._closed_at or asked) if closed else 0.0
            # Who leaves stops to listen, and ends what it is at; it has as long for that as if we had asked.
            leaves = closed and loop.time() - self._closed_at < self.server.grace_s
            if not leaves and not self._excused(child.pid, asked, had):
                self.life = self.life.missed(asked=asked)
            return
        self._excuses, self._closed_at = 0, 0.0
        if answer is Answer.READY:
            self.life = self.life.ready(at=loop.time(), now=self._host.now())
        else:
            self.life = self.life.refusing(at=loop.time(), now=self._host.now())
        if before is not self.life.state:
            self._emit(self.life.state.value, 0.0)

    def _excused(self, pid: int, asked: float, had: float) -> bool:
        """Whether the machine has too much to do for this silence to mean anything."""
        now = asyncio.get_running_loop().time()
        if self._excuses >= starvation.EXCUSES_MAX:
            return False
        excused = starvation.excuses(
            lag_s=self._host.lag.worst_s(since=asked, now=now),
            runnable=procfs.is_runnable(pid),
            cpu_s=procfs.cpu_s(pid) - had,
            watched_s=now - asked,
        )
        self._excuses += excused
        return excused

    async def _clean_up(self, reason: str) -> None:
        """Leave nothing of the process that ended, or is to end, for `reason`."""
        child, loop = self._child, asyncio.get_running_loop()
        if child is not None:
            hung = self.life.verdict(at=loop.time()) is Verdict.HUNG
            if hung:
                child.send(signal.SIGKILL)  # it would not even see a polite signal
            await child.end(self.server.stop_signal, grace_s=self.server.grace_s)
        # It is gone, and the status says so, however long what it has started takes to follow it.
        asked = self._asked or self._stopping.is_set()
        self.life = self.life.exited(at=loop.time(), now=self._host.now(), reason=reason, asked=asked)
        self.last_words = logfile.tail(self._log_path, LOG_LINES, since=self._log_start)
        if child is not None:
            await process.clear_session(child.pid)
            await self._end_companion()
            self._host.record.remove(self.server.name)
        self._child = None
        await self.server.probe.close()
        if self._stopping.is_set():
            self._emit("down", 0.0)
            return
        quarantined = self.life.quarantined
        log.warning(
            "process_down",
            part=self.server.name,
            reason=reason,
            failures=self.life.failures,
            quarantined=quarantined,
        )
        self._emit("down", 0.0, detail=reason)
        failed = self._hopeless or self.life.failures >= FIRST_ATTEMPTS_MAX
        if failed and not self._host.lenient and not self.ready_once.done():
            self.ready_once.set_exception(StartError(self.server.name, reason, log=self.last_words))

    def _companion(self, number: int | None = None) -> int | None:
        """The process that ours has started in a session of its own; `number`: send it this signal."""
        pid = None if self.server.companion is None else self.server.companion()
        if pid is not None and number is not None:
            with contextlib.suppress(ProcessLookupError):  # it ended between the look and the signal
                os.kill(pid, number)
        return pid

    async def _end_companion(self) -> None:
        """End what a process has left in a session of its own: it would take part without anybody to control it."""
        pid = self._companion()
        started = None if pid is None else procfs.start_time(pid)
        if pid is not None and started is not None:
            log.warning("companion_left", part=self.server.name, pid=pid)
            await process.stop_foreign(pid, started, signal.SIGINT, grace_s=COMPANION_GRACE_S)

    async def _pause(self) -> None:
        """Wait before the next try, as the life so far suggests, or until `revive()`."""
        life, rng = self.life, self._host.rng
        self._nudged.clear()
        if self._stopping.is_set():
            return
        try:
            seconds = quarantine_s(rng) if life.quarantined else delay_s(life.failures, rng)
            await asyncio.wait_for(self._nudged.wait(), seconds)
        except TimeoutError:
            return

    def _emit(self, state: str, seconds: float, *, detail: str = "") -> None:
        self._host.emit(Event("part", part=self.server.name, state=state, seconds=seconds, detail=detail))


@dataclass(frozen=True, slots=True)
class _Obstacle:
    """What keeps a process from being ready."""

    text: str
    listens: bool = False
    """It has its ports."""
    alive: bool = False
    """It answers, and says that it is not ready."""


async def accepts(port: int) -> bool:
    """Whether anybody accepts connections on a loopback port."""
    try:
        async with asyncio.timeout(TIMEOUT_S):
            _, writer = await asyncio.open_connection(HOST, port)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True


def describe(code: int | None) -> str:
    """An exit code in words: a negative one is a signal. None: it was another supervisor's child."""
    if code is None:
        return "an exit code that only the supervisor before this one could see"
    if code < 0:
        return f"signal {-code}"
    return f"exit code {code}"
