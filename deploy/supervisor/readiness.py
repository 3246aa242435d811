"""Questions that tell whether a server is ready, each in the server's own protocol. Used by `slot.py`.

A probe answers READY or REFUSING (it is there, but takes no work yet), or raises `NoAnswerError`.
Whether the listener really is our own child is not asked here: `procfs.py` knows, and `slot.py` asks it first.
"""

import asyncio
import http.client
import struct
from dataclasses import dataclass, field
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from deploy.supervisor.probe import HOST, TIMEOUT_S, Answer, ClosedError, NoAnswerError
from weft_protos import identity

LIVENESS = "liveness"
"""The name under which a process of ours says whether its work goes on."""
_ALIVE = (
    # It does not say more of itself than that it is ready; but it answers.
    grpc.StatusCode.NOT_FOUND,
    # gRPC's limit of calls at once spares no method, so a full server refuses this one too. It is alive:
    # taken for hung and killed, it would hand its calls to the next one, which would be full then.
    grpc.StatusCode.RESOURCE_EXHAUSTED,
)


async def exchange(port: int, request: bytes, *, reply_bytes: int) -> bytes:
    """Send `request` to a loopback port and return the first `reply_bytes` bytes of the reply. Raises NoAnswerError."""
    try:
        async with asyncio.timeout(TIMEOUT_S):
            reader, writer = await asyncio.open_connection(HOST, port)
            try:
                writer.write(request)
                await writer.drain()
                return await reader.readexactly(reply_bytes)
            finally:
                writer.close()
    except asyncio.IncompleteReadError as error:
        return error.partial
    except ConnectionRefusedError as error:
        raise ClosedError(f"port {port}: {error}") from error
    except (OSError, TimeoutError) as error:
        raise NoAnswerError(f"port {port}: {error or 'no answer in time'}") from error


def http_get(port: int, path: str) -> int:
    """Status of GET `path`. Blocking; raises OSError or HTTPException."""
    connection = http.client.HTTPConnection(HOST, port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", path, headers={"Connection": "close"})
        return connection.getresponse().status
    finally:
        connection.close()


@dataclass(frozen=True, slots=True)
class Http:
    """200 means ready, any other status means not yet."""

    port: int
    path: str

    async def check(self) -> Answer:
        """GET the path."""
        try:
            status = await asyncio.to_thread(http_get, self.port, self.path)
        except (OSError, http.client.HTTPException) as error:
            kind = ClosedError if isinstance(error, ConnectionRefusedError) else NoAnswerError
            raise kind(f"GET http://{HOST}:{self.port}{self.path}: {error}") from error
        return Answer.READY if status == 200 else Answer.REFUSING

    async def close(self) -> None:
        """Nothing is kept open."""


@dataclass(frozen=True, slots=True)
class Memcached:
    """Asks for the version."""

    port: int

    async def check(self) -> Answer:
        """`version` of memcached's text protocol."""
        reply = await exchange(self.port, b"version\r\n", reply_bytes=8)
        return Answer.READY if reply == b"VERSION " else Answer.REFUSING

    async def close(self) -> None:
        """Nothing is kept open."""


@dataclass(frozen=True, slots=True)
class Amqp:
    """Opens AMQP 0-9-1 and expects Connection.Start: a method frame (1) on channel 0."""

    port: int

    async def check(self) -> Answer:
        """The protocol header, and the first bytes of the answer."""
        reply = await exchange(self.port, b"AMQP\x00\x00\x09\x01", reply_bytes=3)
        return Answer.READY if reply == b"\x01\x00\x00" else Answer.REFUSING

    async def close(self) -> None:
        """Nothing is kept open."""


@dataclass(frozen=True, slots=True)
class Epmd:
    """Asks for the names it knows (NAMES_REQ) and expects its own port number back."""

    port: int

    async def check(self) -> Answer:
        """NAMES_REQ of the Erlang distribution protocol."""
        reply = await exchange(self.port, b"\x00\x01n", reply_bytes=4)
        return Answer.READY if reply == struct.pack("!I", self.port) else Answer.REFUSING

    async def close(self) -> None:
        """Nothing is kept open."""


@dataclass(frozen=True, slots=True)
class Postgres:
    """Starts a session and looks at the first byte: a server that is still recovering answers E with 57P03."""

    port: int
    user: str

    async def check(self) -> Answer:
        """A StartupMessage of protocol 3.0, as pg_isready sends it."""
        body = struct.pack("!I", 196608) + f"user\0{self.user}\0database\0postgres\0\0".encode()
        reply = await exchange(self.port, struct.pack("!I", len(body) + 4) + body, reply_bytes=1)
        return Answer.READY if reply == b"R" else Answer.REFUSING

    async def close(self) -> None:
        """Nothing is kept open."""


@dataclass(frozen=True, slots=True)
class Shown:
    """How a server is asked that takes encrypted hops alone."""

    folder: Path
    """Of the certificate of whoever asks."""
    server: str
    """The name in the server's own."""

    def credentials(self) -> grpc.ChannelCredentials:
        """As they are now. Raises NoAnswerError where there are none."""
        try:
            authority, key, certificate = (
                (self.folder / name).read_bytes() for name in (identity.AUTHORITY, identity.KEY, identity.CERTIFICATE)
            )
        except OSError as error:
            raise NoAnswerError(f"{error.filename}: {error.strerror}") from error
        return grpc.ssl_channel_credentials(authority, key, certificate)


@dataclass(slots=True)
class GrpcHealth:
    """grpc.health.v1 over a connection that is kept, since it is asked every second for as long as the mesh runs."""

    address: str
    shown: Shown | None = None
    """None: hops are in clear."""
    _channel: grpc.aio.Channel | None = field(default=None, init=False, repr=False)

    async def check(self) -> Answer:
        """Check("liveness"), then Check(""): SERVING means ready, and so does too busy to say it; else not yet.

        A process that says itself that it does no work any more is as good as silent.
        """
        if self._channel is None:
            self._channel = self._opened()
        stub = health_pb2_grpc.HealthStub(self._channel)
        if not await self._serving(stub, LIVENESS):
            raise NoAnswerError(f"{self.address}: answers, but does no work any more")
        return Answer.READY if await self._serving(stub, "") else Answer.REFUSING

    def _opened(self) -> grpc.aio.Channel:
        # A pool of its own: a shared subchannel would still be backing off from the process that died here.
        options: list[tuple[str, object]] = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]
        if self.shown is None:
            return grpc.aio.insecure_channel(self.address, options=options)
        options.append(("grpc.ssl_target_name_override", self.shown.server))
        return grpc.aio.secure_channel(self.address, self.shown.credentials(), options=options)

    async def _serving(self, stub: health_pb2_grpc.HealthStub, service: str) -> bool:
        try:
            reply = await stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            if error.code() in _ALIVE:
                return True
            await self.close()
            kind = ClosedError if error.code() is grpc.StatusCode.UNAVAILABLE else NoAnswerError
            raise kind(f"{self.address}: {error.code().name}") from error
        return bool(reply.status == health_pb2.HealthCheckResponse.SERVING)

    async def close(self) -> None:
        """Close the connection; the next check opens a new one."""
        channel, self._channel = self._channel, None
        if channel is not None:
            await channel.close(None)
