"""A mesh as an object: start it, look at it, hurt it, stop it. The library door of the supervisor.

The `weft` command uses it for the user's mesh, tests for meshes of their own. It is blocking; the work is done by
the daemon, a process of its own that it starts when none runs on the data directory.

    with temporary() as folder, Mesh(folder, ports="free", ephemeral=True) as mesh:
        mesh.start()
        mesh.kill("orders-1")
        mesh.wait_ready()
"""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from deploy.supervisor import lock, logfile, process, standby, zipkin_jar
from deploy.supervisor.account import server_account
from deploy.supervisor.autoscale import Bounds
from deploy.supervisor.client import Client
from deploy.supervisor.config import PROJECT, ZIPKIN, Settings
from deploy.supervisor.desired import Desired
from deploy.supervisor.errors import ConfigError, NotRunningError, RefusedError, StartError, SupervisorError
from deploy.supervisor.lane import LaneSpec
from deploy.supervisor.layout import Layout
from deploy.supervisor.messages import Certificate, Event, Killed, Publishing, Scaled, Status
from deploy.supervisor.orphans import stop_everything
from deploy.supervisor.record import Record

START_TIMEOUT_S = 240.0
STOP_TIMEOUT_S = 120.0
DAEMON_TIMEOUT_S = 20.0
POLL_S = 0.05
Progress = Callable[[Event], None]


class Mesh:
    """The mesh of one data directory, running or not."""

    def __init__(
        self,
        data_dir: Path,
        *,
        ports: Literal["default", "free"] = "default",
        sizes: Mapping[str, int] | None = None,
        only: tuple[str, ...] = (),
        ephemeral: bool = False,
        settings: Settings | None = None,
    ) -> None:
        """`ephemeral`: a test's mesh, without fsync, that dies with this process. Raises ConfigError."""
        self._layout = Layout(data_dir, ha=settings is not None and settings.ha)
        self._client = Client(self._layout.socket)
        self._ephemeral = ephemeral
        self._daemon: subprocess.Popen[bytes] | None = None
        self._desired = Desired.of(
            settings or Settings(data=data_dir), ports=ports, sizes=sizes, only=only, ephemeral=ephemeral
        )

    def __enter__(self) -> "Mesh":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def secrets(self) -> Path:
        """The directory of credentials, as processes get it in WEFT_SECRETS."""
        return self._layout.secrets

    @property
    def logs(self) -> Path:
        """The directory of log files, `<name>.log`."""
        return self._layout.log

    @property
    def gateway(self) -> str:
        """`host:port` of the gateways; `https://host:port` where they take no calls in clear."""
        return self.status().gateway.removeprefix("http://")

    def running(self) -> bool:
        """Whether a daemon runs on the data directory."""
        return self._client.running()

    def start(self, progress: Progress | None = None, *, timeout_s: float = START_TIMEOUT_S) -> Status:
        """Start it, or join a start that is under way, and wait until everything is ready.

        Where processes of a supervisor that died still run, they are taken over, with the state that was desired then,
        and this returns as soon as they are; `wait_ready` waits for what has to be started.

        Raises ConfigError or StartError; then, and when it is interrupted, nothing that was started runs any more,
        unless it was taken over.
        """
        continued = not self.running() and self._spawn(progress)
        try:
            self._follow(progress, timeout_s)
        except BaseException:  # an interrupt as well: whoever asked for the start no longer wants it
            if not continued:
                self.stop()
            raise
        return self.status()

    def differences(self) -> tuple[str, ...]:
        """Settings that this object asks for and the running mesh was not started with, by name.

        Sizes are none of them: those of a running mesh are changed by `scale`.
        """
        sizes = {"sizes": dict(self._desired.sizes), "auto": asdict(self._desired)["auto"], "lanes": {}}
        running = {**asdict(Desired.read(self._layout.desired)), **sizes}
        return tuple(name for name, value in asdict(self._desired).items() if running[name] != value)

    def stop(self, progress: Progress | None = None) -> bool:
        """Stop everything, also what a daemon that died left behind, and wait; False when nothing ran."""
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while True:
            if self._told_to_stop(progress):
                self._reap()
                return True
            # No daemon, or one that died and has a successor who does not answer yet: the lock knows.
            if (stopped := self._stop_unsupervised()) is not None:
                return stopped
            if time.monotonic() > deadline:
                raise NotRunningError(f"the supervisor of {self._layout.root} does not answer; it cannot be stopped")
            threading.Event().wait(POLL_S)

    def _told_to_stop(self, progress: Progress | None) -> bool:
        """Tell the daemon to stop; whether it said that it has."""
        last = ""
        with contextlib.suppress(NotRunningError):
            for event in self._client.down(timeout_s=STOP_TIMEOUT_S):
                last = event.event
                if progress is not None:
                    progress(event)
        return last == "stopped"

    def _stop_unsupervised(self) -> bool | None:
        """Stop what runs without a supervisor; whether anything did. None where there is a supervisor."""
        try:
            with lock.held(self._layout.lock) as ours:
                if not ours:
                    return None
                if self._daemon is not None:
                    self._daemon.wait()  # the kernel has its lock back, so it is dead
                    self._daemon = None
                return bool(asyncio.run(stop_everything(self._layout, Record(self._layout.processes))))
        except FileNotFoundError:
            return False

    def status(self) -> Status:
        """What runs now. Raises NotRunningError, or RefusedError in the first moments of a start."""
        return self._client.status()

    def publishing(self) -> Publishing:
        """How contracts are compiled and published for it. Raises NotRunningError or RefusedError."""
        return self._client.publishing()

    def renew_certificate(self) -> Certificate:
        """Have the gateways show a new certificate, signed now or read from the user's files now.

        Raises NotRunningError or RefusedError.
        """
        return self._client.renew_certificate()

    def renew_workload_certificates(self) -> Certificate:
        """Have all parts of the mesh show each other new certificates from now on.

        Raises NotRunningError, or RefusedError where hops are in clear.
        """
        return self._client.renew_certificate(workloads=True)

    def kill(self, name: str, number: int = signal.SIGKILL) -> Killed:
        """Send a signal to a process by name. Raises RefusedError."""
        return self._client.kill(name, number)

    def restart(self, name: str) -> Killed:
        """Stop one process in an orderly way and wait until its successor is ready. Raises RefusedError."""
        return self._client.restart(name)

    def scale(self, service: str, size: int, *, for_now: bool = False) -> Scaled:
        """Have so many instances of a service, worker or the gateway, until the mesh is stopped. Raises RefusedError.

        Those that go are drained first, the youngest first; returns when the new ones are ready and the old ones gone.
        `for_now`: what is sized by its load stays so, and the load may change this again.
        """
        return self._client.scale(service, size, for_now=for_now)

    def scale_by_load(self, service: str, bounds: Bounds | None = None) -> Scaled:
        """Let the load decide how many there are, within bounds; None: the usual ones. Raises RefusedError."""
        return self._client.scale_by_load(service, bounds)

    def watch(self, rules: str) -> None:
        """Have Prometheus go by these rules for the contracts' objectives. Raises NotRunningError or RefusedError."""
        self._client.watch(rules)

    def start_lane(self, name: str, spec: LaneSpec) -> Scaled:
        """Start instances of another version, and send calls there when they are ready. Raises RefusedError."""
        return self._client.start_lane(name, spec)

    def shift_lane(self, name: str, percent: float) -> None:
        """Send another share of the subjects to a lane. Raises RefusedError."""
        self._client.shift_lane(name, percent)

    def end_lane(self, name: str) -> Scaled:
        """Send nobody to a lane any more, and drain its instances. Raises RefusedError."""
        return self._client.end_lane(name)

    def lanes(self) -> list[dict[str, Any]]:
        """What is wanted of each lane, what runs, and what its callers see. Raises NotRunningError, RefusedError."""
        return self._client.lanes()

    def wait_ready(self, *, timeout_s: float = 60.0) -> Status:
        """Wait until every process is ready. Raises RefusedError when that takes longer."""
        deadline = time.monotonic() + timeout_s
        while True:
            status = self.status()
            if status.ready:
                return status
            if time.monotonic() > deadline:
                late = ", ".join(process.name for process in status.processes if process.state != "ready")
                raise RefusedError(f"not ready after {timeout_s:.0f} s: {late}")
            threading.Event().wait(POLL_S)

    def log_tail(self, name: str, lines: int = 20) -> tuple[str, ...]:
        """The last lines a part wrote."""
        return logfile.tail(self._layout.log_of(name), lines)

    def _spawn(self, progress: Progress | None = None) -> bool:
        """Start a daemon; whether it takes over what runs."""
        if given := self._desired.given():
            given.read(now=datetime.now(UTC))
        if self._desired.traces == ZIPKIN:
            zipkin_jar.make_ready(self._desired.own_jar(), say=progress and partial(_fetching, progress))
        self._layout.prepare(server_account())
        with lock.held(self._layout.lock) as ours:
            # Where somebody holds it, a stand-by is about to take over.
            continued = not ours or (self._layout.desired.exists() and bool(Record(self._layout.processes).survivors()))
            if not continued:
                self._desired.write(self._layout.desired)
        argv: tuple[str, ...] = (sys.executable, "-m", "deploy.supervisor", "serve", str(self._layout.root))
        if self._ephemeral:
            # It then stops what it has started: Patroni's servers are nobody's children, and would stay.
            argv = (process.SETPRIV, "--pdeathsig", "TERM", "--", *argv)
        output = logfile.open_for_append(self._layout.log_of("supervisor"))
        try:
            self._daemon = subprocess.Popen(
                argv,
                env=standby.environ(),
                cwd=PROJECT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        finally:
            os.close(output)
        deadline = time.monotonic() + DAEMON_TIMEOUT_S
        while not self.running():
            if self._daemon.poll() is not None or time.monotonic() > deadline:
                raise StartError("supervisor", "does not come up", log=self.log_tail("supervisor"))
            threading.Event().wait(POLL_S)
        return continued

    def _is_unsupervised(self) -> bool:
        """Whether no daemon is there, and no stand-by that is about to be one."""
        with lock.held(self._layout.lock) as free:
            return free

    def _follow(self, progress: Progress | None, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        try:
            while not self._is_up(progress, deadline):
                # It was killed. A stand-by finishes what it began; a test's mesh has none.
                silent = time.monotonic() + (0.0 if self._ephemeral else DAEMON_TIMEOUT_S)
                while not self.running():
                    if self._daemon is None and self._is_unsupervised():
                        # Whoever seemed to run was dying: its socket takes connections until its very end.
                        self._spawn()
                        break
                    if time.monotonic() > silent:
                        raise StartError("supervisor", "ended unexpectedly", log=self.log_tail("supervisor"))
                    threading.Event().wait(POLL_S)
        except TimeoutError as error:
            raise StartError("mesh", f"is not up after {timeout_s:.0f} s") from error

    def _is_up(self, progress: Progress | None, deadline: float) -> bool:
        """Follow a daemon until the mesh is up, or it says no more. Raises StartError, ConfigError, TimeoutError."""
        with contextlib.suppress(NotRunningError):
            for event in self._client.events(timeout_s=max(POLL_S, deadline - time.monotonic())):
                if progress is not None:
                    progress(event)
                if event.event == "up":
                    return True
                if event.event == "failed":
                    raise _failure(event)
                if event.event == "stopped":
                    raise StartError("mesh", "was stopped by somebody else while it started")
                if time.monotonic() > deadline:
                    raise TimeoutError
        return False

    def _reap(self) -> None:
        """Wait for the daemon itself, which ends right after it has said goodbye, whoever started it."""
        if self._daemon is not None:
            self._daemon.wait(STOP_TIMEOUT_S)
            self._daemon = None
        with contextlib.suppress(FileNotFoundError), lock.held(self._layout.lock, timeout_s=STOP_TIMEOUT_S):
            return


def _fetching(progress: Progress, what: str) -> None:
    progress(Event("part", part=ZIPKIN, state="starting", detail=what))


def _failure(event: Event) -> SupervisorError:
    if event.config:
        return ConfigError(event.detail)
    return StartError(event.part, event.detail, log=event.log)
