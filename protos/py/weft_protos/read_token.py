"""Read tokens: how a client reads its own writes on any instance of a service, whatever answers.

An answer to a write carries the header `x-weft-read-token`; whoever sends it back with a later call gets an answer that
has that write in it, from a replica or the cache where they are new enough, else from the leader. It is opaque, and the
newest one holds all that those before it held. In a generated client: `Stub(remembering(channel))`.
"""

import threading
from typing import Any, Final, NamedTuple

import grpc

HEADER: Final = "x-weft-read-token"


def remembering(channel: grpc.Channel) -> grpc.Channel:
    """The channel, with every unary call of it sending the newest token that came back on it. Thread-safe."""
    return grpc.intercept_channel(channel, _Remembering())


class _Details(NamedTuple):
    """What gRPC asks of a call's details."""

    method: str
    timeout: float | None
    metadata: Any
    credentials: Any
    wait_for_ready: bool | None
    compression: Any


class _Remembering(grpc.UnaryUnaryClientInterceptor):
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._token = ""

    def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        details = client_call_details
        metadata = list(details.metadata or ())
        with self._lock:
            if self._token and all(key != HEADER for key, _ in metadata):
                metadata.append((HEADER, self._token))
        named = _Details(
            details.method, details.timeout, metadata, details.credentials, details.wait_for_ready, details.compression
        )
        call = continuation(named, request)
        call.add_done_callback(self._keep)
        return call

    def _keep(self, call: Any) -> None:
        for key, value in call.initial_metadata() or ():
            if key == HEADER:
                with self._lock:
                    self._token = value
