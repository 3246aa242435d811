"""Read tokens: how a client reads its own writes on any instance of a service, whatever answers.

An answer to a write carries the header `x-weft-read-token`; whoever sends it back with a later call gets an answer that
has that write in it, from a replica or the cache where they are new enough, else from the leader. It is opaque, and the
newest one holds all that those before it held. In a generated client: `Stub(remembering(channel))`.
"""

import threading
from typing import Any, Final

import grpc

from weft_protos import call_details

HEADER: Final = "x-weft-read-token"


def remembering(channel: grpc.Channel) -> grpc.Channel:
    """The channel, with every unary call of it sending the newest token that came back on it. Thread-safe."""
    return grpc.intercept_channel(channel, _Remembering())


class _Remembering(grpc.UnaryUnaryClientInterceptor):
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._token = ""

    def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        with self._lock:
            token = self._token
        details = call_details.with_entry(client_call_details, HEADER, token) if token else client_call_details
        call = continuation(details, request)
        call.add_done_callback(self._keep)
        return call

    def _keep(self, call: Any) -> None:
        for key, value in call.initial_metadata() or ():
            if key == HEADER:
                with self._lock:
                    self._token = value
