"""The stack: every part of a mesh and what it needs, as data. How do I run it? This is the file to read.

epmd > rabbitmq                                  (slowest by far, so nothing but the workers waits for it)
etcd-form > etcd x3 > etcd-auth > publish (also after compile) ─┐
                                > control planes ───────────────┼─> gateways (also after their bootstrap and identity)
postgres > databases > migrate-* > services ────────────────────┘
                                 > workers       (also after rabbitmq)
databases > postgres-exporter
slo > prometheus
memcached, sinks, alertmanager, zipkin if wanted (need nothing)

In the profile `ha` rabbitmq and postgres are three each, and postgres waits for etcd-auth: Patroni elects there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from deploy.supervisor import graph, zipkin_jar
from deploy.supervisor.account import Account
from deploy.supervisor.config import PROJECT, ZIPKIN
from deploy.supervisor.databases import Databases
from deploy.supervisor.desired import Desired
from deploy.supervisor.edge_certificate import EdgeCertificate
from deploy.supervisor.lane import LaneSpec
from deploy.supervisor.layout import Layout
from deploy.supervisor.messages import Publishing
from deploy.supervisor.part import Kind, Part, Server, Task
from deploy.supervisor.ports import Ports
from deploy.supervisor.probe import HOST
from deploy.supervisor.secrets import DATABASES, Secrets
from deploy.supervisor.servers import (
    alertmanager,
    envoy,
    etcd,
    etcd_cluster,
    memcached,
    patroni,
    prometheus,
    python,
    rabbitmq,
    zipkin,
)
from deploy.supervisor.servers.rabbitmq_leader import Leadership
from deploy.supervisor.workload_certificates import WorkloadCertificates
from weft_protos import identity, lanes, mesh_parts
from weft_protos.identity import Identity

SERVICES = tuple(sorted((one.name for one in mesh_parts.SERVICES), key=lambda name: (name != "identity", name)))
"""Identity first: the others and the gateways wait for its public keys."""
OPERATIONS = "operations"
"""The service that shows all of it: told where the others are, and needing none of them to be there."""
_PLACES = {False: (1,), True: (1, 2)}
"""Numbers of the instances that pages and dead letters are asked of, without and with the profile `ha`: whoever asks
is told once, whatever becomes of the sizes."""
MIGRATED_BY_WORKER = tuple(one.name for one in mesh_parts.WORKERS if one.migrates)
REGISTRY = ("etcd-1", "etcd-2", "etcd-3")
"""Three members go on when one is gone; five would only make every write dearer."""
IDENTITIES = (
    *(identity.CONTROL_PLANE, identity.GATEWAY, identity.SUPERVISOR),
    *map(identity.service, SERVICES),
    *(Identity(Kind.WORKER.value, name) for name in ("relay", *(one.process for one in mesh_parts.WORKERS))),
)
"""Who has a certificate where hops are encrypted."""
_BROKERS = {
    False: (("rabbitmq-1", "weft@localhost"),),
    True: tuple((f"rabbitmq-{number}", f"weft-{number}@localhost") for number in (1, 2, 3)),
}
"""Nodes of the broker, with and without the profile `ha`, by their names in the Erlang world."""


class Stack:
    """Builds the parts of one mesh. Asking for a port gives it away, so everything is built before anything starts."""

    def __init__(
        self, desired: Desired, layout: Layout, *, ports: Ports, secrets: Secrets, account: Account | None
    ) -> None:
        self._desired = desired
        self._layout = layout
        self._ports = ports
        self._secrets = secrets
        self._account = account
        self.certificate = EdgeCertificate(layout, desired.given())
        self.workloads = WorkloadCertificates(layout, IDENTITIES) if desired.mtls else None
        self.gateway_port = None
        if desired.gateway_port is not None:
            self.gateway_port = self._edge_port("gateway", desired.gateway_port, "WEFT_GATEWAY_PORT")
        self.gateway_tls_port = self._edge_port("gateway.tls", desired.gateway_tls_port, "WEFT_GATEWAY_TLS_PORT")
        self._members = tuple(etcd.Member(name, ports.get(name), ports.get(f"{name}.peer")) for name in REGISTRY)
        self._databases = Databases.of(desired, layout, ports=ports, secrets=secrets, account=account)
        self._brokers = tuple(
            rabbitmq.Node(
                name, erlang, ports.get(name), ports.get(f"{name}.distribution"), ports.get(f"{name}.metrics")
            )
            for name, erlang in _BROKERS[desired.ha]
        )
        self.leadership = Leadership(self._brokers, layout, account, epmd_port=ports.get("epmd"))
        self._http_ports = {
            name: ports.get(f"{name}.http") for name in ("prometheus", "alertmanager", "traces", "mail")
        }
        self._zipkin_port = ports.get("zipkin.http") if desired.traces == ZIPKIN else None
        self._otlp_port = ports.get("traces.otlp")
        self._smtp_port = ports.get("mail.smtp")
        self.door_port = ports.get("supervisor")
        places = _PLACES[desired.ha]
        self._pages = {f"{OPERATIONS}-{number}": ports.get(f"{OPERATIONS}-{number}.pages") for number in places}
        self._letters = {f"relay-{number}": ports.get(f"relay-{number}.letters") for number in places}
        self._surroundings = self._make_surroundings()
        self._asked: frozenset[str] = frozenset()

    def parts(self) -> tuple[Part, ...]:
        """Everything that is desired, each part behind what it needs."""
        parts: list[Part] = [*self._broker(), *self._registry(), *self._database(), *self._caches(), *self._sinks()]
        parts.extend(self._zipkin())
        parts.extend(self._contracts())
        parts.extend(self._control_planes())
        parts.extend(self._services())
        parts.extend(self._workers())
        parts.extend(self._gateways())
        parts += [self._alertmanager(), *self._databases.exporters(self._ports)]
        parts += self._monitor(parts)
        self._ports.save()
        self._asked = self._ports.asked()
        return graph.ordered(graph.closure(parts, self._desired.only))

    def resized(self, desired: Desired) -> "Stack":
        """The stack of another desired state of the same mesh: what is in both keeps its ports and its credentials."""
        self._ports.begin()
        return Stack(desired, self._layout, ports=self._ports, secrets=self._secrets, account=self._account)

    def settle(self) -> None:
        """Nothing but these parts runs any more: what an earlier stack had besides is gone."""
        self._ports.settle(self._asked)

    def close(self) -> None:
        """Give the ports back that nobody listens on."""
        self._ports.close()

    def urls(self) -> dict[str, str | None]:
        """Pages of a running mesh; None for what this release does not have."""
        base = {name: f"http://{HOST}:{port}/" for name, port in self._http_ports.items()}
        return {
            "console": f"{self.gateway_url()}/" if self._shows_console() else None,
            "traces": base["traces"],
            **({} if self._zipkin_port is None else {"zipkin": f"http://{HOST}:{self._zipkin_port}/"}),
            "metrics": base["prometheus"],
            "alerts": base["alertmanager"],
            "mail": base["mail"],
            "queue": None,
        }

    def _shows_console(self) -> bool:
        """Whether gateways send browsers to the console."""
        return self._desired.profile == "local" and self._desired.sizes[OPERATIONS] > 0 and self._wants_gateways()

    def gateway_url(self) -> str:
        """Where clients go: in clear, where there is a port for it."""
        if self.gateway_port is None:
            return f"https://{HOST}:{self.gateway_tls_port}"
        return f"http://{HOST}:{self.gateway_port}"

    def publishing(self) -> Publishing:
        """How other contracts are compiled and published for this mesh."""
        return Publishing(self._edge_arguments(), self._surroundings.environ())

    def metrics_port(self, name: str) -> int:
        """Where a process of ours exposes its metrics."""
        return self._ports.get(f"{name}.metrics")

    def write_secrets(self) -> None:
        """Make or renew every credential file that processes read."""
        self._secrets.make_application_secrets()
        self._secrets.write_database_urls(self._databases.ports)
        self._secrets.write_amqp_url([node.port for node in self._brokers])

    def recovery_token(self) -> str:
        """What Alertmanager shows at the supervisor's door."""
        return self._secrets.password("recovery")

    def _edge_port(self, name: str, wanted: int, variable: str) -> int:
        if self._desired.free_ports:
            return self._ports.get(name)
        return self._ports.fixed(name, wanted, variable=variable) if self._wants_gateways() else wanted

    def _wants_gateways(self) -> bool:
        only = self._desired.only
        return not only or any(name.startswith("gateway") for name in only)

    def _names(self, service: str) -> tuple[str, ...]:
        return tuple(f"{service}-{number}" for number in range(1, self._desired.sizes[service] + 1))

    def _instance(self, name: str, service: str, kind: Kind) -> python.Instance:
        return python.Instance(name, service, kind, self._ports.get(name), self._ports.get(f"{name}.metrics"))

    def _make_surroundings(self) -> python.Surroundings:
        desired = self._desired
        return python.Surroundings(
            etcd=tuple(f"{HOST}:{member.client_port}" for member in self._members),
            etcd_user=etcd.USER,
            control_planes=tuple(f"{HOST}:{self._ports.get(name)}" for name in self._names("control-plane")),
            caches=tuple(f"{HOST}:{self._ports.get(name)}" for name in self._names("memcached")),
            otlp_endpoint=desired.otlp_endpoint or f"http://{HOST}:{self._otlp_port}",
            smtp=f"{HOST}:{self._smtp_port}",
            secrets=self._secrets.folder,
            state=self._layout.state,
            trace_ratio=desired.trace_ratio,
            log_level=desired.log_level,
            consumer_sample=desired.consumer_sample,
            archive=self._layout.home("archive"),
            archive_days=desired.archive_days,
            report_memory_mb=desired.report_memory_mb,
            crash_points=desired.crash_points,
            identities=self._layout.identities if desired.mtls else None,
        )

    def _broker(self) -> list[Part]:
        epmd_port = self._ports.get("epmd")
        nodes = [
            rabbitmq.server(
                node,
                self._layout,
                self._account,
                cluster=self._brokers,
                epmd_port=epmd_port,
                password=self._secrets.password("rabbitmq"),
                cookie=self._secrets.cookie(),
                role=partial(self.leadership.role, node.name),
            )
            for node in self._brokers
        ]
        return [rabbitmq.epmd(self._layout, self._account, port=epmd_port), *nodes]

    def _registry(self) -> list[Part]:
        passwords = etcd.Passwords(root=self._secrets.password("etcd-root"), users=self._etcd_users())

        async def form() -> None:
            await etcd_cluster.form(self._members, self._layout, self._account)

        async def enable_authentication() -> None:
            await etcd.enable_authentication([member.client_port for member in self._members], passwords)

        formed = Task(name="etcd-form", run=form)
        servers = [
            etcd.server(member, self._layout, self._account, cluster=self._members, after=(formed.name,))
            for member in self._members
        ]
        return [formed, *servers, Task(name="etcd-auth", run=enable_authentication, after=REGISTRY)]

    def _etcd_users(self) -> tuple[etcd.User, ...]:
        ours = etcd.User(etcd.USER, self._secrets.password("etcd"), etcd.PREFIX)
        if not self._desired.ha:
            return (ours,)
        return ours, etcd.User(patroni.ETCD_USER, self._secrets.password("etcd-patroni"), patroni.NAMESPACE)

    def _database(self) -> list[Part]:
        migrations = [
            python.task(
                f"migrate-{name}",
                ("worker", "migrate", name) if name in MIGRATED_BY_WORKER else (f"svc.{name}", "migrate"),
                self._surroundings,
                after=("databases",),
            )
            for name in DATABASES
        ]
        return [*self._databases.parts(self._surroundings.etcd), *migrations]

    def _caches(self) -> list[Part]:
        return [
            memcached.server(name, self._layout, self._account, port=self._ports.get(name))
            for name in self._names("memcached")
        ]

    def _sinks(self) -> list[Part]:
        level = {"WEFT_LOG_LEVEL": self._desired.log_level}
        onward = {} if self._zipkin_port is None else {"WEFT_ZIPKIN": f"{HOST}:{self._zipkin_port}"}
        return [
            python.sink(
                "traces",
                "deploy.observability.traces",
                store=self._layout.home("traces") / "spans.sqlite",
                listen={"WEFT_LISTEN_HTTP": self._http_ports["traces"], "WEFT_LISTEN_OTLP": self._otlp_port},
                environ=level | onward | {"WEFT_LOGS": str(self._layout.log)},
            ),
            python.sink(
                "mail",
                "deploy.observability.mail",
                store=self._layout.home("mail") / "mail.sqlite",
                listen={"WEFT_LISTEN_HTTP": self._http_ports["mail"], "WEFT_LISTEN_SMTP": self._smtp_port},
                environ=level,
            ),
        ]

    def _zipkin(self) -> list[Part]:
        if self._zipkin_port is None:
            return []
        jar = zipkin_jar.path(self._desired.own_jar())
        java = zipkin_jar.java()
        return [zipkin.server("zipkin", self._layout, self._account, port=self._zipkin_port, java=java, jar=jar)]

    def _contracts(self) -> list[Part]:
        folder, edge = str(self._layout.contracts), self._edge_arguments()
        compile_ = python.task("compile", ("gateway", "compile", "--out", folder, *edge), self._surroundings)
        publish = python.task("publish", ("lb", "publish", folder), self._surroundings, after=("compile", "etcd-auth"))
        return [compile_, publish]

    def _edge_arguments(self) -> tuple[str, ...]:
        clear = () if self.gateway_port is None else ("--port", str(self.gateway_port))
        return (
            *("--profile", self._desired.profile),
            *(*clear, "--tls-port", str(self.gateway_tls_port)),
            *("--tls-secret", str(self._layout.tls_secret)),
            *(argument for name in self.certificate.names() for argument in ("--tls-name", name)),
            *("--trace-percent", f"{self._desired.trace_ratio * 100:g}"),
            *self._hop_secrets(),
        )

    def _hop_secrets(self) -> tuple[str, ...]:
        return ("--hop-secrets", str(self._layout.hop_secrets)) if self._desired.mtls else ()

    def _control_planes(self) -> list[Part]:
        return [
            python.server(
                self._instance(name, "control-plane", Kind.CONTROL_PLANE),
                self._surroundings,
                arguments=("lb", "control-plane"),
                after=("etcd-auth",),
            )
            for name in self._names("control-plane")
        ]

    def _services(self) -> list[Part]:
        return [
            python.server(
                self._serving(name, service),
                self._surroundings,
                arguments=(f"svc.{service}", "serve"),
                after=(*_migrations(service), "etcd-auth"),
            )
            for service in SERVICES
            for name in self._names(service)
        ] + self._laned()

    def _serving(self, name: str, service: str) -> python.Instance:
        if service != OPERATIONS:
            return self._instance(name, service, Kind.SERVICE)
        ports = self._http_ports
        environ = {
            "WEFT_SUPERVISOR": str(self._layout.socket),
            "WEFT_PROMETHEUS": f"{HOST}:{ports['prometheus']}",
            "WEFT_TRACE_STORE": f"{HOST}:{ports['traces']}",
            "WEFT_MAIL": f"{HOST}:{ports['mail']}",
            "WEFT_LETTERS": ",".join(f"{HOST}:{port}" for port in self._letters.values()),
            "WEFT_CONSOLE": str(PROJECT / "build" / "console"),
            "WEFT_DOCS": str(PROJECT / "build" / "docs"),
        }
        return self._listening_too(name, service, Kind.SERVICE, "WEFT_LISTEN_PAGES", environ=environ)

    def _listening_too(
        self, name: str, service: str, kind: Kind, variable: str, *, environ: Mapping[str, str]
    ) -> python.Instance:
        """An instance that has a port more, where its number is among those that have."""
        port = (self._pages | self._letters).get(name)
        instance = replace(self._instance(name, service, kind), environ=environ)
        if port is None:
            return instance
        return replace(instance, environ={**environ, variable: f"{HOST}:{port}"}, ports=(port,))

    def _laned(self) -> list[Part]:
        return [
            self._in_lane(lane, spec, service, number)
            for lane, spec in self._desired.lanes.items()
            for service in spec.services
            for number in range(1, spec.instances + 1)
            if not spec.rolled_back
        ]

    def _in_lane(self, lane: str, spec: LaneSpec, service: str, number: int) -> Part:
        name = f"{service}-{lane}-{number}"
        instance = replace(
            self._instance(name, lanes.cluster(service, lane), Kind.SERVICE),
            environ={**spec.env, "WEFT_LANE": lane},
            checkout=Path(spec.checkout) if spec.checkout else None,
            identity=identity.service(service),
        )
        after = (*_migrations(service), "etcd-auth")
        return python.server(instance, self._surroundings, arguments=(f"svc.{service}", "serve"), after=after)

    def _workers(self) -> list[Part]:
        relay = ("relay", "relay", tuple(task for service in SERVICES for task in _migrations(service)))
        consumers = [(one.process, one.name, (f"migrate-{one.database}", *one.needs)) for one in mesh_parts.WORKERS]
        return [
            python.server(
                self._listening_too(name, process, Kind.WORKER, "WEFT_LISTEN_LETTERS", environ={}),
                self._surroundings,
                arguments=("worker", worker),
                # All of them: a queue has its members among the nodes that are there when it is declared.
                after=(*(node.name for node in self._brokers), *needs),
            )
            for process, worker, needs in (relay, *consumers)
            for name in self._names(process)
        ]

    def _gateways(self) -> list[Part]:
        addresses = self._surroundings.control_planes
        otlp = self._surroundings.otlp_endpoint.removeprefix("http://")
        parts: list[Part] = []
        for name in self._names("gateway"):
            metrics_port = self._ports.get(f"{name}.metrics")
            arguments = (
                *("gateway", "bootstrap", "--node", name),
                *(argument for address in addresses for argument in ("--xds", address)),
                *(argument for port in self._pages.values() for argument in ("--pages", f"{HOST}:{port}")),
                *("--metrics-port", str(metrics_port), "--otlp", otlp),
                *("--tls-cert", str(self.certificate.certificate), "--tls-key", str(self.certificate.key)),
                *("--tls-secret", str(self._layout.tls_secret)),
                *(() if self.workloads is None else ("--identity", str(self.workloads.folder(identity.GATEWAY)))),
                *self._hop_secrets(),
                *("--admin-socket", str(envoy.admin_socket(name, self._layout))),
                *("--out", str(envoy.bootstrap_file(name, self._layout))),
            )
            bootstrap = python.task(f"bootstrap-{name}", arguments, self._surroundings)
            after = (bootstrap.name, "publish", *self._names("control-plane"), *self._names("identity"))
            parts += [
                bootstrap,
                envoy.server(
                    name,
                    self._layout,
                    edge_ports=(self.gateway_port, self.gateway_tls_port),
                    metrics_port=metrics_port,
                    after=after,
                ),
            ]
        return parts

    def _alertmanager(self) -> Part:
        return alertmanager.server(
            "alertmanager",
            self._layout,
            self._account,
            port=self._http_ports["alertmanager"],
            receivers=alertmanager.Receivers(
                smtp=f"{HOST}:{self._smtp_port}",
                mail_to=self._secrets.operator_email(),
                recovery_port=self.door_port,
                recovery_token=self.recovery_token(),
            ),
        )

    def _monitor(self, parts: Sequence[Part]) -> list[Part]:
        """Prometheus, which scrapes all of `parts` and itself by the rules that watch the contracts, among others."""
        port = self._http_ports["prometheus"]
        servers = [part for part in parts if isinstance(part, Server)]
        targets = [
            prometheus.Target("supervisor", "supervisor", Kind.MONITOR, self.door_port),
            prometheus.Target("prometheus", "prometheus", Kind.MONITOR, port, often=False),
            *(target for server in servers for target in [self._target(server)] if target is not None),
        ]
        rules = python.task("slo", ("gateway", "slo", "--out", str(self._layout.slo)), self._surroundings)
        server = prometheus.server(
            "prometheus",
            self._layout,
            self._account,
            port=port,
            targets=targets,
            alertmanager_port=self._http_ports["alertmanager"],
        )
        return [rules, server]

    def _target(self, server: Server) -> prometheus.Target | None:
        labels = (server.name, server.service, server.kind.value)
        match server.kind:
            case Kind.SERVICE | Kind.WORKER | Kind.CONTROL_PLANE:
                return prometheus.Target(*labels, port=self._ports.get(f"{server.name}.metrics"))
            case Kind.GATEWAY:
                port = self._ports.get(f"{server.name}.metrics")
                return prometheus.Target(*labels, port=port, path="/stats/prometheus")
            case Kind.ETCD:
                return prometheus.Target(*labels, port=server.ports[0])
            case Kind.RABBITMQ if server.service == "rabbitmq":
                return prometheus.Target(*labels, port=self._ports.get(f"{server.name}.metrics"), often=False)
            case Kind.MONITOR if server.service in ("alertmanager", "postgres-exporter"):
                return prometheus.Target(*labels, port=server.ports[0], often=False)
            case Kind.MONITOR if server.service == "zipkin":
                return prometheus.Target(*labels, port=server.ports[0], path="/prometheus", often=False)
            case _:
                return None  # exposes nothing; memcached and every process are in the supervisor's own exposition


def _migrations(service: str) -> tuple[str, ...]:
    """What has to be done before a service starts: nothing for one without a database."""
    return (f"migrate-{service}",) if service in DATABASES else ()
