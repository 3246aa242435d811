"""What a load sells, and to whom: products of its own, users that every load shares, tokens that never run out.

Users are as many as keep each of them far below the limits by subject of the contracts. Products belong to one run, so
that what it was told can be held against what is left: an acknowledged piece that did not leave the stock is lost.
"""

import threading
import time
import uuid
from collections import Counter, deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final

import grpc
import structlog

from deploy.cli.gateway_client import GatewayClient, SignInError, Token, describe
from deploy.cli.replay.run import money
from weft.catalog.v1 import catalog_pb2, catalog_pb2_grpc
from weft.identity.v1 import identity_pb2, identity_pb2_grpc
from weft.orders.v1 import inventory_pb2, inventory_pb2_grpc, orders_pb2, orders_pb2_grpc

log = structlog.get_logger(__name__)

#: Calls a second of one user. The lowest limit of the contracts is five times as much.
USER_RPS: Final = 10
USERS_MIN: Final = 4
USERS_MAX: Final = 100
PRODUCTS: Final = 8
STOCK: Final = 1_000_000
OPERATOR: Final = "operator"
PRICE_MINOR: Final = 250
#: Orders of a user that are still asked for.
ORDERS_KEPT: Final = 50
#: How often is looked whether a token must be renewed: a minute before it ends.
RENEW_EVERY_S: Final = 1.0
#: Each new user costs a password hash: more at once only wait.
PREPARING: Final = 4


@dataclass(slots=True)
class User:
    """Somebody on whose behalf the load calls."""

    id: str
    token: Token
    orders: deque[str] = field(default_factory=lambda: deque(maxlen=ORDERS_KEPT))
    """Names of the last orders."""


@dataclass(frozen=True, slots=True)
class Stock:
    """What became of the pieces of one run."""

    acknowledged: int
    """Orders that were acknowledged."""
    pieces: int
    """Pieces in them that were not taken back."""
    unknown: int
    """Pieces of orders that ended with an error: they may have been taken or not."""
    left_stock: int
    """Pieces that are gone from the stock."""

    @property
    def lost(self) -> int:
        """Acknowledged pieces that did not leave the stock."""
        return max(0, self.pieces - self.left_stock)

    @property
    def surplus(self) -> int:
        """Pieces that nobody ordered and that left it all the same."""
        return max(0, self.left_stock - self.pieces - self.unknown)


class Shop:
    """Everything one load needs. Use it as a context; inside, tokens are kept good. Raises SignInError, RpcError."""

    def __init__(self, client: GatewayClient, *, rps: float) -> None:
        self.client = client
        self.users: list[User] = []
        self.operator = User(OPERATOR, Token("", 0.0))
        run = uuid.uuid4().hex[:10]
        self.products: Sequence[str] = [f"load-{run}-{number}" for number in range(1, PRODUCTS + 1)]
        self._size = max(USERS_MIN, min(USERS_MAX, round(rps / USER_RPS)))
        self._lock = threading.Lock()
        self._acknowledged = 0
        self._pieces: Counter[bool] = Counter()
        self._stopping = threading.Event()
        self._renewing = threading.Thread(target=self._renew, name="load-tokens", daemon=True)

    def __enter__(self) -> "Shop":
        with ThreadPoolExecutor(PREPARING, thread_name_prefix="load-prepare") as threads:
            list(threads.map(self._sell, self.products))
            self.users += threads.map(self._user, range(1, self._size + 1))
            list(threads.map(self._first_order, self.users))
        self.operator.token = self._token(OPERATOR)
        self._renewing.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        if self._renewing.ident is not None:
            self._renewing.join()
        stub = catalog_pb2_grpc.CatalogServiceStub(self.client.channel())
        for product in self.products:
            try:
                self.client.call(stub.DeleteProduct, catalog_pb2.DeleteProductRequest(name=f"products/{product}"))
            except (grpc.RpcError, SignInError) as failure:
                # What stays for sale harms nobody, and must not hide what the load has found.
                log.warning("load_product_not_deleted", product=product, reason=str(failure))

    def ordered(self, user: User, order: orders_pb2.Order) -> None:
        """An order was acknowledged."""
        with self._lock:
            user.orders.append(order.name)
            self._acknowledged += 1
            self._pieces[True] += sum(item.quantity for item in order.items)

    def orders_of(self, user: User) -> Sequence[str]:
        """Names of a user's last orders; there is always one."""
        with self._lock:
            return tuple(user.orders)

    def taken_back(self, order: orders_pb2.Order) -> None:
        """A whole order was taken back, and its pieces are in stock again."""
        with self._lock:
            self._pieces[True] -= sum(item.cancelled_quantity for item in order.items)

    def unknown(self, request: orders_pb2.PlaceOrderRequest) -> None:
        """Nobody knows whether this order was placed."""
        with self._lock:
            self._pieces[False] += sum(item.quantity for item in request.items)

    def stock(self) -> Stock:
        """Count what is left, and compare. Raises RpcError, SignInError."""
        stub = inventory_pb2_grpc.InventoryServiceStub(self.client.channel())
        request = inventory_pb2.BatchGetStockRequest(names=[f"stock/{product}" for product in self.products])
        left = sum(stock.quantity for stock in self.client.call(stub.BatchGetStock, request).stock)
        with self._lock:
            gone = STOCK * len(self.products) - left
            return Stock(self._acknowledged, self._pieces[True], self._pieces[False], gone)

    def order_of(self, product: str, quantity: int) -> orders_pb2.PlaceOrderRequest:
        """A request for some pieces, under an id of its own."""
        items = [orders_pb2.ItemQuantity(product_id=product, quantity=quantity)]
        return orders_pb2.PlaceOrderRequest(items=items, request_id=str(uuid.uuid4()))

    def _sell(self, product: str) -> None:
        catalog = catalog_pb2_grpc.CatalogServiceStub(self.client.channel(product))
        wanted = catalog_pb2.Product(display_name="Load", price=money(PRICE_MINOR))
        try:
            self.client.call(
                catalog.CreateProduct, catalog_pb2.CreateProductRequest(product_id=product, product=wanted)
            )
        except grpc.RpcError as error:
            # Sent again because its answer was lost: nobody else has this id.
            if error.code() is not grpc.StatusCode.ALREADY_EXISTS:
                raise
        inventory = inventory_pb2_grpc.InventoryServiceStub(self.client.channel(product))
        request = inventory_pb2.SetStockRequest(name=f"stock/{product}", quantity=STOCK, request_id=str(uuid.uuid4()))
        self.client.call(inventory.SetStock, request)

    def _user(self, number: int) -> User:
        name = f"load-{number}"
        try:
            return User(name, self._token(name))
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.NOT_FOUND:
                raise
        stub = identity_pb2_grpc.IdentityServiceStub(self.client.channel(name))
        request = identity_pb2.CreateUserRequest(
            user_id=name,
            email=f"{name}@example.com",
            display_name=f"Load {number}",
            password=uuid.uuid4().hex,  # nobody signs in with it: the operator acts for the user
        )
        try:
            self.client.call(stub.CreateUser, request)
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.ALREADY_EXISTS:
                raise
        return User(name, self._token(name))

    def _token(self, user: str) -> Token:
        return Token.of(self.client.sign_in() if user == OPERATOR else self.client.delegate(user))

    def _first_order(self, user: User) -> None:
        stub = orders_pb2_grpc.OrderServiceStub(self.client.channel(user.id))
        request = self.order_of(self.products[len(user.id) % len(self.products)], 1)
        self.ordered(user, self.client.call(stub.PlaceOrder, request, user=user.id))

    def _renew(self) -> None:
        while not self._stopping.wait(RENEW_EVERY_S):
            for user in (*self.users, self.operator):
                if user.token.renew_at <= time.monotonic() and not self._stopping.is_set():
                    try:
                        user.token = self._token(user.id)
                    except grpc.RpcError as error:
                        log.warning("load_token_not_renewed", user=user.id, reason=describe(error))
                    except SignInError as error:
                        log.warning("load_token_not_renewed", user=user.id, reason=str(error))
