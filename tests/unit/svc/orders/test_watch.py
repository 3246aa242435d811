"""Watching orders."""

import threading
from collections.abc import Mapping, Sequence

import pytest

from svc.chassis.errors import NotFound, Unavailable
from svc.chassis.ids import new_id
from svc.chassis.pages import PageTokens
from svc.orders.rpc import OrderHandler
from svc.orders.watch import Watches
from tests.fakes.orders import looking, make_call, make_world
from weft.orders.v1 import orders_pb2

WAIT_S = 10.0


class Revisions:
    """Answers looks, counts them, and fails while it is told to."""

    def __init__(self) -> None:
        self.known: dict[str, int] = {}
        self.asked: list[list[str]] = []
        self.failure: Exception | None = None
        self.looked = threading.Event()

    def __call__(self, order_ids: Sequence[str]) -> Mapping[str, int]:
        self.asked.append(list(order_ids))
        self.looked.set()
        if self.failure is not None:
            raise self.failure
        return {order_id: self.known[order_id] for order_id in order_ids if order_id in self.known}


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


def test_all_watched_orders_are_looked_at_together_and_only_while_watched() -> None:
    revisions = Revisions()
    revisions.known = {"a": 1, "b": 5}

    with looking(Watches(revisions, poll_s=0.001)) as watches:
        with watches.open("a"), watches.open("b") as b, watches.open("b"):
            assert b.wait(after=4, timeout_s=WAIT_S)
        assert {"a", "b"} == set(revisions.asked[-1])
        with watches.open("c"):
            revisions.looked.clear()
            assert revisions.looked.wait(WAIT_S)
            revisions.looked.clear()
            assert revisions.looked.wait(WAIT_S)
        assert ["c"] == revisions.asked[-1]


def test_a_change_before_the_wait_is_not_missed() -> None:
    revisions = Revisions()
    revisions.known = {"a": 2}

    with looking(Watches(revisions, poll_s=0.001)) as watches, watches.open("a") as watch:
        assert watch.wait(after=1, timeout_s=WAIT_S)
        assert not watch.wait(after=2, timeout_s=0.01)


@pytest.mark.parametrize("failure", [Unavailable(), KeyError("unforeseen")])
def test_looking_goes_on_after_a_failure(failure: Exception) -> None:
    revisions = Revisions()
    revisions.failure = failure

    with looking(Watches(revisions, poll_s=0.001)) as watches, watches.open("a") as watch:
        assert revisions.looked.wait(WAIT_S)
        revisions.known = {"a": 2}
        revisions.failure = None
        assert watch.wait(after=1, timeout_s=WAIT_S)


def test_stopping_ends_every_watch_with_unavailable() -> None:
    watches = Watches(Revisions(), poll_s=0.001)
    watches.start()
    outcomes: list[BaseException] = []

    def wait() -> None:
        try:
            with watches.open("a") as watch:
                watch.wait(after=1, timeout_s=WAIT_S)
        except Unavailable as error:
            outcomes.append(error)

    waiting = threading.Thread(target=wait)
    waiting.start()
    watches.stop()
    waiting.join(WAIT_S)

    assert 1 == len(outcomes)
    assert not watches.alive()
    with pytest.raises(Unavailable), watches.open("b"):
        pass
