"""Who is let in where hops are encrypted, on real sockets, and that no call notices a renewed certificate."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from prometheus_client import REGISTRY

from deploy.supervisor.certificate import make_authority
from lb.credentials import Credentials, asks_for
from lb.errors import SettingsError
from tests.identities import Identities
from tests.unit.lb import asked
from tests.unit.lb.asked import WHO
from tests.unit.lb.conftest import DEADLINE_S, eventually
from weft_protos import identity
from weft_protos.identity import Identity

ORDERS, CATALOG = identity.service("orders"), identity.service("catalog")
CALLERS = 4


@pytest.fixture
def mesh(tmp_path: Path) -> Identities:
    return Identities(tmp_path / "mesh", ORDERS, CATALOG)


@pytest.fixture
def served() -> Iterator[Callable[..., int]]:
    """Start a server that answers with the serial number of its caller's certificate; its port."""
    with asked.servers(threads=CALLERS + 1) as start:
        yield lambda folder, **options: start(_serial, Credentials(folder).server(), **options)


def _serial(context: grpc.ServicerContext) -> bytes:
    [shown] = context.auth_context()["x509_pem_cert"]
    return str(x509.load_pem_x509_certificate(shown).serial_number).encode()


def serial(folder: Path) -> bytes:
    return str(x509.load_pem_x509_certificate((folder / identity.CERTIFICATE).read_bytes()).serial_number).encode()


def channel(port: int, shown: grpc.ChannelCredentials | None, server: Identity = ORDERS) -> grpc.Channel:
    options = [asks_for(server), ("grpc.use_local_subchannel_pool", 1)]
    if shown is None:
        return grpc.insecure_channel(f"127.0.0.1:{port}", options=options)
    return grpc.secure_channel(f"127.0.0.1:{port}", shown, options=options)


def ask(port: int, shown: grpc.ChannelCredentials | None, server: Identity = ORDERS) -> bytes:
    with channel(port, shown, server) as opened:
        answer: bytes = opened.unary_unary(WHO)(b"", timeout=DEADLINE_S)
    return answer


def refused(port: int, shown: grpc.ChannelCredentials | None, server: Identity = ORDERS) -> bool:
    try:
        ask(port, shown, server)
    except grpc.RpcError as error:
        return error.code() is grpc.StatusCode.UNAVAILABLE
    return False


def test_only_who_has_a_certificate_of_the_meshs_authority_is_let_in(
    mesh: Identities, served: Callable[..., int], tmp_path: Path
) -> None:
    port = served(mesh.of(ORDERS))
    foreign = Identities(tmp_path / "foreign", CATALOG)
    authority, key, certificate = (
        (folder / name).read_bytes()
        for folder, name in (
            (mesh.of(ORDERS), identity.AUTHORITY),
            (foreign.of(CATALOG), identity.KEY),
            (foreign.of(CATALOG), identity.CERTIFICATE),
        )
    )

    assert serial(mesh.of(CATALOG)) == ask(port, Credentials(mesh.of(CATALOG)).client())
    assert refused(port, grpc.ssl_channel_credentials(authority, key, certificate))
    assert refused(port, grpc.ssl_channel_credentials(authority))
    assert refused(port, None)


def test_a_client_takes_no_other_part_than_it_means(mesh: Identities, served: Callable[..., int]) -> None:
    port, shown = served(mesh.of(ORDERS)), Credentials(mesh.of(CATALOG)).client()

    assert refused(port, shown, CATALOG)


def test_calls_go_on_while_both_sides_are_renewed_and_new_connections_show_the_new_certificates(
    mesh: Identities, served: Callable[..., int]
) -> None:
    # Connections are so short that handshakes meet every moment of it.
    port, shown = served(mesh.of(ORDERS), **{"grpc.max_connection_age_ms": 50}), Credentials(mesh.of(CATALOG))
    failed: list[str] = []
    answered, enough = set[bytes](), threading.Event()

    def call() -> None:
        with channel(port, shown.client()) as opened:
            keeping = opened.unary_unary(WHO)
            while not enough.is_set():
                try:
                    keeping(b"", timeout=DEADLINE_S)
                    answered.add(ask(port, shown.client()))
                except grpc.RpcError as error:
                    failed.append(f"{error.code()} {error.details()}")

    threads = [threading.Thread(target=call) for _ in range(CALLERS)]
    for thread in threads:
        thread.start()
    expected = set()
    for _ in range(5):
        expected.add(serial(mesh.of(CATALOG)))
        eventually(lambda: failed or expected <= answered, lambda: (len(expected), len(answered)))
        mesh.renew()
    expected.add(serial(mesh.of(CATALOG)))
    eventually(lambda: failed or expected == answered, lambda: (len(expected), len(answered)))
    enough.set()
    for thread in threads:
        thread.join(DEADLINE_S)

    assert [] == failed


def test_a_server_shows_what_was_renewed_without_a_restart(mesh: Identities, served: Callable[..., int]) -> None:
    port, shown = served(mesh.of(ORDERS)), Credentials(mesh.of(CATALOG)).client()
    ask(port, shown)
    mesh.kept.authority.unlink()  # another authority: who trusts that one alone can tell which one signed the server's
    mesh.renew()

    assert serial(mesh.of(CATALOG)) == ask(port, Credentials(mesh.of(CATALOG)).client())
    assert refused(port, shown)


def test_half_a_certificate_is_not_taken_over(mesh: Identities) -> None:
    folder = mesh.of(ORDERS)
    kept = Credentials(folder)
    before = kept.mark()
    other = (mesh.of(CATALOG) / identity.KEY).read_bytes()
    (folder / "current" / identity.KEY).write_bytes(other)

    assert before == kept.mark()
    mesh.renew()
    assert before != kept.mark()


@pytest.mark.parametrize("missing", identity.FILES)
def test_a_process_without_a_whole_certificate_is_told_what_is_missing(mesh: Identities, missing: str) -> None:
    (mesh.of(ORDERS) / "current" / missing).unlink()

    with pytest.raises(SettingsError, match=r"WEFT_IDENTITY: .*No such file.* must hold tls.crt, tls.key, ca.crt"):
        Credentials(mesh.of(ORDERS))


def test_a_certificate_that_names_nobody_is_none(mesh: Identities, tmp_path: Path) -> None:
    nameless = make_authority().issue((), ())
    contents = {identity.CERTIFICATE: nameless.certificate, identity.KEY: nameless.key, identity.AUTHORITY: ""}
    for name, content in contents.items():
        (tmp_path / name).write_text(content)

    with pytest.raises(SettingsError, match=r"tls\.crt names no part of the mesh"):
        Credentials(tmp_path)


def test_when_it_ends_is_known_to_who_watches_and_nothing_is_said_of_other_parts(tmp_path: Path) -> None:
    billing, shipping = identity.service("billing"), identity.service("shipping")
    mesh = Identities(tmp_path, billing, shipping)
    kept = Credentials(mesh.of(billing))

    def told(part: Identity) -> float | None:
        return REGISTRY.get_sample_value("weft_identity_expires_seconds", {"part": part.uri})

    assert (mesh.kept.expires().timestamp(), None) == (told(billing), told(shipping))
    mesh.renew()
    kept.mark()
    assert mesh.kept.expires().timestamp() == told(billing)


def test_no_key_shows_in_what_is_printed(mesh: Identities) -> None:
    kept = Credentials(mesh.of(ORDERS))

    assert "PRIVATE" not in f"{kept!r}{vars(kept)!r}"
