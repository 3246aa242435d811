"""One real Envoy and the real control plane in front of small instances: what lanes do to calls at the gateway."""

import asyncio
import subprocess
import threading
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent import futures
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc

from bench.ours import ControlPlane, bootstrap_of, secret_in
from deploy.supervisor.config import child_environ
from deploy.supervisor.servers import envoy
from gateway import compiler
from gateway.envoy import names
from gateway.envoy.edge import Edge
from lb.__main__ import read_bundle
from lb.endpoint import Endpoint, ServiceName
from lb.xds import bundle as bundles
from svc.chassis.clock import SystemClock
from svc.chassis.server import OPTIONS
from tests.unit.svc.chassis.instance import Issuer
from tests.waiting import eventually, free_port, listens
from weft_protos import lanes, policy

SCOPES: Final = " ".join(sorted(policy.scopes()))
HOST: Final = "127.0.0.1"


class Instance(grpc.GenericRpcHandler):
    """Answers every method, says which lane each call came by, and fails when it is told to."""

    def __init__(self, name: str, service: str = "orders", lane: str = "") -> None:
        self.name, self.lane = name, lane
        self.seen: Counter[str] = Counter()
        """Calls by the lane they go by."""
        self.fails: grpc.StatusCode | None = None
        self.is_gone = False
        """Answers UNAVAILABLE before anything else, as one that has no time or no database."""
        self._lock = threading.Lock()
        self._server = grpc.server(futures.ThreadPoolExecutor(8), handlers=[self], options=OPTIONS)
        self.endpoint = Endpoint(
            ServiceName(service), name, HOST, self._server.add_insecure_port(f"{HOST}:0"), lane=lane
        )
        self._server.start()

    def service(self, handler_call_details: Any) -> Any:
        metadata = dict(handler_call_details.invocation_metadata)

        def answer(_: bytes, context: grpc.ServicerContext) -> bytes:
            with self._lock:
                self.seen[str(metadata.get(lanes.HEADER, ""))] += 1
            if self.is_gone:
                context.abort(grpc.StatusCode.UNAVAILABLE, "as told")
            context.send_initial_metadata((("instance", self.name),))
            if self.fails is not None:
                context.abort(self.fails, "as told")
            return b""

        def endless(_: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
            context.send_initial_metadata((("instance", self.name),))
            while context.is_active():
                yield b""
                threading.Event().wait(0.02)

        if handler_call_details.method.endswith("/WatchOrder"):
            return grpc.unary_stream_rpc_method_handler(endless)
        return grpc.unary_unary_rpc_method_handler(answer)

    def stop(self) -> None:
        """End at once, as if killed."""
        self._server.stop(0).wait()


@dataclass
class LanedEdge:
    """The gateway and what it is told."""

    plane: ControlPlane
    compiled: bundles.Bundle
    issuer: Issuer
    address: str
    channel: grpc.Channel
    metrics: str
    admin: Path

    def serve(self, instances: Sequence[Instance], *laned: lanes.Lane) -> None:
        """Have these instances and lanes, and no others."""
        endpoints = [instance.endpoint for instance in instances]
        self.plane.serve(self.compiled, endpoints, self.issuer.jwks().decode(), laned=laned)

    def token(self, subject: str = "alice", **claims: object) -> str:
        now = int(SystemClock().now().timestamp())
        return self.issuer.token(**{"iat": now, "exp": now + 300, "scope": SCOPES, "sub": subject} | claims)

    def figures(self, name: str) -> list[str]:
        """The lines of the gateway's exposition about one of its figures."""
        with urllib.request.urlopen(f"{self.metrics}/stats/prometheus", timeout=10) as answer:
            return [line for line in answer.read().decode().splitlines() if line.startswith(name)]

    def knows(self, cluster: str) -> bool:
        """Whether calls can be sent to a cluster: Envoy has it, with instances."""
        said = asyncio.run(envoy.ask(self.admin, "GET", "/clusters"))
        return f"{cluster}::{HOST}:".encode() in said

    def call(self, method: str, *, token: str = "", headers: Mapping[str, str] | None = None) -> tuple[str, str]:
        """How a call ends, and which instance answered."""
        metadata = [*(headers or {}).items(), *([("authorization", f"Bearer {token}")] if token else [])]
        send: Any = self.channel.unary_unary(f"/{method}")
        try:
            _, ended = send.with_call(b"", timeout=20, metadata=metadata)
        except grpc.RpcError as error:
            ended = error
        found = dict(ended.initial_metadata() or ())
        return ended.code().name, str(found.get("instance", ""))


@contextmanager
def edge(descriptors: bytes, folder: Path) -> Iterator[LanedEdge]:
    """A gateway that has its configuration from the control plane, without limits that a test could reach."""
    with ExitStack() as stack:
        port, issuer, plane = free_port(), Issuer(), ControlPlane()
        stack.callback(plane.close)
        made = compiler.compile_contracts(
            descriptors, Edge(port=port, tls_port=free_port(), tls_secret=secret_in(folder))
        )
        compiler.write(made, folder / "bundle")
        compiled = bundles.parse(*read_bundle(folder / "bundle"))
        config, ready = bootstrap_of(folder / "envoy", control_planes=[plane.port], collector=None)
        plane.serve(compiled, [], issuer.jwks().decode())
        command = [str(envoy.binary()), "-c", str(config), "--disable-hot-restart", "--concurrency", "1", "-l", "warn"]
        command += ["--service-cluster", "edge", "--service-node", "gateway-1"]
        log = stack.enter_context((folder / "log").open("wb"))
        environ = child_environ() | {names.INSTANCE_VARIABLE: "gateway-1"}
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environ)
        stack.callback(process.wait)
        stack.callback(process.kill)
        eventually(lambda: process.poll() is not None or listens(port))
        assert process.poll() is None, (folder / "log").read_text()
        channel = stack.enter_context(grpc.insecure_channel(f"{HOST}:{port}", options=(("grpc.enable_retries", 0),)))
        yield LanedEdge(
            plane,
            compiled,
            issuer,
            f"{HOST}:{port}",
            channel,
            ready.removesuffix("/ready"),
            config.with_name("admin.sock"),
        )
