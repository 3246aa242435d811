"""A whole mesh as a load sees it, in one gRPC server: users, products, stock and orders in memory, faults on demand."""

# ruff: noqa: N802 - handlers carry the contract's method names

import itertools
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from google.protobuf import empty_pb2

from weft.analytics.v1 import analytics_pb2, analytics_pb2_grpc
from weft.catalog.v1 import catalog_pb2, catalog_pb2_grpc
from weft.identity.v1 import identity_pb2, identity_pb2_grpc
from weft.operations.v1 import mesh_pb2, mesh_pb2_grpc
from weft.orders.v1 import inventory_pb2, inventory_pb2_grpc, orders_pb2, orders_pb2_grpc

Code = grpc.StatusCode
Order = orders_pb2.Order


class Market(
    analytics_pb2_grpc.AnalyticsServiceServicer,
    catalog_pb2_grpc.CatalogServiceServicer,
    identity_pb2_grpc.IdentityServiceServicer,
    inventory_pb2_grpc.InventoryServiceServicer,
    mesh_pb2_grpc.MeshServiceServicer,
    orders_pb2_grpc.OrderServiceServicer,
):
    """Use it as a context; `address` is where it listens."""

    def __init__(self) -> None:
        self.users: set[str] = set()
        self.products: dict[str, catalog_pb2.Product] = {}
        self.stock: Counter[str] = Counter()
        self.orders: dict[str, Order] = {}
        self.placed: dict[str, Order] = {}
        self.calls: Counter[str] = Counter()
        self.delegated: Counter[str] = Counter()
        self.loses = False
        """Acknowledge orders that are not booked."""
        self.silent = False
        """Streams tell of nothing that changes."""
        self._faults: list[tuple[str, Code, Callable[[Any], bool]]] = []
        self._numbers = itertools.count(1)
        self._changed = threading.Condition()
        self._epoch = 0
        self._server = grpc.server(ThreadPoolExecutor(32), options=[("grpc.so_reuseport", 0)])
        for add in (
            analytics_pb2_grpc.add_AnalyticsServiceServicer_to_server,
            catalog_pb2_grpc.add_CatalogServiceServicer_to_server,
            identity_pb2_grpc.add_IdentityServiceServicer_to_server,
            inventory_pb2_grpc.add_InventoryServiceServicer_to_server,
            mesh_pb2_grpc.add_MeshServiceServicer_to_server,
            orders_pb2_grpc.add_OrderServiceServicer_to_server,
        ):
            add(self, self._server)
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"

    def __enter__(self) -> "Market":
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.cut()
        self._server.stop(0).wait()

    def fail(self, method: str, code: Code, *, when: Callable[[Any], bool] = lambda request: True) -> None:
        """Answer calls of a method with an error, `when` the request is one for that."""
        self._faults.append((method, code, when))

    def cut(self) -> None:
        """End every stream, as an instance does that drains."""
        with self._changed:
            self._epoch += 1
            self._changed.notify_all()

    def _enter(self, method: str, request: Any, context: grpc.ServicerContext) -> None:
        self.calls[method] += 1
        for name, code, when in self._faults:
            if name == method and when(request):
                context.abort(code, "as the test wants it")

    # identity

    def CreateSession(self, request: Any, context: Any) -> Any:
        self._enter("CreateSession", request, context)
        return _session("users/operator")

    def DelegateSession(self, request: Any, context: Any) -> Any:
        self._enter("DelegateSession", request, context)
        if request.name not in self.users:
            context.abort(Code.NOT_FOUND, "no such user")
        self.delegated[request.name] += 1
        return _session(request.name)

    def CreateUser(self, request: Any, context: Any) -> Any:
        self._enter("CreateUser", request, context)
        self.users.add(f"users/{request.user_id}")
        return identity_pb2.User(name=f"users/{request.user_id}")

    def GetUser(self, request: Any, context: Any) -> Any:
        self._enter("GetUser", request, context)
        if request.name not in self.users:
            context.abort(Code.NOT_FOUND, "no such user")
        return identity_pb2.User(name=request.name)

    # analytics and operations

    def GetSales(self, request: Any, context: Any) -> Any:
        self._enter("GetSales", request, context)
        return analytics_pb2.Sales()

    def GetMesh(self, request: Any, context: Any) -> Any:
        self._enter("GetMesh", request, context)
        return mesh_pb2.Mesh(name=request.name)

    # catalog

    def CreateProduct(self, request: Any, context: Any) -> Any:
        self._enter("CreateProduct", request, context)
        self.products[request.product_id] = request.product
        return request.product

    def DeleteProduct(self, request: Any, context: Any) -> Any:
        self._enter("DeleteProduct", request, context)
        del self.products[request.name.removeprefix("products/")]
        return empty_pb2.Empty()

    def GetProduct(self, request: Any, context: Any) -> Any:
        self._enter("GetProduct", request, context)
        return self.products[request.name.removeprefix("products/")]

    def ListProducts(self, request: Any, context: Any) -> Any:
        self._enter("ListProducts", request, context)
        return catalog_pb2.ListProductsResponse(products=list(self.products.values()))

    # orders

    def SetStock(self, request: Any, context: Any) -> Any:
        self._enter("SetStock", request, context)
        self.stock[request.name.removeprefix("stock/")] = request.quantity
        return inventory_pb2.Stock(name=request.name, quantity=request.quantity)

    def BatchGetStock(self, request: Any, context: Any) -> Any:
        self._enter("BatchGetStock", request, context)
        stock = [
            inventory_pb2.Stock(name=name, quantity=self.stock[name.removeprefix("stock/")]) for name in request.names
        ]
        return inventory_pb2.BatchGetStockResponse(stock=stock)

    def PlaceOrder(self, request: Any, context: Any) -> Any:
        self._enter("PlaceOrder", request, context)
        with self._changed:
            if request.request_id in self.placed:
                return self.placed[request.request_id]
            items = [orders_pb2.OrderItem(product_id=item.product_id, quantity=item.quantity) for item in request.items]
            order = Order(name=f"orders/{next(self._numbers)}", items=items, state=Order.STATE_PLACED, revision=1)
            if not self.loses:
                self.stock.subtract({item.product_id: item.quantity for item in items})
            self.orders[order.name] = self.placed[request.request_id] = order
            return order

    def GetOrder(self, request: Any, context: Any) -> Any:
        self._enter("GetOrder", request, context)
        return self.orders[request.name]

    def CancelOrder(self, request: Any, context: Any) -> Any:
        self._enter("CancelOrder", request, context)
        with self._changed:
            order = Order()
            order.CopyFrom(self.orders[request.name])
            order.state, order.revision = Order.STATE_CANCELLED, order.revision + 1
            for item in order.items:
                item.cancelled_quantity = item.quantity
                self.stock[item.product_id] += item.quantity
            self.orders[order.name] = order
            self._changed.notify_all()
            return order

    def WatchOrder(self, request: Any, context: Any) -> Iterator[Any]:
        epoch = self._epoch  # before it counts: who has seen it come cuts it, too
        self._enter("WatchOrder", request, context)
        order = self.orders[request.name]
        yield orders_pb2.WatchOrderResponse(order=order)
        while context.is_active():
            with self._changed:
                self._changed.wait(0.1)
                now = self.orders[request.name]
            if self._epoch != epoch:
                context.abort(Code.UNAVAILABLE, "The instance is stopping; open the stream again.")
            if now.revision > order.revision and not self.silent:
                order = now
                yield orders_pb2.WatchOrderResponse(order=order)


def _session(user: str) -> Any:
    return identity_pb2.Session(user=user, access_token="token", expires_in={"seconds": 300})
