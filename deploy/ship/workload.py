"""One part of a mesh outside of one machine, as a value: what runs, where it listens, what it reads and whom it calls.

Pure. In commands, arguments and variables `$(POD_NAME)` is the instance's own name and `$(POD_IP)` where it is reached:
Kubernetes fills them in when an instance starts, compose has them filled in when its file is written.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from deploy.supervisor.autoscale import Bounds
from deploy.supervisor.part import Kind

NAME: Final = "$(POD_NAME)"
IP: Final = "$(POD_IP)"
SECRETS: Final = "/etc/weft/secrets"
"""Where a container finds its secret files."""
USER: Final = 10001
"""User and group of every container; nobody's on any image that is used."""


class Image(StrEnum):
    """What containers are made of. Ours are built from `deploy/images`; the others are pinned by their version."""

    WEFT = "weft"
    GATEWAY = "weft-gateway"
    COCKROACH = "cockroachdb/cockroach:v24.1.5"
    RABBITMQ = "rabbitmq:3.13.7"
    ETCD = "quay.io/coreos/etcd:v3.5.17"
    MEMCACHED = "memcached:1.6.34-bookworm"
    JAEGER = "jaegertracing/all-in-one:1.62.0"
    PROMETHEUS = "prom/prometheus:v2.53.3"
    ALERTMANAGER = "prom/alertmanager:v0.27.0"

    @property
    def ours(self) -> bool:
        """Whether it is built here."""
        return self in (Image.WEFT, Image.GATEWAY)


class Stage(StrEnum):
    """When something that runs once does: the order of a first start, and of an upgrade."""

    PREPARE = "prepare"
    """Users, roles and databases in the servers; changes nothing where they are there."""
    EXPAND = "expand"
    """Migrations up to what the release before can live with: before its instances are replaced."""
    PUBLISH = "publish"
    """The contracts: when the instances that keep them are there."""
    CONTRACT = "contract"
    """The rest of the migrations: when nothing of the release before runs any more."""


@dataclass(frozen=True, slots=True)
class Probe:
    """A question that tells whether an instance is ready, or alive."""

    port: str
    """By its name among the ports."""
    path: str | None = None
    """GET it over HTTP and expect 200."""
    service: str | None = None
    """Ask grpc.health.v1 for this service; empty: for the process."""


@dataclass(frozen=True, slots=True)
class Volume:
    """A directory that is written to."""

    name: str
    path: str
    gigabytes: int = 0
    """0: it may be lost with the instance."""
    shared: bool = False
    """One for all instances, and for all parts that name it."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """A key pair that a container reads: `tls.crt`, `tls.key` and `ca.crt` of `name`, under the names it wants."""

    name: str
    path: str
    files: Mapping[str, str]
    """tls.crt, tls.key or ca.crt to what it is called in the directory."""
    authority: str = "authority"
    """Whose ca.crt it is, among the files of compose."""


@dataclass(frozen=True, slots=True)
class Backlog:
    """What a worker's number of instances goes by: a query, and how much of it one instance is left with."""

    query: str
    each: int


@dataclass(frozen=True, slots=True)
class Workload:
    """One part: a server with a number of instances, or something that runs once."""

    name: str
    kind: Kind
    image: Image
    command: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    environ: Mapping[str, str] = field(default_factory=dict)
    ports: Mapping[str, int] = field(default_factory=dict)
    size: int = 1
    bounds: Bounds | None = None
    """Its number of instances follows the load, between these."""
    backlog: Backlog | None = None
    """By what; None: by how busy its processors are."""
    named: bool = False
    """Others know its instances by name, and what it keeps is that instance's own."""
    ready: Probe | None = None
    alive: Probe | None = None
    check: tuple[str, ...] = ()
    """What tells compose whether it is ready: a command inside of the container."""
    metrics: str = ""
    """Port of its metrics; empty: it has none."""
    metrics_path: str = "/metrics"
    often: bool = True
    """Whether alerts within seconds depend on its metrics."""
    secrets: tuple[str, ...] = ()
    certificates: tuple[Certificate, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    """Configuration by its path in the container: the text of one file each."""
    volumes: tuple[Volume, ...] = ()
    calls: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Whom it calls, and on which of their ports: all that it may."""
    after: tuple[str, ...] = ()
    """What compose starts before it."""
    open_to_clients: tuple[str, ...] = ()
    """Ports that the world may call."""
    stage: Stage | None = None
    """It runs once, then; None: it goes on running."""
    cpu: str = "100m"
    memory_mb: int = 256
    grace_s: int = 30

    def names(self) -> tuple[str, ...]:
        """Of its instances, where they have numbers."""
        return tuple(f"{self.name}-{number}" for number in range(1, self.size + 1))
