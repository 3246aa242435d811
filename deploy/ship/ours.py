"""Our own processes as workloads: control planes, services, workers, gateways, the mailbox, and what runs once.

Their settings are those that the supervisor gives its own (`python.Surroundings`), with hosts instead of loopback.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from deploy.ship import ports, sources
from deploy.ship.addresses import Addresses, at
from deploy.ship.workload import IP, NAME, SECRETS, Backlog, Certificate, Image, Probe, Stage, Volume, Workload
from deploy.supervisor import load
from deploy.supervisor.config import INHERITED
from deploy.supervisor.desired import Desired
from deploy.supervisor.part import Kind
from deploy.supervisor.readiness import LIVENESS
from deploy.supervisor.secrets import DATABASES
from deploy.supervisor.servers import etcd
from deploy.supervisor.servers.python import Surroundings
from deploy.supervisor.stack import MIGRATED_BY_WORKER, OPERATIONS, REGISTRY, SERVICES
from weft_protos import identity, mesh_parts
from weft_protos.identity import Identity
from weft_protos.manifests import Worker

HOME: Final = "/opt/weft"
"""Where the image holds the project."""
STATE: Final = "/var/lib/weft/state"
ARCHIVE: Final = "/var/lib/weft/archive"
EDGE_TLS: Final = "/etc/weft/edge"
IDENTITY: Final = "/etc/weft/identity"
"""Where a container finds by what others of the mesh know it."""
IDENTITY_AUTHORITY: Final = "workload-authority"
DATABASE_TLS: Final = "/etc/weft/database"
ARCHIVING: Final = ("archive", "reports")
"""The workers that share the archive."""
EDGE_NAME: Final = "weft.example"
"""What clients ask the gateways for, until somebody says otherwise."""
ADMIN: Final = "/run/weft/admin.sock"
TLS_SECRET: Final = "/run/weft/edge-tls.json"
HOP_SECRETS: Final = "/run/weft"
CONTRACTS: Final = "/tmp/contracts"
DATABASE_NODES: Final = 3

_AUTHORITY: Final = Certificate("database-root", DATABASE_TLS, {"ca.crt": "ca.crt"})
"""By what a client of the database knows it."""
DATABASE_ROOT: Final = Certificate(
    "database-root",
    DATABASE_TLS,
    {"ca.crt": "ca.crt", "tls.crt": "client.root.crt", "tls.key": "client.root.key"},
)


def identity_of(part: Identity) -> Certificate:
    """The pair that others know a part by."""
    return Certificate(f"identity-{part}", IDENTITY, {name: name for name in identity.FILES}, IDENTITY_AUTHORITY)


class Ours:
    """Builds them for one desired state in one form."""

    def __init__(self, desired: Desired, addresses: Addresses) -> None:
        """`addresses`: of the form that is written."""
        self._desired = desired
        self._addresses = addresses

    def all(self) -> list[Workload]:
        """Those that go on, and those that run once."""
        return [
            self._control_plane(),
            *(self._service(name) for name in SERVICES),
            self._relay(),
            *(self._worker(one) for one in mesh_parts.WORKERS),
            self._gateway(),
            self._mail(),
            *self._once(),
        ]

    def _members(self, name: str, port: int) -> tuple[str, ...]:
        return at(self._addresses.members(name, self._desired.sizes[name]), port)

    def _any(self, name: str, port: int) -> tuple[str, ...]:
        return at(self._addresses.any(name, self._desired.sizes.get(name, 1)), port)

    def _registry(self) -> tuple[str, ...]:
        return at(self._addresses.members("etcd", len(REGISTRY)), ports.ETCD)

    def _environ(self, **own: str) -> Mapping[str, str]:
        desired = self._desired
        around = Surroundings(
            etcd=self._registry(),
            etcd_user=etcd.USER,
            control_planes=self._members("control-plane", ports.GRPC),
            caches=self._members("memcached", ports.MEMCACHED),
            otlp_endpoint=f"http://{self._addresses.any('jaeger', 1)[0]}:{ports.OTLP}",
            smtp=self._any("mail", ports.SMTP)[0],
            secrets=Path(SECRETS),
            state=Path(STATE),
            trace_ratio=desired.trace_ratio,
            log_level=desired.log_level,
            consumer_sample=desired.consumer_sample,
            archive=Path(ARCHIVE),
            archive_days=desired.archive_days,
            report_memory_mb=desired.report_memory_mb,
            networks="",
        ).environ()
        # What a process inherits from this machine means nothing in a container; no networks: private ones.
        kept = {name: value for name, value in around.items() if name not in INHERITED and value}
        return {**kept, "WEFT_INSTANCE": NAME, **own}

    def _serving(self, **own: str) -> Mapping[str, str]:
        return self._environ(WEFT_LISTEN=f"{IP}:{ports.GRPC}", WEFT_METRICS_PORT=str(ports.METRICS), **own)

    def _server(self, name: str, kind: Kind, *arguments: str, environ: Mapping[str, str] | None = None) -> Workload:
        """What all that the chassis or the balancer runs has in common."""
        plain = Workload(
            name=name,
            kind=kind,
            image=Image.WEFT,
            command=("python", "-m", *arguments),
            environ=self._serving(**(environ or {})),
            ports={"grpc": ports.GRPC, "metrics": ports.METRICS},
            size=self._desired.sizes[name],
            bounds=self._desired.auto.get(name),
            ready=Probe("grpc", service=""),
            alive=Probe("grpc", service=LIVENESS),
            check=("python", "-m", "deploy.ship", "healthy", f"{IP}:{ports.GRPC}"),
            metrics="metrics",
            volumes=(Volume("state", STATE),),
        )
        if not self._desired.mtls:
            return plain
        # Whoever asks has no certificate, so it asks where metrics are.
        return replace(
            plain,
            environ={**plain.environ, "WEFT_IDENTITY": IDENTITY},
            certificates=(identity_of(Identity(kind.value, name)),),
            ready=Probe("metrics", path="/ready"),
            alive=Probe("metrics", path="/alive"),
            check=("python", "-m", "deploy.ship", "ready", f"{IP}:{ports.METRICS}/ready"),
        )

    def _control_plane(self) -> Workload:
        return replace(
            self._server("control-plane", Kind.CONTROL_PLANE, "lb", "control-plane"),
            named=True,
            # It says of itself that it is ready, and nothing about its work; a port that is open is alive.
            alive=Probe("grpc"),
            secrets=("etcd.password",),
            calls={"etcd": ("client",)},
            after=("etcd-auth",),
        )

    def _service(self, name: str) -> Workload:
        calls = {"etcd": ("client",), "control-plane": ("grpc",), "memcached": ("memcached",), "jaeger": ("otlp",)}
        calls |= dict.fromkeys(sources.callees(name), ("grpc",))
        server = replace(
            self._server(name, Kind.SERVICE, f"svc.{name}", "serve"),
            secrets=tuple(sorted({"etcd.password", *sources.secrets(name)})),
            calls=calls,
            after=("etcd-auth",),
            # Load is counted in instances, and one instance keeps one processor busy (`autoscale.py`).
            cpu="1",
            memory_mb=384,
        )
        if name in DATABASES:
            server = replace(
                server,
                secrets=(f"database-{name}.url", *server.secrets),
                certificates=(*server.certificates, _AUTHORITY),
                calls={**calls, "cockroach": ("sql",)},
                after=(f"migrate-{name}", *server.after),
            )
        return self._showing(server) if name == OPERATIONS else server

    def _showing(self, server: Workload) -> Workload:
        """The service that shows the others: told where they are, and needing none of them."""
        environ = {
            "WEFT_PROMETHEUS": self._any("prometheus", ports.PROMETHEUS)[0],
            "WEFT_MAIL": self._any("mail", ports.MAILBOX)[0],
            "WEFT_LETTERS": ",".join(self._any("relay", ports.LETTERS)),
            "WEFT_CONSOLE": f"{HOME}/build/console",
            "WEFT_DOCS": f"{HOME}/build/docs",
            "WEFT_LISTEN_PAGES": f"{IP}:{ports.PAGES}",
        }
        return replace(
            server,
            environ={**server.environ, **environ},
            ports={**server.ports, "pages": ports.PAGES},
            calls={**server.calls, "prometheus": ("http",), "mail": ("http",), "relay": ("letters",)},
        )

    def _relay(self) -> Workload:
        stores = tuple(f"database-{name}.url" for name in mesh_parts.STORING)
        letters = {"WEFT_LISTEN_LETTERS": f"{IP}:{ports.LETTERS}"}
        server = self._server("relay", Kind.WORKER, "worker", "relay", environ=letters)
        return replace(
            server,
            ports={**server.ports, "letters": ports.LETTERS},
            backlog=Backlog(f"max(sum by (instance) ({load.PENDING}))", load.BACKLOG_EACH["relay"]),
            secrets=("amqp.url", "cache.key", *stores, "etcd.password", "letters.password"),
            certificates=(*server.certificates, _AUTHORITY),
            calls={**_WORKER_CALLS, "memcached": ("memcached",)},
            after=("rabbitmq", *(f"migrate-{name}" for name in mesh_parts.STORING)),
        )

    def _worker(self, one: Worker) -> Workload:
        server = self._server(one.process, Kind.WORKER, "worker", one.name)
        if one.backlog is not None:
            query = f'max({load.DEPTH}{{queue="{load.QUEUES[one.process]}"}})'
            server = replace(server, backlog=Backlog(query, load.BACKLOG_EACH[one.process]))
        if one.name in ARCHIVING:
            shared = Volume("archive", ARCHIVE, 20, shared=True)
            memory_mb = 512 + self._desired.report_memory_mb
            server = replace(server, volumes=(*server.volumes, shared), memory_mb=memory_mb)
        return replace(
            server,
            secrets=("amqp.url", f"database-{one.database}.url", "etcd.password"),
            certificates=(*server.certificates, _AUTHORITY),
            calls={**_WORKER_CALLS, **dict.fromkeys(one.needs, ("smtp",))},
            after=("rabbitmq", f"migrate-{one.database}", *one.needs),
        )

    def _gateway(self) -> Workload:
        addresses = self._members("control-plane", ports.GRPC)
        bootstrap = (
            *("--node", NAME),
            *(argument for address in addresses for argument in ("--xds", address)),
            *(argument for address in self._any(OPERATIONS, ports.PAGES) for argument in ("--pages", address)),
            *("--metrics-port", str(ports.METRICS), "--metrics-address", "0.0.0.0"),
            *("--otlp", f"{self._addresses.any('jaeger', 1)[0]}:{ports.OTLP}"),
            *("--tls-cert", f"{EDGE_TLS}/tls.crt", "--tls-key", f"{EDGE_TLS}/tls.key"),
            *("--tls-secret", TLS_SECRET, "--admin-socket", ADMIN),
            *("--out", "/run/weft/bootstrap.pb"),
            *(("--identity", IDENTITY, "--hop-secrets", HOP_SECRETS) if self._desired.mtls else ()),
        )
        shown = Certificate("edge", EDGE_TLS, {"tls.crt": "tls.crt", "tls.key": "tls.key"})
        return Workload(
            name="gateway",
            kind=Kind.GATEWAY,
            image=Image.GATEWAY,
            command=("python", "-m", "deploy.ship", "gateway", *bootstrap),
            environ={"WEFT_INSTANCE": NAME},
            ports={"edge": ports.EDGE, "metrics": ports.METRICS},
            size=self._desired.sizes["gateway"],
            ready=Probe("metrics", path="/ready"),
            # One that is not configured yet is alive: ended, it would have to begin anew.
            alive=Probe("metrics", path="/stats/prometheus"),
            check=("python", "-m", "deploy.ship", "ready", f"127.0.0.1:{ports.METRICS}/ready"),
            metrics="metrics",
            metrics_path="/stats/prometheus",
            certificates=(shown, *((identity_of(identity.GATEWAY),) if self._desired.mtls else ())),
            volumes=(Volume("run", "/run/weft"),),
            calls={
                "control-plane": ("grpc",),
                "jaeger": ("otlp",),
                **dict.fromkeys(SERVICES, ("grpc",)),
                OPERATIONS: ("grpc", "pages"),
            },
            after=("publish", "identity"),
            open_to_clients=("edge",),
            cpu="1",
            memory_mb=512,
        )

    def _mail(self) -> Workload:
        return Workload(
            name="mail",
            kind=Kind.MONITOR,
            image=Image.WEFT,
            command=("python", "-m", "deploy.observability.mail"),
            environ={
                "WEFT_INSTANCE": NAME,
                "WEFT_LISTEN_HTTP": f"{IP}:{ports.MAILBOX}",
                "WEFT_LISTEN_SMTP": f"{IP}:{ports.SMTP}",
                "WEFT_LOG_LEVEL": self._desired.log_level,
                "WEFT_STORE": "/var/lib/weft/mail/mail.sqlite",
            },
            ports={"smtp": ports.SMTP, "http": ports.MAILBOX},
            named=True,
            ready=Probe("http", path="/healthz"),
            alive=Probe("http", path="/healthz"),
            check=("python", "-m", "deploy.ship", "ready", f"{IP}:{ports.MAILBOX}/healthz"),
            volumes=(Volume("mail", "/var/lib/weft/mail", 1),),
        )

    def _once(self) -> list[Workload]:
        migrations = [
            self._migration(f"{verb}-{name}", stage, name, *expand)
            for verb, stage, expand in (("expand", Stage.EXPAND, ("--expand",)), ("migrate", Stage.CONTRACT, ()))
            for name in DATABASES
        ]
        return [self._authentication(), self._databases(), *migrations, self._publish()]

    def _task(self, name: str, stage: Stage, *command: str) -> Workload:
        environ = self._environ()
        return Workload(name, Kind.MONITOR, Image.WEFT, command=command, environ=environ, stage=stage)

    def _migration(self, name: str, stage: Stage, database: str, *flags: str) -> Workload:
        own = ("worker", "migrate", database) if database in MIGRATED_BY_WORKER else (f"svc.{database}", "migrate")
        return replace(
            self._task(name, stage, "python", "-m", *own, *flags),
            secrets=(f"database-{database}.url",),
            certificates=(_AUTHORITY,),
            calls={"cockroach": ("sql",)},
            after=("databases",),
        )

    def _authentication(self) -> Workload:
        members = (argument for member in self._registry() for argument in ("--member", member))
        command = ("python", "-m", "deploy.ship", "registry", "--secrets", SECRETS, *members)
        return replace(
            self._task("etcd-auth", Stage.PREPARE, *command),
            secrets=("etcd-root.password", "etcd.password"),
            calls={"etcd": ("client",)},
            after=("etcd",),
        )

    def _databases(self) -> Workload:
        nodes = at(self._addresses.members("cockroach", DATABASE_NODES), ports.SQL)
        hosts = (argument for node in nodes for argument in ("--node", node))
        command = ("python", "-m", "deploy.ship", "databases", "--secrets", SECRETS, "--tls", DATABASE_TLS, *hosts)
        return replace(
            self._task("databases", Stage.PREPARE, *command),
            secrets=tuple(f"database-{name}.url" for name in DATABASES),
            certificates=(DATABASE_ROOT,),
            calls={"cockroach": ("sql",)},
            after=("cockroach-init",),
        )

    def _publish(self) -> Workload:
        edge = (
            *("--profile", self._desired.profile, "--address", "0.0.0.0"),
            *("--tls-port", str(ports.EDGE), "--tls-secret", TLS_SECRET, "--tls-name", '"$EDGE_NAME"'),
            *("--trace-percent", f"{self._desired.trace_ratio * 100:g}"),
            *(("--hop-secrets", HOP_SECRETS) if self._desired.mtls else ()),
        )
        compiled = f"python -m gateway compile --out {CONTRACTS} {' '.join(edge)}"
        task = self._task("publish", Stage.PUBLISH, "sh", "-ec", f"{compiled}\nexec python -m lb publish {CONTRACTS}")
        return replace(
            task,
            environ={**task.environ, "EDGE_NAME": EDGE_NAME},
            secrets=("etcd.password",),
            calls={"etcd": ("client",)},
            after=("etcd-auth",),
        )


_WORKER_CALLS: Final[Mapping[str, tuple[str, ...]]] = {
    "etcd": ("client",),
    "cockroach": ("sql",),
    "rabbitmq": ("amqp",),
    "jaeger": ("otlp",),
}
