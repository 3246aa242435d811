"""Asks the parts of the running mesh, each in its own way, and has what they say judged.

A part that does not answer is a finding as any other. What costs a process of its own runs beside the rest.
"""

import email.utils
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Final
from urllib.error import HTTPError

import grpc
import psycopg

from deploy.cli import keys, pages, sources
from deploy.cli.doctor import edge, parts, stores
from deploy.cli.doctor.finding import Finding, Group
from deploy.cli.gateway_client import GatewayClient, SignInError, Trusted, describe
from deploy.supervisor import exposition
from deploy.supervisor.config import PROJECT, Settings, child_environ
from deploy.supervisor.desired import Desired
from deploy.supervisor.edge_certificate import EdgeCertificate
from deploy.supervisor.errors import SupervisorError
from deploy.supervisor.layout import Layout
from deploy.supervisor.mesh import Mesh
from deploy.supervisor.messages import Status
from deploy.supervisor.part import Kind
from deploy.supervisor.probe import HOST
from deploy.supervisor.secrets import DATABASES
from deploy.supervisor.servers import postgres, postgres_exporter
from deploy.supervisor.stack import IDENTITIES
from deploy.supervisor.workload_certificates import WorkloadCertificates

Look = Callable[[], Iterable[Finding]]

#: What a healthy part needs a hundredth of.
PATIENCE_S: Final = 8.0
#: The header `date` is cut to the second, and made anew twice a second.
DATE_S: Final = 1.5
_AT_ONCE: Final = 4
_DETAILED: Final = "/metrics/detailed?family=queue_coarse_metrics&family=queue_consumer_count"
#: What a part that cannot be asked raises; anything else is a fault of ours.
_TROUBLE: Final = (
    OSError,
    ValueError,
    KeyError,
    SupervisorError,
    SignInError,
    grpc.RpcError,
    psycopg.Error,
    sources.CommandFailedError,
)


def look(mesh: Mesh, settings: Settings, status: Status) -> list[Finding]:
    """Everything about a mesh that runs."""
    asked = _Asked(mesh, settings, status)
    looks: Sequence[tuple[Group, str, Look]] = (
        (parts.PROCESSES, "parts", asked.parts),
        (parts.REGISTRY, "etcd", asked.registry),
        (parts.PLANES, "control planes", asked.planes),
        (stores.DATABASES, "databases", asked.databases),
        (stores.DATABASES, "standbys", asked.standbys),
        (stores.BROKER, "rabbitmq", asked.broker),
        (stores.CACHES, "memcached", asked.caches),
        (edge.EDGE, "gateway", asked.gateway),
        (edge.EDGE, "certificate", asked.certificate),
        (edge.EDGE, "signing in", asked.sign_in),
        (edge.WATCHING, "Prometheus", asked.metrics),
        (edge.WATCHING, "Alertmanager", asked.alerts),
        (edge.WATCHING, "pages", asked.pages),
    )
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="check") as pool:
        return [one for found in pool.map(lambda each: list(_guarded(*each)), looks) for one in found]


def _guarded(group: Group, name: str, ask: Look) -> Iterator[Finding]:
    try:
        yield from ask()
    except _TROUBLE as error:
        yield group.fail(name, f"cannot be asked: {_words(error)}", "`weft status` shows whether it runs")


def _now() -> float:
    return datetime.now(UTC).timestamp()


def _words(error: BaseException) -> str:
    text = describe(error) if isinstance(error, grpc.RpcError) else str(getattr(error, "reason", error))
    return " ".join(text.split()) or type(error).__name__


class _Asked:
    """What each part answers, judged."""

    def __init__(self, mesh: Mesh, settings: Settings, status: Status) -> None:
        self._mesh = mesh
        self._layout = Layout(settings.data)
        self._status = status

    def parts(self) -> Iterator[Finding]:
        differences = self._mesh.differences()
        return parts.processes(self._status, now=datetime.now(UTC), differences=differences)

    def registry(self) -> Iterator[Finding]:
        yield from parts.leaders(self._status)
        yield from parts.endpoints(json.loads(self._lb("endpoints")), self._status)

    def planes(self) -> Iterator[Finding]:
        return parts.planes(json.loads(self._lb("proxies")), self._status)

    def databases(self) -> Iterator[Finding]:
        places = {name: PROJECT / "svc" / name / "migrations" for name in DATABASES}
        places |= {
            name: PROJECT / "worker" / "handlers" / name / "migrations"
            for name, place in places.items()
            if not place.exists()
        }
        environ = {**child_environ(), "WEFT_SECRETS": str(self._mesh.secrets)}
        arguments = [f"{name}={place}" for name, place in places.items()]
        return stores.databases(json.loads(sources.python("svc.chassis.inspection", *arguments, environ=environ)))

    def standbys(self) -> Iterator[Finding]:
        servers = [int(each.address.rpartition(":")[2]) for each in self._of(Kind.DATABASE)]
        if len(servers) < 2:
            return iter(())
        password = (self._mesh.secrets / "database-monitor.password").read_text().strip()
        found = postgres.standbys(servers, postgres.Owner(postgres_exporter.ROLE, password))
        return stores.replicas([stores.Standby(*each) for each in found], wanted=len(servers) - 1)

    def broker(self) -> Iterator[Finding]:
        queues: dict[str, stores.Queue] = {}
        alarms: dict[str, Sequence[str]] = {}
        for node in self._of(Kind.RABBITMQ):
            if node.service != "rabbitmq":
                continue
            base = f"http://{HOST}:{self._port(f'{node.name}.metrics')}"
            alarms[node.name] = stores.alarms_of(self._page(f"{base}/metrics"))
            for name, queue in stores.queues_of(self._page(f"{base}{_DETAILED}")).items():
                # The member that leads a queue has its figures; others say nothing of it, or nothing but zeros.
                queues[name] = max(queues.get(name, queue), queue, key=lambda one: (one.consumers, one.messages))
        return stores.broker(queues, alarms)

    def caches(self) -> Iterator[Finding]:
        servers = self._of(Kind.MEMCACHED)
        return stores.caches(
            {each.name: exposition.cache_stats(int(each.address.rpartition(":")[2])) for each in servers}
        )

    def gateway(self) -> Iterator[Finding]:
        url = self._status.gateway
        trusted = Trusted.of(self._layout).roots if url.startswith("https://") else b""
        before = _now()
        try:
            said = pages.read(f"{url}/", timeout_s=PATIENCE_S, trusted=trusted)[1].get("date")
        except HTTPError as error:  # in production nobody is welcomed; that is an answer too
            said = error.headers.get("date")
        yield edge.EDGE.ok("gateway", f"answers at {url}")
        if said:
            second = email.utils.parsedate_to_datetime(said).timestamp()
            ahead = stores.ahead((second, second + DATE_S), (before, _now()))
            yield stores.skew(edge.EDGE, "clock of the gateway", ahead)

    def certificate(self) -> Iterator[Finding]:
        given = Desired.read(self._layout.desired).given()
        kept = EdgeCertificate(self._layout, given)
        yield edge.certificate(kept.expires(), now=datetime.now(UTC), own=given is not None)
        if Desired.read(self._layout.desired).mtls:
            parts = WorkloadCertificates(self._layout, IDENTITIES)
            yield edge.identities(parts.expires(), now=datetime.now(UTC))

    def sign_in(self) -> Iterator[Finding]:
        client = GatewayClient.for_operator(self._mesh.gateway, self._mesh.secrets, patience_s=PATIENCE_S)
        with closing(client):
            found = keys.listed(client)
        yield edge.EDGE.ok("operator", "can sign in through the gateway")
        yield edge.keys([key.signing for key in found])

    def metrics(self) -> Iterator[Finding]:
        base = self._url("metrics")
        active = pages.read_json(f"{base}/api/v1/targets?state=active", timeout_s=PATIENCE_S)["data"]["activeTargets"]
        yield edge.targets(active)
        before = _now()
        said = float(pages.read_json(f"{base}/api/v1/query?query=time()", timeout_s=PATIENCE_S)["data"]["result"][1])
        ahead = stores.ahead((said, said), (before, _now()))
        yield stores.skew(edge.WATCHING, "clock of Prometheus", ahead)

    def alerts(self) -> Iterator[Finding]:
        query = "active=true&silenced=false&inhibited=false"
        return edge.alerts(pages.read_json(f"{self._url('alerts')}/api/v2/alerts?{query}", timeout_s=PATIENCE_S))

    def pages(self) -> Iterator[Finding]:
        for name in ("traces", "mail"):
            self._page(f"{self._url(name)}/healthz")
            yield edge.WATCHING.ok(name, self._url(name))

    @cached_property
    def _ports(self) -> Mapping[str, int]:
        found: Mapping[str, int] = json.loads(self._layout.ports.read_text())
        return found

    def _port(self, name: str) -> int:
        return self._ports[name]

    def _of(self, kind: Kind) -> list[Any]:
        return [each for each in self._status.processes if each.kind == kind]

    def _url(self, name: str) -> str:
        return str(self._status.urls[name]).rstrip("/")

    def _page(self, url: str) -> str:
        return pages.read(url, timeout_s=PATIENCE_S)[0]

    def _lb(self, command: str) -> str:
        environ = self._mesh.publishing().environ
        return sources.python("lb", command, "--json", "--timeout", f"{PATIENCE_S:g}", environ=environ)
