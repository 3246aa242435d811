"""Hops of a mesh with encryption: what gateways and gRPC clients are told, and that both get through and nobody else.

The control plane, the compiled contracts, the certificates and the bootstraps are the real ones; Envoy and the client
are processes of their own.
"""

import json
import subprocess
import tempfile
import threading
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509

from deploy.supervisor.config import child_environ
from deploy.supervisor.edge_certificate import EdgeCertificate
from deploy.supervisor.layout import Layout
from deploy.supervisor.servers import envoy as envoy_server
from gateway import compiler
from gateway.__main__ import main
from gateway.compiler import Bundle
from gateway.envoy import bootstrap, hop, names, tls
from gateway.envoy.bootstrap import Address
from gateway.envoy.edge import Edge
from lb.credentials import Credentials
from lb.lastgood import ENDPOINTS, LastGood, endpoints_to_bytes
from lb.xds import bundle as bundles
from tests.identities import Identities
from tests.unit.lb import sample
from tests.unit.lb.conftest import DEADLINE_S, Client, ControlPlane, eventually
from tests.unit.lb.test_envoy_delta import KEYS
from tests.waiting import free_port
from weft_protos import identity
from weft_protos.xds import to_dict

from .bare_envoy import PUBLIC

#: Who answers PUBLIC.
OWNER = identity.service("identity")
CATALOG, WORKER = identity.service("catalog"), identity.Identity("worker", "email")
PARTS = (OWNER, CATALOG, WORKER, identity.GATEWAY, identity.CONTROL_PLANE)
UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
#: Far below what the contract lets one address do.
PACE_S = 0.1
Golden = Callable[[str, str], None]


class Backend:
    """An instance that notes by which certificates it is called, and answers with its own name."""

    def __init__(self, name: str, folder: Path, **options: int) -> None:
        self.callers = set[tuple[str, int]]()
        self._name = name.encode()
        self._server = grpc.server(
            ThreadPoolExecutor(8), handlers=[_Any(self._answer)], options=[("grpc.so_reuseport", 0), *options.items()]
        )
        self.port = self._server.add_secure_port("127.0.0.1:0", Credentials(folder).server())
        self._server.start()

    def _answer(self, _: bytes, context: grpc.ServicerContext) -> bytes:
        shown = context.auth_context()
        [pem], [uri] = shown["x509_pem_cert"], shown["peer_spiffe_id"]
        self.callers.add((uri.decode(), x509.load_pem_x509_certificate(pem).serial_number))
        return self._name

    def close(self) -> None:
        self._server.stop(0).wait(DEADLINE_S)


class _Any(grpc.GenericRpcHandler):
    def __init__(self, answer: Callable[[bytes, grpc.ServicerContext], bytes]) -> None:
        self._handler = grpc.unary_unary_rpc_method_handler(answer)

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        return self._handler


class Mesh:
    """Certificates, a control plane that asks for them, contracts that are published to it, and their instances."""

    def __init__(self, folder: Path, descriptors: bytes) -> None:
        self.folder = folder
        self.identities = Identities(folder / "mesh", *PARTS)
        self.metrics_port = free_port()
        self.control_plane = ControlPlane()
        self.control_plane.start(Credentials(self.identities.of(identity.CONTROL_PLANE)).server())
        self.edge = Edge(port=free_port(), tls_port=free_port(), tls_secret=folder / "edge.json", hop_secrets=folder)
        out = folder / "bundle"
        compiler.write(compiler.compile_contracts(descriptors, self.edge), out)
        pieces = {path.name: path.read_bytes() for path in (out / "blobs").iterdir()}
        taken = bundles.parse((out / "manifest.json").read_bytes(), pieces)
        self.control_plane.feeding(lambda feed: feed.set_keys(KEYS))
        self.control_plane.feeding(lambda feed: feed.set_bundle(taken))

    def place(self, backend: Backend, service: str) -> None:
        endpoint = sample.endpoint(f"{service}-1", backend.port, service)
        self.control_plane.feeding(lambda feed: feed.set_endpoints([endpoint]))

    def serial(self, part: identity.Identity) -> tuple[str, int]:
        """By what a part is to be known now."""
        pem = (self.identities.of(part) / identity.CERTIFICATE).read_bytes()
        return part.uri, x509.load_pem_x509_certificate(pem).serial_number

    def gateway(self, stack: ExitStack) -> str:
        """Start Envoy as a gateway is started; its address."""
        kept = EdgeCertificate(Layout(self.folder / "mesh"), None)
        kept.ensure(now=datetime.now(UTC))
        self.edge.tls_secret.write_text(json.dumps(to_dict(tls.secret(kept.certificate, kept.key))))
        for name, message in hop.secret_files(self.identities.of(identity.GATEWAY)):
            (self.folder / name).write_text(json.dumps(to_dict(message)))
        settings = bootstrap.Settings(
            "gateway-1",
            [Address("127.0.0.1", self.control_plane.port)],
            None,
            self.metrics_port,
            self.folder / "admin",
            hop_secrets=self.folder,
        )
        config = self.folder / "bootstrap.pb"
        config.write_bytes(bootstrap.build(settings).SerializeToString(deterministic=True))
        log = stack.enter_context((self.folder / "log").open("wb"))
        process = subprocess.Popen(
            envoy_server.argv("gateway-1", config),
            stdout=log,
            stderr=log,
            env=child_environ() | {names.INSTANCE_VARIABLE: "gateway-1"},
        )
        stack.callback(process.wait)
        stack.callback(process.kill)
        return f"127.0.0.1:{self.edge.port}"


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


@pytest.fixture
def mesh(stack: ExitStack, descriptors: bytes) -> Mesh:
    # Paths of sockets are short.
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="weft-", dir="/tmp")))
    made = Mesh(folder, descriptors)
    stack.callback(made.control_plane.close)
    return made


def outcome(channel: grpc.Channel) -> grpc.StatusCode:
    try:
        channel.unary_unary(PUBLIC)(b"", timeout=DEADLINE_S)
    except grpc.RpcError as error:
        code: grpc.StatusCode = error.code()
        return code
    return grpc.StatusCode.OK


def test_a_gateway_reaches_control_plane_and_services_by_its_certificate_and_no_call_notices_a_renewal(
    mesh: Mesh, stack: ExitStack
) -> None:
    # Its connections are so short that handshakes meet every moment of it.
    backend = Backend("one", mesh.identities.of(OWNER), **{"grpc.max_connection_age_ms": 50})
    stack.callback(backend.close)
    mesh.place(backend, OWNER.name)
    channel = stack.enter_context(grpc.insecure_channel(mesh.gateway(stack)))
    log = mesh.folder / "log"
    eventually(lambda: outcome(channel) is grpc.StatusCode.OK, lambda: log.read_text()[-2000:])
    assert {mesh.serial(identity.GATEWAY)} == backend.callers

    # What the alert goes by.
    with urllib.request.urlopen(f"http://127.0.0.1:{mesh.metrics_port}/stats/prometheus", timeout=10) as answer:
        figures = answer.read().decode()
    ends = min(
        float(line.rpartition(" ")[2])
        for line in figures.splitlines()
        if line.startswith("envoy_cluster_ssl_certificate_expiration_unix_time_seconds{")
    )
    assert mesh.identities.kept.expires().timestamp() == pytest.approx(ends, abs=DEADLINE_S)

    codes: list[grpc.StatusCode] = []
    enough = threading.Event()

    def call() -> None:
        while not enough.wait(PACE_S):
            codes.append(outcome(channel))

    calling = threading.Thread(target=call)
    calling.start()
    for _ in range(3):
        mesh.identities.renew()
        shown = mesh.serial(identity.GATEWAY)
        eventually(lambda shown=shown: shown in backend.callers, lambda: backend.callers)  # type: ignore[misc]
    enough.set()
    calling.join(DEADLINE_S)
    assert {grpc.StatusCode.OK} == set(codes)

    # Another part in its place is not taken for it.
    other = Backend("other", mesh.identities.of(CATALOG))
    stack.callback(other.close)
    mesh.place(other, OWNER.name)
    eventually(lambda: outcome(channel) is UNAVAILABLE)
    assert set() == other.callers


def test_a_service_reaches_another_by_its_certificate_and_takes_no_other_part_for_it(
    mesh: Mesh, stack: ExitStack
) -> None:
    backend = Backend("one", mesh.identities.of(CATALOG))
    stack.callback(backend.close)
    mesh.place(backend, CATALOG.name)
    client = Client(mesh.control_plane.address, CATALOG.name, identity=mesh.identities.of(OWNER))
    stack.callback(client.close)

    assert "one" == client.until(lambda answer: "answer" in answer)["answer"]
    assert {mesh.serial(OWNER)} == backend.callers

    other = Backend("other", mesh.identities.of(WORKER))
    stack.callback(other.close)
    mesh.place(other, CATALOG.name)
    backend.close()
    assert "UNAVAILABLE" == client.until(lambda answer: "code" in answer)["code"]
    assert set() == other.callers

    mesh.identities.renew()
    again = Backend("again", mesh.identities.of(CATALOG))
    stack.callback(again.close)
    mesh.place(again, CATALOG.name)
    assert "again" == client.until(lambda answer: "answer" in answer)["answer"]


def test_a_service_that_starts_without_a_control_plane_shows_its_certificate_to_whom_it_knew(
    mesh: Mesh, stack: ExitStack
) -> None:
    backend, other = (Backend(part.name, mesh.identities.of(part)) for part in (CATALOG, WORKER))
    mesh.control_plane.stop()
    answers = []
    for known in (backend, other):
        stack.callback(known.close)
        state = mesh.folder / f"state-{known.port}"
        state.mkdir()
        endpoint = sample.endpoint("catalog-1", known.port, CATALOG.name)
        LastGood(state).write(ENDPOINTS, endpoints_to_bytes([endpoint]))
        client = Client(mesh.control_plane.address, CATALOG.name, state, identity=mesh.identities.of(OWNER))
        stack.callback(client.close)
        answers.append(client.ask("call", DEADLINE_S))

    assert {"answer": CATALOG.name} == answers[0]
    assert "UNAVAILABLE" == answers[1]["code"]
    assert ({mesh.serial(OWNER)}, set()) == (backend.callers, other.callers)


def test_a_service_never_speaks_in_clear_whatever_contracts_were_published(mesh: Mesh, stack: ExitStack) -> None:
    heard = threading.Event()

    def answer(_: bytes, __: grpc.ServicerContext) -> bytes:
        heard.set()
        return b"in clear"

    server = grpc.server(ThreadPoolExecutor(2), handlers=[_Any(answer)], options=[("grpc.so_reuseport", 0)])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    stack.callback(lambda: server.stop(0).wait(DEADLINE_S))
    mesh.control_plane.feeding(lambda feed: feed.set_bundle(sample.bundle(*sample.rows(CATALOG.name))))
    endpoint = sample.endpoint("catalog-1", port, CATALOG.name)
    mesh.control_plane.feeding(lambda feed: feed.set_endpoints([endpoint]))
    client = Client(mesh.control_plane.address, CATALOG.name, identity=mesh.identities.of(OWNER))
    stack.callback(client.close)

    assert "UNAVAILABLE" == client.ask("call", DEADLINE_S)["code"]
    assert not heard.is_set()


def test_nobody_asks_a_control_plane_in_clear(mesh: Mesh, stack: ExitStack) -> None:
    client = Client(mesh.control_plane.address, CATALOG.name)
    stack.callback(client.close)

    assert "UNAVAILABLE" == client.ask("call", DEADLINE_S)["code"]


def _clusters(bundle: Bundle, audience: str) -> dict[str, Any]:
    of = [each for each in bundle.resources if each.audience == audience and each.message.DESCRIPTOR.name == "Cluster"]
    return {each.name: to_dict(each.message).get("transport_socket") for each in of}


def test_what_both_kinds_of_client_are_told_is_as_agreed(descriptors: bytes, golden: Golden) -> None:
    edge = replace(Edge(), hop_secrets=Path("/run/weft"))
    bundle = compiler.compile_contracts(descriptors, edge)
    told = {audience: _clusters(bundle, audience) for audience in ("all", "envoy", "grpc")}
    xds = to_dict(hop.from_gateway(Path("/run/weft"), identity.CONTROL_PLANE)["typed_config"])
    files = {name: to_dict(message) for name, message in hop.secret_files(Path("/var/lib/weft/identities/gateway"))}

    assert all(socket for of in told.values() for socket in of.values())
    kept = {"envoy": told["envoy"]["orders"], "grpc": told["grpc"]["orders"], "xds": xds, "files": files}
    golden("hops.json", json.dumps(kept, indent=1, sort_keys=True) + "\n")


def test_without_encryption_one_resource_is_for_both_as_ever(descriptors: bytes) -> None:
    bundle = compiler.compile_contracts(descriptors, Edge())

    assert {"orders", "catalog", "identity"} <= _clusters(bundle, "all").keys()
    assert {None} == {socket for audience in ("all", "envoy") for socket in _clusters(bundle, audience).values()}
    assert {} == _clusters(bundle, "grpc")


def test_a_bootstrap_takes_identity_and_its_place_together_or_neither(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    usual = ("bootstrap", "--node", "gateway-1", "--xds", "127.0.0.1:1", "--metrics-port", "1", "--out")
    paths = [str(tmp_path / name) for name in ("out.pb", "crt", "key", "secret.json", "admin")]
    flags = ("--tls-cert", "--tls-key", "--tls-secret", "--admin-socket")
    rest = [word for pair in zip(flags, paths[1:], strict=True) for word in pair]

    assert 2 == main([*usual, paths[0], *rest, "--identity", str(tmp_path)])
    assert "gateway: --identity and --hop-secrets go together; give both or neither\n" == capsys.readouterr().err
