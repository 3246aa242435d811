"""A Memcached in the test's process: the commands the cache uses, and failures that a real one shows only by luck."""

import socketserver
import threading
from types import TracebackType
from typing import Self


class FakeMemcached:
    """Listens on a free port. `values` is what it holds: key to (value, seconds to live, cas)."""

    def __init__(self) -> None:
        self.values: dict[str, tuple[bytes, int, int]] = {}
        self.commands: list[str] = []
        self.silent = False
        self.released = threading.Event()
        self.lock = threading.Lock()
        self._cas = 0
        self._server = _Listener(("127.0.0.1", 0), _Connection)
        self._server.memcached = self
        self.address: tuple[str, int] = ("127.0.0.1", self._server.server_address[1])
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def count(self, verb: str) -> int:
        return sum(command.startswith(verb) for command in self.commands)

    def store(self, key: str, value: bytes, ttl: int) -> None:
        self._cas += 1
        self.values[key] = (value, ttl, self._cas)

    def close(self) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


class _Listener(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False
    memcached: FakeMemcached


class _Connection(socketserver.StreamRequestHandler):
    disable_nagle_algorithm = True
    server: _Listener

    def handle(self) -> None:
        memcached = self.server.memcached
        while line := self.rfile.readline():
            words = line.decode().split()
            body = self.rfile.read(int(words[4]) + 2)[:-2] if words[0] in {"add", "cas", "set"} else b""
            if memcached.silent:
                memcached.released.wait()
                return
            with memcached.lock:
                memcached.commands.append(" ".join(words))
                reply = _answer(memcached, words, body)
            self.wfile.write(reply)


def _answer(memcached: FakeMemcached, words: list[str], body: bytes) -> bytes:
    verb, key = words[0], words[1]
    held = memcached.values.get(key)
    if verb == "gets":
        if held is None:
            return b"END\r\n"
        return f"VALUE {key} 0 {len(held[0])} {held[2]}\r\n".encode() + held[0] + b"\r\nEND\r\n"
    if verb == "delete":
        return b"DELETED\r\n" if memcached.values.pop(key, None) else b"NOT_FOUND\r\n"
    if verb == "add" and held is not None:
        return b"NOT_STORED\r\n"
    if verb == "cas" and held is None:
        return b"NOT_FOUND\r\n"
    if verb == "cas" and held is not None and int(words[5]) != held[2]:
        return b"EXISTS\r\n"
    memcached.store(key, body, int(words[3]))
    return b"STORED\r\n"
