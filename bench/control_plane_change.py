"""How long it takes from a change in etcd until a gRPC client uses it, with ten thousand endpoints registered.

Starts etcd and a control plane of its own, publishes a cluster for each of a thousand services, and registers all
endpoints. A gRPC client (`xds:///`, as every service of the mesh has it) calls one service every millisecond, while its
only instance moves to and fro between two servers. The clock runs from the moment etcd is told until the first call
that the other server answers.
"""

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable
from concurrent import futures
from pathlib import Path
from typing import Any, Final

import grpc

from bench import control_plane_server as served
from bench import report
from bench.control_plane import PER_SERVICE, percentile
from bench.publish import Registry, environ_of, etcd_on
from bench.report import ROOT, BenchError, Claim
from bench.stand import HOST, Stand, every_core, free_port, until
from lb import bootstrap, channel
from lb.config import EtcdSettings
from lb.endpoint import Endpoint
from lb.registry.etcd import Client, Dialer, Put
from lb.registry.keys import encode, endpoint_key
from weft_protos.xds import envoy

_METHOD: Final = "/weft.bench.Where/Ask"
_LEASE_S: Final = 3600
#: etcd takes 128 writes at once.
_WRITES_AT_ONCE: Final = 100
_CHANGE_TIMEOUT_S: Final = 30.0
#: So that changes do not keep step with whatever the control plane does from time to time.
_PAUSE_S: Final = 0.037
_BETWEEN_CALLS_S: Final = 0.001
#: The first changes meet a control plane that is still taking in what was registered.
_WARMING: Final = 10
_MOVING: Final = 0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--changes", type=report.whole, default=300, help="changes that are timed (default 300)")
    parser.add_argument("--services", type=report.whole, default=1000, help="services of ten endpoints (default 1000)")


def measure(options: argparse.Namespace) -> list[Claim]:
    with tempfile.TemporaryDirectory(prefix="weft-bench-") as path, Stand(Path(path)) as stand:
        registry = etcd_on(stand)
        ports = [_answering(stand, name) for name in (b"one", b"two")]
        address = _control_plane(stand, registry, options.services)
        bootstrap.install(
            os.environ,  # noqa: TID251 - gRPC reads its bootstrap there, and nowhere else
            [address],
            bootstrap.Client("bench-1", "bench"),
        )
        took = asyncio.run(_timed(registry, ports, options))
    endpoints = options.services * PER_SERVICE
    return [
        Claim(
            "control_plane_change_ms",
            f"a change in etcd until a gRPC client uses it, 99th percentile, with {endpoints} endpoints registered",
            round(percentile(took, 0.99), 1),
            unit="ms",
            floor=100.0,
            sides={"unit": "ms", "p50": round(statistics.median(took), 1), "max": round(max(took), 1)},
        )
    ]


async def _timed(registry: Registry, ports: list[int], options: argparse.Namespace) -> list[float]:
    async with Dialer(EtcdSettings(endpoints=(registry.address,))).session() as client:
        lease = await client.grant(_LEASE_S)
        await _register(client, lease, _all(options.services, ports[0]))
        with channel.open(served.service(_MOVING)) as connection:
            caller = _Caller(connection)
            await asyncio.to_thread(caller.until, b"one")
            took = []
            for number in range(_WARMING + options.changes):
                name, port = ((b"two", ports[1]), (b"one", ports[0]))[number % 2]
                answered = asyncio.ensure_future(asyncio.to_thread(caller.until, name))
                await asyncio.sleep(_PAUSE_S)
                began = time.monotonic()
                await _register(client, lease, [_moving(port)])
                took.append((await answered - began) * 1000)
            return took[_WARMING:]


class _Caller:
    """Calls the service again and again."""

    def __init__(self, connection: grpc.Channel) -> None:
        self._ask: Any = connection.unary_unary(_METHOD)

    def until(self, name: bytes) -> float:
        """The moment of the first answer of the server of this name. Raises BenchError."""
        deadline = time.monotonic() + _CHANGE_TIMEOUT_S
        while time.monotonic() < deadline:
            try:
                if self._ask(b"", timeout=1.0) == name:
                    return time.monotonic()
            except grpc.RpcError:
                pass  # it moves at this moment
            threading.Event().wait(_BETWEEN_CALLS_S)
        raise BenchError(f"the client did not come to {name.decode()} within {_CHANGE_TIMEOUT_S:.0f} s")


def _all(services: int, port: int) -> Iterable[Endpoint]:
    yield _moving(port)
    for index in range(services):
        for number in range(PER_SERVICE):
            if index != _MOVING:
                where = f"127.{1 + (index >> 8)}.{index & 255}.{number + 1}"
                yield Endpoint(served.service(index), f"i{number}", where, 8080)


def _moving(port: int) -> Endpoint:
    return Endpoint(served.service(_MOVING), "i0", HOST, port)


async def _register(client: Client, lease: int, endpoints: Iterable[Endpoint]) -> None:
    puts = [Put(endpoint_key(each.service, each.instance), encode(each), lease) for each in endpoints]
    for first in range(0, len(puts), _WRITES_AT_ONCE):
        await client.commit([], puts[first : first + _WRITES_AT_ONCE])


def _answering(stand: Stand, name: bytes) -> int:
    """A server that answers with its name."""
    handler: Any = grpc.unary_unary_rpc_method_handler(lambda request, context: name)
    server = grpc.server(futures.ThreadPoolExecutor(2), options=[("grpc.so_reuseport", 0)])
    service, _, method = _METHOD[1:].partition("/")
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))
    port = server.add_insecure_port(f"{HOST}:0")
    server.start()
    stand.at_end(lambda: server.stop(0).wait())
    return int(port)


def _control_plane(stand: Stand, registry: Registry, services: int) -> str:
    """One that serves a cluster for each service, and what a gRPC client needs for the one that moves."""
    port = free_port()
    environ = {**environ_of(registry), "WEFT_INSTANCE": "control-plane-1", "WEFT_LISTEN": f"{HOST}:{port}"}
    command = [sys.executable, "-m", "lb", "control-plane"]
    stand.start(command, core=every_core(), environ=environ, stderr=subprocess.DEVNULL)
    manifest, pieces = served.manifest_of([*served.clusters(services), *_reached(served.service(_MOVING))])
    folder = stand.folder / "bundle"
    (folder / "blobs").mkdir(parents=True)
    (folder / "manifest.json").write_bytes(manifest)
    for digest, content in pieces.items():
        (folder / "blobs" / digest).write_bytes(content)
    publishing = [sys.executable, "-m", "lb", "publish", str(folder)]
    done = subprocess.run(publishing, cwd=ROOT, env=environ, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BenchError(done.stderr.strip())
    until(lambda: _listens(port), "the control plane did not listen")
    return f"{HOST}:{port}"


def _reached(name: str) -> list[tuple[str, Any]]:
    """Listener and routes that lead a gRPC client to a service."""
    manager = envoy(
        "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix=name,
        rds={"route_config_name": name, "config_source": {"ads": {}, "resource_api_version": "V3"}},
        http_filters=[
            {
                "name": "envoy.filters.http.router",
                "typed_config": envoy("extensions.filters.http.router.v3.Router"),
            }
        ],
    )
    routes = [{"match": {"prefix": ""}, "route": {"cluster": name}}]
    return [
        ("grpc", envoy("config.listener.v3.Listener", name=name, api_listener={"api_listener": manager})),
        (
            "grpc",
            envoy(
                "config.route.v3.RouteConfiguration",
                name=name,
                virtual_hosts=[{"name": name, "domains": ["*"], "routes": routes}],
            ),
        ),
    ]


def _listens(port: int) -> bool:
    try:
        with grpc.insecure_channel(f"{HOST}:{port}") as connection:
            grpc.channel_ready_future(connection).result(timeout=1.0)
    except grpc.FutureTimeoutError:
        return False
    return True


if __name__ == "__main__":
    sys.exit(report.main(sys.modules[__name__]))
