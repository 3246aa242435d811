"""Reading, listing and taking back orders, and stock."""

from datetime import timedelta

import pytest

from svc.chassis.errors import FailedPrecondition, InvalidArgument, NotFound
from svc.chassis.ids import new_id
from svc.chassis.pages import PageTokens
from svc.orders.rpc import InventoryHandler, OrderHandler
from tests.fakes.orders import World, make_call, make_world
from weft.orders.v1 import inventory_pb2, orders_pb2

PLACE = "/weft.orders.v1.OrderService/PlaceOrder"
CANCEL = "/weft.orders.v1.OrderService/CancelOrder"


@pytest.fixture
def world() -> World:
    world = make_world()
    world.put(mug=100, tea=100)
    return world


@pytest.fixture
def orders(world: World) -> OrderHandler:
    return OrderHandler(world.ports, PageTokens(bytes(32)))


@pytest.fixture
def inventory(world: World) -> InventoryHandler:
    return InventoryHandler(world.ports)


def items(**quantities: int) -> list[orders_pb2.ItemQuantity]:
    return [orders_pb2.ItemQuantity(product_id=key, quantity=value) for key, value in quantities.items()]


def place(orders: OrderHandler, user: str = "ann", **quantities: int) -> orders_pb2.Order:
    request = orders_pb2.PlaceOrderRequest(items=items(**quantities), request_id=new_id())
    return orders.PlaceOrder(request, make_call(user, method=PLACE))


def cancel(
    orders: OrderHandler, name: str, *, user: str = "ann", request_id: str = "", **quantities: int
) -> orders_pb2.Order:
    request = orders_pb2.CancelOrderRequest(name=name, items=items(**quantities), request_id=request_id or new_id())
    return orders.CancelOrder(request, make_call(user, method=CANCEL))


def get(orders: OrderHandler, name: str, user: str = "ann") -> orders_pb2.Order:
    return orders.GetOrder(orders_pb2.GetOrderRequest(name=name), make_call(user))


def test_an_order_is_read_as_it_was_answered(orders: OrderHandler) -> None:
    order = place(orders, mug=2, tea=1)

    assert order == get(orders, order.name)


def test_anothers_order_is_not_found(orders: OrderHandler) -> None:
    order = place(orders, mug=2)
    missing = f"orders/{new_id()}"

    for name in (order.name, missing):
        with pytest.raises(NotFound) as refusal:
            get(orders, name, "bob")
        assert ("order", name) == refusal.value.resource
        with pytest.raises(NotFound):
            cancel(orders, name, user="bob")
    assert order == get(orders, order.name)


def test_pages_hold_the_callers_orders_the_newest_first(orders: OrderHandler, world: World) -> None:
    names = []
    for user in ("ann", "bob", "ann", "ann"):
        names.append((user, place(orders, user, mug=1).name))
        world.clock.move(timedelta(seconds=1))
    first = orders.ListOrders(orders_pb2.ListOrdersRequest(page_size=2), make_call())

    second = orders.ListOrders(orders_pb2.ListOrdersRequest(page_size=2, page_token=first.next_page_token), make_call())

    found = [order.name for order in [*first.orders, *second.orders]]
    assert [name for user, name in reversed(names) if user == "ann"] == found
    assert "" == second.next_page_token


def test_a_page_token_works_for_its_user_only(orders: OrderHandler) -> None:
    place(orders, mug=1)
    place(orders, mug=1)
    token = orders.ListOrders(orders_pb2.ListOrdersRequest(page_size=1), make_call()).next_page_token

    for user, forged in (("bob", token), ("ann", token[:-2]), ("ann", "nonsense")):
        with pytest.raises(InvalidArgument) as refusal:
            orders.ListOrders(orders_pb2.ListOrdersRequest(page_token=forged), make_call(user))
        assert ["page_token"] == [field for field, _ in refusal.value.violations]


def test_taking_back_puts_pieces_into_stock_and_tells_what_came_back(orders: OrderHandler, world: World) -> None:
    order = place(orders, mug=5, tea=2)

    partly = cancel(orders, order.name, mug=3)
    whole = cancel(orders, order.name)

    assert orders_pb2.Order.STATE_PARTIALLY_CANCELLED == partly.state
    assert (orders_pb2.Order.STATE_CANCELLED, 3, 0) == (whole.state, whole.revision, whole.total.units)
    assert whole == get(orders, order.name)
    assert {"mug": 100, "tea": 100} == world.left()
    _, first, second = world.facts()
    assert ([("mug", 3)], False) == ([(item.product_id, item.quantity) for item in first.items], first.whole)
    assert (7, 500_000_000) == (first.total.units, first.total.nanos)
    assert [("mug", 2), ("tea", 2)] == [(item.product_id, item.quantity) for item in second.items]
    assert (True, whole.update_time) == (second.whole, second.cancel_time)


def test_a_repeated_cancellation_gets_the_first_answer(orders: OrderHandler, world: World) -> None:
    order = place(orders, mug=5)
    request_id = new_id()
    first = cancel(orders, order.name, request_id=request_id, mug=3)
    cancel(orders, order.name, mug=1)

    assert first == cancel(orders, order.name, request_id=request_id, mug=3)
    assert {"mug": 99, "tea": 100} == world.left()
    assert [] == world.memory.mismatched()


def test_more_than_stands_is_not_taken_back(orders: OrderHandler, world: World) -> None:
    order = place(orders, mug=5)

    with pytest.raises(FailedPrecondition):
        cancel(orders, order.name, mug=6)

    assert order == get(orders, order.name)
    assert {"mug": 95, "tea": 100} == world.left()


def test_setting_stock_twice_with_one_request_id_sets_it_once(inventory: InventoryHandler, world: World) -> None:
    request = inventory_pb2.SetStockRequest(name="stock/hat", quantity=7, request_id=new_id())
    first = inventory.SetStock(request, make_call())
    inventory.SetStock(inventory_pb2.SetStockRequest(name="stock/hat", quantity=3, request_id=new_id()), make_call())

    assert first == inventory.SetStock(request, make_call())
    assert 3 == world.left()["hat"]
    assert [("hat", 7), ("hat", -4)] == world.memory.movements[-2:]


def test_stock_is_read_in_the_order_asked_for(inventory: InventoryHandler) -> None:
    names = ["stock/tea", "stock/mug", "stock/tea"]

    answer = inventory.BatchGetStock(inventory_pb2.BatchGetStockRequest(names=names), make_call())

    assert names == [stock.name for stock in answer.stock]
    assert answer.stock[0] == inventory.GetStock(inventory_pb2.GetStockRequest(name="stock/tea"), make_call())


def test_the_first_product_without_stock_is_named(inventory: InventoryHandler) -> None:
    names = ["stock/tea", "stock/hat", "stock/cup"]

    with pytest.raises(NotFound) as refusal:
        inventory.BatchGetStock(inventory_pb2.BatchGetStockRequest(names=names), make_call())
    assert ("stock", "stock/hat") == refusal.value.resource
