"""The catalog on a real database: one suite for store and fake, and what only a database can show."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import pytest

import svc.catalog
from svc.catalog import facts, usecases
from svc.catalog.model import Order, Position, Price, Product, like_patterns
from svc.catalog.store import ProductStore
from svc.catalog.usecases import Ports, Products, Query, Transactions, Update
from svc.chassis import outbox
from svc.chassis.clock import SystemClock
from svc.chassis.context import Deadline
from svc.chassis.database import Database
from svc.chassis.errors import Aborted
from tests.fakes.catalog import FakeCache, FakeProducts, FakeTransactions, Memory, make_call
from tests.fakes.clock import START

MIGRATIONS = str(Path(svc.catalog.__file__).parent / "migrations")
T = TypeVar("T")


@dataclass(frozen=True)
class Store:
    """A store of one kind in one place."""

    transactions: Transactions
    products: Products

    def write(self, work: Callable[..., T]) -> T:
        return self.transactions.serializable(work, deadline=Deadline.after(10))

    def read(self, work: Callable[..., T]) -> T:
        return self.transactions.read(work, deadline=Deadline.after(10))

    def insert(self, *products: Product) -> None:
        for each in products:
            assert self.write(lambda tx, each=each: self.products.insert(tx, each))

    def ids(self, words: str = "", *, order: Order = Order.NAME, after: Position | None = None) -> Sequence[str]:
        query = Query(patterns=like_patterns(words), order=order, after=after, limit=100)
        return [product.id for product in self.read(lambda tx: self.products.page(tx, query))]


@pytest.fixture
def database(migrated_url: Callable[[str, str], str]) -> Iterator[Database]:
    database = Database(migrated_url("catalog", MIGRATIONS), pool_size=8, name="catalog")
    yield database
    database.close()


@pytest.fixture(params=["fake", "postgres"])
def store(request: pytest.FixtureRequest) -> Store:
    if request.param == "fake":
        memory = Memory()
        return Store(FakeTransactions(memory), FakeProducts(memory))
    return Store(request.getfixturevalue("database"), ProductStore())


def product(product_id: str, *, name: str = "White mug", minor: int = 100, currency: str = "GBP") -> Product:
    return Product(product_id, name, Price(currency, minor), f"etag of {product_id}", START, START)


def test_a_product_is_kept_as_it_was_inserted_and_changed(store: Store) -> None:
    mug = product("mug", name="Weiß'e ✓ mug", minor=100_000_000_000)
    store.insert(mug)

    assert mug == store.read(lambda tx: store.products.get(tx, "mug"))
    assert store.read(lambda tx: store.products.get(tx, "plate")) is None
    assert not store.write(lambda tx: store.products.insert(tx, product("mug")))

    changed = replace(mug, display_name="x", price=Price("EUR", 0), etag="e", update_time=START + timedelta(days=1))
    store.write(lambda tx: store.products.update(tx, changed))
    assert changed == store.read(lambda tx: store.products.get(tx, "mug"))

    store.write(lambda tx: store.products.delete(tx, "mug"))
    assert store.read(lambda tx: store.products.get(tx, "mug")) is None


def test_those_of_many_that_exist_are_found(store: Store) -> None:
    store.insert(product("a"), product("b"), product("c"))

    found = store.read(lambda tx: store.products.get_many(tx, ["c", "x", "a"]))

    assert {"a", "c"} == {each.id for each in found}


def test_lists_are_ordered_and_go_on_behind_a_position(store: Store) -> None:
    store.insert(
        product("a", minor=300),
        product("b", minor=200),
        product("c", minor=100),
        product("d", minor=300),
        product("e", minor=100),
        product("f", minor=50, currency="USD"),
    )
    orders = {
        Order.NAME: ["a", "b", "c", "d", "e", "f"],
        Order.NAME_DESC: ["f", "e", "d", "c", "b", "a"],
        Order.PRICE: ["c", "e", "b", "a", "d", "f"],
        Order.PRICE_DESC: ["f", "d", "a", "b", "e", "c"],
    }
    prices = {each.id: each.price for each in store.read(lambda tx: store.products.get_many(tx, list("abcdef")))}

    for order, ids in orders.items():
        assert ids == store.ids(order=order)
        for place, product_id in enumerate(ids):
            assert ids[place + 1 :] == store.ids(order=order, after=Position(product_id, prices[product_id]))


def test_words_are_looked_for_as_they_are(store: Store) -> None:
    store.insert(
        product("big", name="Big White Mug"),
        product("red", name="red mug"),
        product("cafe", name="Cafe\u0301 sign"),
        product("half", name="50% off one"),
        product("slash", name="c:\\dir"),
    )
    expected = {
        "": ["big", "cafe", "half", "red", "slash"],
        "MUG": ["big", "red"],
        "mug WHITE": ["big"],
        "hite": ["big"],
        "CAFÉ": ["cafe"],
        "50%": ["half"],
        "5%f": [],
        "o_e": [],
        "c:\\d": ["slash"],
        "'; DROP TABLE products; --": [],
    }

    assert expected == {words: store.ids(words) for words in expected}


def test_of_changes_under_one_etag_at_once_one_gets_in(database: Database) -> None:
    ports = Ports(
        transactions=database, products=ProductStore(), cache=FakeCache(), append=outbox.append, clock=SystemClock()
    )
    mug = usecases.create_product(ports, "mug", display_name="mug", price=Price("GBP", 1), call=make_call())
    start = threading.Barrier(4)

    def change(minor: int) -> bool:
        update = Update(product_id="mug", display_name="mug", price=Price("GBP", minor), etag=mug.etag, fields=())
        start.wait(10)
        try:
            usecases.update_product(ports, update, call=make_call())
        except Aborted:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(change, [2, 3, 4, 5]))

    assert 1 == results.count(True)
    counted = database.read(facts.collect, deadline=Deadline.after(10))
    assert {"service": "catalog", "outbox": {"weft.catalog.v1.ProductChanged": 2}, "unpublished": 2} == counted
