"""Fakes of orders' ports, in memory. The same suite (`orders_store_suite`) tries the store and its real twin."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar, cast

from svc.chassis.consistency import Session
from svc.chassis.context import CallContext, Deadline, Principal
from svc.chassis.database import Transaction
from svc.chassis.errors import AppError, FailedPrecondition, NotFound
from svc.chassis.idempotency import Key
from svc.chassis.outbox import Event
from svc.chassis.watches import Watches
from svc.orders.model import Cancellation, Cursor, Order, Placement, Product, Shortage, Stock
from svc.orders.rpc import Answers
from svc.orders.usecases import Ports
from tests.fakes.clock import FakeClock
from weft.events.v1.envelope_pb2 import Envelope
from weft.orders.v1 import events_pb2

T = TypeVar("T")


@dataclass
class Memory:
    """What the fakes keep."""

    stock: dict[str, Stock] = field(default_factory=dict)
    movements: list[tuple[str, int]] = field(default_factory=list)
    orders: dict[str, Order] = field(default_factory=dict)
    answers: dict[tuple[str, str, str], tuple[bytes, bytes | None]] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)

    def copy(self) -> "Memory":
        return Memory(dict(self.stock), list(self.movements), dict(self.orders), dict(self.answers), list(self.events))

    def restore(self, other: "Memory") -> None:
        for name, value in vars(other.copy()).items():
            setattr(self, name, value)

    def mismatched(self) -> list[str]:
        """Products whose movements are not on hand or in orders."""
        balance: dict[str, int] = {}
        for product_id, difference in self.movements:
            balance[product_id] = balance.get(product_id, 0) + difference
        for stock in self.stock.values():
            balance[stock.product_id] = balance.get(stock.product_id, 0) - stock.quantity
        for order in self.orders.values():
            for item in order.items:
                balance[item.product_id] = balance.get(item.product_id, 0) - item.standing
        return sorted(product_id for product_id, rest in balance.items() if rest)


class FakeTransactions:
    """Runs work twice, as after a serialization failure: what the first run did is gone. Errors roll back."""

    def __init__(self, memory: Memory) -> None:
        self.memory = memory
        self.hot_keys: list[list[str]] = []
        self._one_at_a_time = threading.RLock()

    def serializable(
        self,
        work: Callable[[Transaction], T],
        *,
        deadline: Deadline,
        hot_keys: Sequence[str] = (),
        once: Key | None = None,
        session: Session | None = None,
    ) -> T:
        with self._one_at_a_time:
            self.hot_keys.append(list(hot_keys))
            before = self.memory.copy()
            tx = cast(Transaction, None)
            try:
                work(tx)
                self.memory.restore(before)
                return work(tx)
            except BaseException:
                self.memory.restore(before)
                raise

    def read(self, work: Callable[[Transaction], T], *, deadline: Deadline, session: Session | None = None) -> T:
        with self._one_at_a_time:
            return work(cast(Transaction, None))


class FakeIdempotency:
    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    def claim(self, tx: Transaction, key: Key) -> bytes | None:
        identity = (key.principal, key.method, key.request_id)
        if identity not in self._memory.answers:
            self._memory.answers[identity] = (key.body_hash, None)
            return None
        body_hash, answer = self._memory.answers[identity]
        if body_hash != key.body_hash:
            raise FailedPrecondition(reason="REQUEST_ID_REUSED")
        assert answer is not None
        return answer

    def complete(self, tx: Transaction, key: Key, response: bytes) -> None:
        identity = (key.principal, key.method, key.request_id)
        assert self._memory.answers[identity] == (key.body_hash, None)
        self._memory.answers[identity] = (key.body_hash, response)


class FakeStore:
    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    def place(self, tx: Transaction, order: Order, *, key: Key, answer: bytes, event: Event) -> Placement:
        identity = (key.principal, key.method, key.request_id)
        if identity in self._memory.answers:
            return Placement(claimed=False)
        self._memory.answers[identity] = (key.body_hash, answer)
        shortages = []
        depleted = []
        for item in order.items:
            stock = self._memory.stock.get(item.product_id)
            available = stock.quantity if stock else 0
            if stock is None or available < item.quantity:
                shortages.append(Shortage(item.product_id, item.quantity, available))
                continue
            left = available - item.quantity
            self._memory.stock[item.product_id] = replace(stock, quantity=left, update_time=order.create_time)
            depleted += [item.product_id] if left == 0 else []
        if shortages:
            return Placement(claimed=True, shortages=tuple(shortages))
        self._memory.orders[order.id] = order
        self._memory.events.append(event)
        return Placement(claimed=True, depleted=tuple(sorted(depleted)))

    def order(self, tx: Transaction, order_id: str, *, owner: str) -> Order | None:
        order = self._memory.orders.get(order_id)
        return order if order is not None and order.user_id == owner else None

    def lock_order(self, tx: Transaction, order_id: str, *, owner: str) -> Order | None:
        return self.order(tx, order_id, owner=owner)

    def orders(self, tx: Transaction, user_id: str, *, before: Cursor | None, limit: int) -> Sequence[Order]:
        own = [order for order in self._memory.orders.values() if order.user_id == user_id]
        own.sort(key=lambda order: (order.create_time, order.id), reverse=True)
        if before is not None:
            own = [order for order in own if (order.create_time, order.id) < (before.create_time, before.order_id)]
        return own[:limit]

    def revisions(self, tx: Transaction, order_ids: Sequence[str]) -> Mapping[str, int]:
        return {
            order_id: self._memory.orders[order_id].revision
            for order_id in order_ids
            if order_id in self._memory.orders
        }

    def cancel(self, tx: Transaction, cancellation: Cancellation) -> None:
        order = cancellation.order
        assert self._memory.orders[order.id].revision == order.revision - 1
        self._memory.orders[order.id] = order
        for item in cancellation.items:
            stock = self._memory.stock[item.product_id]
            self._memory.stock[item.product_id] = replace(
                stock, quantity=stock.quantity + item.quantity, update_time=order.update_time
            )

    def stock(self, tx: Transaction, product_ids: Sequence[str]) -> Mapping[str, Stock]:
        return {
            product_id: self._memory.stock[product_id] for product_id in product_ids if product_id in self._memory.stock
        }

    def set_stock(self, tx: Transaction, stock: Stock, *, request_id: str) -> None:
        known = self._memory.stock.get(stock.product_id)
        self._memory.movements.append((stock.product_id, stock.quantity - (known.quantity if known else 0)))
        self._memory.stock[stock.product_id] = stock


class FakeCatalog:
    """Knows the products it is given, or fails as it is told to."""

    def __init__(self, products: Sequence[Product]) -> None:
        self.by_id = {product.product_id: product for product in products}
        self.failure: AppError | None = None
        self.asked: list[list[str]] = []

    def products(self, product_ids: Sequence[str], *, call: CallContext) -> Sequence[Product]:
        self.asked.append(list(product_ids))
        if self.failure is not None:
            raise self.failure
        for product_id in product_ids:
            if product_id not in self.by_id:
                raise NotFound(resource=("product", f"products/{product_id}"))
        return [self.by_id[product_id] for product_id in product_ids]


@dataclass
class World:
    """The fakes of one test, and the ports over them."""

    memory: Memory
    clock: FakeClock
    transactions: FakeTransactions
    catalog: FakeCatalog
    watches: Watches
    ports: Ports

    def facts(self) -> list[Any]:
        """The payloads of the events that were committed."""
        return [payload_of(event) for event in self.memory.events]

    def put(self, **quantities: int) -> None:
        """Put pieces into stock, with their movements."""
        for product_id, quantity in quantities.items():
            self.memory.stock[product_id] = Stock(product_id, quantity, self.clock.now())
            self.memory.movements.append((product_id, quantity))

    def left(self) -> dict[str, int]:
        """Pieces in stock."""
        return {product_id: stock.quantity for product_id, stock in self.memory.stock.items()}


def make_world(*products: Product) -> World:
    memory = Memory()
    clock = FakeClock()
    transactions = FakeTransactions(memory)
    store = FakeStore(memory)
    catalog = FakeCatalog(products or (product("mug", 250), product("tea", 399)))

    def revisions(order_ids: Sequence[str]) -> Mapping[str, int]:
        return transactions.read(lambda tx: store.revisions(tx, order_ids), deadline=Deadline.after(5))

    def append(tx: Transaction, events: Sequence[Event]) -> None:
        memory.events.extend(events)

    watches = Watches(revisions, kind="orders", poll_s=0.001)
    ports = Ports(
        transactions=transactions,
        store=store,
        idempotency=FakeIdempotency(memory),
        append=append,
        catalog=catalog,
        watches=watches,
        answers=Answers(),
        clock=clock,
    )
    return World(memory, clock, transactions, catalog, watches, ports)


def product(product_id: str, price_minor: int, *, currency: str = "GBP") -> Product:
    return Product(product_id, product_id.title(), currency, price_minor)


def make_call(
    subject: str = "ann",
    *,
    body: bytes = b"body",
    method: str = "/weft.orders.v1.OrderService/Test",
    is_active: Callable[[], bool] = lambda: True,
) -> CallContext:
    principal = Principal(
        subject=subject, scopes=frozenset({"orders.read", "orders.write"}), session="s", actor=None, token="t"
    )
    return CallContext(
        method=method, principal=principal, deadline=Deadline.after(30), body_hash=body, is_active=is_active
    )


def payload_of(event: Event) -> Any:
    """The fact inside an event."""
    envelope = Envelope.FromString(event.envelope)
    fact = getattr(events_pb2, envelope.type.rpartition(".")[2])()
    assert envelope.payload.Unpack(fact)
    return fact


@contextmanager
def looking(watches: Watches) -> Iterator[Watches]:
    """Watches whose thread runs."""
    watches.start()
    try:
        yield watches
    finally:
        watches.stop()
