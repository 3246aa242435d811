"""A mesh of its own in the production profile, with a certificate of the user's own: only TLS, only methods.

Two gateways and what ListProducts needs; no worker, no broker, no monitor.
"""

import http.client
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import psutil
import pytest

from deploy.cli.gateway_client import GatewayClient
from deploy.supervisor.certificate import Pair, make_authority
from deploy.supervisor.config import Settings
from deploy.supervisor.mesh import Mesh
from deploy.supervisor.workspace import temporary
from gateway.envoy import route
from tests.edge_attacks import good_client
from tests.integration.edge_calls import (
    OK,
    TIMEOUT_S,
    UNAUTHENTICATED,
    UNIMPLEMENTED,
    Json,
    Native,
    Target,
    Web,
    method,
)
from tests.waiting import eventually
from weft.catalog.v1 import catalog_pb2

PARTS = ("gateway-1", "gateway-2", "catalog-1", "catalog-2", "memcached-1", "memcached-2")
GATEWAYS = PARTS[:2]
LIST = Target.of(method("ListProducts"), catalog_pb2.ListProductsRequest(page_size=1))
PAUSE_S = 0.05
#: Handshakes that together meet both gateways, whose port is one: the kernel spreads them.
HANDSHAKES = 24


@dataclass(frozen=True)
class Production:
    """The mesh, and the files of its user's own certificate."""

    mesh: Mesh
    authority: Pair
    certificate: Path
    key: Path

    @property
    def port(self) -> int:
        return int(self.mesh.status().gateway.rpartition(":")[2])

    @property
    def address(self) -> str:
        return f"localhost:{self.port}"

    @property
    def credentials(self) -> grpc.ChannelCredentials:
        return grpc.ssl_channel_credentials(self.authority.certificate.encode())

    @property
    def context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cadata=self.authority.certificate)

    def put(self) -> bytes:
        """Another certificate in the user's files; what clients are to be shown then."""
        pair = self.authority.issue(("localhost",), ("127.0.0.1",))
        self.key.write_text(pair.key)
        self.key.chmod(0o600)
        self.certificate.write_text(pair.certificate)
        return ssl.PEM_cert_to_DER_cert(pair.certificate)

    def shown(self) -> set[bytes]:
        """The certificates that many new connections are shown."""
        found = set()
        for _ in range(HANDSHAKES):
            with (
                socket.create_connection(("localhost", self.port), timeout=TIMEOUT_S) as plain,
                self.context.wrap_socket(plain, server_hostname="localhost") as wrapped,
            ):
                found.add(wrapped.getpeercert(binary_form=True) or b"")
        return found

    def token(self) -> str:
        """An access token of the operator, who trusts what lies in the data directory."""
        client = GatewayClient.for_operator(self.mesh.gateway, self.mesh.secrets)
        try:
            return client.sign_in("catalog.read").access_token
        finally:
            client.close()

    def pids(self) -> dict[str, int | None]:
        processes = {one.name: one for one in self.mesh.status().processes}
        return {name: processes[name].pid for name in GATEWAYS}


def in_clear(port: int) -> int:
    """The status that a port answers a method with when nothing is encrypted."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", LIST.url)
        return connection.getresponse().status
    finally:
        connection.close()


@pytest.fixture(scope="module")
def production(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Production]:
    own = tmp_path_factory.mktemp("own")
    certificate, key = own / "shop.crt", own / "shop.key"
    with temporary() as folder:
        settings = Settings.from_environ(
            {
                "WEFT_DATA": str(folder),
                "WEFT_PROFILE": "production",
                "WEFT_TLS_CERT": str(certificate),
                "WEFT_TLS_KEY": str(key),
            }
        )
        with Mesh(folder, ports="free", only=PARTS, ephemeral=True, settings=settings) as mesh:
            made = Production(mesh, make_authority(), certificate, key)
            made.put()
            mesh.start()
            yield made


def test_calls_over_tls_are_answered_on_every_wire(production: Production) -> None:
    token, context = production.token(), production.context
    wires = (
        Native(production.address, production.credentials),
        Web(production.address, context=context),
        Json(production.address, context=context),
    )
    for wire in wires:
        answers = wire.call(LIST, token), wire.call(LIST)
        wire.close()
        assert (wire.name, OK, UNAUTHENTICATED) == (wire.name, *(answer.code for answer in answers))


def test_clients_are_shown_the_users_own_certificate(production: Production) -> None:
    on_disk = ssl.PEM_cert_to_DER_cert(production.certificate.read_text())

    eventually(lambda: production.shown() == {on_disk})


def test_nothing_is_offered_in_clear(production: Production) -> None:
    metrics = set()
    for pid in production.pids().values():
        listening = [one.laddr for one in psutil.Process(pid).net_connections("tcp") if one.status == "LISTEN"]
        ports = {address.port for address in listening}
        assert {"127.0.0.1"} == {address.ip for address in listening}
        assert production.port in ports
        metrics |= ports - {production.port}
    # Each has metrics of its own on loopback, and nothing else.
    assert len(GATEWAYS) == len(metrics)

    with pytest.raises((OSError, http.client.HTTPException)):
        in_clear(production.port)
    assert [http.client.NOT_FOUND] * len(metrics) == [in_clear(port) for port in metrics]


def test_only_methods_are_served(production: Production) -> None:
    token, wire = production.token(), Native(production.address, production.credentials)
    for name in route.REFLECTION:
        assert UNIMPLEMENTED == wire.call(Target(f"/{name}", b"", "POST", f"/{name}", None), token).code
    wire.close()

    page = http.client.HTTPSConnection(production.address, timeout=TIMEOUT_S, context=production.context)
    page.request("GET", "/")
    answer = page.getresponse()
    assert http.client.NOT_FOUND == answer.status
    page.close()


def test_another_certificate_is_taken_over_without_a_restart_and_no_call_notices(production: Production) -> None:
    token, pause, pids = production.token(), threading.Event(), production.pids()
    live = Native(production.address, production.credentials)

    def keeps() -> None:
        assert OK == live.call(LIST, token).code
        pause.wait(PAUSE_S)

    def comes_anew() -> None:
        wire = Native(production.address, production.credentials)
        assert OK == wire.call(LIST, token).code
        wire.close()
        pause.wait(PAUSE_S)

    with good_client(keeps), good_client(comes_anew):
        for _ in range(2):
            expected = production.put()
            eventually(lambda wanted=expected: production.shown() == {wanted})
    live.close()

    assert pids == production.pids()


def test_a_certificate_that_is_none_is_not_taken_over(production: Production) -> None:
    good, log = ssl.PEM_cert_to_DER_cert(production.certificate.read_text()), production.mesh.logs / "supervisor.log"
    eventually(lambda: production.shown() == {good})
    refused = log.read_text().count("certificate_refused")
    production.certificate.write_text("no certificate")
    eventually(lambda: log.read_text().count("certificate_refused") > refused)

    assert {good} == production.shown()
    expected = production.put()
    eventually(lambda: production.shown() == {expected})
