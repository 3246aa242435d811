"""The place of one server in the running mesh: keeps exactly one process of it alive until told to stop.

Level-triggered: each turn of the loop looks at what is there (a process or none, an answer or none) and moves it
towards ready. `supervisor.py` owns the slots; `life.py` makes the decisions.
"""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import structlog

from deploy.supervisor import graph, logfile, process, procfs
from deploy.supervisor.backoff import delay_s
from deploy.supervisor.errors import StartError, SupervisorError
from deploy.supervisor.layout import Layout
from deploy.supervisor.life import Life, Verdict
from deploy.supervisor.messages import Event
from deploy.supervisor.part import Server
from deploy.supervisor.probe import HOST, TIMEOUT_S, Answer, NoAnswerError
from deploy.supervisor.record import Entry, Record

log = structlog.get_logger()

START_POLL_S = 0.05
WATCH_INTERVAL_S = 1.0
RETRY_INTERVAL_S = 0.2
"""Between probes once one was missed: three of them with their timeouts stay near five seconds."""
LAG_MAX_S = 1.0
"""A probe that took this much longer than its timeout says that we are starved, not that the process is hung."""
FIRST_ATTEMPTS_MAX = 3
"""Early deaths a part may have while the mesh comes up, before the whole start counts as failed."""
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
    dies_with_us: bool


class Slot:
    """One server. `run()` is its whole life; everything else only looks or nudges."""

    HEAVY_HOLD_S = 10.0
    """A start that takes longer may be waiting for one that waits for its turn, so it gives its turn back."""

    def __init__(self, server: Server, host: Host) -> None:
        self.server = server
        self.life = Life(since=host.now())
        self.ready_once: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._host = host
        self._log_path = host.layout.log_of(server.name)
        self._log_start = 0
        self._child: process.Child | None = None
        self._hopeless = False
        self._renewing = False
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Start, watch and start again, until `stop()`."""
        try:
            while not self._stopping.is_set():
                await self._live_once()
                if self._stopping.is_set():
                    break
                await self._pause(delay_s(self.life.failures, self._host.rng))
        finally:
            await self.server.probe.close()

    async def stop(self) -> None:
        """Stop the process, and never start it again."""
        self._stopping.set()
        if not self.ready_once.done():
            self.ready_once.cancel()
        child = self._child
        if child is not None:
            await child.stop(self.server.stop_signal, grace_s=self.server.grace_s)

    async def retire(self) -> None:
        """Stop the process, and never start it again, without its clients noticing."""
        await self.drain()
        await self.stop()

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
            await server.prepare()

    def send(self, number: int) -> int | None:
        """Send a signal to the process and return its pid; None when there is none."""
        child = self._child
        if child is None or child.exit_code is not None:
            return None
        child.send(number)
        return child.pid

    def renew(self) -> int | None:
        """Have the process make place for another one at once; its pid, or None when there is none."""
        self._renewing = self.life.pid is not None
        return self.send(self.server.stop_signal)

    def rotate_log(self) -> None:
        """Keep the log file small."""
        if logfile.rotate(self._log_path):
            self._log_start = 0

    async def _live_once(self) -> None:
        began = asyncio.get_running_loop().time()
        held = self.server.heavy
        if held:
            await self._host.heavy.acquire()
        try:
            if self._stopping.is_set():
                return
            reason = await self._start()
            if reason is None:
                release, held = held, False
                reason = await self._until_ready(began, release=release)
        finally:
            if held:
                self._host.heavy.release()
        if reason is None:
            reason = await self._watch()
        await self._clean_up(reason)

    async def _start(self) -> str | None:
        """Prepare and spawn; what went wrong, or None."""
        self._emit("starting", 0.0)
        self._log_start = logfile.size(self._log_path)
        try:
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
            self._host.record.put(
                Entry(
                    name=self.server.name,
                    pid=child.pid,
                    start_time=child.start_time,
                    stop_rank=graph.stop_rank(self.server),
                    stop_signal=int(self.server.stop_signal),
                    grace_s=self.server.grace_s,
                )
            )
        log.info("process_started", part=self.server.name, pid=child.pid, restarts=self.life.restarts)
        return None

    async def _until_ready(self, began: float, *, release: bool) -> str | None:
        """Wait until the process is ready; why it is not, or None. Gives the turn of a heavy start back."""
        loop = asyncio.get_running_loop()
        child = self._child
        assert child is not None
        started = loop.time()
        obstacle = "did not answer"
        try:
            while loop.time() - started < self.server.start_timeout_s:
                if await child.ended_within(START_POLL_S):
                    return f"exited early with {describe(child.exit_code)}"
                if release and loop.time() - started > self.HEAVY_HOLD_S:
                    self._host.heavy.release()
                    release = False
                obstacle = await self._obstacle(child.pid)
                if not obstacle:
                    self._became_ready(loop.time() - began)
                    return None
            self._hopeless = True  # it had all the time there is; another try would only double the wait
            return f"timed out after {self.server.start_timeout_s:.0f} s: {obstacle}"
        finally:
            if release:
                self._host.heavy.release()

    async def _obstacle(self, pid: int) -> str:
        """What keeps the process from being ready; empty when nothing does."""
        # A refused connection costs nothing, the kernel's table of sockets some milliseconds: so in this order.
        if not await accepts(self.server.ports[0]):
            return f"nothing listens on port {self.server.ports[0]}"
        for port in self.server.ports:
            owned = procfs.owns_listener(pid, port)
            if owned is None:
                return f"nothing listens on port {port}"
            if not owned:
                return f"port {port} belongs to {procfs.listener_name(port)}"
        try:
            answer = await self.server.probe.check()
        except NoAnswerError as error:
            return str(error)
        return "" if answer is Answer.READY else "answers that it is not ready"

    def _became_ready(self, seconds: float) -> None:
        self.life = self.life.ready(at=asyncio.get_running_loop().time(), now=self._host.now())
        log.info("process_ready", part=self.server.name, seconds=round(seconds, 3))
        self._emit("ready", seconds)
        if not self.ready_once.done():
            self.ready_once.set_result(None)

    async def _watch(self) -> str:
        """Watch a ready process until it ends or has to be ended; why."""
        child = self._child
        assert child is not None
        interval = WATCH_INTERVAL_S
        while not await child.ended_within(interval):
            if not self.server.watched:
                continue
            await self._ask()
            interval = RETRY_INTERVAL_S if self.life.misses else WATCH_INTERVAL_S
            match self.life.verdict(at=asyncio.get_running_loop().time()):
                case Verdict.HUNG:
                    return "does not answer any more"
                case Verdict.STUCK:
                    return "refuses work and does not recover"
                case Verdict.KEEP:
                    pass
        return f"ended with {describe(child.exit_code)}"

    async def _ask(self) -> None:
        loop = asyncio.get_running_loop()
        asked = loop.time()
        try:
            answer = await self.server.probe.check()
        except NoAnswerError:
            if loop.time() - asked < TIMEOUT_S + LAG_MAX_S:
                self.life = self.life.missed()
            return
        before = self.life.state
        if answer is Answer.READY:
            self.life = self.life.ready(at=loop.time(), now=self._host.now())
        else:
            self.life = self.life.refusing(at=loop.time(), now=self._host.now())
        if before is not self.life.state:
            self._emit(self.life.state.value, 0.0)

    async def _clean_up(self, reason: str) -> None:
        """Leave nothing of the process that ended, or is to end, for `reason`."""
        child, loop = self._child, asyncio.get_running_loop()
        if child is not None:
            hung = self.life.verdict(at=loop.time()) is Verdict.HUNG
            if hung:
                child.send(9)  # it would not even see a polite signal
            await child.stop(self.server.stop_signal, grace_s=self.server.grace_s)
            self._host.record.remove(self.server.name)
        self._child = None
        await self.server.probe.close()
        self.life = self.life.exited(at=loop.time(), now=self._host.now(), wanted=self._renewing)
        self._renewing = False
        if self._stopping.is_set():
            self._emit("down", 0.0)
            return
        log.warning("process_down", part=self.server.name, reason=reason, failures=self.life.failures)
        self._emit("down", 0.0, detail=reason)
        if not self.ready_once.done() and (self._hopeless or self.life.failures >= FIRST_ATTEMPTS_MAX):
            lines = logfile.tail(self._log_path, LOG_LINES, since=self._log_start)
            self.ready_once.set_exception(StartError(self.server.name, reason, log=lines))

    async def _pause(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._stopping.wait(), seconds)
        except TimeoutError:
            return

    def _emit(self, state: str, seconds: float, *, detail: str = "") -> None:
        self._host.emit(Event("part", part=self.server.name, state=state, seconds=seconds, detail=detail))


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
    """An exit code in words: a negative one is a signal."""
    if code is not None and code < 0:
        return f"signal {-code}"
    return f"exit code {code}"
