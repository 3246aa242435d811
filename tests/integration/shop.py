"""A shop of a test's own in a running mesh: products and customers under ids nobody else has, called with native stubs.

Everything goes through the gateway. What prepares a test is repeated where the mesh asks for it; what a test is about
is sent once, with the customer's own token.
"""

import json
import secrets
import urllib.request
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import grpc
import pytest
from google.protobuf.message import Message
from google.rpc import error_details_pb2
from google.type import money_pb2
from grpc_status import rpc_status
from prometheus_client.parser import text_string_to_metric_families

from deploy.cli.gateway_client import GatewayClient
from deploy.cli.replay.run import MINOR_NANOS
from deploy.supervisor.mesh import Mesh
from tests.waiting import eventually
from weft.analytics.v1 import analytics_pb2_grpc
from weft.catalog.v1 import catalog_pb2, catalog_pb2_grpc
from weft.identity.v1 import identity_pb2, identity_pb2_grpc
from weft.orders.v1 import inventory_pb2, inventory_pb2_grpc, orders_pb2, orders_pb2_grpc

#: Longer than the longest timeout a contract names: the mesh answers first.
CALL_S: Final = 30.0


@dataclass(frozen=True)
class Customer:
    """Somebody who is signed in."""

    id: str
    email: str
    password: str = field(repr=False)
    session: identity_pb2.Session = field(repr=False)

    @property
    def name(self) -> str:
        return f"users/{self.id}"


@dataclass(frozen=True)
class Refusal:
    """The status of a call that was refused."""

    code: grpc.StatusCode
    message: str
    reason: str = ""
    fields: tuple[str, ...] = ()
    subjects: Mapping[str, str] = field(default_factory=dict)
    """What a FAILED_PRECONDITION says of each subject."""


class Shop:
    """Products in one currency, and their customers."""

    def __init__(self, mesh: Mesh, operator: GatewayClient, *, currency: str = "GBP") -> None:
        self.mesh = mesh
        self.operator = operator
        self.currency = currency
        self.run = uuid.uuid4().hex[:12]
        channel = operator.channel(self.run)
        self.identity = identity_pb2_grpc.IdentityServiceStub(channel)
        self.catalog = catalog_pb2_grpc.CatalogServiceStub(channel)
        self.orders = orders_pb2_grpc.OrderServiceStub(channel)
        self.inventory = inventory_pb2_grpc.InventoryServiceStub(channel)
        self.analytics = analytics_pb2_grpc.AnalyticsServiceStub(channel)
        self._ids = 0

    @classmethod
    @contextmanager
    def opened(cls, mesh: Mesh) -> "Iterator[Shop]":
        """One in a mesh of a module's own, with an operator's client of its own."""
        client = GatewayClient.for_operator(mesh.gateway, mesh.secrets)
        try:
            yield cls(mesh, client)
        finally:
            client.close()

    def new_id(self, kind: str) -> str:
        """An id that no run had before."""
        self._ids += 1
        return f"{kind}-{self.run}-{self._ids}"

    def product(self, *, price_minor: int = 150, stock: int | None = 10, name: str = "") -> str:
        """Create a product, with pieces in stock where `stock` says so; its id."""
        product_id = self.new_id("p")
        product = catalog_pb2.Product(display_name=name or f"Thing {product_id}", price=self.money(price_minor))
        request = catalog_pb2.CreateProductRequest(product_id=product_id, product=product)
        self.operator.call(self.catalog.CreateProduct, request)
        if stock is not None:
            self.set_stock(product_id, stock)
        return product_id

    def set_stock(self, product_id: str, quantity: int) -> inventory_pb2.Stock:
        """Set the stock of a product."""
        request = inventory_pb2.SetStockRequest(name=f"stock/{product_id}", quantity=quantity, request_id=request_id())
        stock: inventory_pb2.Stock = self.operator.call(self.inventory.SetStock, request)
        return stock

    def left(self, *product_ids: str) -> list[int]:
        """Pieces in stock."""
        request = inventory_pb2.BatchGetStockRequest(names=[f"stock/{product_id}" for product_id in product_ids])
        return [stock.quantity for stock in self.operator.call(self.inventory.BatchGetStock, request).stock]

    def customer(self, *, traceparent: str = "") -> Customer:
        """Create a user and sign in."""
        user_id, password = self.new_id("u"), secrets.token_urlsafe(24)
        email = f"{user_id}@example.com"
        new = identity_pb2.CreateUserRequest(user_id=user_id, email=email, display_name="Ada", password=password)
        send(self.identity.CreateUser, new, traceparent=traceparent)
        credentials = identity_pb2.CreateSessionRequest(email=email, password=password)
        session = send(self.identity.CreateSession, credentials, traceparent=traceparent)
        return Customer(user_id, email, password, session)

    def place(self, customer: Customer, items: Mapping[str, int], *, key: str = "", traceparent: str = "") -> Any:
        """Place an order; `key` is its request id."""
        request = place_request(items, key=key)
        return send(self.orders.PlaceOrder, request, customer, traceparent=traceparent)

    def cancel(self, customer: Customer, order: str, items: Mapping[str, int] | None = None) -> Any:
        """Take back some pieces of an order, or all of it."""
        request = orders_pb2.CancelOrderRequest(name=order, items=quantities(items or {}), request_id=request_id())
        return send(self.orders.CancelOrder, request, customer)

    def money(self, minor: int) -> money_pb2.Money:
        """An amount in the shop's currency."""
        return money_pb2.Money(currency_code=self.currency, units=minor // 100, nanos=minor % 100 * MINOR_NANOS)

    def fetch(self, service: str, path: str) -> Any:
        """JSON of one of the mesh's own sites: `traces`, `metrics`, `mail`."""
        base = str(self.mesh.status().urls[service]).rstrip("/")
        return json.loads(read(f"{base}{path}"))

    def exposed(self, service: str, metric: str, **labels: str) -> float:
        """Sum of a metric over all instances of a service, asked of the instances themselves."""
        size = sum(process.service == service for process in self.mesh.status().processes)
        eventually(lambda: len(self._targets(service)) == size)
        return sum(
            sample.value
            for url in self._targets(service)
            for family in text_string_to_metric_families(read(url).decode())
            for sample in family.samples
            if sample.name == metric and labels.items() <= sample.labels.items()
        )

    def _targets(self, service: str) -> list[str]:
        """Where the instances of a service expose their metrics, as the monitor knows it."""
        targets = self.fetch("metrics", "/api/v1/targets?state=active")["data"]["activeTargets"]
        return [target["scrapeUrl"] for target in targets if target["labels"]["service"] == service]


def read(url: str) -> bytes:
    """The body of a page."""
    with urllib.request.urlopen(url, timeout=CALL_S) as response:
        body: bytes = response.read()
        return body


def request_id() -> str:
    """A request id that was never used."""
    return str(uuid.uuid4())


def traceparent() -> str:
    """The W3C traceparent of a client that samples, under a trace id of its own."""
    return f"00-{uuid.uuid4().hex}-{secrets.token_hex(8)}-01"


def quantities(items: Mapping[str, int]) -> list[orders_pb2.ItemQuantity]:
    """Items of a request."""
    return [orders_pb2.ItemQuantity(product_id=code, quantity=quantity) for code, quantity in items.items()]


def place_request(items: Mapping[str, int], *, key: str = "") -> orders_pb2.PlaceOrderRequest:
    """A request for an order; a new one unless `key` is its request id."""
    return orders_pb2.PlaceOrderRequest(items=quantities(items), request_id=key or request_id())


def metadata(caller: Customer | str | None, traceparent: str = "") -> tuple[tuple[str, str], ...]:
    """What a client sends along: a customer, whoever has an access token, or nobody."""
    token = caller.session.access_token if isinstance(caller, Customer) else caller
    headers = (("authorization", f"Bearer {token}"),) if token is not None else ()
    return (*headers, ("traceparent", traceparent)) if traceparent else headers


def send(method: Any, request: Message, caller: Customer | str | None = None, *, traceparent: str = "") -> Any:
    """Call a stub's method once, as a customer, with an access token, or as nobody."""
    return method(request, metadata=metadata(caller, traceparent), timeout=CALL_S)


def refused(method: Any, request: Message, caller: Customer | str | None = None, *, traceparent: str = "") -> Refusal:
    """Call a stub's method, which must refuse, once."""
    with pytest.raises(grpc.RpcError) as caught:
        send(method, request, caller, traceparent=traceparent)
    return refusal_of(caught.value)


def refusal_of(error: grpc.RpcError) -> Refusal:
    """What a status says."""
    reason, fields, subjects = "", list[str](), dict[str, str]()
    status = rpc_status.from_call(error)
    details: Sequence[Any] = status.details if status is not None else ()
    for detail in details:
        info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
        failure = error_details_pb2.PreconditionFailure()
        if detail.Unpack(info):
            reason = info.reason
        elif detail.Unpack(bad):
            fields += [violation.field for violation in bad.field_violations]
        elif detail.Unpack(failure):
            subjects |= {violation.subject: violation.description for violation in failure.violations}
    return Refusal(error.code(), error.details() or "", reason, tuple(fields), subjects)
