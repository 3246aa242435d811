"""What orders does, one function for each RPC, and the ports it needs for that.

`rpc` calls these with plain values; `wiring` gives the ports. Invariants: stock, order, event and idempotency record
commit together or not at all; the catalog is asked before the transaction, never in it; nobody sees or changes an
order that is not their own. A method that writes answers with the bytes of its first answer, so a repeat gets the
same ones.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Final, NoReturn, Protocol, TypeVar

from svc.chassis import hot_keys as hot
from svc.chassis.clock import Clock
from svc.chassis.consistency import Session
from svc.chassis.context import CallContext, Deadline
from svc.chassis.database import Transaction
from svc.chassis.errors import AppError, InvalidArgument, NotFound
from svc.chassis.idempotency import Key
from svc.chassis.ids import new_id
from svc.chassis.outbox import Event
from svc.orders import events, model
from svc.orders.model import Cancellation, Cursor, Line, Order, Page, Placement, Product, Stock

T = TypeVar("T")

# Products for which an order queues before its transaction takes its snapshot: one lock each, instead of losing
# against another order and being run again. It queues for its first 64 only. That is every product of 95 orders in
# 100; two larger ones that share any product nearly always share one of those; and 64 locks on every connection of
# every instance fit into PostgreSQL's lock table as it comes (6400), while 500 do not. Only speed rests on this:
# what two orders take from stock is settled by the row locks and the conditional update.
MAX_HOT_KEYS: Final = 64

# One read of a stream, whose own deadline may be a day away.
_WATCH_READ_S: Final = 2.0
# How long a stream waits for a change before it looks whether its client is still there.
_WATCH_LOOK_S: Final = 0.5


class Transactions(Protocol):
    """Runs work in one SERIALIZABLE transaction, again as a whole where it conflicts; or as a read."""

    def serializable(
        self,
        work: Callable[[Transaction], T],
        *,
        deadline: Deadline,
        hot_keys: Sequence[str] = (),
        once: Key | None = None,
        session: Session | None = None,
    ) -> T:
        """Commit `work`; callers who share a hot key wait for each other before they begin; `once` finds it again."""
        ...

    def read(self, work: Callable[[Transaction], T], *, deadline: Deadline, session: Session | None = None) -> T:
        """Run `work` in a read-only transaction: one snapshot, as new as the session asks."""
        ...


class Store(Protocol):
    """Keeps stock and orders."""

    def place(self, tx: Transaction, order: Order, *, key: Key, answer: bytes, event: Event) -> Placement:
        """Claim `key`, take stock, store order, event and answer; where it is short, the transaction must fail."""
        ...

    def order(self, tx: Transaction, order_id: str, *, owner: str) -> Order | None:
        """One order of a user's; another's is as good as none."""
        ...

    def lock_order(self, tx: Transaction, order_id: str, *, owner: str) -> Order | None:
        """The same, and nobody else changes it until the transaction ends."""
        ...

    def orders(self, tx: Transaction, user_id: str, *, before: Cursor | None, limit: int) -> Sequence[Order]:
        """A user's orders after `before`, the newest first."""
        ...

    def cancel(self, tx: Transaction, cancellation: Cancellation) -> None:
        """Store a cancellation of a locked order and put its pieces back into stock."""
        ...

    def stock(self, tx: Transaction, product_ids: Sequence[str]) -> Mapping[str, Stock]:
        """The stock of those of the products that have any on record."""
        ...

    def set_stock(self, tx: Transaction, stock: Stock, *, request_id: str) -> None:
        """Set the stock of one product and record the difference as a movement."""
        ...


class Idempotency(Protocol):
    """Answers of calls that took effect."""

    def claim(self, tx: Transaction, key: Key) -> bytes | None:
        """None: new, go on. Bytes: the answer of the first call."""
        ...

    def complete(self, tx: Transaction, key: Key, response: bytes) -> None:
        """Keep the answer, in the transaction that claimed the key."""
        ...


class Catalog(Protocol):
    """Says what products are called and cost."""

    def products(self, product_ids: Sequence[str], *, call: CallContext) -> Sequence[Product]:
        """The products, in the order asked for. Raises NotFound with the first unknown one as its resource."""
        ...


class Watch(Protocol):
    """Waits for changes of one order."""

    def wait(self, *, after: int, timeout_s: float) -> bool:
        """Whether the order has a later revision than `after`. Raises Unavailable when this instance stops."""
        ...


class Watches(Protocol):
    """Looks for changes of all watched orders at once."""

    def open(self, order_id: str) -> AbstractContextManager[Watch]:
        """Begin to watch. Raises Unavailable when this instance stops."""
        ...


class Answers(Protocol):
    """Turns what a method answers into the bytes that are kept for a repeat."""

    def order(self, order: Order) -> bytes:
        """The answer of PlaceOrder and CancelOrder."""
        ...

    def stock(self, stock: Stock) -> bytes:
        """The answer of SetStock."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """Everything outside of the use cases."""

    transactions: Transactions
    store: Store
    idempotency: Idempotency
    append: Callable[[Transaction, Sequence[Event]], None]
    catalog: Catalog
    watches: Watches
    answers: Answers
    clock: Clock


def place_order(
    ports: Ports, lines: Sequence[Line], *, region_code: str = "", request_id: str, call: CallContext
) -> bytes:
    """Order `lines` at the catalog's prices and take them from stock: all of it, or nothing."""
    key = _key(request_id, call)
    try:
        products = _products(ports, lines, call=call)
        built = model.build_order(
            lines, products, order_id=new_id(), user_id=call.caller.subject, now=ports.clock.now()
        )
    except AppError as refusal:
        return _first_answer(ports, key, refusal, call=call)
    order = replace(built, region_code=region_code) if region_code else built
    answer = ports.answers.order(order)
    placed = events.order_placed(order, call=call)

    def work(tx: Transaction) -> bytes:
        placement = ports.store.place(tx, order, key=key, answer=answer, event=placed)
        if not placement.claimed:
            return _replay(ports, tx, key)
        if placement.shortages:
            raise model.out_of_stock(placement.shortages)
        ports.append(tx, [events.stock_depleted(product_id, call=call) for product_id in placement.depleted])
        return answer

    return _commit(ports, work, key, hot_keys=_hot_keys(lines), call=call)


def get_order(ports: Ports, order_id: str, *, call: CallContext) -> Order:
    """Read an order of the caller's own."""
    return ports.transactions.read(
        lambda tx: _own(ports, tx, order_id, call=call), deadline=call.deadline, session=call.session
    )


def list_orders(ports: Ports, *, before: Cursor | None, limit: int, call: CallContext) -> Page:
    """Read the caller's own orders after `before`, the newest first."""
    subject = call.caller.subject
    # One more than the page tells whether there is a next one.
    orders = ports.transactions.read(
        lambda tx: ports.store.orders(tx, subject, before=before, limit=limit + 1),
        deadline=call.deadline,
        session=call.session,
    )
    return model.cut_page(orders, limit=limit)


def cancel_order(ports: Ports, order_id: str, lines: Sequence[Line], *, request_id: str, call: CallContext) -> bytes:
    """Take back `lines` of an order of the caller's own, or everything that still stands, and put it into stock."""
    key = _key(request_id, call)

    def work(tx: Transaction) -> bytes:
        stored = ports.idempotency.claim(tx, key)
        if stored is not None:
            return stored
        order = _found(ports.store.lock_order(tx, order_id, owner=call.caller.subject), order_id)
        cancellation = model.cancel(order, lines, now=ports.clock.now())
        ports.store.cancel(tx, cancellation)
        ports.append(tx, [events.order_cancelled(cancellation, call=call)])
        answer = ports.answers.order(cancellation.order)
        ports.idempotency.complete(tx, key, answer)
        return answer

    return _commit(ports, work, key, hot_keys=_hot_keys(lines), call=call)


def watch_order(ports: Ports, order_id: str, *, call: CallContext) -> Iterator[Order]:
    """Give an order of the caller's own at once, and again after each change, for as long as the client waits."""
    with ports.watches.open(order_id) as watch:
        order = _watched(ports, order_id, call=call)
        yield order
        while call.is_active() and not call.deadline.expired():
            if watch.wait(after=order.revision, timeout_s=min(_WATCH_LOOK_S, call.deadline.remaining())):
                order = _watched(ports, order_id, call=call)
                yield order


def set_stock(ports: Ports, product_id: str, quantity: int, *, request_id: str, call: CallContext) -> bytes:
    """Set the pieces of a product that can be ordered from now on."""
    key = _key(request_id, call)

    def work(tx: Transaction) -> bytes:
        stored = ports.idempotency.claim(tx, key)
        if stored is not None:
            return stored
        stock = Stock(product_id, quantity, ports.clock.now())
        ports.store.set_stock(tx, stock, request_id=request_id)
        answer = ports.answers.stock(stock)
        ports.idempotency.complete(tx, key, answer)
        return answer

    return _commit(ports, work, key, hot_keys=[_hot_key(product_id)], call=call)


def get_stock(ports: Ports, product_ids: Sequence[str], *, call: CallContext) -> list[Stock]:
    """Read the stock of some products, in the order asked for."""
    found = ports.transactions.read(
        lambda tx: ports.store.stock(tx, product_ids), deadline=call.deadline, session=call.session
    )
    for product_id in product_ids:
        if product_id not in found:
            name = f"stock/{product_id}"
            raise NotFound(f"There is no {name}.", reason="STOCK_NOT_FOUND", resource=("stock", name))
    return [found[product_id] for product_id in product_ids]


def _products(ports: Ports, lines: Sequence[Line], *, call: CallContext) -> Sequence[Product]:
    """What the catalog says of the ordered products; an unknown one is the caller's mistake, not a missing page."""
    try:
        return ports.catalog.products([line.product_id for line in lines], call=call)
    except NotFound as error:
        name = error.resource[1] if error.resource else ""
        violations = [
            (f"items[{index}].product_id", "there is no such product")
            for index, line in enumerate(lines)
            if name == f"products/{line.product_id}"
        ]
        raise InvalidArgument(
            "The catalog does not have every product.",
            reason="PRODUCT_UNKNOWN",
            violations=violations or [("items", "one of the products does not exist")],
        ) from error


def _first_answer(ports: Ports, key: Key, refusal: AppError, *, call: CallContext) -> bytes:
    """The answer that the first call with this key got, where there was one; else the refusal.

    A repeat must not fail because the catalog changed, or went away, since its first call took effect.
    """

    def work(tx: Transaction) -> bytes:
        stored = ports.idempotency.claim(tx, key)
        if stored is None:
            # Nothing took effect under this key: the transaction ends, and the claim with it.
            raise refusal
        return stored

    return _commit(ports, work, key, call=call)


def _commit(
    ports: Ports, work: Callable[[Transaction], bytes], key: Key, *, hot_keys: Sequence[str] = (), call: CallContext
) -> bytes:
    return ports.transactions.serializable(
        work, deadline=call.deadline, hot_keys=hot_keys, once=key, session=call.session
    )


def _replay(ports: Ports, tx: Transaction, key: Key) -> bytes:
    stored = ports.idempotency.claim(tx, key)
    if stored is None:
        _broken("a request id was taken and free in one snapshot")
    return stored


def _watched(ports: Ports, order_id: str, *, call: CallContext) -> Order:
    deadline = Deadline.after(min(_WATCH_READ_S, call.deadline.remaining()))
    return ports.transactions.read(lambda tx: _own(ports, tx, order_id, call=call), deadline=deadline)


def _own(ports: Ports, tx: Transaction, order_id: str, *, call: CallContext) -> Order:
    return _found(ports.store.order(tx, order_id, owner=call.caller.subject), order_id)


def _found(order: Order | None, order_id: str) -> Order:
    if order is None:
        name = f"orders/{order_id}"
        raise NotFound(f"There is no {name}.", reason="ORDER_NOT_FOUND", resource=("order", name))
    return order


def _hot_keys(lines: Sequence[Line]) -> list[str]:
    return [_hot_key(product_id) for product_id in sorted(line.product_id for line in lines)[:MAX_HOT_KEYS]]


def _hot_key(product_id: str) -> str:
    return hot.row("stock", "product_id", product_id)


def _key(request_id: str, call: CallContext) -> Key:
    return Key(call.caller.subject, call.method, request_id, call.body_hash)


def _broken(invariant: str) -> NoReturn:
    raise RuntimeError(f"broken invariant: {invariant}")
