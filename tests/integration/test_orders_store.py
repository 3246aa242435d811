"""Orders on a real database: the store's suite, and what only concurrent transactions can break."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from prometheus_client import REGISTRY
from sqlalchemy.exc import IntegrityError

import svc.orders
from svc.chassis import idempotency, outbox
from svc.chassis.context import Deadline
from svc.chassis.database import Database, Transaction
from svc.chassis.errors import Aborted, AppError, FailedPrecondition, NotFound
from svc.chassis.ids import new_id
from svc.chassis.watches import Watches
from svc.orders import facts, usecases
from svc.orders.model import Line, Stock
from svc.orders.store import Store
from svc.orders.usecases import Ports
from tests.fakes.clock import START
from tests.fakes.orders import FakeCatalog, looking, make_call, make_world, product
from tests.fakes.orders_store_suite import Shop, StoreSuite, tag
from weft.orders.v1 import orders_pb2

__all__ = ["tag"]

MIGRATIONS = str(Path(svc.orders.__file__).parent / "migrations")
THREADS = 8


@pytest.fixture
def database(migrated_url: Callable[[str, str], str]) -> Iterator[Database]:
    database = Database(migrated_url("orders", MIGRATIONS), pool_size=THREADS, name="orders")
    yield database
    database.close()


@dataclass
class World:
    """The use cases over the real store and a fake catalog."""

    database: Database
    catalog: FakeCatalog
    ports: Ports

    def put(self, **quantities: int) -> None:
        def work(tx: Transaction) -> None:
            for product_id, quantity in quantities.items():
                self.ports.store.set_stock(tx, Stock(product_id, quantity, START), request_id=new_id())

        self.database.serializable(work, deadline=Deadline.after(30))
        self.catalog.by_id |= {product_id: product(product_id, 250) for product_id in quantities}

    def place(self, *lines: tuple[str, int], request_id: str | None = None) -> bytes:
        wanted = [Line(product_id, quantity) for product_id, quantity in lines]
        return usecases.place_order(self.ports, wanted, request_id=request_id or new_id(), call=make_call())

    def cancel(self, order: orders_pb2.Order, *lines: tuple[str, int], request_id: str | None = None) -> bytes:
        return usecases.cancel_order(
            self.ports,
            order.name.removeprefix("orders/"),
            [Line(product_id, quantity) for product_id, quantity in lines],
            request_id=request_id or new_id(),
            call=make_call(),
        )

    def left(self, *product_ids: str) -> dict[str, int]:
        stock = self.database.read(lambda tx: self.ports.store.stock(tx, product_ids), deadline=Deadline.after(10))
        return {product_id: one.quantity for product_id, one in stock.items()}

    def mismatched(self) -> list[str]:
        stock = self.facts()["stock"]
        assert isinstance(stock, dict)
        return list(stock["mismatched"])

    def facts(self) -> Mapping[str, object]:
        return self.database.read(facts.collect, deadline=Deadline.after(10))

    def events_of(self, key: str) -> list[str]:
        """Types of the events with an ordering key, in their order."""
        sql = "SELECT type FROM outbox WHERE ordering_key = %s ORDER BY sequence"
        rows = self.database.read(lambda tx: tx.exec_driver_sql(sql, (key,)).all(), deadline=Deadline.after(10))
        return [row.type.rpartition(".")[2] for row in rows]


@pytest.fixture
def world(database: Database) -> World:
    fakes = make_world()
    ports = replace(
        fakes.ports,
        transactions=database,
        store=Store(),
        idempotency=idempotency,
        append=outbox.append,
    )
    return World(database, fakes.catalog, ports)


def at_once(jobs: Sequence[Callable[[], bytes]]) -> list[bytes | AppError]:
    """Run the jobs in threads that start together."""
    start = threading.Barrier(min(THREADS, len(jobs)))

    def run(position: int, job: Callable[[], bytes]) -> bytes | AppError:
        if position < start.parties:
            start.wait(10)
        try:
            return job()
        except AppError as error:
            return error

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(run, range(len(jobs)), jobs))


def retries() -> float:
    """How often transactions of this process ran again after they lost against another."""
    return REGISTRY.get_sample_value("weft_db_retries_total", {"database": "orders"}) or 0.0


class TestStore(StoreSuite):
    @pytest.fixture
    def shop(self, database: Database, world: World) -> Shop:
        return Shop(database, Store(), idempotency, world.mismatched)


def test_order_event_and_answer_commit_together(world: World, tag: str) -> None:
    world.put(**{f"{tag}a": 3, f"{tag}b": 9})

    order = orders_pb2.Order.FromString(world.place((f"{tag}a", 3), (f"{tag}b", 4)))
    world.cancel(order, (f"{tag}b", 1))
    world.cancel(order)

    assert ["OrderPlaced", "OrderCancelled", "OrderCancelled"] == world.events_of(order.name)
    assert ["StockDepleted"] == world.events_of(f"{tag}a")
    assert {f"{tag}a": 3, f"{tag}b": 9} == world.left(f"{tag}a", f"{tag}b")


def test_a_refused_order_leaves_nothing_behind(world: World, tag: str) -> None:
    world.put(**{f"{tag}a": 9, f"{tag}b": 1})
    before = world.facts()

    with pytest.raises(FailedPrecondition) as refusal:
        world.place((f"{tag}a", 1), (f"{tag}b", 2))

    assert [("STOCK", f"stock/{tag}b", "2 wanted, 1 left")] == list(refusal.value.violations)
    assert before == world.facts()


def test_nobody_waits_for_an_order_of_another(world: World, tag: str) -> None:
    world.put(**{tag: 1})
    order = orders_pb2.Order.FromString(world.place((tag, 1)))
    order_id, owner = order.name.removeprefix("orders/"), order.user.removeprefix("users/")

    def cancel() -> bytes:
        return usecases.cancel_order(world.ports, order_id, [], request_id=new_id(), call=make_call(f"{tag}x"))

    def meanwhile(tx: Transaction) -> list[bytes | AppError]:
        assert world.ports.store.lock_order(tx, order_id, owner=owner) is not None
        # A wait for that lock would end at the call's deadline.
        return at_once([cancel])

    [refusal] = world.database.serializable(meanwhile, deadline=Deadline.after(60))
    assert isinstance(refusal, NotFound)


@pytest.mark.parametrize("kind", ["place", "cancel"])
def test_one_request_id_at_once_takes_effect_once_with_one_answer(world: World, tag: str, kind: str) -> None:
    world.put(**{tag: 1000})
    order = orders_pb2.Order.FromString(world.place((tag, 100)))
    request_id = new_id()

    def job() -> bytes:
        if kind == "place":
            return world.place((tag, 1), request_id=request_id)
        return world.cancel(order, request_id=request_id)

    answers = at_once([job] * THREADS)

    assert 1 == len(set(answers))
    assert isinstance(answers[0], bytes)
    assert {tag: 899 if kind == "place" else 1000} == world.left(tag)


def test_the_last_pieces_are_sold_once(world: World, tag: str) -> None:
    ids = [f"{tag}{number}" for number in range(5)]
    world.put(**dict.fromkeys(ids, 20))

    def job(number: int) -> Callable[[], bytes]:
        # Half of the orders name the products in the opposite order.
        lines = [(product_id, 1) for product_id in (ids if number % 2 else reversed(ids))]
        return lambda: world.place(*lines)

    outcomes = Counter(type(outcome) for outcome in at_once([job(number) for number in range(40)]))

    assert Counter({bytes: 20, FailedPrecondition: 20}) == outcomes
    assert dict.fromkeys(ids, 0) == world.left(*ids)
    assert [] == world.mismatched()
    assert [["StockDepleted"]] * 5 == [world.events_of(product_id) for product_id in ids]


def test_orders_and_cancellations_at_once_conserve_stock(world: World, tag: str) -> None:
    ids = [f"{tag}{number:02}" for number in range(30)]
    world.put(**dict.fromkeys(ids, 1000))

    def job(number: int) -> Callable[[], bytes]:
        def run() -> bytes:
            lines = [(product_id, 1 + number % 3) for product_id in ids[number % 7 :: 2]]
            order = orders_pb2.Order.FromString(world.place(*lines))
            return world.cancel(order, lines[0]) if number % 2 else world.cancel(order)

        return run

    outcomes = at_once([job(number) for number in range(40)])

    # Contention may cost an attempt too many; it never costs a piece.
    assert {bytes} >= {type(outcome) for outcome in outcomes} - {Aborted}
    assert [] == world.mismatched()


def test_large_orders_without_a_product_in_common_do_not_fail_each_other(world: World, tag: str) -> None:
    shelves = [[f"{tag}{shelf}-{number}" for number in range(100)] for shelf in range(THREADS)]
    for shelf in shelves:
        world.put(**dict.fromkeys(shelf, 100))

    outcomes = at_once(
        [
            lambda shelf=shelf: world.place(*((product_id, 1) for product_id in shelf))  # type: ignore[misc]
            for _ in range(5)
            for shelf in shelves
        ]
    )

    assert {bytes} == {type(outcome) for outcome in outcomes}
    assert [] == world.mismatched()


@pytest.mark.parametrize("times", [1, 2])
def test_setting_the_stock_of_many_products_at_once_is_no_conflict(world: World, tag: str, times: int) -> None:
    # The tables are empty: everything lies on the same few pages, and whatever reads one conflicts with who writes it.
    call = make_call(method="/weft.orders.v1.InventoryService/SetStock")
    ids = [f"{tag}{number:03}" for number in range(200)]
    before = retries()

    def job(product_id: str) -> Callable[[], bytes]:
        return lambda: usecases.set_stock(world.ports, product_id, 7, request_id=new_id(), call=call)

    outcomes = at_once([job(product_id) for product_id in ids * times])

    assert {bytes} == {type(outcome) for outcome in outcomes}
    assert before == retries()
    assert dict.fromkeys(ids, 7) == world.left(*ids)
    assert [] == world.mismatched()


def test_the_database_itself_refuses_to_sell_what_is_not_there(world: World, tag: str) -> None:
    world.put(**{tag: 1})

    def oversell(tx: Transaction) -> None:
        tx.exec_driver_sql("UPDATE stock SET quantity = quantity - 2 WHERE product_id = %s", (tag,))

    with pytest.raises(IntegrityError):
        world.database.serializable(oversell, deadline=Deadline.after(10))
    assert {tag: 1} == world.left(tag)


def test_facts_count_what_is_there(world: World, tag: str) -> None:
    world.put(**{f"{tag}z": 0})
    before = world.facts()
    world.put(**{tag: 9})
    order = orders_pb2.Order.FromString(world.place((tag, 4)))
    world.cancel(order, (tag, 1))

    after = world.facts()

    old, new = before["stock"], after["stock"]
    assert isinstance(before["orders"], int)
    assert isinstance(old, dict)
    assert isinstance(new, dict)
    assert before["orders"] + 1 == after["orders"]
    assert {"products": 1, "on_hand": 6, "movements": 9, "ordered_net": 3} == {
        name: new[name] - old[name] for name in ("products", "on_hand", "movements", "ordered_net")
    }


def test_facts_name_a_product_whose_pieces_do_not_add_up(world: World, tag: str) -> None:
    def set_stock(quantity: int) -> None:
        sql = "UPDATE stock SET quantity = %s WHERE product_id = %s"
        world.database.serializable(lambda tx: tx.exec_driver_sql(sql, (quantity, tag)), deadline=Deadline.after(10))

    world.put(**{tag: 5})
    set_stock(6)

    assert [tag] == world.mismatched()

    set_stock(5)
    assert [] == world.mismatched()


def test_a_watch_sees_a_change_that_another_transaction_made(world: World, tag: str) -> None:
    world.put(**{tag: 9})
    order = orders_pb2.Order.FromString(world.place((tag, 4)))
    store = Store()
    watches = Watches(
        lambda ids: world.database.read(lambda tx: store.revisions(tx, ids), deadline=Deadline.after(10)),
        kind="orders",
        poll_s=0.01,
    )
    ports = replace(world.ports, watches=watches)

    with looking(watches):
        stream = usecases.watch_order(ports, order.name.removeprefix("orders/"), call=make_call())
        assert 1 == next(stream).revision
        world.cancel(order, (tag, 1))
        assert 2 == next(stream).revision
        stream.close()  # type: ignore[attr-defined]
