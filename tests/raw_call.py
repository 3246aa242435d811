"""One gRPC call frame by frame, for what gRPC's own clients keep to themselves: all that comes with the answer."""

import socket
import struct
from collections.abc import Iterator
from typing import Final

import hpack
from hyperframe.frame import DataFrame, Frame, HeadersFrame, SettingsFrame

_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_STREAM: Final = 1
_TIMEOUT_S: Final = 30.0


def trailers(address: str, path: str, message: bytes, *metadata: tuple[str, str], source: str = "") -> dict[str, str]:
    """Headers and trailers of the answer to a unary call, the latter last; `source`: the address to call from."""
    host, _, port = address.rpartition(":")
    encoder, decoder, found = hpack.Encoder(), hpack.Decoder(), dict[str, str]()
    headers = [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "localhost")]
    headers += [("content-type", "application/grpc"), ("te", "trailers"), *metadata]
    body = struct.pack(">BI", 0, len(message)) + message
    own = (source, 0) if source else None
    with socket.create_connection((host, int(port)), timeout=_TIMEOUT_S, source_address=own) as connection:
        frames = (
            SettingsFrame(0),
            HeadersFrame(_STREAM, encoder.encode(headers), flags=("END_HEADERS",)),
            DataFrame(_STREAM, body, flags=("END_STREAM",)),
        )
        connection.sendall(_PREFACE + b"".join(frame.serialize() for frame in frames))
        for frame in _frames(connection):
            if isinstance(frame, HeadersFrame):
                found |= {str(key): str(value) for key, value in decoder.decode(frame.data)}
            if frame.stream_id == _STREAM and "END_STREAM" in frame.flags:
                break
    return found


def _frames(connection: socket.socket) -> Iterator[Frame]:
    received = b""
    while chunk := connection.recv(1 << 16):
        received += chunk
        while len(received) >= 9:
            frame, length = Frame.parse_frame_header(memoryview(received[:9]))
            if len(received) < 9 + length:
                break
            frame.parse_body(memoryview(received[9 : 9 + length]))
            received = received[9 + length :]
            yield frame
