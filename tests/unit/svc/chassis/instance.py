"""What the chassis' tests stand on: a real server in this process, real tokens, a client that sees every detail."""

import base64
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from lb.credentials import Credentials
from svc.chassis.call import Call
from svc.chassis.config import Address
from svc.chassis.consistency import ReadTokens
from svc.chassis.context import CallContext
from svc.chassis.criticality import Courier
from svc.chassis.server import Limits, Server, Service
from svc.chassis.tokens import TokenVerifier
from weft.catalog.v1 import catalog_pb2
from weft.identity.v1 import identity_pb2
from weft.orders.v1 import inventory_pb2, orders_pb2
from weft_protos import policy

NOW = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)
NOW_S = int(NOW.timestamp())

INVENTORY = inventory_pb2.DESCRIPTOR.services_by_name["InventoryService"]
ORDERS = orders_pb2.DESCRIPTOR.services_by_name["OrderService"]
CATALOG = catalog_pb2.DESCRIPTOR.services_by_name["CatalogService"]
IDENTITY = identity_pb2.DESCRIPTOR.services_by_name["IdentityService"]

GET_STOCK = "/weft.orders.v1.InventoryService/GetStock"
SET_STOCK = "/weft.orders.v1.InventoryService/SetStock"
BATCH_GET_STOCK = "/weft.orders.v1.InventoryService/BatchGetStock"
WATCH_ORDER = "/weft.orders.v1.OrderService/WatchOrder"
PLACE_ORDER = "/weft.orders.v1.OrderService/PlaceOrder"
LIST_ORDERS = "/weft.orders.v1.OrderService/ListOrders"
CREATE_SESSION = "/weft.identity.v1.IdentityService/CreateSession"

ORDER_NAME = "orders/00000000-0000-4000-8000-000000000001"
REQUEST_ID = "11111111-1111-4111-8111-111111111111"


class StandingClock:
    """A clock that moves only when told."""

    def __init__(self, now: datetime = NOW) -> None:
        self._now = now

    def now(self) -> datetime:
        return self._now

    def move(self, seconds: float) -> None:
        self._now += timedelta(seconds=seconds)


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Issuer:
    """Signs tokens as identity does, and in every wrong way."""

    def __init__(self, kid: str = "key-1") -> None:
        self.kid = kid
        self.key = ec.generate_private_key(ec.SECP256R1())

    def jwk(self) -> dict[str, str]:
        numbers = self.key.public_key().public_numbers()
        x, y = (b64(number.to_bytes(32, "big")) for number in (numbers.x, numbers.y))
        return {"kty": "EC", "crv": "P-256", "kid": self.kid, "alg": "ES256", "use": "sig", "x": x, "y": y}

    def jwks(self, *others: "Issuer") -> bytes:
        return json.dumps({"keys": [one.jwk() for one in (self, *others)]}).encode()

    def header(self, **changes: object) -> dict[str, object]:
        return without_none({"alg": "ES256", "typ": "at+jwt", "kid": self.kid, **changes})

    def claims(self, **changes: object) -> dict[str, object]:
        usual: dict[str, object] = {
            "iss": "weft-identity",
            "aud": "weft",
            "sub": "alice",
            "scope": "inventory.read inventory.write orders.read orders.write",
            "iat": NOW_S,
            "exp": NOW_S + 300,
            "jti": "token-1",
            "sid": "session-1",
        }
        return without_none({**usual, **changes})

    def sign(self, header: str, payload: str) -> str:
        """A token with this very JSON in it."""
        signed = f"{b64(header.encode())}.{b64(payload.encode())}"
        r, s = decode_dss_signature(self.key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{signed}.{b64(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"

    def token(self, **changes: object) -> str:
        """A token with some claims changed; None leaves a claim out."""
        return self.sign(json.dumps(self.header()), json.dumps(self.claims(**changes)))


def without_none(fields: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in fields.items() if value is not None}


@dataclass
class Behaviour:
    """A handler for any service: every method does what the test says."""

    do: Callable[[Message, CallContext], Any] = lambda _request, _call: inventory_pb2.Stock(name="stock/a", quantity=7)
    watch: Callable[[Message, CallContext], Iterator[Message]] = lambda _request, _call: iter(())
    requests: list[Message] = field(default_factory=list)
    calls: list[CallContext] = field(default_factory=list)

    def _one(self, request: Message, call: CallContext) -> Any:
        self.requests.append(request)
        self.calls.append(call)
        return self.do(request, call)

    def _many(self, request: Message, call: CallContext) -> Iterator[Message]:
        self.requests.append(request)
        self.calls.append(call)
        return self.watch(request, call)

    def __getattr__(self, name: str) -> Callable[[Message, CallContext], Any]:
        if name.startswith("_"):
            raise AttributeError(name)
        return self._many if name.startswith("Watch") else self._one


class Failure(Exception):  # noqa: N818
    """A call that ended badly, with its details decoded."""

    def __init__(self, error: grpc.Call) -> None:
        super().__init__(error.code(), error.details())
        self.code = error.code().name
        self.message = error.details()
        self.trailers = dict(error.trailing_metadata() or ())
        self.status = status_pb2.Status.FromString(self.trailers.get("grpc-status-details-bin", b""))

    def has(self, kind: type[Message]) -> bool:
        return any(detail.Is(kind.DESCRIPTOR) for detail in self.status.details)

    def detail(self, kind: type[Message]) -> Any:
        message = kind()
        assert any(detail.Unpack(message) for detail in self.status.details), f"no {kind.DESCRIPTOR.full_name}"
        return message

    @property
    def reason(self) -> str:
        return str(self.detail(error_details_pb2.ErrorInfo).reason)

    @property
    def fields(self) -> dict[str, str]:
        bad = self.detail(error_details_pb2.BadRequest)
        return {violation.field: violation.description for violation in bad.field_violations}


class Instance:
    """One server with its issuer, its handler and a channel to it."""

    def __init__(
        self,
        *,
        limits: Limits | None = None,
        keys: bool = True,
        courier: Courier | None = None,
        observe: Callable[[Call], None] = lambda call: None,
        tokens: ReadTokens | None = None,
        forget: Callable[[Sequence[str], Sequence[str]], object] = lambda methods, keys: None,
        credentials: Credentials | None = None,
    ) -> None:
        self.issuer = Issuer()
        self.clock = StandingClock()
        self.behaviour = Behaviour()
        self.verifier = TokenVerifier(self.clock)
        if keys:
            self.verifier.update(self.issuer.jwks())
        services: tuple[Service, ...] = tuple((service, self.behaviour) for service in policy.SERVICES)
        limits = limits or Limits(threads=4, streams=2)
        self.server = Server(
            services,
            verifier=self.verifier,
            limits=limits,
            instance="orders-7",
            courier=courier,
            observe=observe,
            tokens=tokens,
            forget=forget,
            credentials=credentials,
        )
        self.port = self.server.bind(Address("127.0.0.1", 0))
        self.server.start()
        self.channel: Any = grpc.insecure_channel(f"127.0.0.1:{self.port}", options=(("grpc.enable_retries", 0),))

    def close(self) -> None:
        self.channel.close()
        # Threads of a busy machine may need more than one wait to come back.
        assert eventually(lambda: self.server.stop(0.2))

    def _metadata(self, token: str | None, more: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
        sent = self.issuer.token() if token is None else token
        return ((("authorization", f"Bearer {sent}"),) if sent else ()) + more

    def raw(
        self,
        method: str,
        body: bytes,
        *,
        token: str | None = None,
        timeout: float | None = 5.0,
        metadata: tuple[tuple[str, str], ...] = (),
    ) -> bytes:
        """Call with these bytes. `token`: None sends a good one, empty none."""
        try:
            answer: bytes = self.channel.unary_unary(method)(
                body, timeout=timeout, metadata=self._metadata(token, metadata)
            )
        except grpc.RpcError as error:
            raise Failure(error) from None  # type: ignore[arg-type]
        return answer

    def call(self, method: str, request: Message, **options: Any) -> bytes:
        return self.raw(method, request.SerializeToString(), **options)

    def get_stock(self, **options: Any) -> inventory_pb2.Stock:
        request = inventory_pb2.GetStockRequest(name="stock/a")
        return inventory_pb2.Stock.FromString(self.call(GET_STOCK, request, **options))

    def watch(self, *, timeout: float | None = 10.0) -> Any:
        """An open WatchOrder: iterates bytes, can be cancelled."""
        request = orders_pb2.WatchOrderRequest(name=ORDER_NAME)
        return self.channel.unary_stream(WATCH_ORDER)(
            request.SerializeToString(), timeout=timeout, metadata=self._metadata(None, ())
        )


def eventually(holds: Callable[[], bool], *, within_s: float = 10.0) -> bool:
    """Look again and again until it holds, or time is up."""
    deadline, pause = time.monotonic() + within_s, threading.Event()
    while not holds():
        if time.monotonic() > deadline:
            return False
        pause.wait(0.02)
    return True


class Gate:
    """Lets a handler wait for the test, and the test for the handler."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.open = threading.Event()

    def pass_through(self) -> None:
        self.entered.set()
        assert self.open.wait(10)
