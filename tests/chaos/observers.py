"""Those who look on while a mesh is hurt: at the books, at transactions, at prices, and straight into the cache.

They ask the stores themselves and share no code with what they look at but the way to a database; each look is an
operation of the history, which `observed` judges. Nobody whom they ask has to answer: a look without an answer says
nothing.
"""

import threading
import time
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, Final

import grpc
import sqlalchemy as sa
from google.protobuf import field_mask_pb2

from deploy.cli.gateway_client import SignInError
from deploy.supervisor.mesh import Mesh
from svc.chassis.context import Deadline
from svc.chassis.database import Database, Transaction
from svc.chassis.errors import AppError
from tests.cache_observer import METHOD, Observer
from tests.chaos.history import Pending, Recorder
from tests.chaos.observed import HEALED_S
from tests.integration.shop import Shop
from weft.catalog.v1 import catalog_pb2, catalog_pb2_grpc
from weft_protos import policy, read_token

PLACED: Final = "weft.orders.v1.OrderPlaced"
LOOK_EVERY_S: Final = 0.5
ANSWER_S: Final = 10.0
PRICED: Final = 3
LISTS: Final = ("a", "b", "c", "d")
LISTERS: Final = 3

_GET: Final = catalog_pb2.DESCRIPTOR.services_by_name["CatalogService"].methods_by_name["GetProduct"]
#: What a read of a price may miss, as the contract says.
BOUND_S: Final = policy.consistency(policy.effective(_GET))[1]

_OFF: Final = sa.text(
    """
    SELECT s.product_id, s.quantity
        + (SELECT coalesce(sum(i.quantity - i.cancelled_quantity), 0) FROM order_items i
           WHERE i.product_id = s.product_id)
        - (SELECT coalesce(sum(m.difference), 0) FROM stock_movement m WHERE m.product_id = s.product_id) AS pieces
    FROM stock s WHERE s.product_id = ANY(:products)
    """
)
_THERE: Final = sa.text(
    """
    SELECT 'orders/' || CAST(o.id AS text) AS name, e.id IS NOT NULL AS told
    FROM orders o LEFT JOIN outbox e ON e.ordering_key = 'orders/' || CAST(o.id AS text) AND e.type = :type
    WHERE o.user_id = ANY(:users)
    """
)
_ORDERLESS: Final = sa.text(
    """
    SELECT e.ordering_key FROM outbox e LEFT JOIN orders o ON e.ordering_key = 'orders/' || CAST(o.id AS text)
    WHERE e.type = :type AND o.id IS NULL
    """
)
_VERSIONS: Final = sa.text(
    "SELECT id, (extract(epoch FROM update_time) * 1000000)::bigint AS version FROM products WHERE id = ANY(:ids)"
)

Pause = Callable[[float], bool]


def database(mesh: Mesh, name: str, *, pool_size: int = 1) -> Database:
    """A database of the mesh."""
    return Database((mesh.secrets / f"database-{name}.url").read_text().strip(), pool_size=pool_size, name="chaos")


class Bookkeeper:
    """Takes the balance of the orders, again and again, each in one snapshot."""

    def __init__(
        self, mesh: Mesh, recorder: Recorder, *, users: Callable[[], list[str]], products: Sequence[str]
    ) -> None:
        self._database = database(mesh, "orders")
        self._recorder = recorder
        self._users, self._products = users, products
        self._there: set[str] = set()

    def look(self) -> None:
        pending = self._recorder.begin("balance")
        try:
            said, there = self._database.read(self._balance, deadline=Deadline.after(ANSWER_S))
        except AppError as error:
            pending.info(why=error.reason)
            return
        pending.ok(**said, new=sorted(there - self._there), gone=sorted(self._there - there))
        self._there = there

    def close(self) -> None:
        self._database.close()

    def _balance(self, tx: Transaction) -> tuple[dict[str, Any], set[str]]:
        off = tx.execute(_OFF, {"products": list(self._products)})
        orders = tx.execute(_THERE, {"type": PLACED, "users": self._users()}).all()
        said = {
            "off": {row.product_id: int(row.pieces) for row in off if row.pieces},
            "eventless": sorted(row.name for row in orders if not row.told),
            "orderless": sorted(tx.execute(_ORDERLESS, {"type": PLACED}).scalars()),
        }
        return said, {row.name for row in orders}


class Lists:
    """Appends to lists and reads them, some of each in a transaction, in a table of its own."""

    def __init__(self, mesh: Mesh, recorder: Recorder, *, run: str) -> None:
        self._database = database(mesh, "orders", pool_size=LISTERS)
        self._recorder = recorder
        self._table = f"chaos_lists_{run}"
        create = f"CREATE TABLE {self._table} (key text PRIMARY KEY, elements text NOT NULL)"
        self._database.serializable(lambda tx: tx.exec_driver_sql(create), deadline=Deadline.after(ANSWER_S))

    def transact(self, chance: Random, value: int) -> None:
        """One transaction; what is appended begins at `value`."""
        steps: list[list[Any]] = []
        for step in range(chance.randint(2, 4)):
            kind, key = chance.choice(("append", "read")), chance.choice(LISTS)
            steps.append([kind, key, value + step if kind == "append" else []])
        pending = self._recorder.begin("lists", steps=steps)

        def work(tx: Transaction) -> list[list[Any]]:
            return [[kind, key, self._step(tx, kind, key, value)] for kind, key, value in steps]

        try:
            done = self._database.serializable(work, deadline=Deadline.after(ANSWER_S))
        except AppError as error:
            (pending.info if error.reason == "COMMIT_UNKNOWN" else pending.fail)(why=error.reason)
        else:
            pending.ok(steps=done)

    def all(self) -> dict[str, list[int]]:
        """Every list."""

        def work(tx: Transaction) -> dict[str, list[int]]:
            return {key: list(self._step(tx, "read", key, None)) for key in LISTS}

        return self._database.read(work, deadline=Deadline.after(ANSWER_S))

    def close(self) -> None:
        drop = f"DROP TABLE {self._table}"
        self._database.serializable(lambda tx: tx.exec_driver_sql(drop), deadline=Deadline.after(ANSWER_S))
        self._database.close()

    def _step(self, tx: Transaction, kind: str, key: str, value: Any) -> Any:
        if kind == "append":
            tx.exec_driver_sql(
                f"INSERT INTO {self._table} AS l VALUES (%s, %s) "
                "ON CONFLICT (key) DO UPDATE SET elements = l.elements || ',' || excluded.elements",
                (key, str(value)),
            )
            return value
        found = tx.exec_driver_sql(f"SELECT elements FROM {self._table} WHERE key = %s", (key,)).scalar()
        return [int(each) for each in found.split(",")] if found else []


class Prices:
    """Changes prices as the operator, and reads them: as anybody may, and with the token of the last change."""

    def __init__(self, shop: Shop, recorder: Recorder) -> None:
        self._shop, self._recorder = shop, recorder
        self._mindful = catalog_pb2_grpc.CatalogServiceStub(read_token.remembering(shop.operator.channel(shop.run)))
        self.products = [f"products/{shop.product(stock=None)}" for _ in range(PRICED)]
        self._least = dict.fromkeys(self.products, 0)
        self._minor = 1000

    def change(self, product: str) -> None:
        self._minor += 1
        changed = catalog_pb2.Product(name=product, price=self._shop.money(self._minor))
        mask = field_mask_pb2.FieldMask(paths=["price"])
        request = catalog_pb2.UpdateProductRequest(product=changed, update_mask=mask)
        version = self._ask(self._recorder.begin("reprice", product=product), self._mindful.UpdateProduct, request)
        self._least[product] = max(self._least[product], version)

    def read(self, product: str, *, mindful: bool) -> None:
        least = self._least[product] if mindful else 0
        stub = self._mindful if mindful else self._shop.catalog
        pending = self._recorder.begin("quote", product=product, bound_s=BOUND_S, least=least)
        self._ask(pending, stub.GetProduct, catalog_pb2.GetProductRequest(name=product))

    def _ask(self, pending: Pending, method: Any, request: Any) -> int:
        try:
            answer = self._shop.operator.call(method, request)
        except (grpc.RpcError, SignInError) as error:
            pending.info(why=type(error).__name__)
            return 0
        version: int = answer.update_time.ToMicroseconds()
        pending.ok(version=version)
        return version


class CacheWatch:
    """Reads entries straight from the nodes."""

    def __init__(self, mesh: Mesh, recorder: Recorder, *, products: Sequence[str]) -> None:
        addresses = [each.address.rpartition(":") for each in mesh.status().processes if each.kind == "memcached"]
        secret = bytes.fromhex((mesh.secrets / "cache.key").read_text().strip())
        nodes = [(host, int(port)) for host, _, port in addresses]
        self._observer = Observer(nodes, dict, secret=secret, method=METHOD)
        self._recorder = recorder
        self._products = products
        self._database = database(mesh, "catalog")

    def look(self) -> None:
        pending = self._recorder.begin("cached")
        pending.ok(entries=self.entries())

    def entries(self) -> list[tuple[str, str, str]]:
        return self._observer.entries(list(self._products))

    def versions(self) -> dict[str, int]:
        """Of the products' rows."""
        ids = [product.removeprefix("products/") for product in self._products]
        deadline = Deadline.after(ANSWER_S)
        rows = self._database.read(lambda tx: tx.execute(_VERSIONS, {"ids": ids}).all(), deadline=deadline)
        return {f"products/{row.id}": row.version for row in rows}

    def settled(self) -> tuple[dict[str, int], list[tuple[str, str, str]]]:
        """Rows and entries when they agree, or when that takes too long: a node that was away is told a bit later."""
        over = time.monotonic() + HEALED_S
        while True:
            versions, entries = self.versions(), self.entries()
            if all(says == f"version {versions[key]}" for _, key, says in entries) or time.monotonic() > over:
                return versions, entries
            threading.Event().wait(LOOK_EVERY_S)

    def close(self) -> None:
        self._database.close()


class Observers:
    """All of them, each in threads of its own until `stop`; `close` leaves nothing behind in the mesh."""

    def __init__(
        self, shop: Shop, recorder: Recorder, *, seed: int, users: Callable[[], list[str]], products: Sequence[str]
    ) -> None:
        """`users`: those who have ordered so far; `products`: what they order."""
        mesh = shop.mesh
        self.lists = Lists(mesh, recorder, run=shop.run)
        self.prices = Prices(shop, recorder)
        self.cache = CacheWatch(mesh, recorder, products=self.prices.products)
        self._books = Bookkeeper(mesh, recorder, users=users, products=products)
        self._seed = seed
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        for number in range(LISTERS):
            self._go(self._list, number)
        self._go(self._trade)
        self._go(self._look, self._books.look)
        self._go(self._look, self.cache.look)

    def stop(self) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def close(self) -> None:
        for each in (self.lists, self.cache, self._books):
            each.close()

    def _go(self, work: Callable[..., None], *arguments: Any) -> None:
        thread = threading.Thread(target=work, args=arguments)
        self._threads.append(thread)
        thread.start()

    def _look(self, look: Callable[[], None]) -> None:
        while not self._stopping.wait(LOOK_EVERY_S):
            look()

    def _list(self, number: int) -> None:
        chance, value = Random(f"{self._seed} {number}"), (number + 1) * 10_000_000
        while not self._stopping.wait(LOOK_EVERY_S * chance.random()):
            self.lists.transact(chance, value)
            value += 10

    def _trade(self) -> None:
        chance = Random(self._seed)
        while not self._stopping.wait(LOOK_EVERY_S * chance.random()):
            product = chance.choice(self.prices.products)
            if chance.random() < 0.4:
                self.prices.change(product)
            for mindful in (True, False):
                self.prices.read(product, mindful=mindful)
