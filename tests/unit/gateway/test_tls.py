"""TLS as a bare Envoy does it with the compiled listener: whom it lets in, and how its certificate changes."""

import socket
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import grpc
import pytest

from deploy.supervisor import certificate
from deploy.supervisor.certificate import Pair
from deploy.supervisor.edge_certificate import EdgeCertificate
from gateway.envoy.edge import Edge
from tests.waiting import eventually

from .bare_envoy import PUBLIC, BareEnvoy, running

TIMEOUT_S = 10.0


@pytest.fixture(scope="module")
def envoy(descriptors: bytes) -> Iterator[BareEnvoy]:
    with running(descriptors, Edge(tls_names=("localhost", "*.shop.example"))) as started:
        yield started


def trusting(envoy: BareEnvoy) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(envoy.authority))


def careless() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def connect(envoy: BareEnvoy, context: ssl.SSLContext, name: str | None = "localhost") -> ssl.SSLSocket:
    plain = socket.create_connection(("127.0.0.1", envoy.tls_port), timeout=TIMEOUT_S)
    return context.wrap_socket(plain, server_hostname=name)


def shown(envoy: BareEnvoy) -> bytes:
    with connect(envoy, careless()) as wrapped:
        return wrapped.getpeercert(binary_form=True) or b""


def turn(envoy: BareEnvoy, pair: Pair) -> None:
    """Puts any pair in place by the same rename, also one that the supervisor would never take."""
    folder = envoy.layout.edge_tls
    (folder / "any").mkdir()
    (folder / "any/tls.crt").write_text(pair.certificate)
    (folder / "any/tls.key").write_text(pair.key)
    (folder / ".any").symlink_to("any")
    (folder / ".any").replace(folder / "current")


def test_who_trusts_the_authority_is_served_by_name_and_by_address(envoy: BareEnvoy) -> None:
    for name in ("localhost", "127.0.0.1"):
        with connect(envoy, trusting(envoy), name) as wrapped:
            assert wrapped.version() == "TLSv1.3"


def test_grpc_over_tls_answers(envoy: BareEnvoy) -> None:
    credentials = grpc.ssl_channel_credentials(envoy.authority.read_bytes())
    with grpc.secure_channel(f"localhost:{envoy.tls_port}", credentials) as channel:
        assert b"" == channel.unary_unary(PUBLIC)(b"", timeout=TIMEOUT_S)


@pytest.mark.parametrize(
    "name", ["evil.example", "localhost.evil.example", "shop.example", "a.b.shop.example", "xlocalhost"]
)
def test_a_handshake_for_a_name_of_somebody_else_is_refused(envoy: BareEnvoy, name: str) -> None:
    with pytest.raises(OSError, match=r"reset|EOF"):
        connect(envoy, careless(), name)


@pytest.mark.parametrize("name", ["localhost", "LOCALHOST", "api.shop.example", None])
def test_a_handshake_for_a_name_of_the_certificate_or_for_none_is_taken(envoy: BareEnvoy, name: str | None) -> None:
    with connect(envoy, careless(), name) as wrapped:
        assert wrapped.version() == "TLSv1.3"


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_old_tls_is_refused(envoy: BareEnvoy, version: ssl.TLSVersion) -> None:
    context = careless()
    context.set_ciphers("DEFAULT@SECLEVEL=0")
    context.minimum_version = context.maximum_version = version

    with pytest.raises(ssl.SSLError, match="alert protocol version"):
        connect(envoy, context)


@pytest.mark.parametrize("ciphers", ["AES128-SHA", "ECDHE-ECDSA-AES128-SHA", "AES256-GCM-SHA384"])
def test_weak_ciphers_are_refused(envoy: BareEnvoy, ciphers: str) -> None:
    context = careless()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(f"{ciphers}:@SECLEVEL=0")

    with pytest.raises(ssl.SSLError, match="handshake failure"):
        connect(envoy, context)


@pytest.mark.parametrize(
    ("offered", "chosen"), [(["h2", "http/1.1"], "h2"), (["http/1.1"], "http/1.1"), (["spdy"], None)]
)
def test_the_protocol_is_agreed_on_in_the_handshake(envoy: BareEnvoy, offered: list[str], chosen: str | None) -> None:
    context = careless()
    context.set_alpn_protocols(offered)
    with connect(envoy, context) as wrapped:
        assert chosen == wrapped.selected_alpn_protocol()


def test_a_clients_certificate_is_not_asked_for_and_gains_nothing(envoy: BareEnvoy, tmp_path: Path) -> None:
    foreign = certificate.make_authority().issue(("localhost",), ())
    (tmp_path / "pair.pem").write_text(foreign.certificate + foreign.key)
    without, with_it = trusting(envoy), trusting(envoy)
    with_it.load_cert_chain(tmp_path / "pair.pem")
    for context in (without, with_it):
        with connect(envoy, context) as wrapped:
            wrapped.sendall(b"GET /v1/orders HTTP/1.1\r\nhost: localhost\r\n\r\n")

            assert wrapped.recv(4096).startswith(b"HTTP/1.1 401 ")


def test_what_does_not_speak_tls_is_closed(envoy: BareEnvoy) -> None:
    with socket.create_connection(("127.0.0.1", envoy.tls_port), timeout=TIMEOUT_S) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")

        assert b"" == plain.recv(4096)


def test_who_never_says_hello_is_closed(envoy: BareEnvoy) -> None:
    with socket.create_connection(("127.0.0.1", envoy.tls_port), timeout=3 * TIMEOUT_S) as silent:
        assert b"" == silent.recv(1)


def test_a_new_certificate_takes_effect_and_no_connection_notices(envoy: BareEnvoy) -> None:
    kept = EdgeCertificate(envoy.layout, None)
    credentials = grpc.ssl_channel_credentials(envoy.authority.read_bytes())
    with grpc.secure_channel(f"localhost:{envoy.tls_port}", credentials) as live:
        call = live.unary_unary(PUBLIC)
        call(b"", timeout=TIMEOUT_S)
        for _ in range(3):
            before = shown(envoy)
            kept.ensure(now=datetime.now(UTC), anew=True)
            after = ssl.PEM_cert_to_DER_cert(kept.certificate.read_text())
            # Every new handshake meets the old certificate or the new one, never none.
            eventually(lambda after=after: shown(envoy) == after)

            assert before != after
            assert b"" == call(b"", timeout=TIMEOUT_S)
            with connect(envoy, trusting(envoy)) as wrapped:
                assert wrapped.version() == "TLSv1.3"


def test_a_pair_that_does_not_fit_is_not_taken(envoy: BareEnvoy) -> None:
    before, failed = shown(envoy), failures(envoy)
    fresh = certificate.make_authority().issue(("localhost",), ())
    turn(envoy, Pair(fresh.certificate, certificate.make_authority().key))
    eventually(lambda: failures(envoy) > failed)

    assert before == shown(envoy)


def failures(envoy: BareEnvoy) -> int:
    label = '{envoy_xds_resource_name="edge-tls"}'
    return sum(envoy.counter(f"envoy_sds_{name}{label}") for name in ("key_rotation_failed", "update_rejected"))
