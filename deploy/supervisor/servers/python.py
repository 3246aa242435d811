"""Our own processes: services, workers, control planes and sinks. They take their settings from the environment only.

Secrets are not among them: each process gets the directory they lie in (`WEFT_SECRETS`).
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from deploy.supervisor.config import PROJECT, child_environ
from deploy.supervisor.part import Command, Kind, Server, Task
from deploy.supervisor.probe import HOST
from deploy.supervisor.readiness import GrpcHealth, Http, Shown
from weft_protos import identity
from weft_protos.identity import Identity

NETWORKS = "127.0.0.0/8"
"""Where instances may be: everything that the supervisor starts listens on loopback."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Where the rest of the mesh is: the same for every process of ours."""

    etcd: tuple[str, ...]
    etcd_user: str
    control_planes: tuple[str, ...]
    caches: tuple[str, ...]
    otlp_endpoint: str
    smtp: str
    secrets: Path
    state: Path
    trace_ratio: float
    log_level: str
    consumer_sample: int
    archive: Path
    archive_days: int
    report_memory_mb: int
    crash_points: str = ""
    networks: str = NETWORKS
    identities: Path | None = None
    """Where the certificates of all parts lie, by the identity of each; None: hops are in clear."""

    def environ(self) -> Mapping[str, str]:
        """As environment variables."""
        return {
            **child_environ(),
            "WEFT_ETCD": ",".join(self.etcd),
            "WEFT_ETCD_USER": self.etcd_user,
            "WEFT_XDS": ",".join(self.control_planes),
            "WEFT_CACHE": ",".join(self.caches),
            "WEFT_OTLP_ENDPOINT": self.otlp_endpoint,
            "WEFT_TRACE_RATIO": str(self.trace_ratio),
            "WEFT_SMTP": self.smtp,
            "WEFT_SECRETS": str(self.secrets),
            "WEFT_STATE": str(self.state),
            "WEFT_NETWORKS": self.networks,
            "WEFT_LOG_LEVEL": self.log_level,
            "WEFT_CONSUMER_SAMPLE": str(self.consumer_sample),
            "WEFT_ARCHIVE": str(self.archive),
            "WEFT_ARCHIVE_DAYS": str(self.archive_days),
            "WEFT_REPORT_MEMORY_MB": str(self.report_memory_mb),
            **({"WEFT_CRASH_POINTS": self.crash_points} if self.crash_points else {}),
        }


@dataclass(frozen=True, slots=True)
class Instance:
    """Identity and ports of one process."""

    name: str
    service: str
    kind: Kind
    port: int
    metrics_port: int
    environ: Mapping[str, str] = field(default_factory=dict)
    """What it has in its environment beside what all have."""
    ports: tuple[int, ...] = ()
    """What it listens on beside its own and that of its metrics."""
    checkout: Path | None = None
    """The clone whose code it runs; None: this one."""
    identity: Identity | None = None
    """As whom others know it; None: as its service and kind say. The instances of a lane are no other than the rest."""

    @property
    def known_as(self) -> Identity:
        """As whom others know it."""
        return self.identity or Identity(self.kind.value, self.service)


def argv(*arguments: str) -> tuple[str, ...]:
    """Run a module with the interpreter the supervisor runs with: `argv("svc.orders", "serve")`."""
    return (sys.executable, "-m", *arguments)


def command(arguments: Sequence[str], environ: Mapping[str, str]) -> Command:
    """A Python process of ours, in the clone, as the supervisor's user."""
    return Command(argv=argv(*arguments), env=environ, cwd=PROJECT)


def server(
    instance: Instance, surroundings: Surroundings, *, arguments: Sequence[str], after: tuple[str, ...]
) -> Server:
    """A process that answers grpc.health.v1 on its address."""
    address = f"{HOST}:{instance.port}"
    environ = {
        **instance.environ,
        **surroundings.environ(),
        "WEFT_INSTANCE": instance.name,
        "WEFT_LISTEN": address,
        "WEFT_METRICS_PORT": str(instance.metrics_port),
    }
    shown: Shown | None = None
    if (identities := surroundings.identities) is not None:
        environ["WEFT_IDENTITY"] = str(identities / str(instance.known_as))
        shown = Shown(identities / str(identity.SUPERVISOR), instance.known_as.dns)
    return Server(
        name=instance.name,
        kind=instance.kind,
        service=instance.service,
        command=command(arguments, environ)
        if instance.checkout is None
        else _of(instance.checkout, arguments, environ),
        probe=GrpcHealth(address, shown),
        ports=(instance.port, instance.metrics_port, *instance.ports),
        after=after,
        watched=True,
        heavy=True,
    )


def _of(checkout: Path, arguments: Sequence[str], environ: Mapping[str, str]) -> Command:
    """The same of another clone, with its own environment where it has one."""
    own = checkout / ".venv" / "bin" / "python"
    # Before what is installed, which are the packages of this clone.
    path = ":".join(str(checkout / folder) for folder in ("", "protos/gen", "protos/py"))
    interpreter = str(own) if own.exists() else sys.executable
    return Command(argv=(interpreter, "-m", *arguments), env={**environ, "PYTHONPATH": path}, cwd=checkout)


def task(name: str, arguments: Sequence[str], surroundings: Surroundings, *, after: tuple[str, ...] = ()) -> Task:
    """A module run once, such as a migration."""
    environ = {**surroundings.environ(), "WEFT_INSTANCE": name}
    return Task(name=name, run=command(arguments, environ), after=after, heavy=True)


def sink(name: str, module: str, *, store: Path, listen: Mapping[str, int], environ: Mapping[str, str]) -> Server:
    """A monitor of ours: `listen` maps the variable to the port; `WEFT_LISTEN_HTTP` serves `/healthz`."""

    async def prepare() -> None:
        store.parent.mkdir(parents=True, exist_ok=True, mode=0o700)

    environ = {
        **child_environ(),
        **environ,
        **{variable: f"{HOST}:{port}" for variable, port in listen.items()},
        "WEFT_INSTANCE": name,
        "WEFT_STORE": str(store),
    }
    http_port = listen["WEFT_LISTEN_HTTP"]
    return Server(
        name=name,
        kind=Kind.MONITOR,
        service=name,
        command=command((module,), environ),
        probe=Http(http_port, "/healthz"),
        ports=(http_port, *(port for variable, port in listen.items() if variable != "WEFT_LISTEN_HTTP")),
        prepare=prepare,
        watched=True,
        heavy=True,
    )
