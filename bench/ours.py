"""The gateway as Weft makes it: the real contracts compiled, and served to Envoy by the real control plane's server.

Only etcd is left out: what it would hold is handed to the control plane's feed directly. Rate limits are compiled as
declared and then raised, because a refused call is not what is measured; every bucket is there and is looked up.
"""

import asyncio
import json
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Final

from bench.load import Target
from bench.report import ROOT
from bench.stand import HOST, Caller, Listening, Stand, free_port
from deploy.supervisor import certificate
from gateway import compiler
from gateway.compiler import Bundle
from gateway.envoy import bootstrap, names, tls
from gateway.envoy.bootstrap import Address
from gateway.envoy.edge import Edge
from gateway.envoy.resources import Resource
from lb.__main__ import read_bundle
from lb.endpoint import Endpoint, ServiceName
from lb.xds import bundle
from lb.xds.clients import Clients
from lb.xds.feed import Feed
from lb.xds.gateways import Gateways
from lb.xds.server import Server
from weft_protos import lanes
from weft_protos.xds import message_class, to_dict

TRACE_PERCENT: Final = 1.0
_UNLIMITED: Final = 1 << 30
_LIMITER: Final = "envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit"
_HCM: Final = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
_TIMEOUT_S: Final = 30.0


class ControlPlane:
    """The real server over a feed that is filled here, in a thread with its own loop."""

    def __init__(self) -> None:
        self._feed = Feed()
        self._edges: list[Endpoint] = []
        self._services: list[Endpoint] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        gateways = Gateways(arrived=self._arrived, departed=lambda _: None)
        self.port: int = self._run(self._start(gateways))

    def serve(
        self, compiled: bundle.Bundle, services: Sequence[Endpoint], keys: str, *, laned: Sequence[lanes.Lane] = ()
    ) -> None:
        """Serve a bundle with these endpoints, token keys and lanes."""
        self._services = list(services)

        async def work() -> None:
            self._feed.set_lanes(lanes.to_bytes(laned))
            self._feed.set_endpoints([*self._services, *self._edges])
            self._feed.set_keys(keys.encode())
            self._feed.set_bundle(compiled)

        self._run(work())

    def close(self) -> None:
        """Stop serving."""
        self._run(self._server.stop(0))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_TIMEOUT_S)
        self._loop.close()

    async def _start(self, gateways: Gateways) -> int:
        self._server = Server(self._feed, gateways, Clients("control-plane-1"))
        port = await self._server.start(f"{HOST}:0")
        await self._server.set_serving()
        return port

    def _arrived(self, gateway: Endpoint) -> None:
        # What etcd would tell all control planes: declared limits are divided by the gateways there are.
        self._edges.append(gateway)
        self._feed.set_endpoints([*self._services, *self._edges])

    def _run(self, work: Any) -> Any:
        done: Future[Any] = asyncio.run_coroutine_threadsafe(work, self._loop)
        return done.result(_TIMEOUT_S)


def start(
    stand: Stand,
    backend: Listening,
    caller: Caller,
    *,
    name: str = "ours",
    links: Callable[[str], bool] | None = None,
    core: str | None = None,
) -> Target:
    """A running gateway, on the measured core or on `core`.

    With `links`, only with the filters of the chain that it names: for profiles, not for use.
    """
    folder = stand.folder / name
    folder.mkdir()
    port = free_port()
    edge = Edge(port=port, tls_port=free_port(), trace_percent=TRACE_PERCENT, tls_secret=secret_in(folder))
    made = compiler.compile_contracts((ROOT / "protos/gen/contracts.binpb").read_bytes(), edge)
    compiler.write(changed(made, links), folder / "bundle")
    control_plane = ControlPlane()
    stand.at_end(control_plane.close)
    instances = [
        Endpoint(ServiceName(service), f"{service}-1", HOST, backend.port) for service in ("catalog", "orders")
    ]
    control_plane.serve(bundle.parse(*read_bundle(folder / "bundle")), instances, caller.keys)
    config, ready = bootstrap_of(folder, control_planes=[control_plane.port], collector=backend.port)
    pid = stand.envoy(name, config, ready=ready, environ={names.INSTANCE_VARIABLE: "gateway-1"}, core=core)
    return Target(pid, port)


def secret_in(folder: Path) -> Path:
    """Writes a certificate into a folder, and the file that tells Envoy of it."""
    pair = certificate.make_authority().issue(("localhost",), ())
    (folder / "edge.crt").write_text(pair.certificate)
    (folder / "edge.key").write_text(pair.key)
    path = folder / "edge-tls.json"
    path.write_text(json.dumps(to_dict(tls.secret(folder / "edge.crt", folder / "edge.key"))))
    return path


def bootstrap_of(folder: Path, *, control_planes: Sequence[int], collector: int | None) -> tuple[Path, str]:
    """What an Envoy starts with, written into a folder, and the URL that answers 200 once it has its configuration."""
    folder.mkdir(exist_ok=True)
    metrics_port = free_port()
    settings = bootstrap.Settings(
        node="gateway-1",
        control_planes=[Address(HOST, port) for port in control_planes],
        collector=None if collector is None else Address(HOST, collector),
        metrics_port=metrics_port,
        admin_socket=folder / "admin.sock",
    )
    config = folder / "bootstrap.pb"
    config.write_bytes(bootstrap.build(settings).SerializeToString(deterministic=True))
    return config, f"http://{HOST}:{metrics_port}/ready"


def changed(made: Bundle, links: Callable[[str], bool] | None = None) -> Bundle:
    """The bundle with limits that nobody reaches, and with the filters that are asked for."""
    resources = []
    for resource in made.resources:
        message: Any = resource.message
        if resource.name in (names.ADDRESS_LIMIT, names.SUBJECT_LIMIT):
            message = _unlimited(message)
        if links is not None and resource.audience == "envoy" and resource.name in (names.EDGE, names.EDGE_TLS):
            message = _with_links(message, links) if hasattr(message, "filter_chains") else message
        resources.append(Resource(resource.audience, resource.name, message))
    return Bundle(made.methods, tuple(resources))


def _unlimited(extension: Any) -> Any:
    config: Any = message_class(_LIMITER).FromString(extension.typed_config.value)
    for descriptor in config.descriptors:
        descriptor.token_bucket.max_tokens = _UNLIMITED
        descriptor.token_bucket.tokens_per_fill.value = _UNLIMITED
    extension.typed_config.Pack(config, deterministic=True)
    return extension


def _with_links(listener: Any, links: Callable[[str], bool]) -> Any:
    for chain in listener.filter_chains:
        packed = chain.filters[0].typed_config
        manager: Any = message_class(_HCM).FromString(packed.value)
        kept = [each for each in manager.http_filters if links(each.name)]
        del manager.http_filters[:]
        manager.http_filters.extend(kept)
        packed.Pack(manager, deterministic=True)
    return listener
