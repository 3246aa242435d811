"""The ADS server: carries the protocol machine of each stream over gRPC, and nothing else.

One asyncio server answers ADS (Envoy and gRPC alike), reflection over all contracts, and health. It answers nothing on
a stream until there is a snapshot: an empty answer would delete everything at the client, while silence leaves it with
what it had.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from lb.errors import ProtocolError
from lb.xds import metrics, reflection, wire
from lb.xds.clients import Clients
from lb.xds.feed import Feed
from lb.xds.gateways import Gateways
from lb.xds.stream import Request, Stream
from lb.xds.types import Kind, short

log = structlog.get_logger(__name__)

_ADS: Final = "envoy.service.discovery.v3.AggregatedDiscoveryService"
#: A process opens one stream for each service it calls.
_STREAMS_MAX: Final = 4096
_OPTIONS: Final = (
    # A second process on the same port must fail, not share it.
    ("grpc.so_reuseport", 0),
    # Clients may ask for signs of life as often as this.
    ("grpc.http2.min_ping_interval_without_data_ms", 1_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # A client that vanished without a word is found out within 15 s; its gateway then leaves `edge`.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.http2.ping_timeout_ms", 5_000),
    # A request names resources; a megabyte of names is no request.
    ("grpc.max_receive_message_length", 1_048_576),
)


class Server:
    """One control plane's server."""

    def __init__(self, feed: Feed, gateways: Gateways, clients: Clients) -> None:
        self._feed = feed
        self._gateways = gateways
        self._clients = clients
        self._health = health.aio.HealthServicer()
        self._stopping = False
        self._server = grpc.aio.server(options=_OPTIONS, maximum_concurrent_rpcs=_STREAMS_MAX)
        self._server.add_generic_rpc_handlers(
            (
                grpc.method_handlers_generic_handler(
                    _ADS, {"StreamAggregatedResources": grpc.stream_stream_rpc_method_handler(self._stream)}
                ),
                *reflection.handlers(),
            )
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)

    async def start(self, listen: str) -> int:
        """Listen on `host:port`; returns the port. Not SERVING until `set_serving`. Raises RuntimeError if taken."""
        await self._health.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
        port = self._server.add_insecure_port(listen)
        await self._server.start()
        return int(port)

    async def set_serving(self) -> None:
        """Report SERVING: a snapshot is loaded and etcd has answered."""
        await self._health.set("", health_pb2.HealthCheckResponse.SERVING)

    async def stop(self, grace_s: float) -> None:
        """Report NOT_SERVING, end the streams (clients turn to another control plane), stop."""
        self._stopping = True
        await self._health.enter_graceful_shutdown()
        await self._server.stop(grace_s)

    async def _stream(self, requests: AsyncIterator[bytes], context: Any) -> None:
        try:
            session = _Session(self._feed, self._gateways, self._clients, context)
            await session.run(requests, departing=lambda: self._stopping)
        except ProtocolError as error:
            log.warning("xds_stream_refused", peer=context.peer(), reason=str(error))
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))


class _Session:
    """One stream: reads requests into the machine, writes what is due."""

    def __init__(self, feed: Feed, gateways: Gateways, clients: Clients, context: Any) -> None:
        self._feed = feed
        self._gateways = gateways
        self._clients = clients
        self._context = context
        self._machine = Stream()
        self._node: wire.Node | None = None
        self._is_gateway = False
        self._wake = asyncio.Event()

    async def run(self, requests: AsyncIterator[bytes], *, departing: Callable[[], bool]) -> None:
        """Serve until the client ends the stream or the server does. Raises ProtocolError."""
        unsubscribe = self._feed.subscribe(self._snapshot_changed)
        reader = asyncio.ensure_future(self._read(requests))
        reader.add_done_callback(lambda _: self._wake.set())
        try:
            while not reader.done():
                await self._wake.wait()
                self._wake.clear()
                await self._write_due()
            reader.result()
        finally:
            unsubscribe()
            reader.cancel()
            self._end(departing=departing())

    async def _read(self, requests: AsyncIterator[bytes]) -> None:
        async for content in requests:
            request, node = wire.decode(content)
            if self._node is None:
                if node is None:
                    raise ProtocolError("the first request names no node")
                self._begin(node)
            nack = self._machine.receive(request)
            if nack is not None:
                self._refused(request, nack.version, nack.detail)
            self._wake.set()

    def _snapshot_changed(self) -> None:
        # At once, not when the stream comes to it: until then nobody may take the client for up to date.
        if self._node is not None:
            self._clients.report(self, self._node, unsent=True, progress=self._machine.progress())
        self._wake.set()

    async def _write_due(self) -> None:
        if self._node is None:
            return
        snapshot = self._feed.snapshot(self._node.kind, self._node.zone)
        if snapshot is None:
            return
        due = self._machine.due(snapshot)
        self._clients.report(self, self._node, unsent=False, progress=self._machine.progress())
        for response in due:
            await self._context.write(wire.encode(response))
            metrics.PUSHES.labels(type=short(response.type_url)).inc()

    def _begin(self, node: wire.Node) -> None:
        self._node = node
        metrics.CLIENTS.labels(kind=node.kind.value).inc()
        self._clients.report(self, node, unsent=True, progress=self._machine.progress())
        self._is_gateway = self._gateways.connected(node, self._context.peer())
        log.debug("xds_stream_opened", node=node.id, kind=node.kind.value)

    def _end(self, *, departing: bool) -> None:
        if self._node is None:
            return
        metrics.CLIENTS.labels(kind=self._node.kind.value).dec()
        self._clients.gone(self)
        # When this control plane stops, its gateways do not: they turn to another one, which takes their keys over.
        if self._is_gateway and not departing:
            self._gateways.disconnected(self._node)
        log.debug("xds_stream_closed", node=self._node.id, kind=self._node.kind.value)

    def _refused(self, request: Request, version: str, detail: str) -> None:
        kind = Kind.GRPC if self._node is None else self._node.kind
        metrics.NACKS.labels(kind=kind.value, type=short(request.type_url)).inc()
        log.error(
            "xds_response_refused",
            node=self._node.id if self._node else "",
            kind=kind.value,
            type=short(request.type_url),
            version=version,
            detail=detail,
        )
