"""The ADS server: carries the sessions of all clients over gRPC, and nothing else.

One asyncio server answers ADS (Envoy by delta, gRPC by state of the world), reflection over all contracts, and health.
It answers nothing on a stream until there is a snapshot: an empty answer would delete everything at the client, while
silence leaves it with what it had.
"""

from collections.abc import AsyncIterator
from contextlib import nullcontext
from typing import Any, Final

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from lb.errors import ProtocolError
from lb.xds import reflection
from lb.xds.clients import Clients
from lb.xds.departures import Departures
from lb.xds.feed import Feed
from lb.xds.gateways import Gateways
from lb.xds.session import DELTA, STATE_OF_THE_WORLD, Parts, Session, Variant

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

    def __init__(self, feed: Feed, gateways: Gateways, clients: Clients, departures: Departures | None = None) -> None:
        """Without `departures`, no instance that leaves is told when its clients know."""
        self._parts = Parts(feed, gateways, clients)
        self._departures = departures
        self._health = health.aio.HealthServicer()
        self._stopping = False
        self.ready = False
        """What health says, for whoever asks another way."""
        self._server = grpc.aio.server(options=_OPTIONS, maximum_concurrent_rpcs=_STREAMS_MAX)
        self._server.add_generic_rpc_handlers(
            (
                grpc.method_handlers_generic_handler(
                    _ADS,
                    {
                        "StreamAggregatedResources": grpc.stream_stream_rpc_method_handler(self._state_of_the_world),
                        "DeltaAggregatedResources": grpc.stream_stream_rpc_method_handler(self._delta),
                    },
                ),
                *reflection.handlers(),
            )
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)

    async def start(self, listen: str, credentials: grpc.ServerCredentials | None = None) -> int:
        """Listen on `host:port`; returns the port. Not SERVING until `set_serving`. Raises RuntimeError if taken.

        Without `credentials`, in clear.
        """
        await self._health.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
        if credentials is None:
            port = self._server.add_insecure_port(listen)
        else:
            port = self._server.add_secure_port(listen, credentials)
        await self._server.start()
        return int(port)

    async def set_serving(self) -> None:
        """Report SERVING: a snapshot is loaded and etcd has answered."""
        await self._health.set("", health_pb2.HealthCheckResponse.SERVING)
        self.ready = True

    async def stop(self, grace_s: float) -> None:
        """Report NOT_SERVING, end the streams (clients turn to another control plane), stop."""
        self._stopping, self.ready = True, False
        await self._health.enter_graceful_shutdown()
        await self._server.stop(grace_s)

    async def _state_of_the_world(self, requests: AsyncIterator[bytes], context: Any) -> None:
        await self._serve(STATE_OF_THE_WORLD, requests, context)

    async def _delta(self, requests: AsyncIterator[bytes], context: Any) -> None:
        await self._serve(DELTA, requests, context)

    async def _serve(self, variant: Variant, requests: AsyncIterator[bytes], context: Any) -> None:
        try:
            session = Session(variant, self._parts, context)
            with nullcontext() if self._departures is None else self._departures.watching(session.goes_by):
                await session.run(requests, departing=lambda: self._stopping)
        except ProtocolError as error:
            log.warning("xds_stream_refused", peer=context.peer(), reason=str(error))
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
