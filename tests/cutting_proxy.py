"""A TCP proxy that can break a connection at a word: before the server has heard it, or after, before the client knows.

For what real servers show only by luck: a connection that is lost in COMMIT.
"""

import contextlib
import enum
import socket
import threading
from types import TracebackType
from typing import Self


class Cut(enum.Enum):
    """When a connection is broken."""

    BEFORE = "the server never hears the word"
    AFTER = "the server has answered it, and the client never knows"


class CuttingProxy:
    """Listens on a free port and passes everything on."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._lock = threading.Lock()
        self._word: tuple[bytes, Cut] | None = None
        self._sockets: list[socket.socket] = []
        self.cuts = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self, word: str, when: Cut) -> None:
        """Break the next connection on which the client says that word."""
        with self._lock:
            self._word = (word.encode(), when)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for each in self._sockets:
            _close(each)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                client.close()
                continue
            self._sockets += [client, server]
            silent = threading.Event()
            threading.Thread(target=self._forward, args=(client, server, silent), daemon=True).start()
            threading.Thread(target=self._back, args=(client, server, silent), daemon=True).start()

    def _forward(self, client: socket.socket, server: socket.socket, silent: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(65536):
                match self._takes(data):
                    case Cut.BEFORE:
                        break
                    case Cut.AFTER:
                        silent.set()
                server.sendall(data)
        _close(client)
        _close(server)

    def _back(self, client: socket.socket, server: socket.socket, silent: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(65536):
                if silent.is_set():
                    break
                client.sendall(data)
        _close(client)
        _close(server)

    def _takes(self, data: bytes) -> Cut | None:
        with self._lock:
            if self._word is None or self._word[0] not in data:
                return None
            when, self._word = self._word[1], None
            self.cuts += 1
            return when


def _close(each: socket.socket) -> None:
    with contextlib.suppress(OSError):
        each.shutdown(socket.SHUT_RDWR)
    each.close()
