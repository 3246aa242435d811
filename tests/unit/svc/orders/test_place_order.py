"""Placing orders: what the caller gets, and what is there afterwards."""

import pytest

from svc.chassis.context import CallContext
from svc.chassis.errors import Aborted, FailedPrecondition, InvalidArgument, Unauthenticated, Unavailable
from svc.chassis.ids import new_id
from svc.orders import usecases
from svc.orders.model import Line
from tests.fakes.orders import World, make_call, make_world, product
from weft.orders.v1 import orders_pb2


def place(
    world: World, *lines: tuple[str, int], request_id: str | None = None, call: CallContext | None = None
) -> orders_pb2.Order:
    answer = usecases.place_order(
        world.ports,
        [Line(product_id, quantity) for product_id, quantity in lines],
        request_id=request_id or new_id(),
        call=call or make_call(),
    )
    return orders_pb2.Order.FromString(answer)


def test_an_order_takes_stock_and_tells_of_itself() -> None:
    world = make_world()
    world.put(mug=10, tea=10)

    order = place(world, ("tea", 1), ("mug", 3))

    assert ("users/ann", orders_pb2.Order.STATE_PLACED, 1) == (order.user, order.state, order.revision)
    assert [("tea", "Tea", 1), ("mug", "Mug", 3)] == [
        (item.product_id, item.display_name, item.quantity) for item in order.items
    ]
    assert ("GBP", 11, 490_000_000) == (order.total.currency_code, order.total.units, order.total.nanos)
    assert {"mug": 7, "tea": 9} == world.left()
    [fact] = world.facts()
    assert (order.name, "users/ann", order.total) == (fact.order, fact.user, fact.total)
    assert [("tea", 1), ("mug", 3)] == [(item.product_id, item.quantity) for item in fact.items]
    assert order.create_time == fact.place_time


def test_the_last_piece_of_a_product_is_told() -> None:
    world = make_world()
    world.put(mug=3, tea=2)

    place(world, ("mug", 3), ("tea", 1))

    assert ["OrderPlaced", "StockDepleted"] == [type(fact).__name__ for fact in world.facts()]
    assert "mug" == world.facts()[1].product_id


def test_too_little_stock_names_each_product_and_changes_nothing() -> None:
    world = make_world(product("mug", 1), product("tea", 1), product("hat", 1))
    world.put(mug=1, tea=9)

    with pytest.raises(FailedPrecondition) as refusal:
        place(world, ("mug", 2), ("tea", 2), ("hat", 1))

    assert [
        ("STOCK", "stock/mug", "2 wanted, 1 left"),
        ("STOCK", "stock/hat", "1 wanted, 0 left"),
    ] == list(refusal.value.violations)
    assert {"mug": 1, "tea": 9} == world.left()
    assert ([], {}, {}) == (world.facts(), world.memory.orders, world.memory.answers)


def test_an_unknown_product_is_named_by_its_place_in_the_request() -> None:
    world = make_world()

    with pytest.raises(InvalidArgument) as refusal:
        place(world, ("mug", 1), ("hat", 1))

    assert (("items[1].product_id", "there is no such product"),) == refusal.value.violations


def test_mixed_currencies_are_refused() -> None:
    world = make_world(product("mug", 1), product("tea", 1, currency="EUR"))
    world.put(mug=1, tea=1)

    with pytest.raises(FailedPrecondition):
        place(world, ("mug", 1), ("tea", 1))
    assert {"mug": 1, "tea": 1} == world.left()


def test_a_repeat_gets_the_first_answer_byte_for_byte() -> None:
    world = make_world()
    world.put(mug=10)
    request_id = new_id()
    first = usecases.place_order(world.ports, [Line("mug", 3)], request_id=request_id, call=make_call())

    again = usecases.place_order(world.ports, [Line("mug", 3)], request_id=request_id, call=make_call())

    assert first == again
    assert {"mug": 7} == world.left()
    assert 1 == len(world.facts())


@pytest.mark.parametrize("gone", ["deleted", "away"])
def test_a_repeat_gets_the_first_answer_whatever_became_of_the_catalog(gone: str) -> None:
    world = make_world()
    world.put(mug=10)
    request_id = new_id()
    first = place(world, ("mug", 3), request_id=request_id)
    if gone == "deleted":
        world.catalog.by_id.clear()
    else:
        world.catalog.failure = Unavailable()

    assert first == place(world, ("mug", 3), request_id=request_id)


def test_a_request_id_belongs_to_one_body() -> None:
    world = make_world()
    world.put(mug=10)
    request_id = new_id()
    place(world, ("mug", 3), request_id=request_id)

    with pytest.raises(FailedPrecondition) as refusal:
        place(world, ("mug", 4), request_id=request_id, call=make_call(body=b"other"))

    assert "REQUEST_ID_REUSED" == refusal.value.reason
    assert {"mug": 7} == world.left()


def test_a_refusal_can_be_repeated_with_another_outcome() -> None:
    world = make_world()
    request_id = new_id()
    with pytest.raises(FailedPrecondition):
        place(world, ("mug", 1), request_id=request_id)
    world.put(mug=1)

    assert 1 == place(world, ("mug", 1), request_id=request_id).items[0].quantity


@pytest.mark.parametrize("failure", [Unavailable(retry_after=2.0), Aborted(), Unauthenticated()])
def test_a_failing_catalog_fails_the_order_before_anything_is_written(failure: Exception) -> None:
    world = make_world()
    world.put(mug=1)
    world.catalog.failure = failure  # type: ignore[assignment]

    with pytest.raises(type(failure)) as raised:
        place(world, ("mug", 1))

    assert raised.value is failure
    assert ({"mug": 1}, {}) == (world.left(), world.memory.answers)


def test_the_catalog_is_asked_once_for_all_products() -> None:
    world = make_world()
    world.put(mug=1, tea=1)

    place(world, ("tea", 1), ("mug", 1))

    assert [["tea", "mug"]] == world.catalog.asked


def test_an_order_queues_for_its_first_products_in_their_order() -> None:
    ids = [f"p{number:03}" for number in range(200)]
    world = make_world(*(product(product_id, 1) for product_id in ids))
    world.put(**dict.fromkeys(ids, 1))

    place(world, *((product_id, 1) for product_id in reversed(ids)))

    assert [
        [f"stock.product_id/{product_id}" for product_id in ids[: usecases.MAX_HOT_KEYS]]
    ] == world.transactions.hot_keys
