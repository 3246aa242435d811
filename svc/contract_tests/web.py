"""gRPC-web for a server that speaks gRPC alone, as browsers need it: one process, any origin, for tests.

A request is passed on as bytes and its answer passed back with the trailers as a last frame (gRPC's PROTOCOL-WEB). Only
the binary form is spoken. In a mesh Envoy does this, for the origins that the contracts name.
"""

import base64
import struct
import threading
from collections.abc import Iterable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import quote

import grpc

_TYPE: Final = "application/grpc-web+proto"
_TYPES: Final = frozenset({_TYPE, "application/grpc-web"})
_HEAD: Final = struct.Struct(">BI")
_TRAILERS: Final = 0x80
_BODY_MAX: Final = 4 << 20
_UNITS_S: Final = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
#: Of HTTP and of gRPC's own, not of the call.
_OWN: Final = frozenset(
    {"host", "connection", "content-length", "content-type", "accept", "accept-encoding", "user-agent", "te"}
    | {"transfer-encoding", "x-grpc-web", "x-user-agent", "grpc-timeout", "origin", "referer"}
)
_OPEN: Final = (
    ("access-control-allow-origin", "*"),
    ("access-control-allow-headers", "*, authorization"),
    ("access-control-allow-methods", "POST"),
    ("access-control-expose-headers", "*"),
)


class WebServer:
    """Serves gRPC-web on loopback for the server at an address."""

    def __init__(self, address: str, port: int = 0) -> None:
        """Takes the port at once (0: any). Raises OSError."""
        self._channel = grpc.insecure_channel(address, options=(("grpc.use_local_subchannel_pool", 1),))
        handler = type("Handler", (_Handler,), {"channel": self._channel})
        self._server = ThreadingHTTPServer(("127.0.0.1", port), handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self._channel.close()


class _Handler(BaseHTTPRequestHandler):
    """One connection."""

    channel: grpc.Channel
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is the base class's
        """Say nothing: what a call came to is its caller's to tell."""

    def do_OPTIONS(self) -> None:
        """A preflight: every page may call."""
        self.send_response(204)
        self._send_headers(("content-length", "0"))

    def do_POST(self) -> None:
        """A call."""
        size = self.headers.get("content-length", "")
        kind = self.headers.get("content-type", "").partition(";")[0]
        if kind not in _TYPES or not size.isdecimal() or int(size) > _BODY_MAX:
            self.close_connection = True
            self.send_response(415 if kind not in _TYPES else 413)
            self._send_headers(("content-length", "0"))
            return
        body = self.rfile.read(int(size))
        message = body[_HEAD.size : _HEAD.size + _HEAD.unpack_from(body)[1]] if len(body) >= _HEAD.size else b""
        self._answer(self._call(message))

    def _call(self, message: bytes) -> Any:
        method: Any = self.channel.unary_stream(self.path, request_serializer=None, response_deserializer=None)
        names = [(name.lower(), value) for name, value in self.headers.items()]
        metadata = [(name, _sent(name, value)) for name, value in names if name not in _OWN and name[:4] != "sec-"]
        return method(message, timeout=_seconds(self.headers.get("grpc-timeout", "")), metadata=metadata)

    def _answer(self, call: Any) -> None:
        self.send_response(200)
        headers = [(key, _shown(value)) for key, value in call.initial_metadata() or ()]
        self._send_headers(("content-type", _TYPE), ("transfer-encoding", "chunked"), *headers)
        try:
            for frame in (*_frames(call), b""):
                self.wfile.write(f"{len(frame):x}\r\n".encode() + frame + b"\r\n")
                self.wfile.flush()
        except OSError:
            call.cancel()  # the page has gone

    def _send_headers(self, *headers: tuple[str, str]) -> None:
        for name, value in (*_OPEN, *headers):
            self.send_header(name, value)
        self.end_headers()


def _frames(call: Any) -> Iterator[bytes]:
    try:
        for message in call:
            yield _HEAD.pack(0, len(message)) + message
    except grpc.RpcError:
        pass  # its status is in the trailers
    lines = [("grpc-status", str(call.code().value[0])), ("grpc-message", quote(call.details() or "", safe=" "))]
    text = "".join(f"{key}: {value}\r\n" for key, value in (*lines, *_trailers(call.trailing_metadata())))
    yield _HEAD.pack(_TRAILERS, len(text)) + text.encode()


def _trailers(metadata: Iterable[tuple[str, Any]] | None) -> Iterator[tuple[str, str]]:
    return ((key, _shown(value)) for key, value in metadata or ())


def _shown(value: str | bytes) -> str:
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value


def _sent(name: str, value: str) -> str | bytes:
    return base64.b64decode(value + "=" * (-len(value) % 4)) if name.endswith("-bin") else value


def _seconds(said: str) -> float | None:
    """A deadline as gRPC writes it, `250m`; None where there is none."""
    number, unit = said[:-1], said[-1:]
    return int(number) * _UNITS_S[unit] if number.isdecimal() and unit in _UNITS_S else None
