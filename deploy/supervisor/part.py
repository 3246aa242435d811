"""The vocabulary of the stack: a part is a server that keeps running, or a task that runs once at each start.

Plain values: `stack.py` builds them, `supervisor.py` brings them to life.
"""

import hashlib
import json
import signal
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from deploy.supervisor.account import Account
from deploy.supervisor.config import INHERITED
from deploy.supervisor.probe import Probe


class Kind(StrEnum):
    """The kinds of process `weft status` knows."""

    SERVICE = "service"
    WORKER = "worker"
    GATEWAY = "gateway"
    CONTROL_PLANE = "control-plane"
    ETCD = "etcd"
    MEMCACHED = "memcached"
    RABBITMQ = "rabbitmq"
    DATABASE = "database"
    MONITOR = "monitor"


STOP_ORDER: tuple[frozenset[Kind], ...] = (
    frozenset({Kind.GATEWAY}),  # no new requests come in
    frozenset({Kind.SERVICE}),  # requests under way end, leases are given back
    frozenset({Kind.WORKER}),  # what those requests left behind can still be handled
    frozenset({Kind.CONTROL_PLANE}),  # nobody is left to be told anything
    frozenset({Kind.RABBITMQ, Kind.DATABASE, Kind.MEMCACHED, Kind.MONITOR}),
    frozenset({Kind.ETCD}),  # a database that leads gives that back there
)
"""Who stops before whom; what shares a rank stops together."""


@dataclass(frozen=True, slots=True)
class Command:
    """What to execute, where, as whom."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    """The whole environment; secrets never go in here, nor into argv."""
    cwd: Path
    account: Account | None = None
    """None = the supervisor's own user."""

    def digest(self) -> str:
        """What tells it from other commands. What every child inherits, such as the search path, is not part of it."""
        own = {name: value for name, value in self.env.items() if name not in INHERITED}
        told = [self.argv, sorted(own.items()), str(self.cwd), None if self.account is None else self.account.name]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Server:
    """A part that keeps running, and is started again when it dies."""

    name: str
    kind: Kind
    service: str
    command: Command
    probe: Probe
    ports: tuple[int, ...]
    """Ports it must itself listen on before it counts as ready; the first one is its address."""
    after: tuple[str, ...] = ()
    prepare: Callable[[], Awaitable[None]] | None = None
    """Run before each start: directories, configuration files. Idempotent."""
    rereads: bool = False
    """Reads what `prepare` writes while it runs: prepared again when the stack has changed around it."""
    drain: Callable[[], Awaitable[None]] | None = None
    """Run before a stop that its clients must not notice, because others go on; it ends when nobody needs it."""
    watched: bool = False
    """Probed while it runs: killed when it no longer answers. Any other is killed only when it is held still."""
    heavy: bool = False
    """Its start costs a core for a second or more, so only a few start at once."""
    role: str | Callable[[], str] = "member"
    """`leader` or `member`; a function where that changes while it runs."""
    companion: Callable[[], int | None] | None = None
    """Pid of the process that it has started in a session of its own, while that runs. It belongs to the part like a
    child: it may hold the ports, it dies with it, and it is gone before a successor starts."""
    stop_signal: signal.Signals = signal.SIGTERM
    grace_s: float = 15.0
    """From the stop signal to SIGKILL."""
    start_timeout_s: float = 120.0
    stops_last: bool = False
    """Stops behind everything else: epmd, which the broker still talks to while it stops."""


@dataclass(frozen=True, slots=True)
class Task:
    """A part that runs to its end at each start, before what comes after it. Idempotent."""

    name: str
    run: Command | Callable[[], Awaitable[None]]
    after: tuple[str, ...] = ()
    heavy: bool = False
    timeout_s: float = 120.0

    def digest(self) -> str:
        """What tells a command from another one; a function is known by the task's name."""
        return self.run.digest() if isinstance(self.run, Command) else ""


Part = Server | Task
