"""The calls of a load: due at fixed moments whether or not earlier ones are answered, of several kinds, by many users.

Each call goes out on a channel as a careful client has it: with the service config that the contracts generate
(`weft_protos.client_config`), and no repetition beside it. What that leaves as an error is an error. Only where a
gateway may be killed, whose connections nobody can save, a call whose connection was lost is sent again on another one,
under the same request id, and counted as repeated.
"""

import itertools
import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final

import grpc
from google.protobuf.message import Message

from deploy.cli.gateway_client import Trusted, channel, describe
from deploy.cli.load.shop import Shop, User
from deploy.cli.load.tally import Tally
from weft.analytics.v1 import analytics_pb2, analytics_pb2_grpc
from weft.catalog.v1 import catalog_pb2, catalog_pb2_grpc
from weft.identity.v1 import identity_pb2, identity_pb2_grpc
from weft.operations.v1 import mesh_pb2, mesh_pb2_grpc
from weft.orders.v1 import orders_pb2, orders_pb2_grpc
from weft_protos import client_config, consumer

#: What the load calls itself at the services.
CLIENT: Final = "weft-load"
#: Twice the longest timeout of a method: the mesh answers first.
CALL_S: Final = 10.0
#: Connections beside each other, so that both gateways carry load.
CHANNELS: Final = 4
#: Calls under way. More are not sent before one is answered; the time they wait counts.
UNDER_WAY_MAX: Final = 256
#: Times that a call whose connection was lost is sent again.
RECONNECTS_MAX: Final = 3
#: What is called, out of a hundred calls.
MIX: Final[Mapping[str, int]] = {"GetProduct": 40, "GetOrder": 30, "PlaceOrder": 20, "ListProducts": 10}
#: What is called besides where one of these is changed, which the calls above never reach.
OF_SERVICE: Final[Mapping[str, Mapping[str, int]]] = {
    "identity": {"GetUser": 20},
    "analytics": {"GetSales": 20},
    # One subject, the operator, asks for it.
    "operations": {"GetMesh": 2},
}
PAGE_SIZE: Final = 10
PIECES_MAX: Final = 3


@dataclass(frozen=True, slots=True)
class Wanted:
    """The load that was asked for."""

    rps: float
    seed: int = 1
    reconnect: bool = False
    """Send a call again whose connection was lost: for those whose gateway may be killed."""
    service: str = ""
    """Whom the change is about: it is called as well, where others do not call it anyway."""


@dataclass(frozen=True, slots=True)
class Where:
    """Which mesh to call, and as what."""

    address: str
    """`host:port`."""
    trusted: Trusted | None
    """Whom to speak TLS with; None: in clear."""
    version: str

    def channel(self) -> grpc.Channel:
        """A connection of its own, as the contracts want clients to have it."""
        return channel(self.address, self.trusted, *client_config.options())

    def metadata(self, user: User) -> tuple[tuple[str, str], ...]:
        """What is sent along for a user."""
        return consumer.declare(CLIENT, self.version), ("authorization", f"Bearer {user.token.value}")


@dataclass(slots=True)
class _Call:
    """One call until it is answered."""

    method: str
    send: Callable[..., Any]
    request: Message
    user: User
    due: float
    reconnects: int = 0


class _Stubs:
    """The methods of one connection."""

    def __init__(self, connection: grpc.Channel) -> None:
        self.connection = connection
        analytics = analytics_pb2_grpc.AnalyticsServiceStub(connection)
        catalog = catalog_pb2_grpc.CatalogServiceStub(connection)
        identity = identity_pb2_grpc.IdentityServiceStub(connection)
        mesh = mesh_pb2_grpc.MeshServiceStub(connection)
        orders = orders_pb2_grpc.OrderServiceStub(connection)
        self.methods: dict[str, Callable[..., Any]] = {
            "GetProduct": catalog.GetProduct.future,
            "ListProducts": catalog.ListProducts.future,
            "PlaceOrder": orders.PlaceOrder.future,
            "GetOrder": orders.GetOrder.future,
            "GetUser": identity.GetUser.future,
            "GetSales": analytics.GetSales.future,
            "GetMesh": mesh.GetMesh.future,
        }


class Traffic:
    """So many calls a second for as long as the context lasts; then every call under way is waited for."""

    def __init__(self, where: Where, shop: Shop, tally: Tally, wanted: Wanted) -> None:
        self._where = where
        self._shop = shop
        self._tally = tally
        self._rps = wanted.rps
        self._chance = random.Random(wanted.seed)
        self._reconnect = wanted.reconnect
        self._mix = {**MIX, **OF_SERVICE.get(wanted.service, {})}
        self._places = threading.Semaphore(UNDER_WAY_MAX)
        self._stopping = threading.Event()
        self._stubs = [_Stubs(where.channel()) for _ in range(CHANNELS)]
        self._thread = threading.Thread(target=self._run, name="load", daemon=True)

    def __enter__(self) -> "Traffic":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._thread.join()
        for _ in range(UNDER_WAY_MAX):
            self._places.acquire()
        for stubs in self._stubs:
            stubs.connection.close()

    def _run(self) -> None:
        try:
            self._call_until_stopped()
        except Exception as error:  # noqa: BLE001 - whatever it is, a load that has ended sees no error any more
            self._tally.refused("load", f"it broke off: {type(error).__name__}: {error}")

    def _call_until_stopped(self) -> None:
        began = time.monotonic()
        names, weights = tuple(self._mix), tuple(self._mix.values())
        for number in itertools.count():
            due = began + number / self._rps
            if self._stopping.wait(max(0.0, due - time.monotonic())):
                return
            [method] = self._chance.choices(names, weights)
            user = self._shop.operator if method == "GetMesh" else self._shop.users[number % len(self._shop.users)]
            stubs = self._stubs[number % CHANNELS]
            call = _Call(method, stubs.methods[method], self._request(method, user), user, due)
            self._places.acquire()
            self._send(call)

    def _request(self, method: str, user: User) -> Message:
        product = self._chance.choice(self._shop.products)
        match method:
            case "GetProduct":
                return catalog_pb2.GetProductRequest(name=f"products/{product}")
            case "ListProducts":
                return catalog_pb2.ListProductsRequest(page_size=PAGE_SIZE)
            case "PlaceOrder":
                return self._shop.order_of(product, self._chance.randint(1, PIECES_MAX))
            case "GetUser":
                return identity_pb2.GetUserRequest(name=f"users/{user.id}")
            case "GetSales":
                return analytics_pb2.GetSalesRequest()
            case "GetMesh":
                return mesh_pb2.GetMeshRequest(name="meshes/local")
            case _:
                return orders_pb2.GetOrderRequest(name=self._chance.choice(self._shop.orders_of(user)))

    def _send(self, call: _Call) -> None:
        try:
            future = call.send(call.request, timeout=CALL_S, metadata=self._where.metadata(call.user))
        except Exception:
            self._places.release()
            raise
        future.add_done_callback(lambda ended: self._ended(call, ended))

    def _ended(self, call: _Call, ended: Any) -> None:
        """In one of gRPC's threads."""
        now, code = time.monotonic(), ended.code()
        if code is grpc.StatusCode.OK:
            if isinstance(call.request, orders_pb2.PlaceOrderRequest):
                self._shop.ordered(call.user, ended.result())
            self._tally.succeeded(call.method, due=call.due, now=now)
        elif self._reconnect and code is grpc.StatusCode.UNAVAILABLE and call.reconnects < RECONNECTS_MAX:
            call.reconnects += 1
            self._tally.repeated(code.name)
            self._send(call)
            return
        else:
            if isinstance(call.request, orders_pb2.PlaceOrderRequest):
                self._shop.unknown(call.request)
            self._tally.refused(call.method, describe(ended))
        self._places.release()
