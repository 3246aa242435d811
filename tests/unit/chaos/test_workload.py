"""Those who call while a mesh is hurt write down what happened, and repeat what nobody knows the end of."""

import io
import json
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from datetime import timedelta
from random import Random
from typing import Any, cast

import grpc
import pytest

from deploy.supervisor.messages import Process, Status
from svc.chassis.clock import SystemClock
from tests.chaos import workload
from tests.chaos.faults import BACKEND
from tests.chaos.history import Event, Operation, Recorder, operations
from tests.chaos.workload import Intruder, Watcher, Workload, steady, told
from tests.integration.shop import Customer, Shop
from tests.unit.lb import sample
from tests.unit.lb.conftest import ControlPlane
from tests.waiting import eventually
from weft.identity.v1 import identity_pb2
from weft.orders.v1 import orders_pb2, orders_pb2_grpc


class Orders(orders_pb2_grpc.OrderServiceServicer):
    """Loses the answer to the first attempt of every write; knows who may write."""

    def __init__(self) -> None:
        self.answers: dict[str, str] = {}
        self.taken: dict[str, int] = {}
        self._lock = threading.Lock()

    def PlaceOrder(self, request: Any, context: Any) -> Any:  # noqa: N802 - the contract's name
        token = dict(context.invocation_metadata()).get("authorization", "")
        if not token.startswith("Bearer customer"):
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "who?")
        with self._lock:
            known = self.answers.get(request.request_id)
            name = self.answers.setdefault(request.request_id, f"orders/{len(self.answers)}")
        if known is None:
            context.abort(grpc.StatusCode.UNAVAILABLE, "lost on the way")
        return orders_pb2.Order(name=name)

    def CancelOrder(self, request: Any, context: Any) -> Any:  # noqa: N802 - the contract's name
        with self._lock:
            self.taken[request.request_id] = self.taken.get(request.request_id, 0) + 1
            if self.taken[request.request_id] == 1:
                context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "lost on the way")
        return orders_pb2.Order(name=request.name)

    def GetOrder(self, request: Any, context: Any) -> Any:  # noqa: N802 - the contract's name
        return orders_pb2.Order(name=request.name)


class FakeMesh:
    """One instance of orders and one control plane, ready for a minute."""

    def __init__(self, orders: str, control_plane: str) -> None:
        since = (SystemClock().now() - timedelta(minutes=1)).isoformat()
        places = (("orders-1", "service", "orders", orders), ("c-1", "control-plane", "control-plane", control_plane))
        self._processes = tuple(
            Process(name, kind, service, 1, address, "ready", 0, since, "member")
            for name, kind, service, address in places
        )

    def status(self) -> Status:
        return Status("", {}, self._processes)


class FakeShop:
    """Products and customers out of nothing; a token says whose it is."""

    def __init__(self, channel: grpc.Channel, mesh: FakeMesh) -> None:
        self.orders = orders_pb2_grpc.OrderServiceStub(channel)
        self.mesh, self.operator = mesh, self
        self._made = 0

    def product(self, *, stock: int) -> str:
        return self._new("p")

    def customer(self) -> Customer:
        name = self._new("u")
        return Customer(name, f"{name}@example.com", "", identity_pb2.Session(access_token=f"customer {name}"))

    def sign_in(self, *scopes: str) -> identity_pb2.Session:
        return identity_pb2.Session(access_token="operator-without-that-scope")

    def _new(self, kind: str) -> str:
        self._made += 1
        return f"{kind}-{self._made}"


class Stage:
    """A fake shop before a real server and a real control plane, and the history of what happens there."""

    def __init__(self, shop: FakeShop) -> None:
        self.shop = cast(Shop, shop)
        self._out = io.StringIO()
        self.recorder = Recorder(self._out)

    def seen(self, *names: str) -> list[Operation]:
        lines = self._out.getvalue().split("\n")[:-1]  # the last may be half written
        return operations([Event(**json.loads(line)) for line in lines], *names)


@pytest.fixture
def stage(control_plane: ControlPlane) -> Iterator[Stage]:
    control_plane.feeding(lambda feed: feed.set_endpoints([sample.endpoint("orders-1", 1), sample.endpoint("o-2", 2)]))
    control_plane.feeding(lambda feed: feed.set_bundle(sample.bundle()))
    server = grpc.server(futures.ThreadPoolExecutor(8))
    orders_pb2_grpc.add_OrderServiceServicer_to_server(Orders(), server)
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    with grpc.insecure_channel(address) as channel:
        yield Stage(FakeShop(channel, FakeMesh(address, control_plane.address)))
    server.stop(0).wait()


@pytest.fixture
def control_plane() -> Iterator[ControlPlane]:
    running = ControlPlane()
    running.start()
    yield running
    running.close()


def rounds(count: int) -> Callable[[float], bool]:
    """A pause that takes no time and is the last one after so many."""
    left = iter(range(count))
    return lambda _seconds: next(left, None) is None


def test_everybody_calls_until_it_is_over_and_every_operation_has_an_outcome(stage: Stage) -> None:
    calling = Workload(stage.shop, stage.recorder, seed=1)

    calling.start()
    eventually(lambda: {"place", "cancel", "read", "intrude", "look"} <= {each.name for each in stage.seen()})
    calling.stop()

    found = stage.seen()
    assert {"open", "place", "cancel", "read", "intrude", "look"} == {each.name for each in found}
    assert [] == [each for each in found if each.ended_s == float("inf")]
    assert workload.CALLERS == len(calling.customers) == len({each.asked["customer"] for each in stage.seen("place")})
    assert {(product, workload.STOCK) for product in calling.products} == {
        (each.asked["product"], each.asked["quantity"]) for each in stage.seen("open")
    }


def test_what_has_no_answer_is_repeated_under_its_key(stage: Stage) -> None:
    calling = Workload(stage.shop, stage.recorder, seed=1)
    calling.start()
    eventually(lambda: len(stage.seen("cancel")) > 4)
    calling.stop()

    for name, code in (("place", "UNAVAILABLE"), ("cancel", "DEADLINE_EXCEEDED")):
        attempts: dict[str, list[Operation]] = {}
        for each in stage.seen(name):
            attempts.setdefault(each.asked["key"], []).append(each)
        complete = [each for each in attempts.values() if len(each) > 1]
        assert complete
        assert {("info", "ok")} == {tuple(each.outcome for each in those) for those in complete}
        assert {code} == {those[0].said["code"] for those in complete}
        assert all(those[0].asked == those[1].asked for those in complete)


def test_the_intruder_tries_every_way_and_is_refused(stage: Stage) -> None:
    Intruder(stage.shop, stage.recorder).run(rounds(6))

    found = stage.seen("intrude")
    assert 6 == len({each.asked["how"] for each in found})
    assert {("fail", "UNAUTHENTICATED")} == {(each.outcome, each.said["code"]) for each in found}


def test_the_watcher_notes_how_many_endpoints_a_control_plane_tells(stage: Stage) -> None:
    Watcher(stage.shop, stage.recorder).run(rounds(2))

    assert [{"services": {"orders": 2}}] * 2 == [each.said for each in stage.seen("look")]


def test_a_service_without_endpoints_is_told_to_have_none(control_plane: ControlPlane) -> None:
    control_plane.feeding(lambda feed: feed.set_endpoints([]))
    control_plane.feeding(lambda feed: feed.set_bundle(sample.bundle()))

    assert {"orders": 0} == told(control_plane.address, ["orders"])


def test_only_services_with_an_instance_that_was_ready_for_long_are_steady() -> None:
    now = SystemClock().now()

    def instance(service: str, kind: str, state: str, seconds: float) -> Process:
        since = (now - timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")
        return Process(f"{service}-{Random(seconds).random()}", kind, service, 1, "", state, 0, since, "member")

    status = Status(
        "",
        {},
        (
            instance("orders", "service", "ready", 60),
            instance("orders", "service", "starting", 1),
            instance("catalog", "service", "ready", 1),
            instance("identity", "service", "draining", 60),
            instance("audit", "worker", "ready", 60),
        ),
    )

    assert ["orders"] == steady(status)


@pytest.mark.parametrize(
    ("title", "serves"),
    [
        ("postgres: orders orders 127.0.0.1(45678) idle", True),
        ("postgres: weft_orders orders 127.0.0.1(4) SELECT waiting", True),
        ("postgres: weft: orders orders 127.0.0.1(42150) idle", True),
        ("postgres: weft: walsender replicator 127.0.0.1(42204) streaming 0/B127760", False),
        ("postgres: walsender replicator 127.0.0.1(42204) streaming 0/B127760", False),
        ("postgres: weft: checkpointer ", False),
        ("postgres: checkpointer ", False),
        ("postgres: autovacuum launcher ", False),
        ("/usr/lib/postgresql/15/bin/postgres -D /tmp/weft", False),
    ],
)
def test_a_server_process_of_postgresql_is_told_by_its_title(title: str, serves: bool) -> None:
    assert serves == bool(BACKEND.search(title))
