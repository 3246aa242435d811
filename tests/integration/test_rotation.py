"""Keys change under load: nobody who may call is refused, no connection is dropped, what was revoked is out at once."""

import base64
import http.client
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import grpc
import pytest

from deploy.cli.gateway_client import GatewayClient
from deploy.supervisor.mesh import Mesh
from tests.integration.shop import CALL_S, Customer, Shop, refusal_of
from tests.waiting import eventually
from weft.catalog.v1 import catalog_pb2, catalog_pb2_grpc
from weft.identity.v1 import identity_pb2, identity_pb2_grpc

GRPC_CALLERS: Final = 4
JSON_CALLERS: Final = 2
#: Between two calls of one caller: were all six at one gateway, they would still keep its share of every limit.
PACE_S: Final = 0.1
#: Five seconds are promised; a loaded machine may take longer without anything being wrong.
WITHIN_S: Final = 30.0
#: New connections of which some reach each of the gateways behind the port.
CONNECTIONS: Final = 8
LIST: Final = catalog_pb2.ListProductsRequest(page_size=1)


@pytest.fixture(scope="module")
def shop(mesh: Mesh, operator: GatewayClient) -> Shop:
    return Shop(mesh, operator)


@pytest.fixture(scope="module", autouse=True)
def _settled(shop: Shop) -> Iterator[None]:
    """The suite goes on when every instance of identity signs with a key that is accepted: each sees for itself."""
    customer = shop.customer()
    credentials = identity_pb2.CreateSessionRequest(email=customer.email, password=customer.password)
    yield

    def settled(address: str) -> bool:
        with grpc.insecure_channel(address) as channel:
            try:
                session = identity_pb2_grpc.IdentityServiceStub(channel).CreateSession(credentials, timeout=CALL_S)
            except grpc.RpcError:
                return False
        return {("OK", "")} == everywhere(shop, session.access_token)

    for process in shop.mesh.status().processes:
        if process.service == "identity":
            eventually(lambda address=process.address: settled(address))


def kid_of(token: str) -> str:
    """The key that signed a token."""
    header = token.partition(".")[0]
    return str(json.loads(base64.urlsafe_b64decode(header + "=" * (-len(header) % 4)))["kid"])


def keys(shop: Shop) -> list[identity_pb2.SigningKey]:
    """The keys that verifiers take."""
    answer = shop.operator.call(shop.identity.ListSigningKeys, identity_pb2.ListSigningKeysRequest())
    return list(answer.signing_keys)


def signing(shop: Shop) -> str:
    """Resource name of the key that signs; empty where none does."""
    return next((key.name for key in keys(shop) if key.signing), "")


def rotate(shop: Shop) -> str:
    """Rotate, and wait until the new key signs; its id."""
    request = identity_pb2.RotateSigningKeyRequest(name=signing(shop))
    made: identity_pb2.SigningKey = shop.operator.call(shop.identity.RotateSigningKey, request)
    eventually(lambda: signing(shop) == made.name)
    return made.name.removeprefix("signingKeys/")


def token_of(shop: Shop, customer: Customer) -> str:
    """A new token that acts for a customer: asking for many of them is no guessing of passwords."""
    return str(shop.operator.delegate(customer.id).access_token)


def token_by(shop: Shop, customer: Customer, kid: str) -> str:
    """The first token that a key signs: each instance of identity sees for itself that it has begun to."""
    found: list[str] = []
    eventually(lambda: found.append(token_of(shop, customer)) or kid_of(found[-1]) == kid)
    return found[-1]


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"),)


def answer(address: str, token: str) -> tuple[str, str]:
    """What a new connection is told: code and reason."""
    with grpc.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        stub: Any = catalog_pb2_grpc.CatalogServiceStub(channel)
        try:
            stub.ListProducts(LIST, metadata=bearer(token), timeout=CALL_S)
        except grpc.RpcError as error:
            refusal = refusal_of(error)
            return refusal.code.name, refusal.reason
    return "OK", ""


def everywhere(shop: Shop, token: str) -> set[tuple[str, str]]:
    """What the gateways, by new connections, and each instance of catalog say to a token."""
    instances = [process.address for process in shop.mesh.status().processes if process.service == "catalog"]
    return {answer(address, token) for address in (*[shop.mesh.gateway] * CONNECTIONS, *instances)}


@dataclass
class Load:
    """Callers with a connection each, which all use every token that there is, in turn."""

    gateway: str
    product: str
    tokens: list[str]
    stopping: threading.Event = field(default_factory=threading.Event)
    failures: list[str] = field(default_factory=list)
    answered: dict[str, int] = field(default_factory=dict)
    """Calls by the key of their token."""
    states: list[grpc.ChannelConnectivity] = field(default_factory=list)
    """Of all gRPC channels, as they change."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def over_grpc(self) -> None:
        """Call by one channel until the end."""
        with grpc.insecure_channel(self.gateway, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
            channel.subscribe(self.states.append)
            stub: Any = catalog_pb2_grpc.CatalogServiceStub(channel)
            product = catalog_pb2.GetProductRequest(name=f"products/{self.product}")
            for number, token in enumerate(self._turns()):
                try:
                    if number % 2:
                        stub.GetProduct(product, metadata=bearer(token), timeout=CALL_S)
                    else:
                        stub.ListProducts(LIST, metadata=bearer(token), timeout=CALL_S)
                except grpc.RpcError as error:
                    self._failed(token, str(refusal_of(error)))
                else:
                    self._answered(token)
            channel.unsubscribe(self.states.append)

    def over_json(self) -> None:
        """Call by one connection until the end; one that the gateway closes is not opened again."""
        connection = http.client.HTTPConnection(self.gateway, timeout=CALL_S)
        connection.connect()
        connection.auto_open = 0
        for token in self._turns():
            try:
                connection.request("GET", "/v1/products?page_size=1", headers=dict(bearer(token)))
                response = connection.getresponse()
                body = response.read()
            except (OSError, http.client.HTTPException) as error:
                self._failed(token, repr(error))
                return
            if response.status == 200:
                self._answered(token)
            else:
                self._failed(token, body.decode())
        connection.close()

    def _turns(self) -> Iterator[str]:
        number = 0
        while not self.stopping.wait(PACE_S):
            with self._lock:
                token = self.tokens[number % len(self.tokens)]
            yield token
            number += 1

    def add(self, token: str) -> None:
        """From now on this token is used as well."""
        with self._lock:
            self.tokens.append(token)

    def _failed(self, token: str, what: str) -> None:
        with self._lock:
            self.failures.append(f"{kid_of(token)}: {what}")

    def _answered(self, token: str) -> None:
        with self._lock:
            self.answered[kid_of(token)] = self.answered.get(kid_of(token), 0) + 1


@contextmanager
def running(load: Load) -> Iterator[None]:
    """The callers call while the block runs."""
    targets = [load.over_grpc] * GRPC_CALLERS + [load.over_json] * JSON_CALLERS
    threads = [threading.Thread(target=target) for target in targets]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        load.stopping.set()
        for thread in threads:
            thread.join(60)
    assert not any(thread.is_alive() for thread in threads)


def test_two_rotations_under_load_refuse_nobody_and_drop_no_connection(shop: Shop) -> None:
    customer, product = shop.customer(), shop.product(stock=None)
    first = token_of(shop, customer)
    load = Load(shop.mesh.gateway, product, [first])
    with running(load):
        eventually(lambda: load.answered.get(kid_of(first), 0) >= 10)
        for _ in range(2):
            kid = rotate(shop)
            token = token_by(shop, customer, kid)
            # At once, at every gateway and every instance: the key was there before it signed.
            assert {("OK", "")} == everywhere(shop, token)
            load.add(token)
            eventually(lambda kid=kid: load.answered.get(kid, 0) >= 10)
        before = load.answered[kid_of(first)]
        eventually(lambda: load.answered[kid_of(first)] >= before + 10)

    assert [] == load.failures
    assert 3 == len(load.answered)
    broken = {grpc.ChannelConnectivity.TRANSIENT_FAILURE, grpc.ChannelConnectivity.SHUTDOWN}
    assert GRPC_CALLERS == load.states.count(grpc.ChannelConnectivity.READY)
    assert [] == [state for state in load.states if state in broken]


def test_what_a_revoked_key_signed_is_refused_everywhere_and_nothing_else(shop: Shop) -> None:
    customer, product = shop.customer(), shop.product(stock=None)
    old = token_of(shop, customer)
    new = token_by(shop, customer, rotate(shop))
    assert {("OK", "")} == everywhere(shop, old)
    load = Load(shop.mesh.gateway, product, [new])
    with running(load):
        began = time.monotonic()
        request = identity_pb2.RevokeSigningKeyRequest(name=f"signingKeys/{kid_of(old)}")
        shop.operator.call(shop.identity.RevokeSigningKey, request)
        eventually(lambda: {("UNAUTHENTICATED", "TOKEN_INVALID")} == everywhere(shop, old), deadline_s=WITHIN_S)
        print(f"\nwhat a revoked key signed is refused everywhere after {time.monotonic() - began:.2f} s")
        eventually(lambda: load.answered.get(kid_of(new), 0) >= 10)

    assert [] == load.failures
    assert kid_of(old) not in {key.name.removeprefix("signingKeys/") for key in keys(shop)}


def test_where_the_key_that_signs_is_revoked_another_one_soon_does(shop: Shop) -> None:
    customer = shop.customer()
    # A key of this test's own, so that no other test's tokens are of it; the one before it signs on.
    stolen = token_by(shop, customer, rotate(shop))

    request = identity_pb2.RevokeSigningKeyRequest(name=f"signingKeys/{kid_of(stolen)}")
    shop.operator.call(shop.identity.RevokeSigningKey, request)

    eventually(lambda: {("UNAUTHENTICATED", "TOKEN_INVALID")} == everywhere(shop, stolen), deadline_s=WITHIN_S)
    eventually(lambda: signing(shop) not in ("", request.name))
    anew: list[str] = []
    eventually(lambda: anew.append(token_of(shop, customer)) or kid_of(anew[-1]) != kid_of(stolen))
    eventually(lambda: {("OK", "")} == everywhere(shop, anew[-1]))


def test_a_key_that_there_is_not_cannot_be_revoked(shop: Shop) -> None:
    with pytest.raises(grpc.RpcError) as refusal:
        shop.operator.call(shop.identity.RevokeSigningKey, identity_pb2.RevokeSigningKeyRequest(name="signingKeys/x"))

    assert "SIGNING_KEY_NOT_FOUND" == refusal_of(refusal.value).reason
