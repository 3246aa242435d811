"""What the processes of a small mesh do, each act in a process that may die of it: the real code on real stores.

Routes with their use cases and stores, the relay, the consumer loop with its handlers, the cache. Beside them there is
no wire: calls come as requests, and the broker is a table.
"""

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from threading import Thread
from typing import Any

import psycopg
from google.protobuf import field_mask_pb2
from google.protobuf.message import Message

from svc.catalog import rpc as catalog_rpc
from svc.catalog.rpc import CatalogHandler
from svc.catalog.store import ProductStore
from svc.catalog.usecases import Ports as CatalogPorts
from svc.chassis import crash, idempotency, money, outbox
from svc.chassis.cache.store import Cache
from svc.chassis.call import Call, Method
from svc.chassis.clock import SystemClock
from svc.chassis.context import Deadline, Principal
from svc.chassis.crash import Point
from svc.chassis.database import Database
from svc.chassis.errors import AppError, FailedPrecondition, InvalidArgument, NotFound
from svc.chassis.pages import PageTokens
from svc.chassis.server import _Route
from svc.chassis.sessions import Sessions
from svc.orders.model import Product
from svc.orders.rpc import Answers, InventoryHandler, OrderHandler
from svc.orders.store import Store
from svc.orders.usecases import Ports as OrderPorts
from tests.chaos.history import Recorder
from tests.fakes.orders import FakeCatalog
from tests.unit.chaos.broker_table import Broker, MailServer, Queue
from weft.catalog.v1 import catalog_pb2
from weft.orders.v1 import inventory_pb2, orders_pb2
from weft_protos import caching
from worker.amqp import topology
from worker.amqp.ladder import Ladder
from worker.config import MAIL_BATCH, TRANSACTION_BATCH
from worker.forgetting import Forgetting
from worker.handlers.analytics.handler import AnalyticsHandler
from worker.handlers.audit.handler import AuditHandler
from worker.handlers.email.deliveries import Deliveries
from worker.handlers.email.handler import EmailHandler
from worker.relay import Relay
from worker.runner import Handler, Runner

KEY = b"k" * 32
#: Products that can be ordered, and the one whose price changes.
PRODUCTS = ("mug", "tea")
PRICED = "lamp"
#: Generous: a machine that is busy has found nothing.
CALL_S = 60.0

_CATALOG = catalog_pb2.DESCRIPTOR.services_by_name["CatalogService"]
_ORDERS = orders_pb2.DESCRIPTOR.services_by_name["OrderService"]
_STOCK = inventory_pb2.DESCRIPTOR.services_by_name["InventoryService"]


@dataclass(frozen=True)
class Place:
    """Where the stores of a small mesh are, and what its processes write down."""

    url: str
    """Of a database, with the name left open."""
    memcached: tuple[str, int]
    folder: Path
    """Of the crash points."""
    history: Path
    began: float


class Process:
    """One process: everything is opened when it is first used, and nothing is closed."""

    def __init__(self, place: Place, recorder: Recorder) -> None:
        self.place = place
        self.recorder = recorder

    def database(self, name: str) -> Database:
        return Database(self.place.url.format(name), pool_size=2, name=name)

    @cached_property
    def orders(self) -> Database:
        return self.database("orders")

    @cached_property
    def catalog(self) -> Database:
        return self.database("catalog")

    @cached_property
    def cache(self) -> Cache:
        return Cache([self.place.memcached], key=KEY, answer_s=5.0)

    @cached_property
    def broker(self) -> "psycopg.Connection[Any]":
        return psycopg.connect(self.place.url.format("broker").replace("+psycopg", ""), autocommit=True)

    @cached_property
    def order_handler(self) -> OrderHandler:
        return OrderHandler(self._order_ports, PageTokens(KEY))

    @cached_property
    def _order_ports(self) -> OrderPorts:
        return OrderPorts(
            transactions=self.orders,
            store=Store(),
            idempotency=idempotency,
            append=outbox.append,
            catalog=FakeCatalog([Product(each, each.title(), "GBP", 250) for each in PRODUCTS]),
            watches=None,  # type: ignore[arg-type]  # nobody watches
            answers=Answers(),
            clock=SystemClock(),
        )

    @cached_property
    def catalog_handler(self) -> CatalogHandler:
        entry = self.cache.entry(_CATALOG.methods_by_name["GetProduct"], catalog_rpc.CODEC)
        ports = CatalogPorts(
            transactions=self.catalog, products=ProductStore(), cache=entry, append=outbox.append, clock=SystemClock()
        )
        return CatalogHandler(ports, PageTokens(KEY))

    def serve(self, service: Any, name: str, request: Message, *, user: str = "ann") -> Any:
        """Have a call served as an instance does, from the handler on. Raises AppError."""
        handler: object = {_CATALOG: lambda: self.catalog_handler, _ORDERS: lambda: self.order_handler}.get(
            service, lambda: InventoryHandler(self._order_ports)
        )()
        descriptor = service.methods_by_name[name]
        method = Method.of(descriptor, instance="test-1")
        route = _Route(
            descriptor,
            getattr(handler, name),
            verifier=None,  # type: ignore[arg-type]  # whoever calls was let in
            method=method,
            observe=lambda _: None,
            sessions=Sessions(None, [service]),
            forget=self.cache.forget,
            encrypted=False,
        )
        body = request.SerializeToString(deterministic=True)
        call = Call(method=method, metadata={}, body=body, time_left_s=CALL_S, is_active=lambda: True)
        call.deadline, call.message = Deadline.after(CALL_S), request
        call.body_hash = hashlib.sha256(body).digest()
        call.principal = Principal(subject=user, scopes=frozenset(), session="s", actor=None, token="t")
        return route.handle(call, lambda: True)


def place_order(process: Process, user: str, key: str, items: dict[str, int]) -> None:
    """Order, and read what was acknowledged."""
    pending = process.recorder.begin("place", customer=user, key=key, items=items)
    lines = [orders_pb2.ItemQuantity(product_id=each, quantity=count) for each, count in items.items()]
    request = orders_pb2.PlaceOrderRequest(items=lines, request_id=key)
    try:
        order = process.serve(_ORDERS, "PlaceOrder", request, user=user)
    except AppError as error:
        refused = isinstance(error, FailedPrecondition | InvalidArgument | NotFound)
        (pending.fail if refused else pending.info)(code=type(error).__name__)
        return
    pending.ok(order=order.name)
    reading = process.recorder.begin("read", customer=user, order=order.name)
    try:
        process.serve(_ORDERS, "GetOrder", orders_pb2.GetOrderRequest(name=order.name), user=user)
        reading.ok()
    except AppError as error:
        reading.fail(code=type(error).__name__)


def cancel_order(process: Process, user: str, key: str, items: dict[str, int]) -> None:
    """Take something of the customer's only order back."""
    (order,) = process.serve(_ORDERS, "ListOrders", orders_pb2.ListOrdersRequest(), user=user).orders
    pending = process.recorder.begin("cancel", customer=user, key=key, order=order.name, items=items)
    lines = [orders_pb2.ItemQuantity(product_id=each, quantity=count) for each, count in items.items()]
    process.serve(
        _ORDERS, "CancelOrder", orders_pb2.CancelOrderRequest(name=order.name, items=lines, request_id=key), user=user
    )
    pending.ok()


def open_shop(process: Process, stock: dict[str, int], users: Sequence[str]) -> None:
    """Stock, a product with a price, and the customers' addresses."""
    for number, (product, quantity) in enumerate(stock.items()):
        pending = process.recorder.begin("open", product=product, quantity=quantity)
        key = f"00000000-0000-4000-8000-{number:012}"
        request = inventory_pb2.SetStockRequest(name=f"stock/{product}", quantity=quantity, request_id=key)
        process.serve(_STOCK, "SetStock", request)
        pending.ok()
    product = catalog_pb2.Product(display_name="Lamp", price=money.from_minor("GBP", 100))
    process.serve(_CATALOG, "CreateProduct", catalog_pb2.CreateProductRequest(product_id=PRICED, product=product))
    address = "INSERT INTO recipients (user_name, display_name, address) VALUES (%s, 'Ann', 'ann@example.org')"
    rows = [(f"users/{user}",) for user in users]
    process.database("email").serializable(
        lambda tx: tx.exec_driver_sql(address, rows), deadline=Deadline.after(CALL_S)
    )


def reprice(process: Process, minor: int) -> None:
    """Change the price; whoever asks for the same price again changes nothing."""
    name = f"products/{PRICED}"
    pending = process.recorder.begin("reprice", product=name)
    product = catalog_pb2.Product(name=name, price=money.from_minor("GBP", minor))
    request = catalog_pb2.UpdateProductRequest(product=product, update_mask=field_mask_pb2.FieldMask(paths=["price"]))
    changed = process.serve(_CATALOG, "UpdateProduct", request)
    pending.ok(version=_version(changed))


def quote(process: Process, bound_s: float = 65.0) -> None:
    """Read the price, as old as the contract lets it be."""
    name = f"products/{PRICED}"
    pending = process.recorder.begin("quote", product=name, bound_s=bound_s, least=0)
    pending.ok(version=_version(process.serve(_CATALOG, "GetProduct", catalog_pb2.GetProductRequest(name=name))))


def garbage(process: Process, queue: str) -> None:
    """Somebody publishes what is no event."""
    process.broker.execute("INSERT INTO message (queue, message_id, type, body) VALUES (%s, 'x', 'x', 'x')", (queue,))


def relay(process: Process, name: str = "orders") -> None:
    """Publish what is in an outbox, until there is nothing left."""
    publisher = Forgetting(Broker(process.broker), process.cache, outdated_by=caching.outdated_by())
    working = Relay(process.database(name), publisher, name=name, routing_keys=topology.routing_keys())
    while working.drain_once().published:
        continue


def work(process: Process, worker: str) -> None:
    """Handle what is in a queue, until it is empty."""
    database = process.database(worker)
    handlers: dict[str, Callable[[], tuple[Handler, int]]] = {
        "audit": lambda: (AuditHandler(database), TRANSACTION_BATCH),
        "analytics": lambda: (AnalyticsHandler(database), TRANSACTION_BATCH),
        "email": lambda: (EmailHandler(Deliveries(database), MailServer(process.broker)), MAIL_BATCH),
    }
    handler, batch_max = handlers[worker]()
    queue = topology.work_queue(worker)
    source = Queue(process.broker, queue.name)
    runner = Runner(source, Ladder(Broker(process.broker), queue), handler, queue=queue.name, batch_max=batch_max)  # type: ignore[arg-type]
    while batch := source.take(batch_max, timeout_s=0):
        assert runner.settle(batch)


def meanwhile(process: Process, point: Point, first: "Act", *others: "Act") -> None:
    """Do the first, and when it comes by a point for the first time, have others do theirs before it goes on."""
    waiting = list(others)

    def strike(passed: Point) -> None:
        if passed is not point or not waiting:
            return
        done = waiting.copy()
        waiting.clear()
        other = Process(process.place, process.recorder)
        # In a thread of its own: the first may be in the middle of a transaction.
        thread = Thread(target=lambda: [act(other, *arguments) for act, arguments in done])
        thread.start()
        thread.join(CALL_S)

    crash.arm(strike)
    first[0](process, *first[1])
    assert not waiting, f"nobody has come by {point}"


def relay_one(process: Process) -> None:
    """Publish one row of the outbox of orders, and no more."""
    publisher = Forgetting(Broker(process.broker), process.cache, outdated_by={})
    working = Relay(process.database("orders"), publisher, name="orders", routing_keys=topology.routing_keys())
    working._most = 1
    assert 1 == working.drain_once().published


Act = tuple[Callable[..., None], Sequence[Any]]
"""What is done, and with what beside the process."""


def live(place: Place, operations: int, acts: Sequence[Act], plant: Callable[[], None]) -> None:
    """The life of a process: a bug is planted in it, then it does its acts until it has done them all, or dies."""
    plant()
    with _recorder(place, operations) as recorder:
        process = Process(place, recorder)
        for act, arguments in acts:
            # Each act has points of its own, as if it were a process of its own.
            crash.arm_by_files(place.folder, act.__name__)
            act(process, *arguments)


def sound() -> None:
    """Plants nothing."""


@contextlib.contextmanager
def _recorder(place: Place, operations: int) -> Iterator[Recorder]:
    with place.history.open("a") as file:
        yield Recorder(file, began=place.began, first=operations)


def _version(product: catalog_pb2.Product) -> int:
    return product.update_time.ToMicroseconds()
