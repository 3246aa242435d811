"""What sources said becomes one mesh; what they did not say is absent, and never the whole of it."""

from datetime import UTC, datetime
from typing import Any

import pytest

from lb.endpoint import Endpoint, service_name
from lb.status import ClientState, ControlPlaneStatus, Refusal
from svc.operations import alerts, figures, mesh
from svc.operations.mesh import Known, Registered
from svc.operations.watching import Reading
from tests.fakes.operations import process, prometheus, series, status
from weft.operations.v1 import alerts_pb2, mesh_pb2

AT = datetime(2026, 6, 1, 12, tzinfo=UTC)
ALERTS: dict[str, Any] = {
    "data": {
        "alerts": [
            {
                "labels": {"alertname": "CacheDown", "severity": "ticket", "instance": "memcached-1"},
                "annotations": {"summary": "it is away", "runbook_url": "docs/runbooks/CacheDown.md"},
                "state": "firing",
                "activeAt": "2026-06-01T11:59:58.123456789Z",
                "value": "1e+00",
            },
            {
                "labels": {"alertname": "DatabaseDown", "severity": "page"},
                "annotations": {},
                "state": "pending",
                "activeAt": "2026-06-01T11:59:59Z",
                "value": "1",
            },
            {
                "labels": {"alertname": "ServiceDown", "severity": "page", "service": "orders"},
                "annotations": {},
                "state": "firing",
                "activeAt": "2026-06-01T11:59:59Z",
                "value": "1",
            },
        ]
    }
}


def said(value: Any) -> Reading:
    return Reading(value, "", AT)


def readings(**given: Reading) -> dict[str, Reading]:
    """What every source said; who is not named is away."""
    by_name = {name.replace("_", " "): reading for name, reading in given.items()}
    return {name: by_name.get(name, Reading(problem=f"{name}: nobody listens there")) for name in mesh.SOURCES}


def measured(*found: Any) -> figures.Figures:
    return figures.parse(prometheus(*found))


def edge(made: mesh_pb2.Mesh, source: str, target: str) -> mesh_pb2.Edge:
    (found,) = (each for each in made.edges if (each.source, each.target) == (source, target))
    return found


def test_a_process_is_what_supervisor_registry_and_figures_say_of_it() -> None:
    known = Known(status(process("orders-1", state="draining", restarts=2, reason="ended with SIGKILL")))
    registered = Registered((Endpoint(service_name("orders"), "orders-1", "127.0.0.1", 1, "1.2", zone="a"),))
    numbers = measured(
        series("cpu", 0.25, instance="orders-1", service="orders"),
        series("memory", 5e7, instance="orders-1", service="orders"),
        series("calls", 12.5, instance="orders-1", service="orders"),
        series("utilization", 0.5, instance="orders-1", service="orders"),
    )

    made = mesh.compose(readings(supervisor=said(known), registry=said(registered), metrics=said(numbers)), AT)

    (found,) = made.processes
    assert ("processes/orders-1", "orders", mesh_pb2.KIND_SERVICE) == (found.name, found.service, found.kind)
    assert (mesh_pb2.Process.STATE_DRAINING, 2, "ended with SIGKILL") == (found.state, found.restarts, found.reason)
    assert ("1.2", "a", "") == (found.version, found.zone, found.lane)
    assert (0.25, 50_000_000, 12.5, 0.0, 0.5) == (
        found.cpu_cores,
        found.memory_bytes,
        found.rate,
        found.error_rate,
        found.utilization,
    )


def test_a_service_counts_its_processes_and_says_how_many_are_wanted() -> None:
    sizes = {"orders": {"desired": 3, "auto": "2-4", "load": 1.5}}
    there = (
        process("orders-1"),
        process("orders-2", state="starting"),
        process("orders-next-1", service="orders@next"),
    )
    known = Known(status(*there, sizes=sizes, rolling=["orders"]))

    made = mesh.compose(readings(supervisor=said(known)), AT)

    found = mesh.service(made, "services/orders")
    assert found is not None
    assert (2, 1, 3, 2, 4) == (found.processes, found.ready_processes, found.size, found.bounds.min, found.bounds.max)
    assert (1.5, True, True, ["next"]) == (found.load, found.rolling, found.scalable, list(found.lanes))
    assert ["weft.orders.v1.InventoryService", "weft.orders.v1.OrderService"] == sorted(found.contracts)
    assert ["processes/orders-1", "processes/orders-2", "processes/orders-next-1"] == [
        one.name for one in made.processes
    ]
    assert "next" == made.processes[2].lane
    assert mesh.service(made, "services/clients") is None


def test_nothing_is_known_where_nobody_answers_and_each_of_them_says_why() -> None:
    made = mesh.compose(readings(), AT)

    assert set(mesh.SOURCES.values()) == {source.kind for source in made.sources}
    assert {mesh_pb2.Source.STATE_UNAVAILABLE} == {source.state for source in made.sources}
    assert all(source.reason.endswith("nobody listens there") for source in made.sources)
    assert ([], [], [], []) == (list(made.processes), list(made.edges), list(made.alerts), list(made.queues))
    assert ["services/clients"] == [each.name for each in made.services]


@pytest.mark.parametrize("away", mesh.SOURCES)
def test_whoever_is_away_takes_nothing_of_what_the_others_said(away: str) -> None:
    everything = {
        "supervisor": said(Known(status(process("orders-1"), process("gateway-1", kind="gateway")))),
        "metrics": said(measured(series("edge", 5, owner="orders"))),
        "alerts": said(alerts.parse(ALERTS)),
        "registry": said(Registered((Endpoint(service_name("orders"), "orders-1", "127.0.0.1", 1, "1.2"),))),
        "traces": said({}),
        "mail": said({}),
        "dead letters": said({"weft.email": 1, "weft.email.dead": 2}),
    }

    made = mesh.compose({**everything, away: Reading(problem="gone")}, AT)

    states = {source.kind: (source.state, source.reason) for source in made.sources}
    assert (mesh_pb2.Source.STATE_UNAVAILABLE, "gone") == states.pop(mesh.SOURCES[away])
    assert {(mesh_pb2.Source.STATE_OK, "")} == set(states.values())
    assert (away != "alerts") == bool(made.alerts)
    assert (away != "dead letters") == bool(made.queues)
    assert (away != "metrics") == any(each.HasField("rate") for each in made.edges)
    assert made.processes


def test_without_a_supervisor_the_registered_are_there_in_a_state_that_nobody_knows() -> None:
    registered = Registered((Endpoint(service_name("orders"), "orders-1", "127.0.0.1", 21001, "1.2"),))

    made = mesh.compose(readings(registry=said(registered)), AT)

    (found,) = made.processes
    assert (mesh_pb2.Process.STATE_UNSPECIFIED, "127.0.0.1:21001") == (found.state, found.listen_address)


def test_an_edge_has_the_figures_of_whoever_calls() -> None:
    numbers = measured(
        *(series("edge", rate, owner=owner) for rate, owner in ((10, "orders"), (30, "catalog"), (2, ""))),
        series("edge faults json", 1, owner="orders"),
        series("edge faults grpc", 0.5, owner="orders"),
        series("edge refusals", 4, owner="catalog"),
        series("edge p50", 5, owner="orders"),
        series("edge p99", 250, owner="orders"),
        series("clients p99", 300),
        series("peers", 8, service="orders", owner="catalog"),
        series("peer p99", 0.02, service="orders", owner="catalog"),
        series("transactions", 7, service="orders", database="orders"),
        series("cache", 6, service="catalog", entry="m", result="hit"),
        series("cache", 2, service="catalog", entry="m", result="error"),
        series("published", 3, service="relay"),
        series("delivered", 3, service="email", queue="weft.email"),
        series("deliveries failed", 1, service="email", queue="weft.email"),
    )

    made = mesh.compose(readings(metrics=said(numbers)), AT)

    outside, orders = edge(made, "clients", "gateway"), edge(made, "gateway", "orders")
    assert (42, 1.5, 4, 0.3) == (outside.rate, outside.error_rate, outside.refusal_rate, outside.p99_seconds)
    assert (10, 1.5, 0, 0.005, 0.25) == (
        orders.rate,
        orders.error_rate,
        orders.refusal_rate,
        orders.p50_seconds,
        orders.p99_seconds,
    )
    assert (8, 0, 0.02) == (lambda one: (one.rate, one.error_rate, one.p99_seconds))(edge(made, "orders", "catalog"))
    assert not edge(made, "orders", "catalog").HasField("p50_seconds")
    assert mesh_pb2.Edge.KIND_DATABASE == edge(made, "orders", "postgres").kind
    assert (8, 2) == (lambda one: (one.rate, one.error_rate))(edge(made, "catalog", "memcached"))
    assert mesh_pb2.Edge.KIND_PUBLISH == edge(made, "relay", "rabbitmq").kind
    assert (3, 1) == (lambda one: (one.rate, one.error_rate))(edge(made, "rabbitmq", "email"))
    assert 0.75 == made.cache_entries[0].hit_ratio


def test_what_fires_comes_before_what_is_about_to_and_the_gravest_first() -> None:
    found = alerts.parse(ALERTS)

    assert ["ServiceDown", "CacheDown", "DatabaseDown"] == [each.alert for each in found]
    assert alerts_pb2.Alert.STATE_PENDING == found[2].state
    assert ("memcached-1", "docs/runbooks/CacheDown.md", {"instance": "memcached-1"}) == (
        found[1].process,
        found[1].runbook,
        dict(found[1].labels),
    )
    assert 1_780_315_198 == found[1].start_time.seconds


@pytest.mark.parametrize("answer", [None, [], {}, {"data": {"alerts": [{}]}}, {"data": {"alerts": 3}}, "no"])
def test_what_is_no_answer_of_prometheus_is_told_from_none(answer: Any) -> None:
    with pytest.raises(ValueError, match="not an answer"):
        alerts.parse(answer)
    with pytest.raises(ValueError, match="not an answer"):
        figures.parse({"data": {"result": [answer]}} if isinstance(answer, dict) else answer)


def test_queues_are_counted_by_the_broker_and_else_as_workers_measured_them() -> None:
    depths = {"weft.email": 3, "weft.email.dead": 2, "weft.email.retry.2s": 1, "weft.email.retry.10s": 4, "other": 9}
    numbers = measured(
        *(series("depth", count, queue=name) for name, count in (("weft.analytics", 5), ("weft.analytics.dead", 1))),
        series("delivered", 2, service="analytics-worker", queue="weft.analytics"),
    )

    (email,) = mesh.compose(readings(dead_letters=said(depths)), AT).queues
    (sales,) = mesh.compose(readings(metrics=said(numbers)), AT).queues

    assert ("queues/email", "email", 3, 5, 2) == (
        email.name,
        email.service,
        email.waiting_events,
        email.retried_events,
        email.dead_letters,
    )
    assert not email.HasField("rate")
    assert ("queues/analytics", "analytics-worker", 5, 1, 2) == (
        sales.name,
        sales.service,
        sales.waiting_events,
        sales.dead_letters,
        sales.rate,
    )


def test_stores_say_what_was_measured_and_are_down_when_their_process_is() -> None:
    there = (
        process("etcd-1", kind="etcd"),
        process("memcached-1", kind="memcached", state="down", pid=None),
        process("postgres-1", kind="database", service="postgres"),
    )
    numbers = measured(
        series("etcd leads", 1, instance="etcd-1"),
        series("cache up", 1, instance="memcached-1"),
        series("cache limit", 64, instance="memcached-1"),
        series("transactions", 7, service="orders", database="orders"),
        series("outbox", 3, database="orders"),
        series("database up", 1),
    )

    made = mesh.compose(readings(supervisor=said(Known(status(*there))), metrics=said(numbers)), AT)

    (member,), (node,), (database,) = made.registry_members, made.cache_nodes, made.databases
    assert (True, True, False) == (member.up, member.leader, member.HasField("size_bytes"))
    assert (False, 64) == (node.up, node.limit_bytes)
    assert ("orders", "postgres-1", True, 7, 3) == (
        database.name,
        database.leader,
        database.up,
        database.transaction_rate,
        database.outbox_events,
    )


def test_a_client_that_refused_its_configuration_comes_first_with_its_words() -> None:
    refusal = Refusal("Listener", "v2", "no such\n  filter")
    clients = (
        ClientState("orders-1", "grpc", 1, False, (), ()),
        ClientState("gateway-1", "envoy", 1, False, (), (refusal,), agent="envoy 1.40.0"),
    )
    registered = Registered((), (ControlPlaneStatus("control-plane-1", "ab", "", (), clients),))

    made = mesh.compose(readings(registry=said(registered)), AT)

    assert [("gateway-1", mesh_pb2.Proxy.STATE_NACKED), ("orders-1", mesh_pb2.Proxy.STATE_SYNCED)] == [
        (proxy.node, proxy.state) for proxy in made.proxies
    ]
    assert ["Listener: no such filter"] == list(made.proxies[0].refusals)


def test_a_moment_that_is_none_is_absent() -> None:
    assert [None, None, None] == [mesh.stamp(each) for each in ("", "soon", "2026-06-01T12:00:00")]
