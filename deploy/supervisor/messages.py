"""What goes over the supervisor's socket: one JSON object a line. Shared by `daemon.py` and `client.py`.

request   {"op": "status" | "publishing" | "renew-certificate" | "events" | "down" | "kill" | "restart" | "scale"
           | "roll" | "watch" | "lanes" | "lane-start" | "lane-shift" | "lane-end", ...}
answer    {"status": {...}} | {"publishing": {...}} | {"certificate": {...}} | {"event": ...} many
          | {"pid": ..., "name": ...} | {"started": [...], "stopped": [...]}
          | {"lanes": [...]} | {} | {"error": "one line"}

"restart" and "scale" with "wait": false are answered once they are begun; so is "roll". "scale" with "for-now": true
leaves what is sized by its load to it.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

EventKind = Literal["part", "up", "failed", "stopping", "stopped"]
LINE_BYTES_MAX = 1 << 20


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a part, or to the whole mesh."""

    event: EventKind
    part: str = ""
    state: str = ""
    """For `part`: starting, ready, done (a task), down, failed."""
    seconds: float = 0.0
    """For `part`: how long it took; otherwise since the mesh began to start."""
    detail: str = ""
    log: tuple[str, ...] = ()
    """For `failed`: the last lines the part wrote."""
    config: bool = False
    """For `failed`: the user's settings or machine are the reason, and nothing was started."""


@dataclass(frozen=True, slots=True)
class Process:
    """One line of `weft status`."""

    name: str
    kind: str
    service: str
    pid: int | None
    address: str
    state: str
    restarts: int
    since: str
    role: str
    quarantined: bool = False
    """It has died again and again, and is tried rarely until it has lived for a while or somebody restarts it."""
    reason: str = ""
    """Why it ended last; empty where it never did."""
    log: tuple[str, ...] = ()
    """The last lines of a process that is down."""


@dataclass(frozen=True, slots=True)
class Size:
    """How many instances of a part are wanted."""

    desired: int
    auto: str = ""
    """The bounds, `2-4`, within which its load decides; empty where somebody did."""
    load: float | None = None
    """What was measured last, in instances that would be busy all the time."""


@dataclass(frozen=True, slots=True)
class Status:
    """What `weft status --json` prints."""

    gateway: str
    urls: Mapping[str, str | None]
    processes: tuple[Process, ...]
    supervisor: int = 0
    """Pid of the supervisor itself."""
    sizes: Mapping[str, Size] = field(default_factory=dict)
    """Of everything whose number can be changed."""
    rolling: tuple[str, ...] = ()
    """Services whose instances are being replaced, one after another, by the supervisor itself."""

    @property
    def ready(self) -> bool:
        """Whether every process is ready."""
        return all(process.state == "ready" for process in self.processes)

    def process(self, name: str) -> Process:
        """The process called `name`. Raises KeyError."""
        for process in self.processes:
            if process.name == name:
                return process
        raise KeyError(name)

    def to_json(self, *, indent: int | None = None) -> str:
        """The object that interface users rely on."""
        return json.dumps(asdict(self), indent=indent)


@dataclass(frozen=True, slots=True)
class Killed:
    """Which process got a signal."""

    name: str
    pid: int


@dataclass(frozen=True, slots=True)
class Scaled:
    """Which processes a change of size started and stopped."""

    started: tuple[str, ...]
    stopped: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Publishing:
    """What other contracts are compiled and published with, so that they fit the mesh that runs."""

    edge: tuple[str, ...]
    """Arguments of `python -m gateway compile`: the gateways' ports and what is traced."""
    environ: Mapping[str, str]
    """Environment of `python -m lb`: where etcd is; of secrets only the directory they lie in."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """The certificate that the gateways show, or those that the parts show each other."""

    changed: bool
    """Whether it is another one than before."""
    names: tuple[str, ...]
    """The names that clients may ask for; of parts, by which URIs they know each other."""
    expires: str
    """RFC 3339."""


def encode(message: Mapping[str, object]) -> bytes:
    """One line."""
    return json.dumps(message).encode() + b"\n"


def encode_event(event: Event) -> bytes:
    """One event as a line."""
    return encode(asdict(event))


def decode(line: bytes) -> Mapping[str, Any]:
    """The object of one line. Raises ValueError when it is none."""
    message = json.loads(line)
    if not isinstance(message, dict):
        raise ValueError("not an object")
    return message


def event_of(message: Mapping[str, Any]) -> Event:
    """An event that was sent."""
    return Event(**{**message, "log": tuple(message["log"])})


def publishing_of(message: Mapping[str, Any]) -> Publishing:
    """What was sent of publishing."""
    return Publishing(tuple(message["edge"]), dict(message["environ"]))


def certificate_of(message: Mapping[str, Any]) -> Certificate:
    """A certificate that was sent."""
    return Certificate(message["changed"], tuple(message["names"]), message["expires"])


def status_of(message: Mapping[str, Any]) -> Status:
    """A status that was sent."""
    found: Sequence[Mapping[str, Any]] = message["processes"]
    processes = tuple(Process(**{**process, "log": tuple(process["log"])}) for process in found)
    sizes = {name: Size(**size) for name, size in message["sizes"].items()}
    rolling = tuple(message.get("rolling", ()))
    return Status(message["gateway"], message["urls"], processes, message["supervisor"], sizes, rolling)
