"""A mesh of its own with a real Zipkin beside the trace store: gateways, what an order needs, the store and Zipkin.

Skipped where no Java or no jar is. The jar is never fetched here: `weft up --traces zipkin` does it once, or
WEFT_ZIPKIN_JAR names one.
"""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from urllib.error import HTTPError, URLError

import pytest

from deploy.supervisor import zipkin_jar
from deploy.supervisor.config import Settings
from deploy.supervisor.mesh import Mesh
from deploy.supervisor.workspace import temporary
from tests.integration.shop import Customer, Shop, read, traceparent
from tests.waiting import eventually

PARTS: Final = (
    *("gateway-1", "catalog-1", "catalog-2", "orders-1", "orders-2", "memcached-1", "memcached-2"),
    *("traces", "zipkin"),
)
BATCH_GET: Final = "weft.catalog.v1.catalogservice/batchgetproducts"
#: Services and kinds of the spans of one order; Zipkin writes every name small.
ORDER: Final = {("gateway", "SERVER"), ("gateway", "CLIENT"), ("orders", "SERVER"), ("catalog", "SERVER")}
#: A Java on a machine that does much else.
BACK_S: Final = 120.0


@pytest.fixture(scope="module")
def jar() -> Path:
    """The jar of this machine."""
    if shutil.which("java") is None:
        pytest.skip("Zipkin needs Java 17, and this machine has none: apt install openjdk-17-jre-headless")
    found = zipkin_jar.path(Settings.from_environ().zipkin_jar)
    if not found.exists():
        pytest.skip(f"there is no {found}: `weft up --traces zipkin` fetches it once, or WEFT_ZIPKIN_JAR names one")
    return found


@pytest.fixture(scope="module")
def zipkin_mesh(jar: Path) -> Iterator[Mesh]:
    with temporary() as folder:
        settings = Settings(data=folder, traces="zipkin", zipkin_jar=jar)
        with Mesh(folder, ports="free", only=PARTS, ephemeral=True, settings=settings) as mesh:
            mesh.start()
            yield mesh


@pytest.fixture(scope="module")
def zipkin_shop(zipkin_mesh: Mesh) -> Iterator[Shop]:
    with Shop.opened(zipkin_mesh) as shop:
        yield shop


@pytest.fixture(scope="module")
def customer(zipkin_shop: Shop) -> Customer:
    return zipkin_shop.customer()


def spans(shop: Shop, trace_id: str) -> list[dict[str, Any]]:
    """A trace as Zipkin has it now; empty where it has none, or does not answer."""
    url = str(shop.mesh.status().urls["zipkin"])
    try:
        found: list[dict[str, Any]] = json.loads(read(f"{url}api/v2/trace/{trace_id}"))
    except HTTPError as error:
        if error.code != 404:
            raise
        return []
    except (URLError, ConnectionError):  # its Java has just been ended
        return []
    return found


def hops(found: list[dict[str, Any]]) -> set[tuple[str, str]]:
    return {(span["localEndpoint"]["serviceName"], span.get("kind", "")) for span in found}


def ordered(shop: Shop, customer: Customer) -> str:
    """Place an order; its trace id."""
    trace = traceparent()
    shop.place(customer, {shop.product(): 1}, traceparent=trace)
    return trace.split("-")[1]


def test_a_call_through_the_gateway_is_found_in_zipkin_with_all_its_services(
    zipkin_shop: Shop, customer: Customer
) -> None:
    trace_id = ordered(zipkin_shop, customer)

    found: dict[str, dict[str, Any]] = {}

    def whole() -> bool:
        found.update({span["id"]: span for span in spans(zipkin_shop, trace_id)})
        # A caller's span may come after those of whom it called.
        called = [span for span in found.values() if hops([span]) == {("catalog", "SERVER")}]
        return hops([*found.values()]) >= ORDER and all(span["parentId"] in found for span in called)

    eventually(whole, deadline_s=BACK_S)
    asked = [span for span in found.values() if hops([span]) == {("catalog", "SERVER")}]
    assert {BATCH_GET} == {span["name"] for span in asked}
    assert {"orders"} == {found[span["parentId"]]["localEndpoint"]["serviceName"] for span in asked}
    assert all(span["timestamp"] > 0 and span["duration"] > 0 for span in found.values())


def test_the_built_in_store_has_the_same_spans(zipkin_shop: Shop, customer: Customer) -> None:
    trace_id = ordered(zipkin_shop, customer)

    def kept() -> int:
        try:
            return int(zipkin_shop.fetch("traces", f"/api/traces/{trace_id}")["span_count"])
        except HTTPError:
            return 0

    def whole() -> bool:
        shown = spans(zipkin_shop, trace_id)
        return hops(shown) >= ORDER and kept() == len(shown)

    eventually(whole, deadline_s=BACK_S)


def test_a_zipkin_that_was_killed_is_back_with_what_comes_then(zipkin_shop: Shop, customer: Customer) -> None:
    mesh = zipkin_shop.mesh
    before = mesh.status().process("zipkin").restarts
    mesh.kill("zipkin")
    eventually(lambda: mesh.status().process("zipkin").restarts > before)
    mesh.wait_ready(timeout_s=BACK_S)

    trace_id = ordered(zipkin_shop, customer)

    eventually(lambda: hops(spans(zipkin_shop, trace_id)) >= ORDER, deadline_s=BACK_S)


def test_zipkin_is_shown_with_its_address_and_its_metrics(zipkin_shop: Shop) -> None:
    status = zipkin_shop.mesh.status()
    process = status.process("zipkin")

    assert ("monitor", "ready", f"http://{process.address}/") == (process.kind, process.state, status.urls["zipkin"])
    assert b"zipkin_collector_spans_total" in read(f"{status.urls['zipkin']}prometheus")
