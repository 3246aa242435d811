"""PlaceOrder in two ways, for benches: the service's own use case, and the same handler written by hand in psycopg.

Both stand behind the same chassis, ask the same catalog (one in memory, for that call is not what is compared), build
the same order, answer and event, retry serialization failures with full jitter, and write the same rows. The one by
hand says statement by statement what it wants, as most handlers do, on a connection of its own for each thread.
"""

import random
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, cast

import psycopg

from bench.report import ROOT, BenchError
from deploy.supervisor import single
from svc.chassis import idempotency, outbox
from svc.chassis.bounded import parse_url
from svc.chassis.clock import SystemClock
from svc.chassis.context import CallContext, Deadline, Principal
from svc.chassis.database import ATTEMPTS_MAX, Database
from svc.chassis.errors import Aborted, FailedPrecondition
from svc.chassis.ids import new_id
from svc.chassis.migrate import upgrade
from svc.chassis.sqlstate import backoff
from svc.orders import events, model, usecases
from svc.orders.model import Line, Order, Product
from svc.orders.rpc import Answers
from svc.orders.store import Store
from svc.orders.usecases import Ports, Watches

METHOD: Final = "/weft.orders.v1.OrderService/PlaceOrder"
CONNECTIONS: Final = 8
PIECES: Final = 1_000_000
_DEADLINE_S: Final = 5.0

Handler = Callable[[Sequence[Line], str, CallContext], bytes]


class Prices:
    """A catalog that has everything, at one price."""

    def products(self, product_ids: Sequence[str], *, call: CallContext) -> Sequence[Product]:
        return [Product(product_id, f"Product {product_id}", "GBP", 250) for product_id in product_ids]


def ours(url: str) -> Handler:
    """The service's own."""
    ports = Ports(
        transactions=Database(url, pool_size=CONNECTIONS, name="bench"),
        store=Store(),
        idempotency=idempotency,
        append=outbox.append,
        catalog=Prices(),
        watches=cast(Watches, None),  # nobody watches
        answers=Answers(),
        clock=SystemClock(),
    )
    return lambda lines, request_id, call: usecases.place_order(ports, lines, request_id=request_id, call=call)


class ByHand:
    """Statement by statement. `retries` counts runs beyond the first."""

    def __init__(self, url: str, *, attempts: int = ATTEMPTS_MAX, waits: bool = True) -> None:
        """`waits`: with full jitter before it tries again; else it tries at once."""
        self._target = parse_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
        self._attempts = attempts
        self._waits = waits
        self._local = threading.local()
        self._random = random.Random()
        self._answers = Answers()
        self.retries = 0

    def place(self, lines: Sequence[Line], request_id: str, call: CallContext) -> bytes:
        """Place an order."""
        products = Prices().products([line.product_id for line in lines], call=call)
        now = SystemClock().now()
        order = model.build_order(lines, products, order_id=new_id(), user_id=call.caller.subject, now=now)
        answer, event = self._answers.order(order), events.order_placed(order, call=call)
        connection = self._connection()
        for attempt in range(1, self._attempts + 1):
            try:
                with connection.transaction():
                    return self._write(connection, order, answer, event, uuid.UUID(request_id), call)
            except (psycopg.errors.SerializationFailure, psycopg.errors.DeadlockDetected):
                delay = backoff(attempt, self._random) if self._waits else 0.0
                if attempt == self._attempts or delay >= call.deadline.remaining():
                    raise Aborted(reason="CONTENTION") from None
                self.retries += 1
                threading.Event().wait(delay)
        raise AssertionError

    def _connection(self) -> "psycopg.Connection[Any]":
        if not hasattr(self._local, "connection"):
            connection = psycopg.connect(self._target, autocommit=True, options="-c enable_seqscan=off -c jit=off")
            connection.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
            self._local.connection = connection
        found: psycopg.Connection[Any] = self._local.connection
        return found

    def _write(
        self,
        tx: "psycopg.Connection[Any]",
        order: Order,
        answer: bytes,
        event: outbox.Event,
        request_id: uuid.UUID,
        call: CallContext,
    ) -> bytes:
        key = (call.caller.subject, call.method, request_id)
        claimed = tx.execute(
            "INSERT INTO idempotency (principal, method, request_id, body_hash) VALUES (%s, %s, %s, %s) "
            "ON CONFLICT DO NOTHING",
            (*key, call.body_hash),
        )
        if claimed.rowcount == 0:
            found = tx.execute(
                "SELECT response FROM idempotency WHERE principal = %s AND method = %s AND request_id = %s", key
            ).fetchone()
            return bytes(found[0]) if found is not None else b""
        for item in sorted(order.items, key=lambda each: each.product_id):
            taken = tx.execute(
                "UPDATE stock SET quantity = quantity - %s, update_time = %s WHERE product_id = %s AND quantity >= %s",
                (item.quantity, order.create_time, item.product_id, item.quantity),
            )
            if taken.rowcount == 0:
                raise FailedPrecondition(reason="OUT_OF_STOCK")
        tx.execute(
            "INSERT INTO orders (id, user_id, currency, total_minor, state, revision, create_time, update_time) "
            "VALUES (%s, %s, %s, %s, %s, %s, %s, %s)",
            (
                *(uuid.UUID(order.id), order.user_id, order.currency, order.total_minor, order.state.value),
                *(order.revision, order.create_time, order.update_time),
            ),
        )
        for position, item in enumerate(order.items):
            tx.execute(
                "INSERT INTO order_items (order_id, product_id, position, display_name, quantity, unit_price_minor) "
                "VALUES (%s, %s, %s, %s, %s, %s)",
                (
                    *(uuid.UUID(order.id), item.product_id, position),
                    *(item.display_name, item.quantity, item.unit_price_minor),
                ),
            )
        tx.execute(
            "INSERT INTO outbox (id, type, ordering_key, envelope, traceparent) VALUES (%s, %s, %s, %s, %s)",
            (uuid.UUID(event.id), event.type, event.key, event.envelope, event.traceparent),
        )
        tx.execute(
            "UPDATE idempotency SET response = %s WHERE principal = %s AND method = %s AND request_id = %s",
            (answer, *key),
        )
        return answer


def a_call(subject: str = "ann") -> CallContext:
    """A call as the chassis hands it on."""
    principal = Principal(subject, frozenset({"orders.write"}), "s", None, "")
    return CallContext(METHOD, principal, Deadline.after(_DEADLINE_S), b"body", lambda: True)


@contextmanager
def database(folder: Path, products: int) -> Iterator[str]:
    """URL of a migrated orders database with stock, on a server of its own."""
    with single.postgres(folder, database="orders") as url:
        upgrade(url, str(ROOT / "svc/orders/migrations"))
        execute(
            url,
            f"INSERT INTO stock SELECT 'p' || n, {PIECES}, now() FROM generate_series(1, {products}) AS n; ANALYZE",
        )
        yield url


def execute(url: str, statement: str) -> list[tuple[Any, ...]]:
    """Run one statement by itself."""
    target = parse_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(target, autocommit=True) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


def even(url: str, orders: int) -> None:
    """Raises BenchError where there are not just these orders, or where their pieces are not those that are gone."""
    [(found, sold, gone)] = execute(
        url,
        "SELECT (SELECT count(*) FROM orders), (SELECT coalesce(sum(quantity), 0) FROM order_items), "
        f"(SELECT sum({PIECES} - quantity) FROM stock)",
    )
    if (found, sold) != (orders, gone):
        raise BenchError(f"{orders} orders were acknowledged: {found} are there, {sold} pieces sold, {gone} gone")


def basket(chance: random.Random, products: int, items: int) -> list[Line]:
    """Some products, one or two pieces of each."""
    return [Line(f"p{number}", chance.randint(1, 2)) for number in chance.sample(range(1, products + 1), items)]


def until(moment: float) -> Iterator[None]:
    """Again and again until that monotonic moment."""
    while time.monotonic() < moment:
        yield
