"""A PostgreSQL that says what a test tells it to: the server's side of the wire protocol, no database behind it.

It serves the failures that a real server shows only by luck: a connection lost in COMMIT, a server that falls silent,
a serialization failure on demand. `rule(statement, session)` answers each statement; None means the usual answer.
"""

import contextlib
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

TEXT_OID = 25
TAGS_ROWS = ("SELECT", "SHOW")


@dataclass(frozen=True)
class Rows:
    rows: list[tuple[str, ...]] = field(default_factory=list)


@dataclass(frozen=True)
class Fails:
    code: str


class Drops:
    """The connection breaks."""


class Hangs:
    """No answer ever comes."""


Answer = Rows | Fails | Drops | Hangs | None
Rule = Callable[[str, int], Answer]

_FIRST_CONNECTION = {
    "select pg_catalog.version()": Rows([("PostgreSQL 15.8",)]),
    "select current_schema()": Rows([("public",)]),
    "show standard_conforming_strings": Rows([("on",)]),
    "show transaction isolation level": Rows([("read committed",)]),
}


def _usual(statement: str) -> Answer:
    if statement.lower() in _FIRST_CONNECTION:
        return _FIRST_CONNECTION[statement.lower()]
    return Rows() if statement.upper().startswith(TAGS_ROWS) else None


class FakePostgres:
    """Listens on a free port. `log` holds every message of statements: (session, text)."""

    def __init__(self, rule: Rule | None = None) -> None:
        self.rule: Rule = rule or (lambda statement, session: None)
        self.log: list[tuple[int, str]] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._sessions: list[_Session] = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"postgresql+psycopg://weft:secret@127.0.0.1:{self.port}/weft"

    @property
    def messages(self) -> list[str]:
        return [text for _, text in self.log if "pg_catalog" not in text and text.lower() not in _FIRST_CONNECTION]

    def break_connections(self) -> None:
        for session in self._sessions:
            session.close()

    def close(self) -> None:
        # Closing alone leaves a thread in accept() holding the port open.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.break_connections()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            session = _Session(self, connection, len(self._sessions) + 1)
            self._sessions.append(session)
            threading.Thread(target=session.run, daemon=True).start()


class _Session:
    def __init__(self, server: FakePostgres, connection: socket.socket, number: int) -> None:
        self._server = server
        self._socket = connection
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._number = number
        self._status = b"I"
        self._prepared: dict[bytes, str] = {}
        self._bound = ""
        self._closed = threading.Event()

    def close(self) -> None:
        self._closed.set()
        with contextlib.suppress(OSError):  # the client was faster
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def run(self) -> None:
        try:
            self._start()
            while True:
                kind = self._read(1)
                body = self._read(struct.unpack("!I", self._read(4))[0] - 4)
                self._serve(kind, body)
        except (ConnectionError, OSError):
            self.close()

    def _read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            piece = self._socket.recv(size - len(data))
            if not piece:
                raise ConnectionError
            data += piece
        return data

    def _send(self, kind: bytes, body: bytes = b"") -> None:
        self._socket.sendall(kind + struct.pack("!I", len(body) + 4) + body)

    def _start(self) -> None:
        while True:
            size, code = struct.unpack("!II", self._read(8))
            self._read(size - 8)
            if code >> 16 == 3:
                break
            self._socket.sendall(b"N")  # no TLS, no GSSAPI
        self._send(b"R", struct.pack("!I", 0))
        for name, value in (("server_version", "15.8"), ("client_encoding", "UTF8"), ("TimeZone", "UTC")):
            self._send(b"S", name.encode() + b"\0" + value.encode() + b"\0")
        self._send(b"K", struct.pack("!II", self._number, 0))
        self._send(b"Z", self._status)

    def _serve(self, kind: bytes, body: bytes) -> None:
        if kind == b"Q":
            text = body.rstrip(b"\0").decode()
            self._server.log.append((self._number, text))
            for statement in text.split(";"):
                if not self._execute(statement.strip(), describe=True):
                    break
            self._send(b"Z", self._status)
        elif kind == b"P":
            name, query, _ = body.split(b"\0", 2)
            self._prepared[name] = query.decode()
            self._send(b"1")
        elif kind == b"B":
            _, name, _ = body.split(b"\0", 2)
            self._bound = self._prepared[name]
            self._send(b"2")
        elif kind == b"D":
            if body[:1] == b"S":
                self._send(b"t", struct.pack("!H", 0))
                self._send(b"n")
        elif kind == b"E":
            self._server.log.append((self._number, self._bound))
            self._execute(self._bound, describe=True)
        elif kind == b"S":
            self._send(b"Z", self._status)
        elif kind == b"X":
            raise ConnectionError

    def _execute(self, statement: str, *, describe: bool) -> bool:
        answer = self._server.rule(statement, self._number)
        if answer is None:
            answer = _usual(statement)
        if isinstance(answer, Drops):
            raise ConnectionError
        if isinstance(answer, Hangs):
            self._closed.wait()
            raise ConnectionError
        if isinstance(answer, Fails):
            self._status = b"E" if self._status != b"I" and not statement.startswith("COMMIT") else b"I"
            self._send(b"E", f"SERROR\0VERROR\0C{answer.code}\0Mas told\0\0".encode())
            return False
        verb = statement.split(" ", 1)[0].upper()
        self._status = {"BEGIN": b"T", "COMMIT": b"I", "ROLLBACK": b"I"}.get(verb, self._status)
        if isinstance(answer, Rows):
            self._rows(answer, describe=describe)
        self._send(b"C", f"{verb} 0\0".encode() if verb in {"SELECT", "UPDATE"} else f"{verb}\0".encode())
        return True

    def _rows(self, answer: Rows, *, describe: bool) -> None:
        width = len(answer.rows[0]) if answer.rows else 1
        if describe:
            columns = b"".join(
                f"c{number}\0".encode() + struct.pack("!IHIhih", 0, 0, TEXT_OID, -1, -1, 0) for number in range(width)
            )
            self._send(b"T", struct.pack("!H", width) + columns)
        for row in answer.rows:
            cells = b"".join(struct.pack("!I", len(cell.encode())) + cell.encode() for cell in row)
            self._send(b"D", struct.pack("!H", width) + cells)
