"""A small mesh for programs in Go: etcd, one control plane, the keys of tokens, and instances of catalog in Python."""

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from concurrent import futures
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from grpc_health.v1 import health_pb2, health_pb2_grpc

from deploy.supervisor.account import server_account
from deploy.supervisor.config import PROJECT, child_environ
from deploy.supervisor.servers import etcd
from deploy.supervisor.workspace import temporary
from lb.config import EtcdSettings
from lb.endpoint import Endpoint, service_name
from lb.registry.agent import Agent
from lb.registry.etcd import Client, Dialer
from tests.go.build import Programs
from tests.hostile_tokens import Mint
from tests.integration.etcd_server import EtcdServer
from tests.waiting import DEADLINE_S, eventually, free_port
from weft.catalog.v1 import catalog_pb2

T = TypeVar("T")

PASSWORD = "etcd-password"


class Catalog:
    """An instance of catalog that knows every product. It fails as often as it is told to, and keeps what it got."""

    def __init__(self, instance: str, etcd: EtcdSettings) -> None:
        self.metadata: list[Mapping[str, str]] = []
        self.time_left_s: list[float] = []
        self.failures = 0
        handler = grpc.unary_unary_rpc_method_handler(self._get, catalog_pb2.GetProductRequest.FromString)
        handlers = grpc.method_handlers_generic_handler("weft.catalog.v1.CatalogService", {"GetProduct": handler})
        self._server = grpc.server(futures.ThreadPoolExecutor(8), [handlers], options=[("grpc.so_reuseport", 0)])
        self._port = self._server.add_insecure_port("127.0.0.1:0")
        self.address = f"127.0.0.1:{self._port}"
        self._server.start()
        self._agent = Agent(etcd)
        self._agent.start()
        self._endpoint = Endpoint(service_name("catalog"), instance, "127.0.0.1", self._port)
        self._agent.register(self._endpoint)

    def leave(self) -> None:
        """Be found no longer; what comes is served all the same."""
        left = self._agent.depart(
            self._endpoint, confirm_s=DEADLINE_S, acknowledge_s=DEADLINE_S, hurried=threading.Event()
        )
        assert left.complete

    def close(self) -> None:
        self._agent.stop(DEADLINE_S)
        self._server.stop(DEADLINE_S).wait()

    def _get(self, request: catalog_pb2.GetProductRequest, context: grpc.ServicerContext) -> bytes:
        self.metadata.append({key: str(value) for key, value in context.invocation_metadata()})
        self.time_left_s.append(context.time_remaining())
        if self.failures:
            self.failures -= 1
            context.abort(grpc.StatusCode.UNAVAILABLE, "going down")
        return catalog_pb2.Product(name=request.name).SerializeToString()


@dataclass
class SmallMesh:
    """What runs."""

    registry: EtcdServer
    control_plane: str
    folder: Path
    environ: Mapping[str, str]
    mint: Mint
    _ending: ExitStack = field(repr=False)
    _process: "subprocess.Popen[bytes] | None" = field(default=None, repr=False)

    @property
    def settings(self) -> EtcdSettings:
        """How etcd is reached."""
        return EtcdSettings(endpoints=(self.registry.address,), user=etcd.USER, password=PASSWORD)

    def ask(self, work: Callable[[Client], Awaitable[T]]) -> T:
        """Do one piece of work with etcd."""

        async def run() -> T:
            async with Dialer(self.settings).session() as client:
                return await work(client)

        return asyncio.run(run())

    def lb(self, *arguments: str) -> str:
        """What `python -m lb` prints."""
        return _run("lb", *arguments, environ=self.environ)

    def bootstrap(self, service: str) -> Path:
        """A bootstrap file, as the command writes it."""
        path = self.folder / f"{service}.json"
        self.lb("bootstrap", "--service", service, "--instance", f"{service}-1", "--out", str(path))
        return path

    def catalog(self, instance: str) -> Catalog:
        """Start an instance; it ends with the test's mesh."""
        started = Catalog(instance, self.settings)
        self._ending.callback(started.close)
        return started

    def start_control_plane(self) -> None:
        """Start it, on the same port each time, and wait until it serves."""
        with (self.folder / "control-plane.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "lb", "control-plane"],
                env={**self.environ, "WEFT_INSTANCE": "control-plane-1", "WEFT_LISTEN": self.control_plane},
                stderr=log,
            )
        with grpc.insecure_channel(self.control_plane) as channel:
            check = health_pb2_grpc.HealthStub(channel).Check

            def serves() -> bool:
                answer = check(health_pb2.HealthCheckRequest(), timeout=DEADLINE_S, wait_for_ready=True)
                return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

            eventually(serves)

    def kill_control_plane(self) -> None:
        """End it at once."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@pytest.fixture
def small_mesh(go_programs: Programs) -> Iterator[SmallMesh]:
    """The mesh's contracts and shipping's, published to it as to any other."""
    mint = Mint("key-1", ec.generate_private_key(ec.SECP256R1()))
    with temporary() as folder, ExitStack() as ending:
        registry = EtcdServer(folder / "etcd", server_account())
        ending.callback(registry.kill)
        port = int(registry.address.rpartition(":")[2])
        user = etcd.User(etcd.USER, PASSWORD, etcd.PREFIX)
        asyncio.run(etcd.enable_authentication([port], etcd.Passwords(PASSWORD, (user,))))
        (folder / "etcd.password").write_text(PASSWORD)
        control_plane = f"127.0.0.1:{free_port()}"
        environ = {
            **child_environ(),
            "WEFT_ETCD": registry.address,
            "WEFT_SECRETS": str(folder),
            "WEFT_XDS": control_plane,
            "WEFT_LOG_LEVEL": "warning",
        }
        running = SmallMesh(registry, control_plane, folder, environ, mint, ending)
        bundle = str(folder / "bundle")
        _run("gateway", "compile", "--descriptors", str(go_programs.contracts), "--out", bundle, environ=environ)
        running.lb("publish", bundle)
        keys = Agent(running.settings)
        keys.start()
        ending.callback(keys.stop, DEADLINE_S)
        keys.publish("jwks", mint.jwks())
        ending.callback(running.kill_control_plane)
        running.start_control_plane()
        yield running


@pytest.fixture
def registered(small_mesh: SmallMesh) -> Callable[[str], list[dict[str, Any]]]:
    """The instances of a service, as `python -m lb endpoints` prints them."""
    return lambda service: json.loads(small_mesh.lb("endpoints", "--service", service))


def _run(module: str, *arguments: str, environ: Mapping[str, str]) -> str:
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        env=dict(environ),
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert 0 == done.returncode, done.stderr
    return done.stdout
