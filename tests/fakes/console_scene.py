"""What a mesh of the shop looks like on a working day, as messages of the operations contract."""

import datetime as dt
import hashlib
import threading
from pathlib import Path
from typing import Any

from svc.chassis.pages import PageTokens
from weft.operations.v1 import alerts_pb2, contracts_pb2, mails_pb2, mesh_pb2, queues_pb2, traces_pb2

TOKENS = PageTokens(b"a key of the console's tests alone")
CONTRACTS = Path(__file__).resolve().parents[2] / "protos" / "gen" / "contracts.binpb"
READY, STARTING, DOWN = mesh_pb2.Process.STATE_READY, mesh_pb2.Process.STATE_STARTING, mesh_pb2.Process.STATE_DOWN
Edge = mesh_pb2.Edge

#: Name, kind, processes, calls in a second, load, versions.
PARTS: tuple[tuple[str, Any, int, float | None], ...] = (
    ("clients", mesh_pb2.KIND_CLIENTS, 0, None),
    ("gateway", mesh_pb2.KIND_GATEWAY, 2, 184.0),
    ("identity", mesh_pb2.KIND_SERVICE, 2, 6.2),
    ("catalog", mesh_pb2.KIND_SERVICE, 2, 92.4),
    ("orders", mesh_pb2.KIND_SERVICE, 3, 78.1),
    ("analytics", mesh_pb2.KIND_SERVICE, 1, 1.4),
    ("operations", mesh_pb2.KIND_SERVICE, 2, 2.1),
    ("relay", mesh_pb2.KIND_WORKER, 2, 31.0),
    ("email", mesh_pb2.KIND_WORKER, 1, 30.4),
    ("audit", mesh_pb2.KIND_WORKER, 1, 31.0),
    ("archive", mesh_pb2.KIND_WORKER, 1, 31.0),
    ("reports", mesh_pb2.KIND_WORKER, 1, 0.0),
    ("postgres", mesh_pb2.KIND_DATABASE, 1, None),
    ("memcached", mesh_pb2.KIND_MEMCACHED, 2, None),
    ("rabbitmq", mesh_pb2.KIND_RABBITMQ, 1, None),
    ("etcd", mesh_pb2.KIND_ETCD, 3, None),
    ("control-plane", mesh_pb2.KIND_CONTROL_PLANE, 2, None),
    ("prometheus", mesh_pb2.KIND_MONITOR, 1, None),
)
SCALABLE = (mesh_pb2.KIND_SERVICE, mesh_pb2.KIND_WORKER, mesh_pb2.KIND_GATEWAY)

#: Source, target, kind, in a second, failed, half, 99 of 100.
WAYS: tuple[tuple[str, str, Any, float, float, float | None, float | None], ...] = (
    ("clients", "gateway", Edge.KIND_CALLS, 184.0, 0.0, 0.004, 0.038),
    ("gateway", "identity", Edge.KIND_CALLS, 6.2, 0.0, 0.006, 0.091),
    ("gateway", "catalog", Edge.KIND_CALLS, 92.4, 0.0, 0.002, 0.011),
    ("gateway", "orders", Edge.KIND_CALLS, 78.1, 3.2, 0.009, 0.042),
    ("gateway", "analytics", Edge.KIND_CALLS, 1.4, 0.0, 0.011, 0.12),
    ("gateway", "operations", Edge.KIND_CALLS, 2.1, 0.0, 0.003, 0.02),
    ("orders", "catalog", Edge.KIND_CALLS, 31.0, 0.0, 0.002, 0.009),
    ("catalog", "memcached", Edge.KIND_CACHE, 118.0, 0.0, None, None),
    ("catalog", "postgres", Edge.KIND_DATABASE, 11.0, 0.0, None, None),
    ("orders", "postgres", Edge.KIND_DATABASE, 80.0, 0.0, None, None),
    ("identity", "postgres", Edge.KIND_DATABASE, 6.0, 0.0, None, None),
    ("analytics", "postgres", Edge.KIND_DATABASE, 1.4, 0.0, None, None),
    ("relay", "postgres", Edge.KIND_DATABASE, 31.0, 0.0, None, None),
    ("relay", "rabbitmq", Edge.KIND_PUBLISH, 31.0, 0.0, None, None),
    ("rabbitmq", "email", Edge.KIND_DELIVER, 30.4, 0.0, None, None),
    ("rabbitmq", "audit", Edge.KIND_DELIVER, 31.0, 0.0, None, None),
    ("rabbitmq", "archive", Edge.KIND_DELIVER, 31.0, 0.0, None, None),
    ("rabbitmq", "reports", Edge.KIND_DELIVER, 0.0, 0.0, None, None),
    ("orders", "etcd", Edge.KIND_REGISTRY, 0.3, 0.0, None, None),
    ("catalog", "etcd", Edge.KIND_REGISTRY, 0.3, 0.0, None, None),
    ("control-plane", "gateway", Edge.KIND_CONFIGURATION, 0.1, 0.0, None, None),
    ("control-plane", "orders", Edge.KIND_CONFIGURATION, 0.1, 0.0, None, None),
)


def hex_id(text: str, digits: int) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:digits]


class Scene:
    """A mesh to look at, and to do things to."""

    def __init__(self, *, traces: int = 0) -> None:
        self._lock = threading.Lock()
        self.mesh = mesh_pb2.Mesh(name="meshes/local")
        self.dead: list[queues_pb2.DeadLetter] = []
        self.summaries: list[traces_pb2.TraceSummary] = []
        self.sent: list[mails_pb2.Mail] = []
        self._parts()
        self._stores()
        for number in range(traces):
            self.add_trace(number)

    def _parts(self) -> None:
        since = _ago(5400)
        for name, kind, processes, rate in PARTS:
            service = self.mesh.services.add(
                name=f"services/{name}",
                kind=kind,
                processes=processes,
                ready_processes=processes,
                scalable=kind in SCALABLE,
                rate=rate,
                error_rate=None if rate is None else (3.2 if name == "orders" else 0.0),
            )
            if kind in SCALABLE:
                service.size = processes
                service.versions.append("0.1.0")
            if kind == mesh_pb2.KIND_SERVICE:
                service.load = processes * (0.62 if name == "orders" else 0.21)
                service.bounds.CopyFrom(mesh_pb2.SizeBounds(min=1, max=4))
                service.contracts.append(f"weft.{name}.v1.{name.title()}Service")
            for number in range(1, processes + 1):
                self._process(name, kind, number, since)
        for source, target, kind, rate, failed, half, most in WAYS:
            self.mesh.edges.add(
                source=source,
                target=target,
                kind=kind,
                rate=rate,
                error_rate=failed,
                p50_seconds=half,
                p99_seconds=most,
            )
        for kind in range(1, 8):
            self.mesh.sources.add(kind=kind, state=mesh_pb2.Source.STATE_OK, answer_time=_ago(0))

    def _process(self, name: str, kind: Any, number: int, since: dt.datetime) -> None:
        process = self.mesh.processes.add(
            name=f"processes/{name}-{number}",
            service=name,
            kind=kind,
            state=READY,
            pid=4000 + len(self.mesh.processes),
            listen_address=f"127.0.0.1:{20000 + len(self.mesh.processes)}",
            state_time=since,
            memory_bytes=88_000_000 + number * 1_300_000,
            cpu_cores=0.04 * number,
        )
        if kind in SCALABLE:
            process.version = "0.1.0"
            process.utilization = 0.2 + 0.15 * number
            process.rate, process.error_rate = 12.0 * number, 0.0

    def _stores(self) -> None:
        for name in ("analytics", "audit", "catalog", "identity", "orders"):
            self.mesh.databases.add(
                name=name, leader="postgres-1", up=True, transaction_rate=12.0, error_rate=0.0, retry_rate=0.2,
                connections=9, outbox_events=3, outbox_age_seconds=0.4,
            )  # fmt: skip
        for number in (1, 2, 3):
            self.mesh.registry_members.add(
                process=f"etcd-{number}", up=True, has_leader=True, leader=number == 2, size_bytes=2_400_000,
                limit_bytes=67_000_000, commit_p99_seconds=0.004,
            )  # fmt: skip
        for number in (1, 2):
            self.mesh.cache_nodes.add(
                process=f"memcached-{number}", up=True, entries=1204, used_bytes=3_100_000, limit_bytes=67_108_864,
                eviction_rate=0.0,
            )  # fmt: skip
        self.mesh.cache_entries.add(
            method="weft.catalog.v1.CatalogService/GetProduct", rate=118.0, hit_ratio=0.91, error_rate=0.0
        )
        for queue in ("analytics", "archive", "audit", "email", "reports"):
            self.mesh.queues.add(
                name=f"queues/{queue}", waiting_events=0, retried_events=0, dead_letters=0, rate=30.0, error_rate=0.0,
                service=queue,
            )  # fmt: skip
        for node in ("gateway-1", "gateway-2", "orders-1"):
            self.mesh.proxies.add(
                node=node, kind="envoy", control_plane="control-plane-1", version=hex_id("v", 64),
                state=mesh_pb2.Proxy.STATE_SYNCED,
            )  # fmt: skip

    def now(self) -> mesh_pb2.Mesh:
        """A copy, looked at now."""
        with self._lock:
            seen = mesh_pb2.Mesh()
            seen.CopyFrom(self.mesh)
        seen.observe_time.FromDatetime(_ago(0))
        return seen

    def service(self, name: str) -> mesh_pb2.Service:
        return next(service for service in self.mesh.services if service.name == name)

    def process(self, name: str) -> mesh_pb2.Process:
        return next(process for process in self.mesh.processes if process.name == name)

    def restart(self, name: str) -> mesh_pb2.Process:
        with self._lock:
            process = self.process(name)
            process.state, process.restarts = STARTING, process.restarts + 1
            self.service(f"services/{process.service}").ready_processes -= 1
        return process

    def kill(self, name: str) -> None:
        """It dies, and an alert tells."""
        with self._lock:
            process = self.process(name)
            process.state, process.reason = DOWN, "killed by signal 9"
            process.state_time.FromDatetime(_ago(12))
            process.log_lines.extend(["taking orders", "lease renewed"])
            self.service(f"services/{process.service}").ready_processes -= 1
            self.mesh.alerts.add(
                alert="InstanceDown",
                state=alerts_pb2.Alert.STATE_FIRING,
                severity="page",
                summary=f"{name.rpartition('/')[2]} does not answer",
                runbook="docs/runbooks/InstanceDown.md",
                service=process.service,
                process=name.rpartition("/")[2],
                start_time=_ago(12),
                labels={"instance": name.rpartition("/")[2]},
            )

    def scale(self, request: mesh_pb2.ScaleServiceRequest) -> mesh_pb2.Service:
        with self._lock:
            service = self.service(request.name)
            if request.WhichOneof("sizing") == "size":
                service.size = request.size
                service.ClearField("bounds")
            else:
                service.bounds.CopyFrom(request.bounds)
            for number in range(service.processes + 1, service.size + 1):
                self._process(service.name.rpartition("/")[2], service.kind, number, _ago(0))
            service.processes = service.ready_processes = max(service.processes, service.size)
        return service

    # --- dead letters ---------------------------------------------------------------------------------------------

    def add_letter(self, queue: str, letter: str, reason: str) -> None:
        with self._lock:
            name = f"queues/{queue}/deadLetters/{letter}"
            dead = queues_pb2.DeadLetter(
                name=name, type="weft.orders.v1.OrderPlaced", reason=reason, deliveries=5, size_bytes=412
            )
            dead.park_time.FromDatetime(_ago(95))
            self.dead.append(dead)
            self._count()

    def _count(self) -> None:
        for queue in self.mesh.queues:
            queue.dead_letters = sum(letter.name.startswith(f"{queue.name}/") for letter in self.dead)

    def letters(self, request: queues_pb2.ListDeadLettersRequest) -> queues_pb2.ListDeadLettersResponse:
        found = [letter for letter in self.dead if self._meant(letter, request)]
        return queues_pb2.ListDeadLettersResponse(dead_letters=found, total_size=len(found))

    def _meant(self, letter: queues_pb2.DeadLetter, request: Any) -> bool:
        of = request.parent == "queues/-" or letter.name.startswith(f"{request.parent}/")
        return of and request.reason.lower() in letter.reason.lower() and letter.type.endswith(request.type)

    def letter(self, request: queues_pb2.GetDeadLetterRequest) -> queues_pb2.DeadLetter:
        whole = queues_pb2.DeadLetter()
        whole.CopyFrom(next(letter for letter in self.dead if letter.name == request.name))
        whole.trace = f"traces/{hex_id('trace 0', 32)}"
        whole.sha256, whole.copies = hex_id("letter", 64), 1
        whole.event_json = '{"id": "e1", "orderPlaced": {"order": "orders/1", "items": [{"productId": "mug"}]}}'
        return whole

    def replay(self, request: queues_pb2.ReplayDeadLettersRequest) -> queues_pb2.ReplayDeadLettersResponse:
        with self._lock:
            ids = set(request.letter_ids)
            sent = [
                letter.name
                for letter in self.dead
                if self._meant(letter, request) and (not ids or letter.name.rpartition("/")[2] in ids)
            ]
            self.dead = [letter for letter in self.dead if letter.name not in sent]
            self._count()
        return queues_pb2.ReplayDeadLettersResponse(replayed=sent)

    # --- traces ---------------------------------------------------------------------------------------------------

    def add_trace(self, number: int) -> None:
        failed = number % 9 == 0
        summary = traces_pb2.TraceSummary(
            name=f"traces/{hex_id(f'trace {number}', 32)}",
            service=("orders", "catalog", "identity")[number % 3],
            operation=("PlaceOrder", "GetProduct", "CreateSession")[number % 3] + f" {number}",
            duration_seconds=0.004 + 0.037 * ((number * 7) % 11) / 10,
            spans=9,
            errors=1 if failed else 0,
        )
        summary.start_time.FromDatetime(_ago(number * 1.7))
        self.summaries.append(summary)

    def list_traces(self, request: traces_pb2.ListTracesRequest) -> traces_pb2.ListTracesResponse:
        """Raises InvalidArgument where the token is of another question, as the mesh does."""
        since = request.start_time.ToDatetime(dt.UTC)
        found = [
            summary
            for summary in self.summaries
            if request.service in ("", summary.service)
            and request.operation.lower() in summary.operation.lower()
            and (summary.errors or not request.errors_only)
            and summary.duration_seconds * 1000 >= request.min_duration_ms
            and (not request.HasField("start_time") or summary.start_time.ToDatetime(dt.UTC) >= since)
        ]
        question = traces_pb2.ListTracesRequest()
        question.CopyFrom(request)
        question.ClearField("page_token")
        scope = question.SerializeToString(deterministic=True).hex()
        start = int("".join(TOKENS.decode(request.page_token, scope=scope)) or 0)
        end = start + (request.page_size or 50)
        return traces_pb2.ListTracesResponse(
            traces=found[start:end],
            next_page_token=TOKENS.encode((str(end),), scope=scope) if end < len(found) else "",
        )

    def trace(self, request: traces_pb2.GetTraceRequest) -> traces_pb2.Trace:
        trace = traces_pb2.Trace(name=request.name, duration_seconds=0.042, services=["gateway", "orders", "catalog"])
        trace.start_time.FromDatetime(_ago(4))
        #: Parent, service, operation, offset and duration in milliseconds, whether it failed.
        rows = (
            (-1, "gateway", "POST /v1/orders", 0.0, 42.0, True),
            (0, "gateway", "router orders", 1.1, 40.2, True),
            (1, "orders", "weft.orders.v1.OrderService/PlaceOrder", 2.0, 38.6, True),
            (2, "orders", "weft.catalog.v1.CatalogService/BatchGetProducts", 3.1, 7.9, False),
            (3, "catalog", "weft.catalog.v1.CatalogService/BatchGetProducts", 4.0, 6.1, False),
            (4, "catalog", "cache get_many", 4.4, 1.2, False),
            (4, "catalog", "SELECT products", 5.9, 3.6, False),
            (2, "orders", "transaction", 12.2, 27.4, True),
            (7, "orders", "INSERT orders, outbox", 13.0, 25.8, True),
        )
        for number, (parent, service, operation, offset, took, failed) in enumerate(rows):
            span = trace.spans.add(
                span_id=hex_id(f"span {number}", 16),
                parent_span_id="" if parent < 0 else hex_id(f"span {parent}", 16),
                service=service,
                operation=operation,
                kind="server" if "weft." in operation else "internal",
                offset_seconds=offset / 1000,
                duration_seconds=took / 1000,
                status=traces_pb2.Span.STATUS_ERROR if failed else traces_pb2.Span.STATUS_OK,
                status_message="too little is left of mug" if failed else "",
                attributes={"rpc.system": "grpc", "weft.instance": f"{service}-1"},
            )
            span.start_time.FromDatetime(_ago(4))
        return trace

    def logs(self, request: traces_pb2.ListTraceLogsRequest) -> traces_pb2.ListTraceLogsResponse:
        answer = traces_pb2.ListTraceLogsResponse()
        entry = answer.entries.add(
            process="orders-1", level="warning", message="out of stock: mug", span_id=request.span_id
        )
        entry.log_time.FromDatetime(_ago(4))
        return answer

    # --- mail and contracts ---------------------------------------------------------------------------------------

    def add_mail(self, number: int) -> None:
        mail = mails_pb2.Mail(
            name=f"mails/{number}",
            kind="order-confirmation",
            recipients=["ada@weft.example"],
            subject=f"Order {number}",
        )
        mail.receive_time.FromDatetime(_ago(number))
        self.sent.append(mail)

    def list_mails(self, _: mails_pb2.ListMailsRequest) -> mails_pb2.ListMailsResponse:
        return mails_pb2.ListMailsResponse(mails=self.sent, total_size=len(self.sent), deliveries=len(self.sent))

    def mail(self, request: mails_pb2.GetMailRequest) -> mails_pb2.Mail:
        mail = mails_pb2.Mail()
        mail.CopyFrom(next(sent for sent in self.sent if sent.name == request.name))
        mail.text = "Thank you. <b>One mug</b> is on its way."
        mail.headers.add(header="Message-ID", value="<e1@weft.example>")
        return mail

    def schema(self, _: contracts_pb2.GetSchemaRequest) -> contracts_pb2.Schema:
        return contracts_pb2.Schema(name="schemas/current", descriptor_set=CONTRACTS.read_bytes())

    def methods(self, _: contracts_pb2.ListMethodsRequest) -> contracts_pb2.ListMethodsResponse:
        method = contracts_pb2.Method(
            path="/weft.catalog.v1.CatalogService/GetProduct",
            service="catalog",
            sample_request_json='{"name": "products/mug"}',
            consistency="bounded 30 s",
            location="weft/catalog/v1/catalog.proto:42",
        )
        return contracts_pb2.ListMethodsResponse(methods=[method])


def _ago(seconds: float) -> dt.datetime:
    return dt.datetime.now(dt.UTC) - dt.timedelta(seconds=seconds)
