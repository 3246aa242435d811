"""A small mesh: real databases, a real Memcached, and processes that are forked, do their acts, and may die of SIGKILL.

Everything of it lives as long as the fixture; `fresh` begins anew. What it has gone through is a history and books as
those of a large one, so the same checks judge it.
"""

import multiprocessing
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psycopg

from deploy.supervisor.workspace import temporary
from svc.chassis import migrate
from svc.chassis.crash import Point
from tests import postgres_pair
from tests.cache_observer import Observer
from tests.chaos import history as histories
from tests.chaos.check import find
from tests.chaos.history import Books, Order
from tests.integration.worker_databases import MIGRATIONS, ROOT
from tests.memcached_process import MemcachedProcess
from tests.postgres_pair import PostgresServer
from tests.unit.chaos import acts
from tests.unit.chaos.acts import KEY, Act, Place, sound
from tests.unit.chaos.broker_table import TABLES
from worker.handlers.audit.log import GENESIS
from worker.handlers.email.templates import ORDER_PLACED

DATABASES = {
    **{name: ROOT / "svc" / name / "migrations" for name in ("orders", "catalog")},
    **{name: MIGRATIONS[name] for name in ("analytics", "audit", "email")},
}
KEPT = ("alembic_version", "migration_lock")
LIFE_S = 200.0
PLACED = "weft.orders.v1.OrderPlaced"


class SmallMesh:
    def __init__(self, server: PostgresServer, memcached: MemcachedProcess, folder: Path, stack: ExitStack) -> None:
        """`stack` closes what is opened here."""
        self._server = server
        self._memcached = memcached
        self._folder = folder
        self._runs = 0
        # Forked from one that has imported everything and opened nothing.
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload([acts.__name__])
        for name, migrations in DATABASES.items():
            server.execute(f"CREATE DATABASE {name}", database="postgres")
            migrate.upgrade(server.url(database=name), str(migrations))
        server.execute("CREATE DATABASE broker", database="postgres")
        server.execute(TABLES, database="broker")
        names = (*DATABASES, "broker")
        self._connections = {name: stack.enter_context(self._connect(name)) for name in names}
        self.fresh()

    def fresh(self) -> None:
        """Nothing has happened yet."""
        for name in (*DATABASES, "broker"):
            tables = self._rows(name, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
            emptied = [table for (table,) in tables if table not in (*KEPT, "audit_head")]
            # The audit log refuses to be emptied; its trigger is the owner's to switch off.
            self.execute(name, "SET session_replication_role = replica")
            self.execute(name, "; ".join(f"DELETE FROM {table}" for table in emptied))
            self.execute(name, "RESET session_replication_role")
        head = f"UPDATE audit_head SET sequence = 0, hash = '\\x{GENESIS.hex()}'"
        self.execute("audit", head)
        with self._memcached.client() as client:
            client.flush_all(noreply=False)
        self._runs += 1
        folder = self._folder / str(self._runs)
        (folder / "points").mkdir(parents=True)
        url, history = self._server.url(database="{}"), folder / "history"
        self.place = Place(url, self._memcached.address, folder / "points", history, time.monotonic())
        self.place.history.touch()

    def run(self, *done: Act, plant: Callable[[], None] = sound) -> int:
        """A process does this and ends; its exit code, negative where a signal ended it."""
        begun = sum('"invoke"' in line for line in self.place.history.read_text().splitlines())
        process = self._context.Process(target=acts.live, args=[self.place, begun, done, plant])
        process.start()
        process.join(LIFE_S)
        assert process.exitcode is not None, "it does not come to its end"
        return process.exitcode

    def dies(self, point: Point, *done: Act, plant: Callable[[], None] = sound) -> None:
        """A process does this, comes by a crash point in the last act, and is gone."""
        file = self.place.folder / f"{done[-1][0].__name__}.{point}"
        file.touch()
        assert -signal.SIGKILL == self.run(*done, plant=plant), f"nobody has come by {point}"
        assert not file.exists()

    def broken(self) -> Mapping[str, Sequence[str]]:
        """What the checks find when nothing moves any more."""
        return find(histories.read(self.place.history), self.books())

    def books(self) -> Books:
        events = [(str(row[0]), *row[1:]) for row in self._rows("orders", "SELECT id, type, ordering_key FROM outbox")]
        audited = self._rows("audit", "SELECT event_id FROM audit_log WHERE source = 'orders'")
        mails = self._rows("broker", "SELECT message_id FROM mail WHERE kind = %s ORDER BY sent", ORDER_PLACED)
        version = "(extract(epoch FROM update_time) * 1000000)::bigint"
        rows = {f"products/{name}": at for name, at in self._rows("catalog", f"SELECT id, {version} FROM products")}
        return Books(
            stock=dict(self._rows("orders", "SELECT product_id, quantity FROM stock")),
            orders=self._orders(),
            placed=[(event, key) for event, kind, key in events if kind == PLACED],
            events=[event for event, _, _ in events],
            audited=[str(event) for (event,) in audited],
            counted=self.number("analytics", "SELECT coalesce(sum(orders), 0)::bigint FROM sales_daily"),
            mailed=[row[0].strip("<>").partition("@")[0] for row in mails],
            versions=rows,
            cached=Observer([self.place.memcached], lambda: rows, secret=KEY).entries(list(rows)),
            left=self._left(),
        )

    def dead(self, queue: str) -> int:
        """Dead letters of a queue."""
        return self.number("broker", "SELECT count(*) FROM message WHERE queue = %s", f"{queue}.dead")

    def number(self, name: str, statement: str, *values: object) -> int:
        """What a query for one number says."""
        return int(self._rows(name, statement, *values)[0][0])

    def execute(self, name: str, statement: str) -> None:
        """Change one of its databases."""
        self._connections[name].execute(statement.encode())

    def _orders(self) -> dict[str, Order]:
        found: dict[str, Order] = {}
        rows = self._rows(
            "orders",
            "SELECT o.id, o.user_id, i.product_id, i.quantity, i.cancelled_quantity "
            "FROM orders o JOIN order_items i ON i.order_id = o.id",
        )
        for order_id, user, product, quantity, back in rows:
            order = found.setdefault(f"orders/{order_id}", Order(user, {}, {}))
            order.items[product] = quantity  # type: ignore[index]
            if back:
                order.taken_back[product] = back  # type: ignore[index]
        return found

    def _left(self) -> list[tuple[str, int]]:
        rows = self._rows("orders", "SELECT id, ordering_key, sequence FROM outbox")
        numbers = {str(event): (key, sequence) for event, key, sequence in rows}
        sent = self._rows("broker", "SELECT message_id FROM message WHERE queue = 'weft.audit' ORDER BY tag")
        return [numbers[row[0]] for row in sent if row[0] in numbers]

    def _rows(self, name: str, statement: str, *values: object) -> list[Any]:
        return self._connections[name].execute(statement.encode(), values or None).fetchall()

    def _connect(self, name: str) -> "psycopg.Connection[Any]":
        return psycopg.connect(self._server.url(database=name).replace("+psycopg", ""), autocommit=True)


@contextmanager
def started() -> Iterator[SmallMesh]:
    with ExitStack() as stack:
        folder = stack.enter_context(temporary())
        server = stack.enter_context(postgres_pair.leader(folder))
        memcached = stack.enter_context(MemcachedProcess())
        yield SmallMesh(server, memcached, stack.enter_context(temporary()), stack)
