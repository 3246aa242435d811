"""Monitoring of a running mesh: everything is scraped, an alert reaches people and the supervisor, and it ends."""

import json
import re
import signal
import threading
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from deploy.cli.gateway_client import GatewayClient
from deploy.supervisor.errors import RefusedError
from deploy.supervisor.mesh import Mesh
from gateway import compiler, slo
from tests.contract.test_dashboards import metrics, panels, rules
from tests.integration.shop import Shop
from tests.waiting import eventually
from weft.analytics.v1 import analytics_pb2, analytics_pb2_grpc
from weft_protos import locations

#: Where nobody meets tests that are slow on a busy machine: an alert waits, a mail waits for others of its group.
DEADLINE_S = 180.0


@pytest.fixture
def shop(mesh: Mesh, operator: GatewayClient) -> Shop:
    return Shop(mesh, operator)


def query(shop: Shop, expression: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = shop.fetch("metrics", f"/api/v1/query?query={quote(expression)}")["data"]["result"]
    return found


def targets(shop: Shop) -> dict[str, str]:
    """Health by instance."""
    active = shop.fetch("metrics", "/api/v1/targets?state=active")["data"]["activeTargets"]
    return {target["labels"]["instance"]: target["health"] for target in active}


def subjects(shop: Shop) -> dict[int, str]:
    """Subjects of the operator's newest mail, by number."""
    to = (shop.mesh.secrets / "operator.email").read_text().strip()
    found = shop.fetch("mail", f"/messages?to={quote(to)}&limit=200")["messages"]
    return {mail["id"]: mail["subject"] for mail in found}


def fire(shop: Shop, **labels: str) -> None:
    """Have an alert of the test's own fire, as Prometheus would."""
    notes = {"summary": "A test's.", "description": "It means nothing.", "runbook_url": "docs/runbooks/InstanceDown.md"}
    body = json.dumps([{"labels": labels, "annotations": notes}]).encode()
    url = f"{str(shop.mesh.status().urls['alerts']).rstrip('/')}/api/v2/alerts"
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert 200 == answer.status


def known(shop: Shop) -> set[str]:
    """Names of all series there are, and of those that will be there once something happens."""
    names = set(shop.fetch("metrics", "/api/v1/label/__name__/values")["data"])
    described = shop.fetch("metrics", "/api/v1/metadata")["data"]
    for name, (first, *_) in described.items():
        # OpenMetrics names the family of a counter without the ending of its series.
        endings = {"counter": ("", "_total"), "histogram": ("_bucket", "_count", "_sum")}.get(first["type"], ("",))
        names |= {f"{name}{ending}" for ending in endings}
    return names


def test_every_metric_that_dashboards_and_alerts_ask_for_exists(shop: Shop) -> None:
    product_id, customer = shop.product(), shop.customer()
    shop.place(customer, {product_id: 1})
    asked = {metric for _, expression in [*panels(), *rules()] for metric in metrics(expression)} - {"ALERTS"}

    missing: set[str] = set()

    def none_missing() -> bool:
        missing.clear()
        missing.update(asked - known(shop))
        return not missing

    try:
        eventually(none_missing, deadline_s=DEADLINE_S)
    except AssertionError:
        pytest.fail(f"nobody exposes {', '.join(sorted(missing))}")


def test_stores_and_the_monitor_itself_are_scraped(shop: Shop) -> None:
    expected = {"supervisor", "prometheus", "alertmanager", "postgres-exporter", "rabbitmq-1"}

    eventually(lambda: {name for name, health in targets(shop).items() if health == "up"} >= expected)
    caches = {process.name for process in shop.mesh.status().processes if process.kind == "memcached"}
    eventually(lambda: {each["metric"]["instance"] for each in query(shop, "memcached_up == 1")} == caches)
    eventually(lambda: query(shop, "pg_up == 1"))


def test_an_instance_is_scraped_as_soon_as_it_is_there_and_no_longer_when_it_is_gone(shop: Shop) -> None:
    shop.mesh.scale("audit", 2)
    try:
        eventually(lambda: targets(shop).get("audit-2") == "up")
    finally:
        shop.mesh.scale("audit", 1)

    eventually(lambda: "audit-2" not in targets(shop))
    assert [] == query(shop, 'ALERTS{instance="audit-2", alertstate="firing"}')


def test_calls_are_counted_against_the_objectives_of_the_running_contracts(shop: Shop) -> None:
    product_id, customer = shop.product(), shop.customer()
    shop.place(customer, {product_id: 1})

    watched = json.loads(compiler.watch(locations.contracts().read_bytes()))["groups"][0]["rules"]
    expected = {(rule["labels"]["method"], rule["labels"]["slo"]) for rule in watched if "budget" in rule["record"]}
    eventually(
        lambda: (
            {(each["metric"]["method"], each["metric"]["slo"]) for each in query(shop, "slo:error_budget:ratio")}
            == expected
        )
    )
    place = 'method="weft.orders.v1.OrderService/PlaceOrder"'
    eventually(lambda: query(shop, f'{slo.burn_rate("5m")}{{{place}, slo="availability"}}'), deadline_s=DEADLINE_S)
    eventually(lambda: query(shop, f'{slo.burn_rate("5m")}{{{place}, slo="latency"}}'), deadline_s=DEADLINE_S)


def test_the_monitor_takes_other_objectives_without_a_restart(shop: Shop) -> None:
    rules = compiler.watch(locations.contracts().read_bytes())
    method = "weft.analytics.v1.AnalyticsService/GetSales"
    before = shop.mesh.status().process("prometheus").pid

    def budget() -> str:
        found = query(shop, f'slo:error_budget:ratio{{method="{method}", slo="availability"}}')
        return str(found[0]["value"][1]) if found else ""

    eventually(lambda: budget() == "0.01", deadline_s=DEADLINE_S)
    shop.mesh.watch(rules.replace("vector(0.01)", "vector(0.0123)"))
    try:
        eventually(lambda: budget() == "0.0123", deadline_s=DEADLINE_S)
    finally:
        shop.mesh.watch(rules)

    eventually(lambda: budget() == "0.01", deadline_s=DEADLINE_S)
    assert before == shop.mesh.status().process("prometheus").pid


@contextmanager
def kept_down(mesh: Mesh, name: str) -> Iterator[None]:
    """Ends a process whenever the supervisor has started it again."""
    stop = threading.Event()

    def end() -> None:
        while not stop.wait(0.1):
            try:
                mesh.kill(name, signal.SIGKILL)
            except RefusedError:
                continue  # between two lives

    thread = threading.Thread(target=end)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        mesh.wait_ready()


def test_a_service_without_an_instance_is_told_by_mail_and_so_is_its_return(shop: Shop) -> None:
    names = [process.name for process in shop.mesh.status().processes if process.service == "analytics"]
    assert ["analytics-1"] == names
    before = subjects(shop)

    def told(state: str) -> bool:
        new = [subject for number, subject in subjects(shop).items() if number not in before]
        return any(re.match(rf"\[{state}(:\d+)?\].*ServiceDown.*analytics", subject) for subject in new)

    with kept_down(shop.mesh, "analytics-1"):
        eventually(lambda: told("FIRING"), deadline_s=DEADLINE_S)

    eventually(lambda: told("RESOLVED"), deadline_s=DEADLINE_S)
    request = analytics_pb2.GetSalesRequest()
    stub = analytics_pb2_grpc.AnalyticsServiceStub(shop.operator.channel(uuid.uuid4().hex))
    eventually(lambda: shop.operator.call(stub.GetSales, request) is not None)


def test_the_supervisor_restarts_an_instance_that_an_alert_names(shop: Shop) -> None:
    def pid() -> int | None:
        return shop.mesh.status().process("audit-1").pid

    def done() -> float:
        found = query(shop, 'weft_recoveries_total{action="restart", outcome="done"}')
        return float(found[0]["value"][1]) if found else 0.0

    before, counted, name = pid(), done(), f"Test{uuid.uuid4().hex[:8]}"
    fire(shop, alertname=name, service="audit", instance="audit-1", recovery="restart")

    eventually(lambda: pid() not in (None, before), deadline_s=DEADLINE_S)
    shop.mesh.wait_ready()
    eventually(lambda: done() > counted, deadline_s=DEADLINE_S)
    eventually(lambda: any(name in subject for subject in subjects(shop).values()), deadline_s=DEADLINE_S)


def test_the_door_of_the_supervisor_is_shut_without_its_token(shop: Shop) -> None:
    active = shop.fetch("metrics", "/api/v1/targets?state=active")["data"]["activeTargets"]
    url = next(target["scrapeUrl"] for target in active if target["labels"]["instance"] == "supervisor")
    body = json.dumps({"alerts": []}).encode()

    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(urllib.request.Request(url.replace("/metrics", "/recovery"), body), timeout=10)

    with refused.value as answer:
        assert 401 == answer.code
    token = (shop.mesh.secrets / "recovery.password").read_text().strip()
    for log in Path(shop.mesh.logs).glob("*.log"):
        assert token not in log.read_text(errors="replace"), log.name
