"""Fakes of the catalog's ports, in memory. The same suite tries the store and its real twin."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, TypeVar, cast

from svc.catalog.model import Order, Position, Product, search_text
from svc.catalog.usecases import Ports, Query
from svc.chassis.consistency import Consistency, Level, Session
from svc.chassis.context import CallContext, Deadline, Principal
from svc.chassis.database import Transaction
from svc.chassis.outbox import Event
from tests.fakes.clock import FakeClock
from weft.catalog.v1 import events_pb2
from weft.events.v1.envelope_pb2 import Envelope

T = TypeVar("T")


@dataclass
class Memory:
    """What the fakes keep."""

    products: dict[str, Product] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)


class FakeTransactions:
    """Runs work twice, as after a serialization failure: what the first run did is gone. Errors roll back."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self.reads = 0

    def serializable(
        self,
        work: Callable[[Transaction], T],
        *,
        deadline: Deadline,
        hot_keys: Sequence[str] = (),
        session: Session | None = None,
    ) -> T:
        products, events = dict(self._memory.products), list(self._memory.events)
        tx = cast(Transaction, None)
        try:
            work(tx)
            self._memory.products, self._memory.events = dict(products), list(events)
            result = work(tx)
        except BaseException:
            self._memory.products, self._memory.events = products, events
            raise
        return result

    def read(self, work: Callable[[Transaction], T], *, deadline: Deadline, session: Session | None = None) -> T:
        self.reads += 1
        return work(cast(Transaction, None))


class FakeProducts:
    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    def insert(self, tx: Transaction, product: Product) -> bool:
        if product.id in self._memory.products:
            return False
        self._memory.products[product.id] = product
        return True

    def get(self, tx: Transaction, product_id: str) -> Product | None:
        return self._memory.products.get(product_id)

    def get_many(self, tx: Transaction, product_ids: Sequence[str]) -> Sequence[Product]:
        return [product for product in self._memory.products.values() if product.id in product_ids]

    def page(self, tx: Transaction, query: Query) -> Sequence[Product]:
        found = [product for product in self._memory.products.values() if _matches(product, query.patterns)]
        found.sort(key=lambda product: _rank(query.order, product), reverse=_is_descending(query.order))
        if query.after is not None:
            last = _rank(query.order, query.after)
            found = [product for product in found if _is_behind(query.order, _rank(query.order, product), last)]
        return found[: query.limit]

    def update(self, tx: Transaction, product: Product) -> None:
        self._memory.products[product.id] = product

    def delete(self, tx: Transaction, product_id: str) -> None:
        del self._memory.products[product_id]


class FakeCache:
    """Keeps everything for ever."""

    def __init__(self) -> None:
        self.kept: dict[str, Product] = {}

    def get_or_load(self, call: CallContext, load: Callable[[], Product], *, max_age_s: float) -> Product:
        if call.cache_key not in self.kept:
            self.kept[call.cache_key] = load()
        return self.kept[call.cache_key]


@dataclass
class World:
    """The fakes of one test, and the ports over them."""

    memory: Memory
    clock: FakeClock
    cache: FakeCache
    transactions: FakeTransactions
    ports: Ports

    def facts(self) -> list[Any]:
        """The payloads of the events that were committed."""
        facts = []
        for event in self.memory.events:
            fact = events_pb2.ProductChanged()
            assert Envelope.FromString(event.envelope).payload.Unpack(fact)
            facts.append(fact)
        return facts


def make_world() -> World:
    memory = Memory()
    clock = FakeClock()
    cache = FakeCache()
    transactions = FakeTransactions(memory)

    def append(tx: Transaction, events: Sequence[Event]) -> None:
        memory.events.extend(events)

    ports = Ports(transactions=transactions, products=FakeProducts(memory), cache=cache, append=append, clock=clock)
    return World(memory, clock, cache, transactions, ports)


def make_call(*, method: str = "/weft.catalog.v1.CatalogService/Test", cache_key: str = "") -> CallContext:
    principal = Principal(
        subject="ann", scopes=frozenset({"catalog.read", "catalog.write"}), session="s", actor=None, token="t"
    )
    return CallContext(
        method=method,
        principal=principal,
        deadline=Deadline.after(30),
        body_hash=b"",
        is_active=lambda: True,
        cache_key=cache_key,
        session=Session(Consistency(Level.BOUNDED, 65.0), home="catalog"),
    )


def _matches(product: Product, patterns: Sequence[str]) -> bool:
    """LIKE with `%` and backslash, in terms of fnmatch."""
    return all(fnmatchcase(search_text(product.display_name), _glob(pattern)) for pattern in patterns)


def _glob(pattern: str) -> str:
    glob, escaped = "", False
    for char in pattern:
        if not escaped and char == "\\":
            escaped = True
            continue
        wildcard = {"%": "*", "_": "?"}.get(char) if not escaped else None
        glob += wildcard or (f"[{char}]" if char in "*?[" else char)
        escaped = False
    return glob


def _rank(order: Order, place: Product | Position) -> tuple[str, int, str]:
    if order.by_price:
        return place.price.currency, place.price.minor, place.id
    return "", 0, place.id


def _is_descending(order: Order) -> bool:
    return order in (Order.NAME_DESC, Order.PRICE_DESC)


def _is_behind(order: Order, rank: tuple[str, int, str], last: tuple[str, int, str]) -> bool:
    return rank < last if _is_descending(order) else rank > last
