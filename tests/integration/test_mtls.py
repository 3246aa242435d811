"""A mesh of its own whose hops are encrypted: it does what any other does, and nobody gets past the gateways.

Two gateways, orders and catalog, whom orders calls; no worker, no broker, no monitor. Its edge is that of one's own
machine, so that every client of the suite can call it.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509

from deploy.supervisor.config import Settings, child_environ
from deploy.supervisor.mesh import Mesh
from deploy.supervisor.workspace import temporary
from tests.integration.edge_calls import OK, UNAUTHENTICATED, Json, Native, Target, Web, method
from tests.integration.shop import CALL_S, Shop
from tests.integration.steady_load import SteadyLoad
from tests.waiting import eventually
from weft.catalog.v1 import catalog_pb2
from weft_protos import identity
from weft_protos.identity import Identity

PARTS = ("gateway-1", "gateway-2", "orders-1", "orders-2", "catalog-1", "catalog-2", "memcached-1", "memcached-2")
ORDERS, CATALOG = identity.service("orders"), identity.service("catalog")
LIST = Target.of(method("ListProducts"), catalog_pb2.ListProductsRequest(page_size=1))
RENEWALS = 3


@pytest.fixture(scope="module")
def encrypted() -> Iterator[Mesh]:
    with temporary() as folder:
        settings = Settings.from_environ({"WEFT_DATA": str(folder), "WEFT_MTLS": "on"})
        with Mesh(folder, ports="free", only=PARTS, ephemeral=True, settings=settings) as mesh:
            mesh.start()
            yield mesh


@pytest.fixture(scope="module")
def shop(encrypted: Mesh) -> Iterator[Shop]:
    with Shop.opened(encrypted) as shop:
        yield shop


def folder(mesh: Mesh, part: Identity) -> Path:
    return mesh.secrets.parent / "identities" / str(part)


def serial(mesh: Mesh, part: Identity) -> int:
    pem = (folder(mesh, part) / identity.CERTIFICATE).read_bytes()
    return x509.load_pem_x509_certificate(pem).serial_number


def addresses(mesh: Mesh, kind: str) -> list[str]:
    return [process.address for process in mesh.status().processes if process.kind == kind]


def shown(mesh: Mesh, part: Identity) -> grpc.ChannelCredentials:
    own = folder(mesh, part)
    files = ((own / name).read_bytes() for name in (identity.AUTHORITY, identity.KEY, identity.CERTIFICATE))
    return grpc.ssl_channel_credentials(*files)


def code(channel: grpc.Channel, path: str) -> grpc.StatusCode:
    with channel:
        try:
            channel.unary_unary(path)(b"", timeout=CALL_S)
        except grpc.RpcError as error:
            found: grpc.StatusCode = error.code()
            return found
    return grpc.StatusCode.OK


def test_calls_are_answered_on_every_wire(encrypted: Mesh, shop: Shop) -> None:
    token = shop.customer().session.access_token
    for wire in (Native(encrypted.gateway), Web(encrypted.gateway), Json(encrypted.gateway)):
        answers = wire.call(LIST, token), wire.call(LIST)
        wire.close()
        assert (wire.name, OK, UNAUTHENTICATED) == (wire.name, *(answer.code for answer in answers))


def test_a_service_calls_another(shop: Shop) -> None:
    product, customer = shop.product(price_minor=150, stock=5), shop.customer()

    placed = shop.place(customer, {product: 2})

    # The price is catalog's, and orders has asked for it.
    assert (300, [3]) == (placed.total.units * 100 + placed.total.nanos // 10_000_000, shop.left(product))


def test_an_instance_that_is_called_past_the_gateways_refuses_the_handshake(encrypted: Mesh) -> None:
    stranger = grpc.ssl_channel_credentials((folder(encrypted, ORDERS) / identity.AUTHORITY).read_bytes())
    for kind in ("service", "control-plane"):
        for address in addresses(encrypted, kind):
            for channel in (grpc.insecure_channel(address), grpc.secure_channel(address, stranger)):
                assert grpc.StatusCode.UNAVAILABLE is code(channel, "/grpc.health.v1.Health/Check"), address


def test_a_part_that_calls_no_service_is_refused_by_its_certificate(encrypted: Mesh) -> None:
    worker = shown(encrypted, Identity("worker", "relay"))
    [address, *_] = [one.address for one in encrypted.status().processes if one.service == "orders"]
    gateway = shown(encrypted, identity.GATEWAY)
    for caller, name, expected in (
        (worker, ORDERS.dns, grpc.StatusCode.PERMISSION_DENIED),
        (worker, CATALOG.dns, grpc.StatusCode.UNAVAILABLE),
        # Whose certificate is let in still needs a token.
        (gateway, ORDERS.dns, grpc.StatusCode.UNAUTHENTICATED),
    ):
        options = [("grpc.ssl_target_name_override", name), ("grpc.use_local_subchannel_pool", 1)]
        channel = grpc.secure_channel(address, caller, options=options)
        assert expected is code(channel, "/weft.orders.v1.OrderService/PlaceOrder")


def test_certificates_are_renewed_under_load_and_no_call_fails(encrypted: Mesh, shop: Shop) -> None:
    before = {part: serial(encrypted, part) for part in (ORDERS, CATALOG, identity.GATEWAY, identity.CONTROL_PLANE)}
    with SteadyLoad(shop) as load:
        for number in range(RENEWALS):
            renewed = encrypted.renew_workload_certificates()
            assert {part.uri for part in before} < set(renewed.names)
            # A new process on each side: its handshakes are with the new certificates alone.
            encrypted.restart(("orders-1", "catalog-1", "control-plane-1")[number])
            load.advance()

    assert ([], []) == (load.failed, load.disturbed)
    assert {0} == set(load.miscounted)
    assert all(number != serial(encrypted, part) for part, number in before.items())


def test_every_client_of_the_control_planes_is_synced(encrypted: Mesh, shop: Shop) -> None:
    shop.place(shop.customer(), {shop.product(): 1})  # orders has asked for catalog, whenever this test runs
    environment = {**child_environ(), "WEFT_DATA": str(encrypted.secrets.parent)}
    command = [sys.executable, "-m", "deploy.cli", "proxies", "--json"]
    found: dict[str, Any] = {}

    def synced() -> bool:
        answer = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True)
        found.update(json.loads(answer.stdout))
        return {"SYNCED"} == {each["state"] for each in found["clients"]}

    eventually(synced)
    assert {"envoy", "grpc"} == {each["kind"] for each in found["clients"]}
