"""What hostile clients do to a port, byte by byte, and how each of them ends. Every attack takes an address alone.

Attackers call from 127.0.0.66, so that limits by address hold for them and not for whoever else calls.
"""

import contextlib
import http.client
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

import grpc
import hpack
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    PushPromiseFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

ATTACKER = "127.0.0.66"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
#: Longer than anything here has to wait for, on a loaded machine too.
PATIENCE_S = 30.0
STREAM_CLOSED, REFUSED_STREAM, CANCEL = 0x5, 0x7, 0x8
GET = ((":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "localhost"))
POST = ((":method", "POST"), *GET[1:])


@dataclass
class Ending:
    """What a client saw in the end."""

    goaway: int | None = None
    """Error code of a GOAWAY."""
    resets: dict[int, int] = field(default_factory=dict)
    """Error code by stream."""
    statuses: dict[int, str] = field(default_factory=dict)
    """HTTP status by stream."""
    closed: bool = False

    @property
    def refused(self) -> bool:
        """Whether the connection was ended, or a stream reset or answered with an error."""
        errors = any(status[0] in "45" for status in self.statuses.values())
        return self.closed or bool(self.goaway) or bool(self.resets) or errors


class Attacker:
    """One HTTP/2 connection, frame by frame."""

    def __init__(self, address: str, *, preface: bytes = PREFACE, settings: dict[int, int] | None = None) -> None:
        host, _, port = address.rpartition(":")
        self.socket = socket.socket()
        # Little is kept for a client that does not read.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.socket.bind((ATTACKER, 0))
        self.socket.settimeout(PATIENCE_S)
        self.socket.connect((host, int(port)))
        self.ending = Ending()
        self._encoder = hpack.Encoder()
        self._decoder = hpack.Decoder()
        self._received = b""
        self.send(preface + (SettingsFrame(0, settings=settings or {}).serialize() if preface == PREFACE else b""))

    def headers(self, stream: int, headers: tuple[tuple[str, str], ...] = GET, *flags: str) -> bytes:
        """A HEADERS frame; `flags` are END_STREAM and END_HEADERS unless given."""
        block = self._encoder.encode(headers)
        return HeadersFrame(stream, block, flags=flags or ("END_STREAM", "END_HEADERS")).serialize()

    def send(self, content: bytes | Frame) -> bool:
        """Send; False where the other side has closed, or takes nothing any more."""
        try:
            self.socket.sendall(content if isinstance(content, bytes) else content.serialize())
        except ConnectionError:
            self.ending.closed = True
            return False
        except TimeoutError:
            return False
        return True

    def read(self, until: Callable[[Ending], bool] = lambda _: False, *, timeout_s: float = PATIENCE_S) -> Ending:
        """Read until the connection ends, `until` is true, or nothing has come for so long."""
        self.socket.settimeout(timeout_s)
        with contextlib.suppress(TimeoutError):
            while not until(self.ending):
                try:
                    chunk = self.socket.recv(1 << 16)
                except ConnectionError:
                    chunk = b""
                if not chunk:
                    self.ending.closed = True
                    break
                self._received += chunk
                self._take_frames()
        return self.ending

    def close(self) -> None:
        self.socket.close()

    def _take_frames(self) -> None:
        while len(self._received) >= 9:
            frame, length = Frame.parse_frame_header(memoryview(self._received[:9]))
            if len(self._received) < 9 + length:
                return
            frame.parse_body(memoryview(self._received[9 : 9 + length]))
            self._received = self._received[9 + length :]
            self._take(frame)

    def _take(self, frame: Frame) -> None:
        if isinstance(frame, GoAwayFrame):
            self.ending.goaway = frame.error_code
        elif isinstance(frame, RstStreamFrame):
            self.ending.resets[frame.stream_id] = frame.error_code
        elif isinstance(frame, HeadersFrame):
            found = dict(self._decoder.decode(frame.data))
            if ":status" in found:
                self.ending.statuses[frame.stream_id] = found[":status"]


def _streams(count: int) -> range:
    return range(1, 2 * count, 2)


def rapid_reset(attacker: Attacker) -> Ending:
    """CVE-2023-44487: streams that are taken back as soon as they are opened."""
    for stream in _streams(400):
        if not attacker.send(attacker.headers(stream) + RstStreamFrame(stream, CANCEL).serialize()):
            break
    return attacker.read()


def continuation(attacker: Attacker) -> Ending:
    """CVE-2024-27316: a header block that never ends."""
    attacker.send(attacker.headers(1, GET, "END_STREAM"))
    block = hpack.Encoder().encode([(f"x-{number}", "v" * 200) for number in range(70)], huffman=False)
    for _ in range(200):
        if not attacker.send(ContinuationFrame(1, block)):
            break
    return attacker.read(lambda ending: ending.refused)


def empty_continuation(attacker: Attacker) -> Ending:
    """The same with nothing in it, which no size limits."""
    attacker.send(attacker.headers(1, GET, "END_STREAM"))
    attacker.send(ContinuationFrame(1).serialize() * 2000)
    return attacker.read()


def _unread(attacker: Attacker, frame: Frame) -> Ending:
    """Frames that must be answered, to somebody who takes no answer."""
    content = frame.serialize() * 2000
    attacker.socket.settimeout(3)
    for _ in range(40):
        if not attacker.send(content):
            break
    return attacker.read(lambda ending: ending.closed or bool(ending.goaway))


def settings(attacker: Attacker) -> Ending:
    """CVE-2019-9515."""
    return _unread(attacker, SettingsFrame(0, settings={SettingsFrame.ENABLE_PUSH: 0}))


def ping(attacker: Attacker) -> Ending:
    """CVE-2019-9512."""
    return _unread(attacker, PingFrame(0, b"12345678"))


def empty_data(attacker: Attacker) -> Ending:
    """CVE-2019-9518: frames that carry nothing and cost a look each."""
    attacker.send(attacker.headers(1, POST, "END_HEADERS"))
    attacker.send(DataFrame(1).serialize() * 2000)
    return attacker.read()


def priority(attacker: Attacker) -> Ending:
    """CVE-2019-9513: priorities shuffled without end."""
    for number in range(20):
        frame = PriorityFrame(2 * number + 1, depends_on=0, stream_weight=number)
        if not attacker.send(frame.serialize() * 500):
            break
    return attacker.read()


def window_update(attacker: Attacker) -> Ending:
    """Windows opened byte by byte."""
    attacker.send(attacker.headers(1, POST, "END_HEADERS"))
    attacker.send(WindowUpdateFrame(0, 1).serialize() * 5000)
    return attacker.read()


def open_streams(attacker: Attacker) -> Ending:
    """More requests at a time than one connection may have, none of which is ever finished."""
    # Thirty too many: more resets at a time than that could count as a flood that the attacker does not read.
    for stream in _streams(130):
        if not attacker.send(attacker.headers(stream, POST, "END_HEADERS")):
            break
    return attacker.read(lambda ending: ending.closed or bool(ending.goaway) or 259 in ending.resets)


def hpack_bomb(attacker: Attacker) -> Ending:
    """CVE-2016-6581: one large field put into the table, then named a byte at a time."""
    block = hpack.Encoder().encode(GET) + b"\x40\x01x" + b"\x7f" + b"\xa1\x1e" + b"v" * 4000 + b"\xbe" * 8000
    attacker.send(HeadersFrame(1, block, flags=("END_STREAM", "END_HEADERS")))
    return attacker.read(lambda ending: ending.refused)


def reset_by_errors(attacker: Attacker) -> Ending:
    """CVE-2025-8671: has the other side take streams back, by breaking the rules in each."""
    for stream in _streams(400):
        if not attacker.send(attacker.headers(stream, POST, "END_HEADERS") + WindowUpdateFrame(stream, 0).serialize()):
            break
    return attacker.read()


#: Each must end with its connection closed.
FLOODS = (rapid_reset, empty_continuation, settings, ping, empty_data, priority, window_update, reset_by_errors)
#: Each must be refused: the connection closed, the stream reset, or answered with an error.
ABUSES = (continuation, open_streams, hpack_bomb)


def _frame(kind: int, stream: int, body: bytes = b"", flags: int = 0) -> bytes:
    return struct.pack(">I", len(body))[1:] + bytes((kind, flags)) + struct.pack(">I", stream) + body


_DATA, _HEADERS, _PRIORITY, _RESET, _SETTINGS, _PING, _GOAWAY, _WINDOW, _CONTINUATION = 0, 1, 2, 3, 4, 6, 7, 8, 9

#: Broken frames after a good preface (RFC 9113); the connection, or the stream, must end by them.
BROKEN_FRAMES = {
    "DATA on stream 0": _frame(_DATA, 0, b"x"),
    "DATA on an idle stream": _frame(_DATA, 1, b"x"),
    "HEADERS on stream 0": _frame(_HEADERS, 0, b"\x82", 5),
    "HEADERS on a stream of the server's": _frame(_HEADERS, 2, b"\x82", 5),
    "HEADERS with more padding than content": _frame(_HEADERS, 1, b"\xff\x82", 0xD),
    "HEADERS that depend on themselves": _frame(_HEADERS, 1, b"\0\0\0\1\0\x82\x86\x84", 0x25),
    "a field that is not in the table": _frame(_HEADERS, 1, b"\xff\xff\x7f", 5),
    "a table larger than allowed": _frame(_HEADERS, 1, b"\x3f\xe1\xff\x03\x82", 5),
    "CONTINUATION without HEADERS": _frame(_CONTINUATION, 1, b"\x82", 4),
    "another frame inside a header block": _frame(_HEADERS, 1, b"\x82", 1) + _frame(_PING, 0, b"12345678"),
    "PUSH_PROMISE of a client": PushPromiseFrame(1, 2, b"\x82", flags=("END_HEADERS",)).serialize(),
    "PRIORITY of four bytes": _frame(_PRIORITY, 1, b"\0\0\0\0"),
    "RST_STREAM on stream 0": _frame(_RESET, 0, b"\0\0\0\x08"),
    "RST_STREAM on an idle stream": _frame(_RESET, 9, b"\0\0\0\x08"),
    "RST_STREAM of three bytes": _frame(_RESET, 1, b"\0\0\x08"),
    "SETTINGS on stream 1": _frame(_SETTINGS, 1),
    "SETTINGS of five bytes": _frame(_SETTINGS, 0, b"\0\1\0\0\0"),
    "SETTINGS confirmed with content": _frame(_SETTINGS, 0, b"\0\1\0\0\0\0", 1),
    "a window beyond 2^31": _frame(_SETTINGS, 0, b"\0\4\x80\0\0\0"),
    "frames larger than may be": _frame(_SETTINGS, 0, b"\0\5\xff\xff\xff\xff"),
    "PING on stream 1": _frame(_PING, 1, b"12345678"),
    "PING of seven bytes": _frame(_PING, 0, b"1234567"),
    "GOAWAY on stream 1": _frame(_GOAWAY, 1, b"\0" * 8),
    "WINDOW_UPDATE by nothing": _frame(_WINDOW, 0, b"\0\0\0\0"),
    "WINDOW_UPDATE of three bytes": _frame(_WINDOW, 0, b"\0\0\1"),
    "a window that overflows": _frame(_WINDOW, 0, b"\x7f\xff\xff\xff") * 2,
    "a frame of 17 kB": _frame(_DATA, 1, b"x" * 17_000),
}


def broken_frame(attacker: Attacker, name: str) -> Ending:
    """One of BROKEN_FRAMES."""
    attacker.send(BROKEN_FRAMES[name])
    return attacker.read(lambda ending: ending.refused)


def data_after_the_end(attacker: Attacker) -> Ending:
    """DATA on a stream that was ended, while its answer is still held back by a closed window."""
    attacker.send(SettingsFrame(0, settings={SettingsFrame.INITIAL_WINDOW_SIZE: 0}))
    attacker.send(attacker.headers(1) + DataFrame(1, b"more").serialize())
    return attacker.read(lambda ending: ending.closed or bool(ending.goaway) or bool(ending.resets))


#: Requests over HTTP/2 that no client may send; each by its fields. Refused on their stream: the connection is fine.
BROKEN_REQUESTS = {
    "no path": (GET[0], GET[1], GET[3]),
    "no method": GET[1:],
    "two paths": (*GET, (":path", "/v1/products")),
    "an unknown pseudo header": (*GET, (":shadow", "x")),
    "a pseudo header of answers": (*GET, (":status", "200")),
    "a pseudo header after a field": (*GET[:3], ("x-a", "1"), GET[3]),
    "an upper case name": (*GET, ("X-Upper", "1")),
    "a field of the connection": (*GET, ("connection", "close")),
    "a transfer coding": (*POST, ("transfer-encoding", "chunked")),
    "te that is not trailers": (*GET, ("te", "gzip")),
    "an empty path": (*GET[:2], (":path", ""), GET[3]),
    "a path without slash": (*GET[:2], (":path", "v1/products"), GET[3]),
    "a line break in a value": (*GET, ("x-a", "1\r\nx-b: 2")),
    "a NUL in a value": (*GET, ("x-a", "1\x002")),
    "a blank in a name": (*GET, ("x a", "1")),
    "user information in the authority": (*GET[:3], (":authority", "root@localhost")),
    "a blank in the authority": (*GET[:3], (":authority", "local host")),
    "a length that lies": (*GET, ("content-length", "5")),
    "two lengths": (*POST, ("content-length", "5"), ("content-length", "6")),
    "CONNECT": ((":method", "CONNECT"), (":authority", "localhost:22")),
    "CONNECT of a protocol": ((":method", "CONNECT"), (":protocol", "websocket"), *GET[1:]),
    "100 fields": (*GET, *((f"x-{number}", "1") for number in range(100))),
    "17 kB of fields": (*GET, ("x-long", "v" * 17_000)),
    "an underscore in a name": (*GET, ("x_user", "root")),
}


def broken_request(attacker: Attacker, name: str) -> Ending:
    """One of BROKEN_REQUESTS."""
    block = hpack.Encoder().encode(BROKEN_REQUESTS[name], huffman=False)
    pieces = [block[at : at + 16_000] for at in range(0, len(block), 16_000)]
    frames: list[Frame] = [HeadersFrame(1, pieces[0], flags=("END_STREAM",))]
    frames += [ContinuationFrame(1, piece) for piece in pieces[1:]]
    frames[-1].flags.add("END_HEADERS")
    attacker.send(b"".join(frame.serialize() for frame in frames))
    return attacker.read(lambda ending: ending.refused)


def pseudo_headers_in_trailers(attacker: Attacker) -> Ending:
    """A second path behind the body."""
    attacker.send(attacker.headers(1, POST, "END_HEADERS") + DataFrame(1, b"{}").serialize())
    attacker.send(attacker.headers(1, ((":path", "/v1/products"),)))
    return attacker.read(lambda ending: ending.refused)


def unread_answers(attacker: Attacker) -> Ending:
    """Answers that may not be sent, because their receiver never opens its window."""
    attacker.send(SettingsFrame(0, settings={SettingsFrame.INITIAL_WINDOW_SIZE: 0}))
    for stream in _streams(50):
        attacker.send(attacker.headers(stream))
    return attacker.read(lambda ending: ending.closed or len(ending.resets) == 50)


def slow_body(attacker: Attacker) -> Ending:
    """A request whose end never comes."""
    attacker.send(attacker.headers(1, POST, "END_HEADERS"))
    return attacker.read(lambda ending: ending.refused)


def slow_headers(attacker: Attacker) -> Ending:
    """A header block whose end never comes."""
    attacker.send(attacker.headers(1, GET, "END_STREAM"))
    return attacker.read(lambda ending: ending.refused)


#: The same in HTTP/1.1, each answered with 408.
SLOW_TEXTS = {
    "headers": b"GET / HTTP/1.1\r\nhost: a\r\nx-slow: ",
    "body": b"POST /v1/sessions HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\n{",
    "chunks": b"POST /v1/sessions HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n1\r\n{\r\n",
    "CONNECT": b"CONNECT localhost:22 HTTP/1.1\r\nhost: localhost:22\r\n\r\n",
    "half a preface": PREFACE[:10],
}


def slow_ones_still_there(address: str) -> dict[str, object]:
    """All that are slow at the same time; those that were not sent away, with what they saw."""
    with ThreadPoolExecutor(16) as pool:
        texts = {name: pool.submit(said, address, content) for name, content in SLOW_TEXTS.items()}
        attackers = {attack: Attacker(address) for attack in (slow_body, slow_headers, unread_answers)}
        endings = {attack: pool.submit(attack, attacker) for attack, attacker in attackers.items()}
        left: dict[str, object] = {name: text.result() for name, text in texts.items() if status(text.result()) != 408}
        left |= {attack.__name__: it.result() for attack, it in endings.items() if not it.result().refused}
    for attacker in attackers.values():
        attacker.close()
    return left


@contextmanager
def idle_connections(address: str, count: int) -> Iterator[None]:
    """So many connections on which nothing is ever said."""
    with contextlib.ExitStack() as stack:
        host, _, port = address.rpartition(":")
        for _ in range(count):
            where = (host, int(port))
            stack.enter_context(socket.create_connection(where, PATIENCE_S, source_address=(ATTACKER, 0)))
        yield


def closed_without_http2(attacker: Attacker) -> bool:
    """Whether a connection whose preface was wrong ends without a frame of HTTP/2."""
    received = b""
    with contextlib.suppress(ConnectionError):
        while chunk := attacker.socket.recv(1 << 16):
            received += chunk
    return received == b"" or status(received) == 400


#: RFC 7540, section 3.2; gone since RFC 9113. What follows must not be taken for HTTP/2.
H2C_UPGRADE = (
    b"GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade, http2-settings\r\nupgrade: h2c\r\n"
    b"http2-settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n"
)

_CHUNKED = b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n"

#: HTTP/1.1 as no client may send it, and the status it gets.
BROKEN_TEXTS: dict[str, tuple[bytes, int]] = {
    "length and chunks": (
        _CHUNKED + b"content-length: 4\r\n\r\n0\r\n\r\n",
        400,
    ),
    "two lengths": (b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\ncontent-length: 5\r\n\r\nabcde", 400),
    "a length that is none": (b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: +4\r\n\r\nabcd", 400),
    "two codings": (b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
    "a coding nobody knows": (b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: xchunked\r\n\r\n0\r\n\r\n", 501),
    "a blank before the colon": (b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding : chunked\r\n\r\n0\r\n\r\n", 400),
    "a chunk that is no number": (_CHUNKED + b"\r\nzz\r\n\r\n", 400),
    "a control character in a value": (b"GET / HTTP/1.1\r\nhost: a\r\nx-a: 1\x0b2\r\n\r\n", 400),
    "HTTP/1.0": (b"GET / HTTP/1.0\r\n\r\n", 426),
    "HTTP/3.7": (b"GET / HTTP/3.7\r\nhost: a\r\n\r\n", 426),
    "no host": (b"GET / HTTP/1.1\r\n\r\n", 400),
    "two hosts": (b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", 400),
    "a blank in the path": (b"GET / / HTTP/1.1\r\nhost: a\r\n\r\n", 400),
    "an underscore in a name": (b"GET / HTTP/1.1\r\nhost: a\r\nx_user: root\r\n\r\n", 400),
    "TRACE": (b"TRACE / HTTP/1.1\r\nhost: a\r\n\r\n", 404),
    "a verb of nobody": (b"BREW / HTTP/1.1\r\nhost: a\r\n\r\n", 400),
    "an upgrade to a web socket": (
        b"GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
        b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\r\n",
        403,
    ),
    "another server's address in full": (b"GET http://127.0.0.1:1/quitquitquit HTTP/1.1\r\nhost: a\r\n\r\n", 404),
    "17 kB of fields": (b"GET / HTTP/1.1\r\nhost: a\r\nx-long: " + b"v" * 17_000 + b"\r\n\r\n", 431),
    "100 fields": (b"GET / HTTP/1.1\r\nhost: a\r\n" + b"".join(b"x-%d: 1\r\n" % n for n in range(100)) + b"\r\n", 431),
    "a path of 8 kB": (b"GET /" + b"a" * 8192 + b" HTTP/1.1\r\nhost: a\r\n\r\n", 404),
    "a path of 17 kB": (b"GET /" + b"a" * 17_000 + b" HTTP/1.1\r\nhost: a\r\n\r\n", 431),
    "a slash in disguise": (b"GET /v1/products%2Fmug HTTP/1.1\r\nhost: a\r\n\r\n", 400),
    "a slash twice": (b"GET //v1/products HTTP/1.1\r\nhost: a\r\n\r\n", 404),
    "a way up": (b"GET /v1/x/../products HTTP/1.1\r\nhost: a\r\n\r\n", 404),
    "a way up in disguise": (b"GET /v1/x/%2e%2e/products HTTP/1.1\r\nhost: a\r\n\r\n", 404),
    "a letter in disguise": (b"GET /v1/%70roducts HTTP/1.1\r\nhost: a\r\n\r\n", 404),
    "a slash that leans": (b"GET /v1\\products HTTP/1.1\r\nhost: a\r\n\r\n", 404),
    "a fragment": (b"GET /#/v1/products HTTP/1.1\r\nhost: a\r\n\r\n", 400),
    "a NUL in the path": (b"GET /v1/\0 HTTP/1.1\r\nhost: a\r\n\r\n", 400),
    "two hosts in one": (b"GET / HTTP/1.1\r\nhost: a, b\r\n\r\n", 400),
    "no protocol at all": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
}


def said(address: str, content: bytes) -> bytes:
    """All that is answered to some bytes, until the connection is closed or an answer is whole."""
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), PATIENCE_S, source_address=(ATTACKER, 0)) as connection:
        received = b""
        with contextlib.suppress(ConnectionError):
            connection.sendall(content)
            while b"\r\n\r\n" not in received and (chunk := connection.recv(1 << 16)):
                received += chunk
        return received


def status(answer: bytes) -> int:
    """The HTTP status of an answer; 0 where there is none."""
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/1.1 ") else 0


@contextmanager
def good_client(call: Callable[[], object]) -> Iterator[None]:
    """Calls all the while, on its own connection: it is answered, and never with an error (`call` raises)."""
    stop, errors, answered = threading.Event(), list[BaseException](), threading.Semaphore(0)

    def run() -> None:
        while not stop.is_set():
            try:
                call()
                answered.release()
            except (AssertionError, OSError, http.client.HTTPException, grpc.RpcError) as error:
                errors.append(error)
                answered.release()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert answered.acquire(timeout=PATIENCE_S)
        yield
        # Still served when the attack is over.
        for _ in range(2):
            assert answered.acquire(timeout=PATIENCE_S)
    finally:
        stop.set()
        thread.join()
    assert [] == errors
