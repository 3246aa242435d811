"""Carries a plan out through the gateway: products, stock and users first, then every customer's steps in file order.

Customers run beside each other, one customer's steps after each other. Every write carries a request id or may meet
its own earlier effect, so a run that was stopped is simply started again.
"""

import secrets
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Final, TypeVar

import grpc
from google.protobuf import field_mask_pb2
from google.type import money_pb2

from deploy.cli.gateway_client import GatewayClient, describe
from deploy.cli.replay.plan import Place, Plan, Product, Step, request_id
from weft.catalog.v1 import catalog_pb2, catalog_pb2_grpc
from weft.identity.v1 import identity_pb2, identity_pb2_grpc
from weft.orders.v1 import inventory_pb2, inventory_pb2_grpc, orders_pb2, orders_pb2_grpc

Item = TypeVar("Item")

CURRENCY: Final = "GBP"
MINOR_NANOS: Final = 10_000_000
#: Enough to keep both cores of a small machine busy; the gateway's limits per user are never near.
CONCURRENCY_DEFAULT: Final = 16
FAILURES_SHOWN: Final = 10
PAGE_SIZE: Final = 1000

#: Called with the phase, the calls done and the calls in all.
Progress = Callable[[str, int, int], None]


@dataclass(slots=True)
class Outcome:
    """What a run achieved. `failures` are one line each, the first FAILURES_SHOWN of `failed`."""

    acknowledged: int = 0
    failed: int = 0
    failures: list[str] = field(default_factory=list)
    revenue_minor: int = 0
    seconds: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def succeeded(self, revenue_minor: int = 0) -> None:
        """Count one acknowledged step."""
        with self.lock:
            self.acknowledged += 1
            self.revenue_minor += revenue_minor

    def fail(self, what: str) -> None:
        """Count one step that no repetition could save."""
        with self.lock:
            self.failed += 1
            if len(self.failures) < FAILURES_SHOWN:
                self.failures.append(what)


class Runner:
    """One run of one plan."""

    def __init__(self, plan: Plan, client: GatewayClient, *, concurrency: int, speed: float | None, progress: Progress):
        self._plan = plan
        self._client = client
        self._concurrency = concurrency
        self._speed = speed
        self._progress = progress
        self.outcome = Outcome()

    def run(self) -> Outcome:
        """Do everything. Raises grpc.RpcError where products, stock or users cannot be imported."""
        products = self._plan.products
        present = self._present_prices()
        missing = [product for product in products if present.get(product.code) != money(product.price_minor)]
        self._each("products", missing, self._import_product)
        self._each("stock", products, self._set_stock)
        self._each("customers", sorted(self._plan.customers), self._import_customer)
        started = time.monotonic()
        done = 0
        lock = threading.Lock()

        def step_done() -> None:
            nonlocal done
            with lock:
                done += 1
                self._progress("orders", done, self._plan.steps)

        def customer(name: str) -> None:
            self._customer(name, self._plan.customers[name], started, step_done)

        self._progress("orders", 0, self._plan.steps)
        self._spread(self._plan.customers, customer)
        self.outcome.seconds = time.monotonic() - started
        return self.outcome

    def _each(self, phase: str, items: Sequence[Item], action: Callable[[Item], None]) -> None:
        done = 0
        lock = threading.Lock()

        def counted(item: Item) -> None:
            nonlocal done
            action(item)
            with lock:
                done += 1
                self._progress(phase, done, len(items))

        self._progress(phase, 0, len(items))
        self._spread(items, counted)

    def _spread(self, items: Iterable[Item], action: Callable[[Item], None]) -> None:
        """Run an action for each item on the threads of the run; the first error ends it and is raised."""
        with ThreadPoolExecutor(self._concurrency, thread_name_prefix="replay") as threads:
            futures: list[Future[None]] = [threads.submit(action, item) for item in items]
            try:
                wait(futures, return_when=FIRST_EXCEPTION)
            except KeyboardInterrupt:
                self._client.stopping.set()
                threads.shutdown(wait=True, cancel_futures=True)
                raise
            failed = next((future for future in futures if future.done() and future.exception() is not None), None)
            if failed is not None:
                self._client.stopping.set()
                threads.shutdown(wait=True, cancel_futures=True)
                failed.result()

    def _present_prices(self) -> dict[str, money_pb2.Money]:
        """Prices of the products that are there already, by code: a run that is started again need not ask for each."""
        stub = catalog_pb2_grpc.CatalogServiceStub(self._client.channel())
        prices: dict[str, money_pb2.Money] = {}
        request = catalog_pb2.ListProductsRequest(page_size=PAGE_SIZE)
        while True:
            page = self._client.call(stub.ListProducts, request)
            prices |= {product.name.removeprefix("products/"): product.price for product in page.products}
            if not page.next_page_token:
                return prices
            request.page_token = page.next_page_token

    def _import_product(self, product: Product) -> None:
        stub = catalog_pb2_grpc.CatalogServiceStub(self._client.channel(product.code))
        name = f"products/{product.code}"
        wanted = catalog_pb2.Product(display_name=product.name, price=money(product.price_minor))
        try:
            request = catalog_pb2.CreateProductRequest(product_id=product.code, product=wanted)
            self._client.call(stub.CreateProduct, request)
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.ALREADY_EXISTS:
                raise
            present = self._client.call(stub.GetProduct, catalog_pb2.GetProductRequest(name=name))
            if present.price != wanted.price:
                wanted.name = name
                mask = field_mask_pb2.FieldMask(paths=["price"])
                update = catalog_pb2.UpdateProductRequest(product=wanted, update_mask=mask)
                self._client.call(stub.UpdateProduct, update)

    def _set_stock(self, product: Product) -> None:
        stub = inventory_pb2_grpc.InventoryServiceStub(self._client.channel(product.code))
        request = inventory_pb2.SetStockRequest(
            name=f"stock/{product.code}",
            quantity=product.opening_stock,
            request_id=request_id("stock", self._plan.digest, product.code),
        )
        self._client.call(stub.SetStock, request)

    def _import_customer(self, customer: str) -> None:
        stub = identity_pb2_grpc.IdentityServiceStub(self._client.channel(customer))
        request = identity_pb2.CreateUserRequest(
            user_id=user_id(customer),
            email=f"{user_id(customer)}@example.com",
            display_name=f"Customer {customer}",
            password=secrets.token_urlsafe(24),  # nobody signs in with it: the operator acts for the customer
        )
        try:
            self._client.call(stub.CreateUser, request)
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.ALREADY_EXISTS:
                raise

    def _customer(self, customer: str, steps: Sequence[Step], started: float, step_done: Callable[[], None]) -> None:
        stub = orders_pb2_grpc.OrderServiceStub(self._client.channel(customer))
        placed: dict[str, str] = {}
        for step in steps:
            if self._speed is not None and self._plan.first_date is not None:
                due = started + (step.date - self._plan.first_date).total_seconds() / self._speed
                self._client.stopping.wait(max(0.0, due - time.monotonic()))
            if self._client.stopping.is_set():
                return
            try:
                self._step(stub, customer, step, placed)
            except grpc.RpcError as error:
                if self._client.stopping.is_set():
                    return
                self.outcome.fail(f"invoice {step.invoice}: {describe(error)}")
            except KeyError:
                self.outcome.fail(f"invoice {step.invoice}: the order it takes back was not placed")
            step_done()

    def _step(self, stub: orders_pb2_grpc.OrderServiceStub, customer: str, step: Step, placed: dict[str, str]) -> None:
        items = [orders_pb2.ItemQuantity(product_id=code, quantity=quantity) for code, quantity in step.items]
        user = user_id(customer)
        if isinstance(step, Place):
            place = orders_pb2.PlaceOrderRequest(items=items, request_id=step.request_id, region_code=step.region_code)
            order = self._client.call(stub.PlaceOrder, place, user=user)
            placed[step.invoice] = order.name
            self.outcome.succeeded(order.total.units * 100 + order.total.nanos // MINOR_NANOS)
        else:
            name = placed[step.order_invoice]
            cancel = orders_pb2.CancelOrderRequest(name=name, items=items, request_id=step.request_id)
            self._client.call(stub.CancelOrder, cancel, user=user)
            self.outcome.succeeded()


def user_id(customer: str) -> str:
    """Id of the user that stands for a customer of the file."""
    return f"customer-{customer}"


def money(minor: int) -> money_pb2.Money:
    """Pence as google.type.Money."""
    return money_pb2.Money(currency_code=CURRENCY, units=minor // 100, nanos=minor % 100 * MINOR_NANOS)
