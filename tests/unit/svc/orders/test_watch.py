"""Watching orders."""

import threading

import pytest

from svc.chassis.errors import NotFound
from svc.chassis.ids import new_id
from svc.chassis.pages import PageTokens
from svc.orders.rpc import OrderHandler
from tests.fakes.orders import looking, make_call, make_world
from weft.orders.v1 import orders_pb2


def test_a_stream_gives_the_order_at_once_and_after_each_change() -> None:
    world = make_world()
    world.put(mug=9)
    handler = OrderHandler(world.ports, PageTokens(bytes(32)))
    placed = handler.PlaceOrder(
        orders_pb2.PlaceOrderRequest(
            items=[orders_pb2.ItemQuantity(product_id="mug", quantity=3)], request_id=new_id()
        ),
        make_call(),
    )
    active = threading.Event()
    active.set()
    call = make_call(is_active=active.is_set)

    with looking(world.watches):
        stream = handler.WatchOrder(orders_pb2.WatchOrderRequest(name=placed.name), call)
        assert placed == next(stream).order
        for pieces in (1, 2):
            item = orders_pb2.ItemQuantity(product_id="mug", quantity=pieces)
            changed = handler.CancelOrder(
                orders_pb2.CancelOrderRequest(name=placed.name, items=[item], request_id=new_id()), make_call()
            )
            assert changed == next(stream).order
        active.clear()
        assert [] == list(stream)


def test_anothers_order_is_not_watched() -> None:
    world = make_world()
    handler = OrderHandler(world.ports, PageTokens(bytes(32)))

    with looking(world.watches), pytest.raises(NotFound):
        next(handler.WatchOrder(orders_pb2.WatchOrderRequest(name=f"orders/{new_id()}"), make_call()))
