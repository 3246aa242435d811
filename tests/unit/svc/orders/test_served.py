"""Both services behind the chassis's real server: contract, handlers and streams fit together."""

from collections.abc import Iterator

import grpc
import pytest

from svc.chassis.config import Address
from svc.chassis.context import Deadline, Principal
from svc.chassis.ids import new_id
from svc.chassis.pages import PageTokens
from svc.chassis.server import Limits, Server
from svc.orders.rpc import InventoryHandler, OrderHandler
from tests.fakes.orders import World, looking, make_world
from weft.orders.v1 import inventory_pb2, orders_pb2, orders_pb2_grpc

WAIT_S = 10.0
TOKEN = (("authorization", "Bearer t"),)


class Everybody:
    """Takes any token for Ann's."""

    def verify(self, token: str) -> Principal:
        scopes = frozenset({"orders.read", "orders.write"})
        return Principal(subject="ann", scopes=scopes, session="s", actor=None, token=token)

    def refuse_revoked(self, principal: Principal) -> None:
        """Nobody's is ever revoked."""


@pytest.fixture
def world() -> World:
    world = make_world()
    world.put(mug=9)
    return world


@pytest.fixture
def server(world: World) -> Iterator[Server]:
    services = [
        (orders_pb2.DESCRIPTOR.services_by_name["OrderService"], OrderHandler(world.ports, PageTokens(bytes(32)))),
        (inventory_pb2.DESCRIPTOR.services_by_name["InventoryService"], InventoryHandler(world.ports)),
    ]
    with looking(world.watches):
        server = Server(services, verifier=Everybody(), limits=Limits(threads=2, streams=1))
        yield server
        server.stop(0.5)


@pytest.fixture
def orders(server: Server) -> Iterator[orders_pb2_grpc.OrderServiceStub]:
    port = server.bind(Address("127.0.0.1", 0))
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield orders_pb2_grpc.OrderServiceStub(channel)


def place(orders: orders_pb2_grpc.OrderServiceStub, request_id: str, quantity: int = 3) -> orders_pb2.Order:
    item = orders_pb2.ItemQuantity(product_id="mug", quantity=quantity)
    request = orders_pb2.PlaceOrderRequest(items=[item], request_id=request_id)
    return orders.PlaceOrder(request, metadata=TOKEN, timeout=WAIT_S)


def test_a_repeated_call_gets_the_same_answer(orders: orders_pb2_grpc.OrderServiceStub, world: World) -> None:
    request_id = new_id()

    assert place(orders, request_id) == place(orders, request_id)
    assert {"mug": 6} == world.left()


def test_one_request_id_for_two_bodies_is_refused(orders: orders_pb2_grpc.OrderServiceStub, world: World) -> None:
    request_id = new_id()
    place(orders, request_id, 1)

    with pytest.raises(grpc.RpcError) as refusal:
        place(orders, request_id, 2)
    assert grpc.StatusCode.FAILED_PRECONDITION is refusal.value.code()
    assert {"mug": 8} == world.left()


def test_a_request_against_the_contract_reaches_nobody(orders: orders_pb2_grpc.OrderServiceStub, world: World) -> None:
    with pytest.raises(grpc.RpcError) as refusal:
        place(orders, new_id(), 0)
    assert grpc.StatusCode.INVALID_ARGUMENT is refusal.value.code()
    assert [] == world.catalog.asked


def test_a_watch_above_the_budget_is_refused_and_a_drain_ends_the_others(
    orders: orders_pb2_grpc.OrderServiceStub, server: Server
) -> None:
    request = orders_pb2.WatchOrderRequest(name=place(orders, new_id()).name)
    stream = orders.WatchOrder(request, metadata=TOKEN, timeout=WAIT_S)
    assert 1 == next(stream).order.revision

    with pytest.raises(grpc.RpcError) as refusal:
        next(orders.WatchOrder(request, metadata=TOKEN, timeout=WAIT_S))
    assert grpc.StatusCode.RESOURCE_EXHAUSTED is refusal.value.code()

    server.stop(WAIT_S)
    with pytest.raises(grpc.RpcError) as end:
        next(stream)
    assert grpc.StatusCode.UNAVAILABLE is end.value.code()


def test_a_cancelled_watch_gives_its_place_back(orders: orders_pb2_grpc.OrderServiceStub) -> None:
    request = orders_pb2.WatchOrderRequest(name=place(orders, new_id()).name)
    stream = orders.WatchOrder(request, metadata=TOKEN, timeout=WAIT_S)
    next(stream)
    stream.cancel()

    # The server hears of the cancellation a moment later.
    deadline = Deadline.after(WAIT_S)
    while True:
        try:
            again = next(orders.WatchOrder(request, metadata=TOKEN, timeout=WAIT_S)).order
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED or deadline.expired():
                raise
        else:
            assert request.name == again.name
            return
