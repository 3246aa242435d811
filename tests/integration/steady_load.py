"""Customers who go on calling through the gateway, over gRPC and JSON, while a test changes something under them.

Each has a connection, a product and a token of its own, reads and orders in turn, and keeps count. A call whose
connection was lost is sent again under its request id, as the contract allows, and is remembered as disturbed; whatever
is refused, or not answered even then, is remembered as failed.
"""

import contextlib
import http.client
import json
import threading
import time
from types import TracebackType
from typing import Any, Final, Protocol

import grpc

from tests.integration.shop import CALL_S, Customer, Shop, place_request, request_id, send
from tests.waiting import eventually
from weft.catalog.v1 import catalog_pb2, catalog_pb2_grpc
from weft.orders.v1 import orders_pb2_grpc

#: Callers on each wire.
CALLERS: Final = 3
#: Between two calls of one caller: far below every limit of the contracts.
PACE_S: Final = 0.04
#: How long a call is repeated before it counts as failed.
PATIENCE_S: Final = 15.0
STOCK: Final = 100_000
#: Answers that each caller waits for in one `advance`.
ANSWERS: Final = 15


class ConnectionLostError(Exception):
    """Nobody knows whether the call arrived."""


class RefusedCallError(Exception):
    """The answer is an error."""


class Wire(Protocol):
    """One connection of one customer. Both calls raise ConnectionLostError or RefusedCallError."""

    def read(self) -> None:
        """Read the product."""

    def order(self, key: str) -> None:
        """Order one piece of it under a request id."""

    def close(self) -> None:
        """Close the connection."""


class Grpc:
    """A generated client on a channel of its own."""

    def __init__(self, address: str, customer: Customer, product: str) -> None:
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_reconnect_backoff_ms", 500)]
        self._channel = grpc.insecure_channel(address, options=options)
        self._catalog = catalog_pb2_grpc.CatalogServiceStub(self._channel)
        self._orders = orders_pb2_grpc.OrderServiceStub(self._channel)
        self._customer, self._product = customer, product

    def read(self) -> None:
        self._send(self._catalog.GetProduct, catalog_pb2.GetProductRequest(name=f"products/{self._product}"))

    def order(self, key: str) -> None:
        self._send(self._orders.PlaceOrder, place_request({self._product: 1}, key=key))

    def close(self) -> None:
        self._channel.close()

    def _send(self, method: Any, request: Any) -> None:
        try:
            send(method, request, self._customer)
        except grpc.RpcError as error:
            lost = error.code() is grpc.StatusCode.UNAVAILABLE
            kind = ConnectionLostError if lost else RefusedCallError
            raise kind(f"{error.code().name}: {error.details()}") from error


class Json:
    """HTTP/1.1 on a connection that is kept open."""

    def __init__(self, address: str, customer: Customer, product: str) -> None:
        self._connection = http.client.HTTPConnection(address, timeout=CALL_S)
        token = customer.session.access_token
        self._headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
        self._product = product

    def read(self) -> None:
        self._send("GET", f"/v1/products/{self._product}", None)

    def order(self, key: str) -> None:
        body = {"items": [{"product_id": self._product, "quantity": 1}], "request_id": key}
        self._send("POST", "/v1/orders", json.dumps(body))

    def close(self) -> None:
        self._connection.close()

    def _send(self, verb: str, path: str, body: str | None) -> None:
        try:
            self._connection.request(verb, path, body, self._headers)
            answer = self._connection.getresponse()
            text = answer.read()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise ConnectionLostError(f"{type(error).__name__}: {error}") from error
        if answer.status == http.client.SERVICE_UNAVAILABLE:
            raise ConnectionLostError(text.decode())
        if answer.status != http.client.OK:
            raise RefusedCallError(f"{answer.status}: {text.decode()}")


class _Caller(threading.Thread):
    """One customer's loop."""

    def __init__(self, wire: Wire, stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self.wire = wire
        self.answers = 0
        self.orders = 0
        self.disturbed: list[str] = []
        self.failed: list[str] = []
        self._stopping = stop

    def run(self) -> None:
        while not self._stopping.wait(PACE_S):
            if self.answers % 2:
                key = request_id()
                self.orders += self._answered(lambda key=key: self.wire.order(key))
            else:
                self._answered(self.wire.read)
            self.answers += 1
        self.wire.close()

    def _answered(self, call: Any) -> bool:
        give_up = time.monotonic() + PATIENCE_S
        while True:
            try:
                call()
            except ConnectionLostError as error:
                self.disturbed.append(str(error))
                if time.monotonic() > give_up:
                    self.failed.append(str(error))
                    return False
                self._stopping.wait(PACE_S)
            except RefusedCallError as error:
                self.failed.append(str(error))
                return False
            else:
                return True


class SteadyLoad:
    """The customers of one test: `with SteadyLoad(shop) as load: ...; load.advance()`."""

    def __init__(self, shop: Shop) -> None:
        self._shop = shop
        self._stop = threading.Event()
        self._callers: list[_Caller] = []
        self._products: list[str] = []

    def __enter__(self) -> "SteadyLoad":
        for wire in (*[Grpc] * CALLERS, *[Json] * CALLERS):
            product = self._shop.product(stock=STOCK)
            self._products.append(product)
            self._callers.append(_Caller(wire(self._shop.mesh.gateway, self._shop.customer(), product), self._stop))
        for caller in self._callers:
            caller.start()
        self.advance()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(AssertionError) if error else contextlib.nullcontext():
            self.advance()
        self._stop.set()
        for caller in self._callers:
            caller.join(CALL_S)

    def advance(self) -> None:
        """Wait until every caller has been answered some more times."""
        goals = [caller.answers + ANSWERS for caller in self._callers]
        eventually(lambda: all(caller.answers >= goal for caller, goal in zip(self._callers, goals, strict=True)))

    @property
    def disturbed(self) -> list[str]:
        """What was said to calls that had to be sent again."""
        return [text for caller in self._callers for text in caller.disturbed]

    @property
    def failed(self) -> list[str]:
        """What was said to calls that were refused or never answered."""
        return [text for caller in self._callers for text in caller.failed]

    @property
    def miscounted(self) -> list[int]:
        """For each caller, pieces that left its stock less orders that it was told of: all 0 unless something is wrong.

        Read it when the load has ended.
        """
        left = self._shop.left(*self._products)
        return [STOCK - pieces - caller.orders for pieces, caller in zip(left, self._callers, strict=True)]
