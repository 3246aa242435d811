"""Lanes of a running mesh: who goes by one, how far it travels, and that nobody notices its failure or its end."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import grpc
import pytest

from deploy.cli.gateway_client import GatewayClient
from deploy.cli.load.run import UnderLoad
from deploy.cli.load.traffic import Wanted
from deploy.supervisor.config import PROJECT
from deploy.supervisor.lane import LaneSpec
from deploy.supervisor.mesh import Mesh
from deploy.supervisor.workspace import temporary
from svc.chassis import telemetry
from svc.chassis.context import Deadline
from svc.chassis.database import Database, Transaction
from tests.integration.shop import CALL_S, Customer, Shop, metadata, place_request, traceparent
from tests.integration.test_event_path import BY_SUBJECT, READ_S
from tests.integration.test_telemetry import find_trace, walk
from tests.integration.weft_command import weft_here
from tests.waiting import eventually
from weft.events.v1.envelope_pb2 import Envelope
from weft.orders.v1 import orders_pb2
from weft_protos.lanes import ASKED, HEADER

PLACE: Final = "weft.orders.v1.OrderService/PlaceOrder"
LIST: Final = "weft.orders.v1.OrderService/ListOrders"
RPS: Final = 30
CANARY: Final = LaneSpec(("orders",), header="canary")
#: What a planted fault is put in front of.
HANDLER: Final = (
    "    def PlaceOrder(self, request: orders_pb2.PlaceOrderRequest, call: CallContext) -> orders_pb2.Order:\n"
)


@pytest.fixture(autouse=True)
def _whole(mesh: Mesh) -> Iterator[None]:
    mesh.wait_ready()
    yield
    for each in mesh.lanes():
        mesh.end_lane(each["name"])
    mesh.wait_ready()


@pytest.fixture(scope="module")
def shop(mesh: Mesh, operator: GatewayClient) -> Shop:
    return Shop(mesh, operator)


@pytest.fixture(scope="module")
def customer(shop: Shop) -> Customer:
    return shop.customer()


def place(shop: Shop, customer: Customer, product: str, *, lane: str = "", trace: str = "", **headers: str) -> str:
    """How one order ends."""
    asked = {**({ASKED: lane} if lane else {}), **headers}
    try:
        shop.orders.PlaceOrder(
            place_request({product: 1}), metadata=(*metadata(customer, trace), *asked.items()), timeout=CALL_S
        )
    except grpc.RpcError as error:
        return str(error.code().name)  # type: ignore[attr-defined]
    return "OK"


def answered(shop: Shop, target: str) -> float:
    """Orders that the instances of a service, or of a lane of it, have answered."""
    return shop.exposed(target, "weft_rpc_requests_total", method=PLACE)


def found(mesh: Mesh, name: str) -> dict[str, Any]:
    return next(each for each in mesh.lanes() if each["name"] == name)


def test_only_calls_that_ask_for_a_lane_go_there_and_it_outlives_the_control_planes(
    mesh: Mesh, shop: Shop, customer: Customer
) -> None:
    product = shop.product(stock=1000)
    mesh.start_lane("canary", CANARY)
    assert ("open", ["orders-canary-1"]) == (
        found(mesh, "canary")["state"],
        [each["name"] for each in found(mesh, "canary")["instances"]],
    )

    def only_there() -> None:
        before = answered(shop, "orders@canary"), answered(shop, "orders")
        assert ["OK"] * 10 == [place(shop, customer, product, lane="canary") for _ in range(10)]
        assert ["OK"] * 5 == [place(shop, customer, product) for _ in range(5)]
        assert ["OK"] * 5 == [place(shop, customer, product, lane="other") for _ in range(5)]
        # What only the gateway may say is not heard from outside.
        assert ["OK"] * 5 == [place(shop, customer, product, **{HEADER: "canary"}) for _ in range(5)]
        assert (10, 15) == (answered(shop, "orders@canary") - before[0], answered(shop, "orders") - before[1])

    only_there()
    for name in ("control-plane-1", "control-plane-2"):
        mesh.restart(name)
    only_there()


def test_the_whole_chain_and_the_event_go_by_the_lane(mesh: Mesh, shop: Shop, customer: Customer) -> None:
    product, trace = shop.product(stock=10), traceparent()
    mesh.start_lane("canary", CANARY)
    assert "OK" == place(shop, customer, product, lane="canary", trace=trace)
    wanted = {"orders", "catalog", "email", "audit", "analytics-worker"}

    def laned() -> set[str]:
        """Services with a span that names the lane."""
        spans = walk(find_trace(shop, trace.split("-")[1])["spans"])
        return {span["service"] for span in spans if span["attributes"].get(telemetry.LANE) == "canary"}

    # Catalog has no such lane: its stable instances answered, and know the lane all the same.
    eventually(lambda: wanted <= laned())
    audit = Database((mesh.secrets / "database-audit.url").read_text().strip(), pool_size=1, name="test")

    def kept(tx: Transaction) -> list[Any]:
        return list(tx.execute(BY_SUBJECT, {"subject": customer.id}).all())

    rows = audit.read(kept, deadline=Deadline.after(READ_S))
    audit.close()
    assert trace.split("-")[1] in {
        envelope.traceparent.split("-")[1]
        for envelope in (Envelope.FromString(row.envelope) for row in rows)
        if envelope.lane == "canary"
    }


def test_a_lane_behind_another_service_is_reached_by_the_calls_that_go_by_it(
    mesh: Mesh, shop: Shop, customer: Customer
) -> None:
    product = shop.product(stock=100)
    mesh.start_lane("inner", LaneSpec(("catalog",), claim="sub", value=customer.id))

    assert ["OK"] * 10 == [place(shop, customer, product) for _ in range(10)]
    assert ["OK"] * 10 == [place(shop, shop.customer(), product) for _ in range(10)]

    method = "weft.catalog.v1.CatalogService/BatchGetProducts"
    assert 10 == shop.exposed("catalog@inner", "weft_rpc_requests_total", method=method)


def test_a_share_of_the_users_goes_by_a_lane_each_of_them_always(mesh: Mesh, shop: Shop) -> None:
    users = [shop.customer() for _ in range(12)]
    mesh.start_lane("canary", LaneSpec(("orders",), percent=50.0))

    def there() -> list[bool]:
        was = []
        for user in users:
            before = shop.exposed("orders@canary", "weft_rpc_requests_total", method=LIST)
            shop.orders.ListOrders(orders_pb2.ListOrdersRequest(), metadata=metadata(user), timeout=CALL_S)
            was.append(shop.exposed("orders@canary", "weft_rpc_requests_total", method=LIST) > before)
        return was

    half = there()
    assert half == there()
    mesh.shift_lane("canary", 100.0)
    eventually(lambda: all(there()))
    mesh.shift_lane("canary", 0.0)
    eventually(lambda: not any(there()))


def test_a_lane_starts_runs_and_ends_under_load_and_no_call_and_no_stream_fails(
    mesh: Mesh, shop: Shop, customer: Customer
) -> None:
    product = shop.product(stock=1000)
    with UnderLoad(mesh, Wanted(RPS)) as load:
        mesh.start_lane("canary", LaneSpec(("orders", "catalog"), percent=50.0, header="canary", instances=2))
        assert ["OK"] * 50 == [place(shop, customer, product, lane="canary") for _ in range(50)]
        mesh.shift_lane("canary", 100.0)
        assert ["OK"] * 50 == [place(shop, customer, product) for _ in range(50)]
        mesh.end_lane("canary")
        assert ["OK"] * 50 == [place(shop, customer, product, lane="canary") for _ in range(50)]

    stock = load.result["stock"]
    assert (0, {}, 0, 0) == (load.result["errors"], load.result["refusals"], stock["lost"], stock["surplus"])
    assert [] == [process.name for process in mesh.status().processes if "canary" in process.name]


@pytest.mark.parametrize(
    "times",
    [1, pytest.param(3, marks=pytest.mark.long(short="test_the_only_instance_of_a_lane_is_killed_and_no_call_fails"))],
)
def test_the_only_instance_of_a_lane_is_killed_and_no_call_fails(
    mesh: Mesh, shop: Shop, customer: Customer, times: int
) -> None:
    product = shop.product(stock=1000)
    mesh.start_lane("canary", CANARY)
    for _ in range(times):
        assert ["OK"] * 5 == [place(shop, customer, product, lane="canary") for _ in range(5)]
        mesh.kill("orders-canary-1")
        assert ["OK"] * 20 == [place(shop, customer, product, lane="canary") for _ in range(20)]
        mesh.wait_ready()

    assert "open" == found(mesh, "canary")["state"]


@pytest.fixture
def failing() -> Iterator[Path]:
    """A clone whose orders service fails at every order."""
    with temporary() as folder:
        for part in ("svc", "lb"):
            shutil.copytree(PROJECT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copytree(PROJECT / "protos", folder / "protos", ignore=shutil.ignore_patterns("__pycache__"))
        rpc = folder / "svc" / "orders" / "rpc.py"
        text = rpc.read_text()
        assert 1 == text.count(HANDLER)
        rpc.write_text(text.replace(HANDLER, f'{HANDLER}        raise RuntimeError("planted")\n'))
        yield folder


def test_a_lane_that_fails_is_rolled_back_by_itself_and_other_callers_see_nothing(
    mesh: Mesh, shop: Shop, customer: Customer, failing: Path
) -> None:
    product = shop.product(stock=1000)
    with UnderLoad(mesh, Wanted(RPS)) as load:
        mesh.start_lane("canary", LaneSpec(("orders",), header="canary", checkout=str(failing)))
        ended: list[str] = []

        def rolled_back() -> bool:
            ended.append(place(shop, customer, product, lane="canary"))
            return found(mesh, "canary")["state"] == "rolled-back"

        eventually(rolled_back)
        eventually(lambda: not found(mesh, "canary")["instances"])
        assert ["OK"] * 20 == [place(shop, customer, product, lane="canary") for _ in range(20)]

    assert "INTERNAL" in ended
    assert (0, {}) == (load.result["errors"], load.result["refusals"])
    assert PLACE in found(mesh, "canary")["reason"]
    assert any("lane_rolled_back" in line for line in mesh.log_tail("supervisor", 500))
    query = "/api/v1/query?query=weft_lane_rolled_back%7Blane=%22canary%22%7D"
    eventually(lambda: ["1"] == [each["value"][1] for each in shop.fetch("metrics", query)["data"]["result"]])


def test_the_command_starts_lists_watches_shifts_and_ends_a_lane(mesh: Mesh) -> None:
    def weft(*arguments: str, code: int = 0) -> str:
        done = weft_here(mesh.secrets.parent, "lane", *arguments)
        assert code == done.returncode, done.stderr
        return done.stdout if code == 0 else done.stderr

    assert (
        "canary" == json.loads(weft("start", "canary", "--service", "orders", "--header", "canary", "--json"))["name"]
    )
    assert "there is a lane canary already" in weft("start", "canary", "--service", "orders", code=1)
    assert "takes 25 % of the users" in weft("shift", "canary", "25")
    (listed,) = json.loads(weft("list", "--json"))["lanes"]
    assert ("canary", 25.0, "open", "ready") == (
        *(listed[key] for key in ("name", "percent", "state")),
        listed["instances"][0]["state"],
    )
    assert "stopped orders-canary-1" in weft("end", "canary")
    assert "no lane is called canary" in weft("watch", "canary", code=1)
    assert "there are no lanes" in weft("list")
