"""What a store of orders does, tried on the fake by a unit test and on the real one, in a database, by another.

A subclass gives the fixture `shop`. Every test uses products and users of its own.
"""

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

import pytest

from svc.chassis.context import Deadline
from svc.chassis.database import Transaction
from svc.chassis.errors import FailedPrecondition
from svc.chassis.idempotency import Key
from svc.chassis.ids import new_id
from svc.orders import events, model
from svc.orders.model import Cursor, Line, Order, Placement, Product, Shortage, State, Stock
from svc.orders.usecases import Idempotency, Store, Transactions
from tests.fakes.clock import START
from tests.fakes.orders import make_call

T = TypeVar("T")


class _RolledBackError(Exception):
    pass


@dataclass
class Shop:
    """A store over its transactions."""

    transactions: Transactions
    store: Store
    idempotency: Idempotency
    mismatched: Callable[[], list[str]]

    def commit(self, work: Callable[[Transaction], T]) -> T:
        return self.transactions.serializable(work, deadline=Deadline.after(10))

    def read(self, work: Callable[[Transaction], T]) -> T:
        return self.transactions.read(work, deadline=Deadline.after(10))

    def put(self, **quantities: int) -> None:
        for product_id, quantity in quantities.items():
            stock = Stock(product_id, quantity, START)
            self.commit(lambda tx, stock=stock: self.store.set_stock(tx, stock, request_id=new_id()))  # type: ignore[misc]

    def left(self, *product_ids: str) -> dict[str, int]:
        stock = self.read(lambda tx: self.store.stock(tx, product_ids))
        return {product_id: one.quantity for product_id, one in stock.items()}

    def order(self, order_id: str, *, owner: str) -> Order | None:
        return self.read(lambda tx: self.store.order(tx, order_id, owner=owner))

    def place(self, order: Order, *, request_id: str | None = None, answer: bytes = b"answer") -> Placement:
        """Place as the use case does: what is short rolls back."""
        outcome = Placement(claimed=False)

        def work(tx: Transaction) -> None:
            nonlocal outcome
            event = events.order_placed(order, call=make_call(order.user_id))
            outcome = self.store.place(
                tx, order, key=make_key(order.user_id, request_id or new_id()), answer=answer, event=event
            )
            if outcome.shortages:
                raise _RolledBackError

        try:
            self.commit(work)
        except _RolledBackError:
            assert self.order(order.id, owner=order.user_id) is None
        return outcome

    def cancel(self, order: Order, lines: Sequence[Line] = ()) -> Order:
        def work(tx: Transaction) -> Order:
            locked = self.store.lock_order(tx, order.id, owner=order.user_id)
            assert locked is not None
            cancellation = model.cancel(locked, lines, now=START + timedelta(hours=1))
            self.store.cancel(tx, cancellation)
            return cancellation.order

        return self.commit(work)


def make_key(principal: str, request_id: str, *, body: bytes = b"body") -> Key:
    return Key(principal, "/weft.orders.v1.OrderService/PlaceOrder", request_id, body)


def make_order(user_id: str, quantities: Mapping[str, int], *, now: datetime = START) -> Order:
    lines = [Line(product_id, quantity) for product_id, quantity in quantities.items()]
    products = [Product(line.product_id, f"The {line.product_id}", "GBP", 250) for line in lines]
    return model.build_order(lines, products, order_id=new_id(), user_id=user_id, now=now)


@pytest.fixture
def tag() -> str:
    """Makes ids of one test its own."""
    return "p" + uuid.uuid4().hex[:12]


class StoreSuite:
    """The behaviours."""

    def test_an_order_is_read_back_as_it_was_placed(self, shop: Shop, tag: str) -> None:
        shop.put(**{f"{tag}b": 5, f"{tag}a": 5})
        order = make_order(tag, {f"{tag}b": 2, f"{tag}a": 5})

        assert Placement(claimed=True, depleted=(f"{tag}a",)) == shop.place(order)
        assert order == shop.order(order.id, owner=tag)
        assert {f"{tag}a": 0, f"{tag}b": 3} == shop.left(f"{tag}a", f"{tag}b")
        assert [] == shop.mismatched()

    def test_a_short_product_is_named_and_nothing_is_taken(self, shop: Shop, tag: str) -> None:
        shop.put(**{f"{tag}a": 9, f"{tag}b": 1})
        order = make_order(tag, {f"{tag}c": 1, f"{tag}b": 2, f"{tag}a": 9})

        outcome = shop.place(order)

        assert (Shortage(f"{tag}c", 1, 0), Shortage(f"{tag}b", 2, 1)) == outcome.shortages
        assert {f"{tag}a": 9, f"{tag}b": 1} == shop.left(f"{tag}a", f"{tag}b", f"{tag}c")
        assert [] == shop.mismatched()

    def test_a_refused_order_leaves_its_request_id_free(self, shop: Shop, tag: str) -> None:
        request_id = new_id()
        shop.put(**{tag: 1})
        shop.place(make_order(tag, {tag: 2}), request_id=request_id)

        assert shop.place(make_order(tag, {tag: 1}), request_id=request_id).claimed

    def test_a_request_id_takes_effect_once_and_keeps_its_answer(self, shop: Shop, tag: str) -> None:
        request_id = new_id()
        shop.put(**{tag: 9})
        shop.place(make_order(tag, {tag: 1}), request_id=request_id, answer=b"first")

        again = make_order(tag, {tag: 1})

        assert Placement(claimed=False) == shop.place(again, request_id=request_id, answer=b"second")
        assert shop.order(again.id, owner=tag) is None
        assert {tag: 8} == shop.left(tag)
        assert b"first" == shop.commit(lambda tx: shop.idempotency.claim(tx, make_key(tag, request_id)))

    def test_a_request_id_is_its_users_own(self, shop: Shop, tag: str) -> None:
        request_id = new_id()
        shop.put(**{tag: 9})
        shop.place(make_order(tag, {tag: 1}), request_id=request_id)

        assert shop.place(make_order(f"{tag}x", {tag: 1}), request_id=request_id).claimed

    def test_a_request_id_does_not_stand_for_another_body(self, shop: Shop, tag: str) -> None:
        request_id = new_id()
        shop.put(**{tag: 9})
        shop.place(make_order(tag, {tag: 1}), request_id=request_id)

        with pytest.raises(FailedPrecondition) as refusal:
            shop.commit(lambda tx: shop.idempotency.claim(tx, make_key(tag, request_id, body=b"other")))
        assert "REQUEST_ID_REUSED" == refusal.value.reason

    def test_an_order_of_500_items_is_one_order(self, shop: Shop, tag: str) -> None:
        quantities = {f"{tag}-{number}": number + 1 for number in range(500)}
        shop.put(**quantities)
        order = make_order(tag, quantities)

        outcome = shop.place(order)

        assert 500 == len(outcome.depleted)
        assert order == shop.order(order.id, owner=tag)
        assert State.CANCELLED is shop.cancel(order).state
        assert quantities == shop.left(*quantities)
        assert [] == shop.mismatched()

    def test_pieces_taken_back_are_in_stock_again(self, shop: Shop, tag: str) -> None:
        shop.put(**{f"{tag}a": 5, f"{tag}b": 5})
        order = make_order(tag, {f"{tag}a": 3, f"{tag}b": 5})
        shop.place(order)

        partly = shop.cancel(order, [Line(f"{tag}b", 4)])

        assert partly == shop.order(order.id, owner=tag)
        assert (State.PARTIALLY_CANCELLED, 2) == (partly.state, partly.revision)
        assert {f"{tag}a": 2, f"{tag}b": 4} == shop.left(f"{tag}a", f"{tag}b")

        whole = shop.cancel(partly)

        assert whole == shop.order(order.id, owner=tag)
        assert (State.CANCELLED, 3, 0) == (whole.state, whole.revision, whole.total_minor)
        assert {f"{tag}a": 5, f"{tag}b": 5} == shop.left(f"{tag}a", f"{tag}b")
        assert [] == shop.mismatched()

    def test_pages_hold_every_order_of_a_user_once_the_newest_first(self, shop: Shop, tag: str) -> None:
        shop.put(**{tag: 99})
        times = [START, START, START, START + timedelta(microseconds=1), START - timedelta(days=1)]
        placed = [make_order(tag, {tag: 1}, now=time) for time in times]
        for order in [*placed, make_order(f"{tag}x", {tag: 1})]:
            shop.place(order)
        found: list[Order] = []

        def page(before: Cursor | None) -> Sequence[Order]:
            return shop.read(lambda tx: shop.store.orders(tx, tag, before=before, limit=2))

        orders = page(None)
        while orders:
            found += orders
            orders = page(Cursor(orders[-1].create_time, orders[-1].id))

        assert sorted(placed, key=lambda order: (order.create_time, order.id), reverse=True) == found

    def test_an_unknown_order_is_none(self, shop: Shop) -> None:
        assert shop.order(new_id(), owner="ann") is None
        assert shop.commit(lambda tx: shop.store.lock_order(tx, new_id(), owner="ann")) is None

    def test_another_s_order_is_none(self, shop: Shop, tag: str) -> None:
        shop.put(**{tag: 1})
        order = make_order(tag, {tag: 1})
        shop.place(order)

        assert shop.order(order.id, owner=f"{tag}x") is None
        assert shop.commit(lambda tx: shop.store.lock_order(tx, order.id, owner=f"{tag}x")) is None

    def test_setting_stock_records_the_difference(self, shop: Shop, tag: str) -> None:
        for quantity in (5, 2, 7, 7, 0):
            shop.put(**{tag: quantity})

            assert {tag: quantity} == shop.left(tag)
            assert [] == shop.mismatched()

    def test_stock_knows_when_it_changed(self, shop: Shop, tag: str) -> None:
        shop.put(**{tag: 5})
        later = START + timedelta(hours=3)
        shop.place(make_order(tag, {tag: 1}, now=later))

        stock = shop.read(lambda tx: shop.store.stock(tx, [tag]))

        assert Stock(tag, 4, later) == stock[tag]
