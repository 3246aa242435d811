"""What the sources said, put together to one mesh. Pure.

Nothing is guessed: what a source did not say is absent, and `sources` says why. Processes are the supervisor's; where
it does not answer, they are those that are registered, in a state that nobody knows.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from google.protobuf.timestamp_pb2 import Timestamp

from lb.endpoint import Endpoint
from lb.status import ControlPlaneStatus, rows
from svc.operations import edges, names, stores
from svc.operations.figures import Figures
from svc.operations.watching import Reading
from weft.operations.v1 import alerts_pb2, mesh_pb2, queues_pb2
from weft_protos import policy

NAME: Final = "meshes/local"
PROCESSES: Final = "processes/"
SERVICES: Final = "services/"
QUEUES: Final = "queues/"

#: Names of the sources, and what the contract calls them.
SUPERVISOR, METRICS, ALERTS, REGISTRY = "supervisor", "metrics", "alerts", "registry"
TRACES, MAIL, LETTERS = "traces", "mail", "dead letters"
SOURCES: Final = {
    SUPERVISOR: mesh_pb2.Source.KIND_SUPERVISOR,
    METRICS: mesh_pb2.Source.KIND_METRICS,
    ALERTS: mesh_pb2.Source.KIND_ALERTS,
    REGISTRY: mesh_pb2.Source.KIND_REGISTRY,
    TRACES: mesh_pb2.Source.KIND_TRACES,
    MAIL: mesh_pb2.Source.KIND_MAIL,
    LETTERS: mesh_pb2.Source.KIND_DEAD_LETTERS,
}
KINDS: Final = {
    "gateway": mesh_pb2.KIND_GATEWAY,
    "service": mesh_pb2.KIND_SERVICE,
    "worker": mesh_pb2.KIND_WORKER,
    "control-plane": mesh_pb2.KIND_CONTROL_PLANE,
    "etcd": mesh_pb2.KIND_ETCD,
    "memcached": mesh_pb2.KIND_MEMCACHED,
    "rabbitmq": mesh_pb2.KIND_RABBITMQ,
    "database": mesh_pb2.KIND_DATABASE,
    "monitor": mesh_pb2.KIND_MONITOR,
}
_STATES: Final = {
    "starting": mesh_pb2.Process.STATE_STARTING,
    "ready": mesh_pb2.Process.STATE_READY,
    "draining": mesh_pb2.Process.STATE_DRAINING,
    "down": mesh_pb2.Process.STATE_DOWN,
}
_PROXY_STATES: Final = {
    "SYNCED": mesh_pb2.Proxy.STATE_SYNCED,
    "STALE": mesh_pb2.Proxy.STATE_STALE,
    "NACKED": mesh_pb2.Proxy.STATE_NACKED,
}


@dataclass(frozen=True, slots=True)
class Known:
    """What the supervisor knows: its status and its lanes, as it sent them."""

    status: Mapping[str, Any] = field(default_factory=dict)
    lanes: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True, slots=True)
class Registered:
    """What the registry knows."""

    endpoints: tuple[Endpoint, ...] = ()
    statuses: tuple[ControlPlaneStatus, ...] = ()


def compose(readings: Mapping[str, Reading], now: datetime) -> mesh_pb2.Mesh:
    """One look at the mesh."""
    known: Known = _said(readings, SUPERVISOR) or Known()
    registered: Registered = _said(readings, REGISTRY) or Registered()
    figures: Figures = _said(readings, METRICS) or Figures({})
    alerts: Sequence[alerts_pb2.Alert] = _said(readings, ALERTS) or ()
    depths: Mapping[str, int] | None = _said(readings, LETTERS)
    processes = _processes(known.status, registered.endpoints, figures)
    return mesh_pb2.Mesh(
        name=NAME,
        observe_time=stamp(now),
        sources=[_source(name, reading) for name, reading in readings.items()],
        processes=processes,
        services=_services(known.status, processes, figures),
        edges=edges.build(processes, figures),
        alerts=alerts,
        queues=_queues(depths, figures),
        databases=stores.databases(processes, figures),
        cache_entries=stores.cache_entries(figures),
        cache_nodes=stores.cache_nodes(processes, figures),
        registry_members=stores.registry_members(processes, figures),
        proxies=[_proxy(row) for row in rows(registered.statuses, now)],
        lanes=[_lane(each) for each in known.lanes],
    )


def stamp(moment: datetime | str | None) -> Timestamp | None:
    """A moment as the wire has it; None where it is none."""
    if isinstance(moment, str):
        try:
            moment = datetime.fromisoformat(moment)
        except ValueError:
            return None
    if moment is None or moment.tzinfo is None:
        return None
    made = Timestamp()
    made.FromDatetime(moment.astimezone(UTC))
    return made


def process(mesh: mesh_pb2.Mesh, name: str) -> mesh_pb2.Process | None:
    """The process with a resource name; None where there is none."""
    return next((each for each in mesh.processes if each.name == name), None)


def service(mesh: mesh_pb2.Mesh, name: str) -> mesh_pb2.Service | None:
    """The service with a resource name; None where there is none."""
    return next((each for each in mesh.services if each.name == name and each.processes), None)


def of_status(status: Mapping[str, Any]) -> mesh_pb2.Mesh:
    """Processes and services as the supervisor alone knows them."""
    processes = _processes(status, (), Figures({}))
    return mesh_pb2.Mesh(name=NAME, processes=processes, services=_services(status, processes, Figures({})))


def _said(readings: Mapping[str, Reading], name: str) -> Any:
    reading = readings.get(name)
    return None if reading is None or reading.problem else reading.value


def _source(name: str, reading: Reading) -> mesh_pb2.Source:
    state = mesh_pb2.Source.STATE_UNAVAILABLE if reading.problem else mesh_pb2.Source.STATE_OK
    answered = stamp(reading.answered)
    return mesh_pb2.Source(kind=SOURCES[name], state=state, reason=reading.problem, answer_time=answered)


def _processes(status: Mapping[str, Any], endpoints: Iterable[Endpoint], figures: Figures) -> list[mesh_pb2.Process]:
    registered = {endpoint.instance: endpoint for endpoint in endpoints}
    made = [_process(each) for each in status.get("processes", ())]
    if not status:
        made = [_unsupervised(endpoint) for endpoint in registered.values()]
    for each in made:
        name = names.last(each.name)
        if (endpoint := registered.get(name)) is not None:
            each.version, each.lane, each.zone = endpoint.version, endpoint.lane, endpoint.zone
        _measure(each, name, figures)
    return sorted(made, key=lambda each: names.natural(each.name))


def _process(said: Mapping[str, Any]) -> mesh_pb2.Process:
    return mesh_pb2.Process(
        name=PROCESSES + str(said["name"]),
        service=str(said["service"]),
        kind=KINDS.get(str(said["kind"]), mesh_pb2.KIND_UNSPECIFIED),
        state=_STATES.get(str(said["state"]), mesh_pb2.Process.STATE_UNSPECIFIED),
        pid=said["pid"] or 0,
        listen_address=str(said["address"]),
        lane=names.lane_of(str(said["service"])),
        restarts=int(said["restarts"]),
        state_time=stamp(said["since"]),
        role=str(said["role"]),
        quarantined=bool(said.get("quarantined")),
        reason=str(said.get("reason", "")),
        log_lines=map(str, said.get("log", ())),
    )


def _unsupervised(endpoint: Endpoint) -> mesh_pb2.Process:
    return mesh_pb2.Process(
        name=PROCESSES + endpoint.instance,
        service=endpoint.cluster,
        kind=mesh_pb2.KIND_GATEWAY if endpoint.service == names.EDGE else mesh_pb2.KIND_SERVICE,
        listen_address=f"{endpoint.address}:{endpoint.port}",
    )


def _measure(made: mesh_pb2.Process, name: str, figures: Figures) -> None:
    if (cores := figures.one("cpu", instance=name)) is not None:
        made.cpu_cores = cores
    if (memory := figures.one("memory", instance=name)) is not None:
        made.memory_bytes = int(memory)
    if (busy := figures.one("utilization", instance=name)) is not None:
        made.utilization = min(1.0, busy)
    if made.kind == mesh_pb2.KIND_GATEWAY:
        questions = ("gateways", "")
    elif made.kind == mesh_pb2.KIND_WORKER:
        questions = ("events", "event faults")
    else:
        questions = ("calls", "call faults")
    rate = figures.one(questions[0], instance=name)
    if rate is not None:
        made.rate = rate
        if questions[1]:
            made.error_rate = figures.one(questions[1], instance=name) or 0.0


def _services(
    status: Mapping[str, Any], processes: Sequence[mesh_pb2.Process], figures: Figures
) -> list[mesh_pb2.Service]:
    sizes, rolling = status.get("sizes", {}), frozenset(status.get("rolling", ()))
    found = dict.fromkeys(process.service for process in processes)
    made = [_service(name, [each for each in processes if each.service == name]) for name in found]
    for each in made:
        name = names.last(each.name)
        _size(each, sizes.get(name))
        each.rolling = name in rolling
        each.lanes.extend(sorted(names.lane_of(other) for other in found if other.startswith(f"{name}@")))
        each.contracts.extend(
            contract.full_name
            for contract in policy.SERVICES
            if policy.service_owner(contract.full_name) == name.partition("@")[0]
        )
    clients = mesh_pb2.Service(name=SERVICES + names.CLIENTS, kind=mesh_pb2.KIND_CLIENTS)
    if (rate := figures.one("edge")) is not None:
        clients.rate = rate
    return sorted([*made, clients], key=lambda each: each.name)


def _service(name: str, processes: Sequence[mesh_pb2.Process]) -> mesh_pb2.Service:
    made = mesh_pb2.Service(
        name=SERVICES + name,
        kind=processes[0].kind,
        processes=len(processes),
        ready_processes=sum(each.state == mesh_pb2.Process.STATE_READY for each in processes),
        versions=sorted({each.version for each in processes if each.version}),
    )
    rates = [each.rate for each in processes if each.HasField("rate")]
    if rates:
        made.rate = sum(rates)
    errors = [each.error_rate for each in processes if each.HasField("error_rate")]
    if errors:
        made.error_rate = sum(errors)
    return made


def _size(made: mesh_pb2.Service, said: Mapping[str, Any] | None) -> None:
    if said is None:
        return
    made.size, made.scalable = int(said["desired"]), True
    least, dash, most = str(said.get("auto", "")).partition("-")
    if dash:
        made.bounds.min, made.bounds.max = int(least), int(most)
    if said.get("load") is not None:
        made.load = float(said["load"])


def _queues(depths: Mapping[str, int] | None, figures: Figures) -> list[queues_pb2.Queue]:
    """Depths are the broker's own, as of now; where nobody could ask it, those that workers have measured."""
    if depths is None:
        depths = {sample.labels.get("queue", ""): int(sample.value) for sample in figures.all("depth")}
    found: dict[str, queues_pb2.Queue] = {}
    for name, depth in sorted(depths.items()):
        worker, kind = names.queue_of(name)
        if not worker:
            continue
        queue = found.setdefault(worker, queues_pb2.Queue(name=QUEUES + worker, service=names.worker_of(worker)))
        if kind == "dead":
            queue.dead_letters = depth
        elif kind == "retry":
            queue.retried_events += depth
        else:
            queue.waiting_events = depth
    for worker, queue in found.items():
        rate = figures.one("delivered", queue=names.QUEUE_PREFIX + worker)
        if rate is not None:
            queue.rate = rate
            queue.error_rate = figures.one("deliveries failed", queue=names.QUEUE_PREFIX + worker) or 0.0
    return list(found.values())


def _proxy(row: Mapping[str, Any]) -> mesh_pb2.Proxy:
    return mesh_pb2.Proxy(
        node=row["node"],
        kind=row["kind"],
        agent=row["agent"],
        control_plane=row["control_plane"],
        version=row["version"],
        state=_PROXY_STATES[row["state"]],
        stale_seconds=row["age_s"],
        waiting_types=row["waiting"],
        refusals=[f"{each['type']}: {' '.join(str(each['detail']).split())}" for each in row["refusals"]],
    )


def _lane(said: Mapping[str, Any]) -> mesh_pb2.Lane:
    return mesh_pb2.Lane(
        name=str(said["name"]),
        services=map(str, said["services"]),
        state=str(said["state"]).replace("-", " "),
        percent=float(said["percent"]),
        reason=str(said["reason"]),
    )
