"""The daemon: builds the stack of a desired state, runs it, and answers on a unix socket. One per data directory.

It lives until it is told to stop, or until the first start fails; either way it stops everything it had started. When
it is killed, everything runs on: a stand-by, which it keeps as long as it lives, takes its place and takes over what
runs (`standby.py`, `record.py`).
"""

import asyncio
import itertools
import json
import os
import random
import signal
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from datetime import datetime
from functools import partial
from typing import Any

import structlog

from deploy.supervisor import account, lane, messages
from deploy.supervisor.autoscale import Bounds
from deploy.supervisor.autoscaler import Autoscaler
from deploy.supervisor.backoff import delay_s
from deploy.supervisor.changes import LANES, Change, Changes
from deploy.supervisor.chores import Chores
from deploy.supervisor.desired import SCALABLE, Desired
from deploy.supervisor.door import Door
from deploy.supervisor.errors import ConfigError, RefusedError, StartError
from deploy.supervisor.exposition import Snapshot
from deploy.supervisor.lanes import Lanes, Surroundings
from deploy.supervisor.layout import Layout
from deploy.supervisor.load import Instance
from deploy.supervisor.messages import Event
from deploy.supervisor.orphans import stop_strays, stop_survivors
from deploy.supervisor.ports import Ports
from deploy.supervisor.record import Record
from deploy.supervisor.recovery import Recovery
from deploy.supervisor.secrets import Secrets
from deploy.supervisor.servers import envoy
from deploy.supervisor.slot import Host
from deploy.supervisor.stack import Stack
from deploy.supervisor.standby import StandBy
from deploy.supervisor.starvation import Lag
from deploy.supervisor.supervisor import Supervisor, cancel
from deploy.supervisor.upkeep import Upkeep

log = structlog.get_logger()

HEAVY_STARTS_MAX = 4
"""Python starts at once; more of them on two cores only make each one time out."""
EVENTS_MAX = 2000
"""Events kept for whoever asks later; restarts of a long-lived mesh push out the oldest."""
EXIT_FAULT = 70
"""EX_SOFTWARE of sysexits(3)."""
FAREWELL_S = 3.0
"""How long a failed start waits for somebody to tell it to."""


class Daemon:
    """The process behind `weft up`."""

    def __init__(
        self,
        layout: Layout,
        desired: Desired,
        *,
        now: Callable[[], datetime],
        rng: random.Random,
        takeovers: int = 0,
    ) -> None:
        """`takeovers`: how many supervisors died soon before this one; 0: somebody asked for it."""
        self._layout = layout
        self._changes = Changes(layout, desired)
        self._now = now
        self._rng = rng
        self._record = Record(layout.processes)
        self._takeovers = takeovers
        self._standby = StandBy(layout, self._record, takeovers=takeovers + 1, rng=rng)
        self._autoscaler = Autoscaler(
            wanted=lambda: {
                name: (self._changes.desired.sizes[name], bounds) for name, bounds in self._changes.desired.auto.items()
            },
            instances=self._instances,
            resize=self._follow_load,
        )
        around = Surroundings(
            desired=lambda: self._changes.desired,
            change=partial(self._change, LANES),
            processes=lambda: () if self._supervisor is None else self._supervisor.processes(),
            metrics_port=lambda name: self._running_stack.metrics_port(name),
            admin=lambda name: envoy.admin_socket(name, layout),
            environ=lambda: self._running_stack.publishing().environ,
        )
        self._lanes = Lanes(around, layout.run / "lanes.json")
        self._chores = Chores(
            resize=lambda service, size: self._change(service, lambda desired: desired.following({service: size})),
            hold=self._autoscaler.hold,
        )
        self._supervisor: Supervisor | None = None
        self._recovery: Recovery | None = None
        self._door: Door | None = None
        self._events: list[Event] = []
        self._subscribers: set[asyncio.Queue[Event | None]] = set()
        self._conversations: set[asyncio.Task[None]] = set()
        self._told = asyncio.Event()
        self._stop = asyncio.Event()
        self._began = asyncio.get_running_loop().time()

    async def run(self) -> int:
        """Serve until stopped; the exit code."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        async with self._listening():
            try:
                return await self._start_and_wait()
            except Exception:
                if self._changes.desired.ephemeral or not self._record.up:
                    raise
                # A fault of ours is no reason to stop what runs: the next supervisor takes it over.
                log.exception("supervisor_failed")
                os._exit(EXIT_FAULT)
            finally:
                await self._standby.stop()  # first: nobody is to take over what is being stopped
                await self._shut_door()
                await self._chores.stop()
                if self._supervisor is not None:
                    self._emit(Event("stopping", seconds=self._elapsed()))
                    await self._supervisor.stop()
                if self._supervisor is not None or self._stop.is_set():
                    await stop_survivors(self._record)  # what was not taken over yet
                self._emit(Event("stopped", seconds=self._elapsed()))

    async def _start_and_wait(self) -> int:
        start = asyncio.create_task(self._start())
        stop = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait({start, stop}, return_when=asyncio.FIRST_COMPLETED)
            if not start.done():
                return 0  # asked to stop while starting
            await start
            self._emit(Event("up", seconds=self._elapsed()))
            log.info("mesh_up", seconds=round(self._elapsed(), 3))
            assert self._supervisor is not None
            keeping = [
                asyncio.create_task(self._upkeep.run(), name="certificates"),
                asyncio.create_task(self._autoscaler.run(), name="autoscaler"),
                asyncio.create_task(self._lanes.run(), name="lanes"),
                asyncio.create_task(
                    self._running_stack.leadership.keep(partial(self._pids, "rabbitmq")), name="broker-leader"
                ),
            ]
            for chore in keeping:
                chore.add_done_callback(_tell_of_fault)
            broken = self._supervisor.broken
            try:
                await asyncio.wait((stop, broken), return_when=asyncio.FIRST_COMPLETED)
            finally:
                await cancel(keeping)
            if broken.done():
                await broken
        except StartError as error:
            await self._fail(Event("failed", part=error.part, detail=error.reason, log=error.log))
            return 1
        except ConfigError as error:
            await self._fail(Event("failed", detail=str(error), config=True))
            return 2
        else:
            return 0
        finally:
            for task in (start, stop):
                task.cancel()
            await asyncio.gather(start, stop, return_exceptions=True)  # its error, if any, has been told above

    async def _start(self) -> None:
        for failures in itertools.count(1):
            try:
                await self._start_once()
            except (ConfigError, OSError) as error:
                if not self._takeovers:
                    raise
                # What runs goes on without us; somebody may mend what is in the way.
                log.error("takeover_failed", reason=str(error))
                await asyncio.sleep(delay_s(failures, self._rng))
            else:
                return

    async def _start_once(self) -> None:
        await self._shut_door()  # of an attempt that failed: its port is ours, and has to be found free
        user = account.server_account()
        self._layout.prepare(user)
        if not self._changes.desired.ephemeral:
            await self._standby.start()
        if strays := await stop_strays(self._layout, self._record):
            log.warning("strays_stopped", names=strays)
        self._changes.stack = stack = self._make_stack(user)
        self._upkeep.begin()
        parts = self._changes.begin()
        stack.write_secrets()
        wanted = frozenset(part.name for part in parts)
        if stopped := await stop_survivors(self._record, wanted=wanted):
            log.warning("orphans_stopped", names=stopped)
        resume = self._record.up
        host = Host(
            layout=self._layout,
            record=self._record,
            heavy=asyncio.Semaphore(HEAVY_STARTS_MAX),
            emit=self._emit,
            now=self._now,
            rng=self._rng,
            lag=Lag(),
            dies_with_us=self._changes.desired.ephemeral,
            lenient=resume or self._takeovers > 0,
        )
        self._supervisor = Supervisor(parts, host)
        self._open_door(self._supervisor, stack)
        await self._supervisor.start(resume=resume)
        self._record.mark_up()

    def _open_door(self, supervisor: Supervisor, stack: Stack) -> None:
        """Let Prometheus look at what runs, and Alertmanager ask for help. Raises ConfigError."""
        recovery = self._recovery = Recovery(supervisor)

        async def snapshot() -> Snapshot:
            return Snapshot(supervisor.processes(), dict(recovery.counts), self._lanes.rolled_back())

        async def receive(notification: Mapping[str, Any]) -> object:
            decisions = recovery.receive(notification)
            for decision in decisions:
                if decision.outcome == "taken":
                    self._hold(supervisor, decision.instance)
            return decisions

        self._door = Door(stack.door_port, token=stack.recovery_token(), snapshot=snapshot, receive=receive)
        try:
            self._door.open()
        except OSError as error:
            raise ConfigError(f"port {stack.door_port}, for Prometheus: {error.strerror}") from error

    async def _shut_door(self) -> None:
        if self._door is not None:
            await self._door.close()
        if self._recovery is not None:
            await self._recovery.close()
        if self._changes.stack is not None:
            self._changes.stack.close()
        self._door = self._recovery = None

    def _make_stack(self, user: account.Account | None) -> Stack:
        free = random.Random(self._rng.random()) if self._changes.desired.free_ports else None
        kept = {port for entry in self._record.survivors() for port in entry.ports}
        ports = Ports(self._layout.ports, base=self._changes.desired.port_base, rng=free, kept=kept)
        secrets = Secrets(self._layout.secrets)
        return Stack(self._changes.desired, self._layout, ports=ports, secrets=secrets, account=user)

    async def _watch(self, supervisor: Supervisor, rules: str) -> None:
        try:
            self._layout.write(self._layout.slo, rules, None)
        except OSError as error:
            raise RefusedError(f"the rules cannot be written down: {error}") from error
        await supervisor.reread("prometheus")

    async def _scale(self, request: Mapping[str, Any]) -> messages.Scaled:
        service = str(request["service"])

        def change(desired: Desired) -> Desired:
            if "auto" not in request:
                return desired.resized(service, int(request["size"]), for_now=bool(request.get("for-now")))
            within = request["auto"]
            return desired.sized_by_load(service, None if within is None else Bounds(*within))

        change(self._changes.desired)  # what cannot be is refused before anything is begun
        self._autoscaler.hold(service)
        if request.get("wait", True):
            return await self._change(service, change)
        self._chores.begin(f"scale {service}", self._change(service, change))
        return messages.Scaled((), ())

    async def _follow_load(self, service: str, size: int) -> None:
        def change(desired: Desired) -> Desired:
            # Who asked for a certain size meanwhile has it.
            return desired.following({service: size}) if service in desired.auto else desired

        await self._change(service, change)

    async def _change(self, about: str, change: Change) -> messages.Scaled:
        assert self._supervisor is not None
        return await self._changes.make(self._supervisor, about, change)

    def _hold(self, supervisor: Supervisor, name: str) -> None:
        """What somebody kills or restarts, by hand or because of an alert, is not sent away at the same moment."""
        for part in supervisor.processes():
            if name == part.name:
                self._autoscaler.hold(part.service)

    def _instances(self, service: str) -> Sequence[Instance]:
        port = self._running_stack.metrics_port
        return [Instance(name, pid, port(name)) for name, pid in self._pids(service).items()]

    def _pids(self, service: str) -> Mapping[str, int]:
        """What is ready of a service: names and processes."""
        assert self._supervisor is not None
        return {
            part.name: part.pid
            for part in self._supervisor.processes()
            if part.service == service and part.pid is not None and part.state == "ready"
        }

    def _sizes(self) -> Mapping[str, messages.Size]:
        auto = {name: str(bounds) for name, bounds in self._changes.desired.auto.items()}
        return {
            name: messages.Size(self._changes.desired.sizes[name], auto.get(name, ""), self._autoscaler.load(name))
            for name in SCALABLE
        }

    async def _fail(self, event: Event) -> None:
        log.error("start_failed", part=event.part, reason=event.detail)
        self._emit(event)
        try:
            await asyncio.wait_for(self._told.wait(), FAREWELL_S)
        except TimeoutError:
            log.warning("nobody_was_told")

    def _emit(self, event: Event) -> None:
        self._events.append(event)
        del self._events[:-EVENTS_MAX]
        for queue in self._subscribers:
            if queue.full():
                queue.get_nowait()  # whoever does not read loses the oldest, and costs nobody anything
            queue.put_nowait(event)

    def _elapsed(self) -> float:
        return asyncio.get_running_loop().time() - self._began

    @asynccontextmanager
    async def _listening(self) -> AsyncIterator[None]:
        path = self._layout.socket
        path.unlink(missing_ok=True)  # we hold the lock, so whoever bound it is dead
        # umask is 077, so the socket is ours alone from its first moment.
        server = await asyncio.start_unix_server(self._accept, path=path, limit=messages.LINE_BYTES_MAX)
        try:
            yield
        finally:
            server.close()
            for queue in self._subscribers:
                if queue.full():
                    queue.get_nowait()
                queue.put_nowait(None)
            if self._conversations:
                _, late = await asyncio.wait(self._conversations, timeout=FAREWELL_S)
                for conversation in late:
                    conversation.cancel()
            path.unlink(missing_ok=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        conversation = asyncio.current_task()
        assert conversation is not None
        self._conversations.add(conversation)
        try:
            await self._converse(reader, writer)
        except ConnectionError:
            log.debug("client_left")
        finally:
            self._conversations.discard(conversation)
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = await reader.readline()
        if not line:
            return
        try:
            request = messages.decode(line)
            if request.get("op") in ("events", "down"):
                await self._send_events(writer, stop=request["op"] == "down")
                return
            answer = await self._answer(request)
        except (RefusedError, ConfigError, KeyError, TypeError, ValueError) as error:
            answer = {"error": str(error)}
        writer.write(messages.encode(answer))
        await writer.drain()

    async def _answer(self, request: Mapping[str, Any]) -> Mapping[str, object]:
        supervisor, stack = self._supervisor, self._changes.stack
        if supervisor is None or stack is None:
            raise RefusedError("the mesh is only beginning to start")
        match request["op"]:
            case "status":
                parts = supervisor.processes()
                sizes, rolling = self._sizes(), self._chores.rolling
                status = messages.Status(stack.gateway_url(), stack.urls(), parts, os.getpid(), sizes, rolling)
                return {"status": json.loads(status.to_json())}
            case "publishing":
                return {"publishing": asdict(stack.publishing())}
            case "renew-certificate":
                renew = self._upkeep.renew_workloads if request.get("workloads") else self._upkeep.renew
                return {"certificate": renew()}
            case "watch":
                await self._watch(supervisor, str(request["rules"]))
                return {}
            case "kill":
                self._hold(supervisor, str(request["name"]))
                killed = supervisor.kill(str(request["name"]), signal.Signals(request["signal"]))
            case "restart":
                name = str(request["name"])
                self._hold(supervisor, name)
                waits = request.get("wait", True)
                killed = await supervisor.restart(name) if waits else self._chores.restart(supervisor, name)
            case "roll":
                self._chores.roll(supervisor, str(request["service"]), self._changes.desired.sizes)
                return {}
            case "scale":
                return asdict(await self._scale(request))
            case "lanes":
                return {"lanes": self._lanes.describe()}
            case "lane-start":
                return asdict(await self._lanes.start(str(request["name"]), lane.of(request["lane"])))
            case "lane-shift":
                await self._lanes.shift(str(request["name"]), float(request["percent"]))
                return {}
            case "lane-end":
                return asdict(await self._lanes.end(str(request["name"])))
            case other:
                raise RefusedError(f"no operation is called {other}")
        return {"name": killed.name, "pid": killed.pid}

    @property
    def _upkeep(self) -> Upkeep:
        return Upkeep(self._running_stack.certificate, self._running_stack.workloads, self._now)

    @property
    def _running_stack(self) -> Stack:
        assert self._changes.stack is not None
        return self._changes.stack

    async def _send_events(self, writer: asyncio.StreamWriter, *, stop: bool) -> None:
        """Everything that happened and happens (`stop`: only what happens from now on), until the end."""
        queue: asyncio.Queue[Event | None] = asyncio.Queue(EVENTS_MAX + 1)
        for past in () if stop else self._events:
            queue.put_nowait(past)
        self._subscribers.add(queue)
        try:
            if stop:
                self._stop.set()
            while (event := await queue.get()) is not None:
                writer.write(messages.encode_event(event))
                await writer.drain()
                if event.event == "failed":
                    self._told.set()
        finally:
            self._subscribers.discard(queue)


def _tell_of_fault(chore: "asyncio.Task[None]") -> None:
    """A fault in what runs beside the parts ends that and nothing else."""
    if not chore.cancelled() and (error := chore.exception()) is not None:
        log.error("chore_failed", chore=chore.get_name(), exc_info=error)
