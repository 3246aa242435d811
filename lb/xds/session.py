"""One client's stream: carries its requests into the protocol machine, and what is due back.

Both variants of the protocol run in the same session; they differ in their machine and in their bytes.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import grpc
import structlog

from lb.errors import ProtocolError
from lb.xds import metrics, wire
from lb.xds.clients import Clients
from lb.xds.conversation import Nack, Progress
from lb.xds.delta import DeltaStream
from lb.xds.feed import Feed
from lb.xds.gateways import Gateways
from lb.xds.stream import Stream
from lb.xds.subscribers import Subscriber
from lb.xds.types import EDS, short

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Variant:
    """How one variant of the protocol is spoken."""

    name: str
    machine: Callable[[Subscriber], Any]
    """Makes a `Stream` or a `DeltaStream`."""
    decode: Callable[[bytes], tuple[Any, wire.Node | None]]
    encode: Callable[[Any], bytes]


STATE_OF_THE_WORLD: Final = Variant("sotw", Stream, wire.decode, wire.encode)
DELTA: Final = Variant("delta", DeltaStream, wire.decode_delta, wire.encode_delta)


@dataclass(frozen=True, slots=True)
class Parts:
    """What all sessions of a server work with."""

    feed: Feed
    gateways: Gateways
    clients: Clients


class Session:
    """One stream: reads requests into the machine, writes what is due."""

    def __init__(self, variant: Variant, parts: Parts, context: Any) -> None:
        self._variant = variant
        self._parts = parts
        self._context = context
        self._node: wire.Node | None = None
        self._watch: Subscriber | None = None
        self._machine: Any = None
        self._is_gateway = False
        self._wake = asyncio.Event()
        self.since: datetime | None = None
        """Since when something is under way to the client; None: nothing is."""

    @property
    def node(self) -> wire.Node:
        """Who is at the other end. Not to be asked before the client has said so."""
        assert self._node is not None
        return self._node

    @property
    def unsent(self) -> bool:
        """Something has changed that was not compared yet with what the client was sent."""
        return bool(self._machine.unsent)

    @property
    def refusing(self) -> bool:
        """The client has refused something, and nothing newer has taken its place."""
        return bool(self._machine.refusing)

    def progress(self) -> Progress:
        """What the client has made of what it was sent."""
        found: Progress = self._machine.progress()
        return found

    def goes_by(self, service: str) -> bool:
        """Whether the client has accepted the endpoints of a service as they are served, or never asked for them."""
        snapshot = None if self._node is None else self._parts.feed.snapshot(self._node.kind, self._node.zone)
        resource = None if snapshot is None else snapshot.of(EDS).resources.get(service)
        return resource is None or bool(self._machine.accepted(resource))

    async def run(self, requests: AsyncIterator[bytes], *, departing: Callable[[], bool]) -> None:
        """Serve until the client ends the stream or the server does. Raises ProtocolError."""
        reader = asyncio.ensure_future(self._read(requests))
        reader.add_done_callback(lambda _: self._wake.set())
        try:
            while not reader.done():
                await self._wake.wait()
                self._wake.clear()
                await self._write_due()
            reader.result()
        finally:
            reader.cancel()
            self._end(departing=departing())

    async def _read(self, requests: AsyncIterator[bytes]) -> None:
        # Cheaper than to iterate over `requests`, which is the same.
        while (content := await self._context.read()) is not grpc.aio.EOF:
            request, node = self._variant.decode(content)
            if self._node is None:
                if node is None:
                    raise ProtocolError("the first request names no node")
                self._begin(node)
            nack = self._machine.receive(request)
            if nack is not None:
                self._refused(nack)
            self._moved(request.type_url)
            if self._machine.unsent:
                self._wake.set()

    async def _write_due(self) -> None:
        snapshot = None if self._node is None else self._parts.feed.snapshot(self._node.kind, self._node.zone)
        if snapshot is None:
            return
        due = self._machine.due(snapshot)
        if not due:
            self._moved(EDS)
        for response in due:
            await self._context.write(self._variant.encode(response))
            metrics.PUSHES_OF[response.type_url].inc()

    def _changed(self, type_url: str, names: Any) -> None:
        # Marked at once, not when the stream comes to it: until then nobody may take the client for up to date.
        self._machine.changed(type_url, names)
        self._moved(type_url)
        self._wake.set()

    def _moved(self, type_url: str) -> None:
        if self._machine.settled:
            self.since = None
        elif self.since is None:
            self.since = datetime.now(UTC)
        # Endpoints come and go all day; what was published is waited for.
        self._parts.clients.report(self, soon=type_url != EDS)

    def _begin(self, node: wire.Node) -> None:
        self._node = node
        self._watch = self._parts.feed.subscribers(node.kind).open(self._changed)
        self._machine = self._variant.machine(self._watch)
        metrics.CLIENTS.labels(kind=node.kind.value).inc()
        self._is_gateway = self._parts.gateways.connected(node, self._context.peer())
        log.debug("xds_stream_opened", node=node.id, kind=node.kind.value, variant=self._variant.name)

    def _end(self, *, departing: bool) -> None:
        if self._node is None or self._watch is None:
            return
        self._parts.feed.subscribers(self._node.kind).close(self._watch)
        metrics.CLIENTS.labels(kind=self._node.kind.value).dec()
        self._parts.clients.gone(self)
        # When this control plane stops, its gateways do not: they turn to another one, which takes their keys over.
        if self._is_gateway and not departing:
            self._parts.gateways.disconnected(self._node)
        log.debug("xds_stream_closed", node=self._node.id, kind=self._node.kind.value)

    def _refused(self, nack: Nack) -> None:
        metrics.NACKS.labels(kind=self.node.kind.value, type=short(nack.type_url)).inc()
        log.error(
            "xds_response_refused",
            node=self.node.id,
            kind=self.node.kind.value,
            type=short(nack.type_url),
            version=nack.version,
            detail=nack.detail,
        )
