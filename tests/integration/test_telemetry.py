"""Telemetry of a running mesh: one trace through everything, metrics of every part, JSON logs, and no secret in any."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final
from urllib.error import HTTPError
from urllib.parse import quote

import grpc
import pytest

from deploy.cli.gateway_client import GatewayClient
from deploy.supervisor.mesh import Mesh
from tests.integration.shop import Customer, Shop, refused, send, traceparent
from tests.waiting import eventually
from weft.catalog.v1 import catalog_pb2
from weft.identity.v1 import identity_pb2
from weft.orders.v1 import orders_pb2
from weft_protos import mesh_parts
from worker.amqp import topology

pytestmark = pytest.mark.calls

PLACE: Final = "weft.orders.v1.OrderService/PlaceOrder"
BATCH_GET: Final = "weft.catalog.v1.CatalogService/BatchGetProducts"
GET: Final = "weft.catalog.v1.CatalogService/GetProduct"
SIGN_IN: Final = "weft.identity.v1.IdentityService/CreateSession"
PUBLISH: Final = ("relay", "weft.events publish")

#: Every hop of one order and of two reads of its product: the span above, and the span below it.
HOPS: Final = frozenset(
    {
        (("gateway", PLACE), ("gateway", "router orders egress")),
        (("gateway", "router orders egress"), ("orders", PLACE)),
        (("orders", PLACE), ("orders", BATCH_GET)),
        (("orders", BATCH_GET), ("catalog", BATCH_GET)),
        (("catalog", BATCH_GET), ("catalog", "db.transaction")),
        (("orders", PLACE), ("orders", "db.transaction")),
        (("orders", PLACE), PUBLISH),
        (PUBLISH, ("archive", "weft.archive process")),
        (PUBLISH, ("audit", "weft.audit process")),
        (PUBLISH, ("email", "weft.email process")),
        (PUBLISH, ("analytics-worker", "weft.analytics process")),
        (("gateway", GET), ("gateway", "router catalog egress")),
        (("gateway", "router catalog egress"), ("catalog", GET)),
        (("catalog", GET), ("catalog", "cache.get")),
        (("catalog", GET), ("catalog", "db.transaction")),
    }
)

SERVICES: Final = {one.name: one.instances for one in mesh_parts.SERVICES}
STARTED: Final = re.compile(r'"event": "(listening|working|control_plane_listening)"')
SCRAPED: Final = frozenset({"service", "worker", "control-plane", "gateway", "etcd"})


@dataclass(frozen=True)
class Journey:
    """What one client did under one trace id."""

    trace_id: str
    span_id: str
    customer: Customer


@pytest.fixture(scope="module")
def shop(mesh: Mesh, operator: GatewayClient) -> Shop:
    return Shop(mesh, operator)


@pytest.fixture(scope="module")
def journey(shop: Shop) -> Journey:
    """Sign up, sign in, refresh, read a product twice, order it: and every way of doing it wrong."""
    trace = traceparent()
    _, trace_id, span_id, _ = trace.split("-")
    before = published(shop)
    product_id = shop.product()
    # What creates it makes it forgotten once more as its event goes out, and the second read is to be a hit.
    eventually(lambda: published(shop) > before)
    signed_up = shop.customer(traceparent=trace)
    request = identity_pb2.RefreshSessionRequest(refresh_token=signed_up.session.refresh_token)
    ada = replace(signed_up, session=send(shop.identity.RefreshSession, request, traceparent=trace))
    for _ in range(2):
        send(
            shop.catalog.GetProduct,
            catalog_pb2.GetProductRequest(name=f"products/{product_id}"),
            ada,
            traceparent=trace,
        )
    shop.place(ada, {product_id: 1}, traceparent=trace)
    _go_wrong(shop, signed_up, trace)
    return Journey(trace_id, span_id, ada)


def published(shop: Shop) -> float:
    """How many changes of products have left the outbox."""
    return shop.exposed("relay", "weft_outbox_published_total", type="weft.catalog.v1.ProductChanged")


def _go_wrong(shop: Shop, customer: Customer, trace: str) -> None:
    """Each of these is refused."""
    identity = shop.identity
    sign_in = identity_pb2.CreateSessionRequest(email=f"x{customer.email}", password=customer.password)
    again = identity_pb2.CreateUserRequest(user_id=customer.id, email=customer.email, password=customer.password)
    malformed = identity_pb2.CreateUserRequest(
        email=f"{customer.email} {customer.password}", password=customer.password
    )
    used = identity_pb2.RefreshSessionRequest(refresh_token=customer.session.refresh_token)
    forged = replace(customer, session=identity_pb2.Session(access_token=customer.session.access_token + "x"))
    for method, request, caller, code in (
        (identity.CreateSession, sign_in, None, grpc.StatusCode.UNAUTHENTICATED),
        (identity.CreateUser, again, None, grpc.StatusCode.ALREADY_EXISTS),
        (identity.CreateUser, malformed, None, grpc.StatusCode.INVALID_ARGUMENT),
        (identity.RefreshSession, used, None, grpc.StatusCode.UNAUTHENTICATED),
        (shop.orders.ListOrders, orders_pb2.ListOrdersRequest(), forged, grpc.StatusCode.UNAUTHENTICATED),
    ):
        assert code is refused(method, request, caller, traceparent=trace).code


def find_trace(shop: Shop, trace_id: str) -> dict[str, Any]:
    """A trace as the store has it now; empty where it has none."""
    try:
        found: dict[str, Any] = shop.fetch("traces", f"/api/traces/{trace_id}")
    except HTTPError as error:
        if error.code != 404:
            raise
        return {"spans": []}
    return found


def walk(spans: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Every span below, and these."""
    for span in spans:
        yield span
        yield from walk(span["children"])


def hops(trace: dict[str, Any]) -> set[tuple[tuple[str, str], tuple[str, str]]]:
    """Who is above whom."""
    return {
        ((above["service"], above["name"]), (below["service"], below["name"]))
        for above in walk(trace["spans"])
        for below in above["children"]
    }


@pytest.fixture(scope="module")
def trace(shop: Shop, journey: Journey) -> dict[str, Any]:
    """The trace, once every hop has been exported, and every span's parent with it."""
    eventually(lambda: hops(find_trace(shop, journey.trace_id)) >= HOPS)
    eventually(lambda: not orphans(find_trace(shop, journey.trace_id), journey))
    return find_trace(shop, journey.trace_id)


def orphans(trace: dict[str, Any], journey: Journey) -> list[str]:
    """Spans whose parent is neither in the trace nor the client's own."""
    return [f"{root['service']} {root['name']}" for root in trace["spans"] if root["parent_span_id"] != journey.span_id]


def test_one_trace_shows_every_hop_of_an_order_under_the_clients_own_span(
    trace: dict[str, Any], journey: Journey
) -> None:
    spans = list(walk(trace["spans"]))

    assert journey.trace_id == trace["trace_id"]
    assert HOPS <= hops(trace)
    assert [] == orphans(trace, journey)
    assert {"gateway"} == {root["service"] for root in trace["spans"]}
    assert len(spans) == trace["span_count"] == len({span["span_id"] for span in spans})
    expected = {"gateway", "identity", "catalog", "orders", "relay", "archive", "audit", "email", "analytics-worker"}
    assert expected == set(trace["services"])
    (placed,) = [span for span in spans if (span["service"], span["name"]) == ("orders", PLACE)]
    assert ("OK", journey.customer.id) == tuple(
        placed["attributes"][name] for name in ("rpc.response.status_code", "enduser.id")
    )


def test_the_trace_tells_a_miss_that_went_to_the_database_from_a_hit_that_did_not(trace: dict[str, Any]) -> None:
    reads = [span for span in walk(trace["spans"]) if (span["service"], span["name"]) == ("catalog", GET)]

    told = [
        (child["attributes"]["cache.result"], any(other["name"] == "db.transaction" for other in read["children"]))
        for read in reads
        for child in read["children"]
        if child["name"] == "cache.get"
    ]

    assert [("hit", False), ("miss", True)] == sorted(told)


def lines_since_start(mesh: Mesh, name: str) -> list[str]:
    """What a process has logged since it was started last; older lines may be those of an older version."""
    lines = (mesh.logs / f"{name}.log").read_text().splitlines()
    starts = [number for number, line in enumerate(lines) if STARTED.search(line)]
    return lines[starts[-1] :] if starts else lines


def test_services_workers_and_control_planes_log_json_that_says_who_what_and_when(mesh: Mesh) -> None:
    kinds = {"service", "worker", "control-plane"}
    processes = [process for process in mesh.status().processes if process.kind in kinds]
    said = {process.name: lines_since_start(mesh, process.name) for process in processes}

    assert [] == [(name, line) for name, lines in said.items() for line in lines if not line.startswith("{")]
    for process in processes:
        records = [json.loads(line) for line in said[process.name]]
        assert records
        for record in records:
            assert {"event", "level", "timestamp"} <= record.keys()
            assert (process.service, process.name) == (record["service"], record["instance"])


def test_a_line_logged_during_a_call_carries_the_trace_of_the_call(mesh: Mesh, journey: Journey) -> None:
    def refusals() -> list[Any]:
        return [
            json.loads(line)
            for path in mesh.logs.glob("identity-*.log")
            for line in path.read_text().splitlines()
            if journey.trace_id in line
        ]

    eventually(refusals)

    (record,) = refusals()
    assert ("refresh_refused", "warning") == (record["event"], record["level"])
    assert (journey.trace_id, 16) == (record["trace_id"], len(record["span_id"]))


# metrics


def query(shop: Shop, expression: str) -> dict[tuple[str, ...], float]:
    """Prometheus's answer: values by their labels' values, in the order of the labels' names."""
    answer = shop.fetch("metrics", f"/api/v1/query?query={quote(expression)}")["data"]["result"]
    return {tuple(labels[name] for name in sorted(labels)): float(value) for labels, value in _samples(answer)}


def _samples(result: Sequence[dict[str, Any]]) -> Iterator[tuple[dict[str, str], str]]:
    for sample in result:
        yield sample["metric"], sample["value"][1]


def test_rate_errors_and_duration_of_every_method_are_in_prometheus(shop: Shop, journey: Journey) -> None:
    def ended(method: str, code: str) -> float:
        counted = query(shop, f'sum(weft_rpc_requests_total{{method="{method}",code="{code}"}})')
        return counted.get((), 0.0)

    for method in (PLACE, BATCH_GET, GET, SIGN_IN):
        eventually(lambda method=method: ended(method, "OK") >= 1)  # type: ignore[misc]
        timed = query(shop, f'sum(weft_rpc_duration_seconds_count{{method="{method}"}})')
        assert timed[()] >= 1
    eventually(lambda: ended(SIGN_IN, "UNAUTHENTICATED") >= 1)
    services = {(name,) for name in SERVICES}
    eventually(lambda: services == set(query(shop, "sum by (service) (weft_rpc_in_flight)")))


def test_the_cache_hit_ratio_of_a_method_is_in_prometheus(shop: Shop, trace: dict[str, Any]) -> None:
    entry = GET.replace("/", ".")
    hits = f'sum(weft_cache_requests_total{{entry="{entry}",result="hit"}})'

    eventually(lambda: query(shop, hits).get((), 0.0) >= 1)

    ratio = query(shop, f'{hits} / sum(weft_cache_requests_total{{entry="{entry}"}})')
    assert 0.0 < ratio[()] < 1.0


def test_depths_of_queues_and_outboxes_are_in_prometheus(shop: Shop) -> None:
    queues = {(name,) for work in topology.work_queues() for name in work.names}
    eventually(lambda: queues == set(query(shop, "max by (queue) (weft_queue_depth)")))

    databases = {(name,) for name in mesh_parts.STORING}
    for metric in ("weft_outbox_pending", "weft_outbox_oldest_seconds"):
        eventually(lambda metric=metric: databases == set(query(shop, f"max by (database) ({metric})")))  # type: ignore[misc]
    eventually(lambda: query(shop, "sum(weft_outbox_pending)") == {(): 0.0})


def test_leases_and_the_state_of_xds_are_in_prometheus(shop: Shop) -> None:
    instances = {
        (process.name, process.service): 1.0 for process in shop.mesh.status().processes if process.kind == "service"
    }
    eventually(lambda: instances == query(shop, "max by (instance, service) (weft_registration_state)"))
    eventually(lambda: len(query(shop, 'weft_lease_renewals_total{outcome="ok"} > 0')) == len(instances))

    known = {(name,): float(size) for name, size in {**SERVICES, "edge": 2}.items()}
    eventually(lambda: known.items() <= query(shop, "min by (service) (weft_endpoints)").items())
    # Both gateways, and both instances of orders: each asks for the catalog when it places its first order.
    product_id, customer = shop.product(stock=1000), shop.customer()
    eventually(
        lambda: (
            shop.place(customer, {product_id: 1})
            and shop.exposed("control-plane", "weft_xds_clients", kind="grpc") == SERVICES["orders"]
        )
    )
    clients = {("envoy",): 2.0, ("grpc",): 2.0}
    eventually(lambda: clients.items() <= query(shop, "sum by (kind) (weft_xds_clients)").items())
    resources = query(shop, "min by (type) (weft_xds_snapshot_resources)")
    assert all(
        resources[(kind,)] >= 1 for kind in ("Cluster", "ClusterLoadAssignment", "Listener", "RouteConfiguration")
    )


def test_every_process_is_a_target_that_is_up(shop: Shop) -> None:
    expected = {process.name for process in shop.mesh.status().processes if process.kind in SCRAPED}
    expected |= {"rabbitmq-1", "supervisor", "prometheus", "alertmanager", "postgres-exporter"}

    def up() -> set[str]:
        targets = shop.fetch("metrics", "/api/v1/targets?state=active")["data"]["activeTargets"]
        return {target["labels"]["instance"] for target in targets if target["health"] == "up"}

    eventually(lambda: up() == expected)


def test_every_alert_is_loaded_and_its_rule_evaluates(shop: Shop, clone: Path) -> None:
    def rules() -> dict[str, str]:
        groups = shop.fetch("metrics", "/api/v1/rules")["data"]["groups"]
        return {rule["name"]: rule["health"] for group in groups for rule in group["rules"]}

    eventually(lambda: set(rules().values()) == {"ok"})
    pages = {path.stem for path in (clone / "docs" / "runbooks").glob("*.md")}
    assert pages == {name for name in rules() if ":" not in name}
