"""The certificate of the running gateways changes under load, and nobody is refused or dropped for it."""

import socket
import ssl
import threading
from pathlib import Path

import grpc

from deploy.supervisor.layout import Layout
from tests.edge_attacks import good_client
from tests.integration.edge_calls import OK, TIMEOUT_S, Edge, Native, Target, method
from tests.integration.edge_calls import edge as edge
from tests.integration.test_edge_doors import tls_port
from tests.waiting import eventually
from weft.catalog.v1 import catalog_pb2

LIST = Target.of(method("ListProducts"), catalog_pb2.ListProductsRequest(page_size=1))
PAUSE_S = 0.05
#: Handshakes that together meet both gateways, whose port is one: the kernel spreads them.
HANDSHAKES = 24


def authority(edge: Edge) -> Path:
    return Layout(edge.secrets.parent).authority


def on_disk(edge: Edge) -> bytes:
    return ssl.PEM_cert_to_DER_cert((Layout(edge.secrets.parent).edge_tls / "tls.crt").read_text())


def shown(edge: Edge) -> set[bytes]:
    """The certificates that many new connections are shown."""
    context, found = ssl.create_default_context(cafile=str(authority(edge))), set()
    for _ in range(HANDSHAKES):
        with (
            socket.create_connection(("localhost", tls_port(edge)), timeout=TIMEOUT_S) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as wrapped,
        ):
            found.add(wrapped.getpeercert(binary_form=True) or b"")
    return found


def test_a_renewed_certificate_takes_effect_in_both_gateways_and_no_call_notices(edge: Edge) -> None:
    credentials = grpc.ssl_channel_credentials(authority(edge).read_bytes())
    address, token, pause = f"localhost:{tls_port(edge)}", edge.token("catalog.read"), threading.Event()
    live = Native(address, credentials)

    def keeps() -> None:
        assert OK == live.call(LIST, token).code
        pause.wait(PAUSE_S)

    def comes_anew() -> None:
        wire = Native(address, credentials)
        assert OK == wire.call(LIST, token).code
        wire.close()
        pause.wait(PAUSE_S)

    with good_client(keeps), good_client(comes_anew):
        for _ in range(3):
            before = on_disk(edge)
            renewed = edge.mesh.renew_certificate()

            assert (True, ("localhost",)) == (renewed.changed, renewed.names)
            assert before != on_disk(edge)
            eventually(lambda: shown(edge) == {on_disk(edge)})
    live.close()


def test_a_handshake_for_somebody_elses_name_is_refused(edge: Edge) -> None:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    refused = 0
    for name in ("evil.example", "localhost"):
        with socket.create_connection(("localhost", tls_port(edge)), timeout=TIMEOUT_S) as plain:
            try:
                context.wrap_socket(plain, server_hostname=name).close()
            except OSError:
                refused += 1
        assert 1 == refused
