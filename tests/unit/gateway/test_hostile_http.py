"""HTTP as no honest client writes it, at one real gateway: refused, and nothing of it reaches an instance."""

import contextlib
import socket

import pytest

from tests.integration.edge_calls import OK, TIMEOUT_S, Target, method
from weft.orders.v1 import inventory_pb2

from .served import Door
from .served import door as door

GET = Target.of(method("GetStock"), inventory_pb2.GetStockRequest(name="stock/a"))
SET = b'{"quantity":1,"requestId":"11111111-1111-4111-8111-111111111111"}'


def answered(door: Door, *sent: bytes) -> list[int]:
    """The statuses of all answers until the gateway closes the connection, or says nothing more."""
    host, _, port = door.address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=TIMEOUT_S) as connection:
        for part in sent:
            connection.sendall(part)
        found = b""
        with contextlib.suppress(ConnectionResetError):
            while chunk := connection.recv(1 << 16):
                found += chunk
    return [int(line.split()[1]) for line in found.split(b"\r\n") if line.startswith(b"HTTP/1.")]


def head(door: Door, start: str, *lines: str) -> bytes:
    token = f"authorization: Bearer {door.token()}"
    return "\r\n".join((start, *lines, token, "connection: close", "", "")).encode("latin-1")


POST = "POST /v1/stock/a:set HTTP/1.1"
JSON = "content-type: application/json"
CHUNKED = b"%x\r\n%s\r\n0\r\n\r\n" % (len(SET), SET)

#: Name, start line, headers, body, and what may be answered.
HOSTILE: list[tuple[str, str, list[str], bytes, set[int]]] = [
    ("HTTP/1.0", "GET /v1/stock/a HTTP/1.0", ["host: a"], b"", {400, 426}),
    ("HTTP/0.9", "GET /v1/stock/a", [], b"", {400, 426}),
    ("no host", "GET /v1/stock/a HTTP/1.1", [], b"", {400}),
    ("two lengths", POST, ["host: a", JSON, f"content-length: {len(SET)}", "content-length: 5"], SET, {400}),
    ("length and chunks", POST, ["host: a", JSON, "content-length: 5", "transfer-encoding: chunked"], CHUNKED, {400}),
    ("an odd encoding", POST, ["host: a", JSON, "transfer-encoding: xchunked"], CHUNKED, {400, 501}),
    ("two encodings", POST, ["host: a", JSON, "transfer-encoding: chunked, identity"], CHUNKED, {400, 501}),
    ("a negative length", POST, ["host: a", JSON, "content-length: -1"], SET, {400}),
    ("a length in words", POST, ["host: a", JSON, "content-length: ten"], SET, {400}),
    ("a bad chunk", POST, ["host: a", JSON, "transfer-encoding: chunked"], b"zz\r\n" + SET, {400}),
    ("a folded header", POST, ["host: a", JSON, "x-a: b\r\n c", "content-length: 0"], b"", {400}),
    ("a header without a name", POST, ["host: a", ": b", "content-length: 0"], b"", {400}),
    ("a blank in a name", POST, ["host: a", "x a: b", "content-length: 0"], b"", {400}),
    ("NUL in a value", POST, ["host: a", "x-a: b\0c", "content-length: 0"], b"", {400}),
    ("an underscore in a name", POST, ["host: a", "x_a: b", "content-length: 0"], b"", {400}),
    ("a path of 20 KB", f"GET /v1/stock/{'a' * 20_000} HTTP/1.1", ["host: a"], b"", {414, 431}),
    ("a path of 8 KB", f"GET /v1/stock/{'a' * 8_000} HTTP/1.1", ["host: a"], b"", {413}),
    ("two slashes", "GET /v1//stock/a HTTP/1.1", ["host: a"], b"", {400, 404}),
    ("an escaped slash", "GET /v1/stock%2fa HTTP/1.1", ["host: a"], b"", {400, 404}),
    ("an escaped backslash", "GET /v1/stock%5ca HTTP/1.1", ["host: a"], b"", {400, 404}),
    ("NUL in the path", "GET /v1/stock/%00 HTTP/1.1", ["host: a"], b"", {400, 404}),
    ("a whole address", "GET http://127.0.0.1:1/config_dump HTTP/1.1", ["host: a"], b"", {404}),
    ("an unknown verb", "BREW /v1/stock/a HTTP/1.1", ["host: a"], b"", {400, 404, 405}),
    ("an upgrade", "GET / HTTP/1.1", ["host: a", "upgrade: websocket", "connection: upgrade"], b"", {403}),
]


IDS = [one[0] for one in HOSTILE]


@pytest.mark.parametrize(("start", "lines", "body", "expected"), [one[1:] for one in HOSTILE], ids=IDS)
def test_it_is_refused_and_the_next_request_is_fine(
    door: Door, start: str, lines: list[str], body: bytes, expected: set[int]
) -> None:
    calls = door.handled

    statuses = answered(door, head(door, start, *lines) + body)

    assert len(statuses) == 1
    assert statuses[0] in expected
    assert calls == door.handled
    assert OK == door.wires[0].call(GET, door.token()).code


def test_a_smuggled_request_is_not_answered(door: Door) -> None:
    hidden = b"GET /v1/stock/hidden HTTP/1.1\r\nhost: a\r\n\r\n"
    body = b"0\r\n\r\n" + hidden
    calls = door.handled

    statuses = answered(
        door, head(door, POST, "host: a", JSON, f"content-length: {len(body)}", "transfer-encoding: chunked") + body
    )

    assert [400] == statuses
    assert calls == door.handled


@pytest.mark.parametrize(
    "begun",
    [
        b"POST /v1/stock/a:set HTTP/1.1\r\nhost: a\r\nx-slow: ",
        b"POST /v1/stock/a:set HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{",
    ],
    ids=["headers", "a body"],
)
def test_a_request_that_never_ends_is_ended(door: Door, begun: bytes) -> None:
    calls = door.handled

    assert [408] == answered(door, begun)

    assert calls == door.handled
