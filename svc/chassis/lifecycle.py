"""The life of a process: start in order, be found, serve, leave in order.

`serve` is the life of a service instance, `run_worker` that of a worker; both are called by a package's `__main__`
with a `build` from its `wiring`, and return the exit code. Leaving goes from the outside in, so that no call fails:

    health NOT_SERVING, out of the registry    nobody new is sent here
    every client has acknowledged that         told by the control planes (`lb/registry/departure.py`)
    server stops                               unary calls finish, streams are told to open again elsewhere
    backgrounds stop                           nothing produces work any more
    channels, cache, database, registry close  and with it the lease ends
    the last spans are exported

A step that fails is logged and counted, and the next one still runs.
"""

import importlib.metadata
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from types import FrameType
from typing import Final, Protocol, runtime_checkable

import structlog

from lb import exposition
from lb.endpoint import Endpoint, service_name
from lb.xds import collector
from svc.chassis import consumers, crash, metrics, revocations, telemetry
from svc.chassis.clock import SystemClock
from svc.chassis.config import ConfigError, Settings, install_control_planes
from svc.chassis.health import DeepChecks
from svc.chassis.resources import DATABASE_CONNECTIONS, Resources
from svc.chassis.server import Forget, Limits, Server, Service
from svc.chassis.tokens import TokenVerifier
from weft_protos import caching

# Threads beyond the database's connections: cache hits and calls to peers need no connection.
SERVICE_LIMITS: Final = Limits(threads=DATABASE_CONNECTIONS + 4, streams=64)
WORKER_LIMITS: Final = Limits(threads=1, streams=0)
# Clients have acknowledged that this instance is gone within a tenth of a second. One that hangs is not waited for
# longer than this; it finds the port closed when it wakes.
ACKNOWLEDGE_S: Final = 3.0
# A client that has acknowledged has not yet told all its threads.
SETTLE_S: Final = 0.2
# The longest timeout of a unary method (5 s) and a little.
GRACE_S: Final = 6.0
# etcd's answer to leaving; without it the lease ends by itself, and clients notice the closed port.
LEAVE_S: Final = 1.0
# How long an instance waits for etcd before it says that it serves: whoever replaces another by it relies on its being
# found. Without etcd it serves all the same, for clients know its port from before.
JOIN_S: Final = 2.0
# A worker's background has this long to give back what it holds.
BACKGROUND_STOP_S: Final = 5.0
# How soon a dead background of a worker is noticed.
ALIVE_EVERY_S: Final = 0.5
# How often waiting for the first JWK set looks for a stop.
KEYS_EVERY_S: Final = 0.2

EXIT_FAILED: Final = 1
EXIT_CONFIG: Final = 2

__all__ = ["Background", "Resources", "Stop", "run_worker", "serve"]

log = structlog.get_logger(__name__)


class Background(Protocol):
    """What a worker does: a consumer, a relay."""

    def start(self) -> None:
        """Begin, in threads of its own."""
        ...

    def stop(self, timeout: float) -> None:
        """Finish what is in hand, give back the rest, end within that many seconds."""
        ...

    def alive(self) -> bool:
        """Whether it still works. A dead one ends the process, and the supervisor starts a new one."""
        ...


@runtime_checkable
class Turning(Protocol):
    """A background that knows whether its loop turns; one that is stuck looks alive from outside."""

    def turns(self) -> bool:
        """Whether it has come by the beginning of its loop, or by a wait, not too long ago."""
        ...


class Stop:
    """What ends a process: a signal, or whoever sets it. A second one cuts the waiting for clients short."""

    def __init__(self) -> None:
        """Not asked for yet."""
        self.asked = threading.Event()
        self.hurried = threading.Event()

    def ask(self) -> None:
        """Ask for the end."""
        if self.asked.is_set():
            self.hurried.set()
        self.asked.set()

    def on_signals(self) -> None:
        """Ask at SIGTERM and SIGINT. Only the main thread may say this."""

        def asked(_number: int, _frame: FrameType | None) -> None:
            self.ask()

        signal.signal(signal.SIGTERM, asked)
        signal.signal(signal.SIGINT, asked)


class _Life:
    """One process from start to end: every step that begins something registers the step that ends it."""

    def __init__(self, settings: Settings, *, name: str, stop: Stop | None) -> None:
        self.settings = settings
        self.name = name
        self.resources = Resources(settings, name=name)
        self.stop = stop or Stop()
        self.threads_left = False
        if stop is None:
            self.stop.on_signals()
        self._steps = ExitStack()
        self._answers: dict[str, Callable[[], bool]] = {}

    def at_end(self, step: str, end: Callable[[], object]) -> None:
        """Do this at the end, before everything that was registered earlier."""

        def guarded() -> None:
            try:
                end()
            except Exception:
                # Leaving goes on: the steps after this one free what others wait for.
                metrics.UNEXPECTED_ERRORS.labels(place=f"stop.{step}").inc()
                log.exception("stop_step_failed", step=step)

        self._steps.callback(guarded)

    def run(self, work: Callable[["_Life"], int]) -> int:
        """Start telemetry and metrics, do the work, leave in order. Returns the exit code."""
        running = telemetry.setup(self.settings, service=self.name)
        self.at_end("telemetry", running.shutdown)
        if (folder := self.settings.process.crash_points) is not None:
            crash.arm_by_files(folder, self.name)
        with self._steps:
            try:
                code = self._begin(work)
            except ConfigError as error:
                log.error("setting_refused", reason=str(error))
                code = EXIT_CONFIG
            except Exception:
                # The process ends, but in order: what is registered leaves, what was traced is sent.
                metrics.UNEXPECTED_ERRORS.labels(place="start").inc()
                log.exception("process_failed")
                code = EXIT_FAILED
            log.info("stopping", code=code)
        if self.threads_left:
            _leave_threads(code)
        return code

    def _begin(self, work: Callable[["_Life"], int]) -> int:
        process = self.settings.process
        shown, thread = exposition.start(process.metrics_port, process.listen.host, self._answers)

        def close_exposition() -> None:
            shown.shutdown()
            shown.server_close()
            thread.join()

        self.at_end("metrics", close_exposition)
        self.at_end("resources", self.resources.close)
        return work(self)

    def check_dependencies(self) -> None:
        """Report from now on whether what is in use answers."""
        checks = DeepChecks()
        for dependency, check in self.resources.checks().items():
            checks.add(dependency, check)
        self.at_end("deep-checks", checks.stop)
        checks.start()

    def listen(self, server: Server) -> int:
        """Start a server; returns its port."""
        port = server.bind(self.settings.process.listen)
        self._answers |= {exposition.READY: lambda: server.ready, exposition.ALIVE: server.liveness.goes_on}

        def stop() -> None:
            self.threads_left = not server.stop(GRACE_S)

        self.at_end("server", stop)
        server.start()
        return port


def _leave_threads(code: int) -> None:
    """End although threads still run: a handler ignored its deadline, and Python would wait for it for ever."""
    log.error("threads_left_behind", threads=[thread.name for thread in threading.enumerate()])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def serve(
    settings: Settings,
    *,
    service: str,
    build: Callable[[Resources], Sequence[Service]],
    stop: Stop | None = None,
) -> int:
    """Be an instance of a service until SIGTERM. `stop` takes the place of the signals, for tests."""
    service_name(service)

    def work(life: _Life) -> int:
        resources = life.resources
        install_control_planes(settings, service=service)
        verifier = TokenVerifier(SystemClock())
        # In this order: where there is a list of revocations, it is known before the keys are, and so before the
        # instance is found. Where there is none (identity has never run), nothing waits for it.
        resources.agent.watch(revocations.DOCUMENT, verifier.revoke)
        recorder = consumers.Recorder(service, one_in=settings.process.consumer_sample, clock=SystemClock())
        notes = consumers.document(service)
        resources.agent.watch(notes, recorder.learn)
        resources.agent.watch("jwks", verifier.update)
        instance = settings.process.instance
        services, courier = build(resources), resources.courier
        server = Server(
            services,
            verifier=verifier,
            limits=SERVICE_LIMITS,
            instance=instance,
            courier=courier,
            observe=recorder.saw,
            tokens=resources.read_tokens,
            forget=_forget(resources, services),
            credentials=resources.credentials,
        )
        flushing = consumers.Flushing(recorder, partial(resources.agent.publish, notes))
        life.at_end("consumers", flushing.stop)
        for task in resources.tasks:
            life.at_end(task.name, task.stop)
            task.start()
        life.check_dependencies()
        port = life.listen(server)
        log.info("listening", address=settings.process.listen.host, port=port)
        while not life.stop.asked.is_set() and not verifier.wait_loaded(KEYS_EVERY_S):
            continue
        if not life.stop.asked.is_set():
            # The keys are known, and so is every document that was watched before them.
            flushing.start()
            _join(life, server, port)
            life.stop.asked.wait()
        return 0

    return _Life(settings, name=service, stop=stop).run(work)


def _forget(resources: Resources, services: Sequence[Service]) -> Forget:
    """What makes entries of the cache forgotten; opened now where a contract asks for it: no write finds it shut."""
    methods = [method for service, _ in services for method in service.methods]
    if any(caching.forgets(method) for method in methods):
        return resources.cache.forget
    return lambda _methods, _keys: None


def _join(life: _Life, server: Server, port: int) -> None:
    """Be found. An instance that can not check a token yet is not worth being found, so this comes last."""
    process = life.settings.process
    endpoint = Endpoint(
        service=service_name(life.name),
        instance=process.instance,
        address=process.listen.reachable(),
        port=port,
        version=importlib.metadata.version("weft"),
        start_time=SystemClock().now(),
        zone=process.zone,
        lane=process.lane,
    )

    def leave() -> None:
        server.serving(False)
        left = life.resources.agent.depart(
            endpoint, confirm_s=LEAVE_S, acknowledge_s=ACKNOWLEDGE_S, hurried=life.stop.hurried
        )
        log.info("left", confirmed=left.confirmed, alone=left.alone, unanswered=left.unanswered)
        if not left.alone:
            life.stop.hurried.wait(SETTLE_S)

    life.at_end("leave", leave)
    life.resources.agent.register(endpoint)
    if not life.resources.agent.wait_registered(JOIN_S):
        log.warning("not_registered_yet", waited_s=JOIN_S)
    collector.calm()
    server.serving(True)
    log.info("serving", port=port)


def run_worker(
    settings: Settings,
    *,
    name: str,
    build: Callable[[Resources], Sequence[Background]],
    stop: Stop | None = None,
) -> int:
    """Be a worker until SIGTERM, or until one of its backgrounds dies. `stop` takes the place of the signals."""

    def work(life: _Life) -> int:
        verifier, credentials = TokenVerifier(SystemClock()), life.resources.credentials
        server = Server((), verifier=verifier, limits=WORKER_LIMITS, credentials=credentials)
        life.listen(server)
        backgrounds = tuple(build(life.resources))
        for task in life.resources.tasks:
            life.at_end(task.name, task.stop)
            task.start()
        life.check_dependencies()
        for background in backgrounds:
            if isinstance(background, Turning):
                server.liveness.add(type(background).__name__, background.turns)
            life.at_end(type(background).__name__, partial(background.stop, BACKGROUND_STOP_S))
            background.start()
        life.at_end("health", lambda: server.serving(False))
        collector.calm()
        server.serving(True)
        log.info("working", backgrounds=len(backgrounds))
        while not life.stop.asked.wait(ALIVE_EVERY_S):
            dead = [type(background).__name__ for background in backgrounds if not background.alive()]
            if dead:
                log.error("background_died", backgrounds=dead)
                return EXIT_FAILED
        return 0

    return _Life(settings, name=name, stop=stop).run(work)
