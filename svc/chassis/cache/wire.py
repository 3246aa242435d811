"""Memcached's meta commands over pymemcache's pool: the only module that knows the driver.

The driver's `HashClient` speaks no meta commands, and its `raw_command` loses all but the last piece of an answer that
comes in several, so the few lines that read an answer are here. Connections, their time limits and the pool are the
driver's. Commands and answers: Memcached's doc/protocol.txt, "Meta Commands".
"""

import socket
import struct
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Final

from pymemcache.client.base import Client, PooledClient
from pymemcache.exceptions import MemcacheError, MemcacheUnexpectedCloseError

#: To connect, and again for each answer. A hit takes a tenth of a millisecond; what takes this long is not coming, and
#: where it is only late, the database is there.
ANSWER_S: Final = 0.02
#: More callers than this at once on one node do without it.
CONNECTIONS_MAX: Final = 64
_CHUNK: Final = 65_536
# A value may be 1 MiB with its key and header; where a node is set up to take more, an answer is bounded all the same.
_ANSWER_BYTES_MAX: Final = 2 << 20

#: A connection that the other side has closed: after a restart each of the pool says so once.
STALE: Final = (ConnectionResetError, BrokenPipeError, MemcacheUnexpectedCloseError)
#: The node answered, though not as asked: a value too large, every connection in use, not Memcached at all.
REFUSED: Final = (MemcacheError, RuntimeError, ValueError, LookupError)

#: Which start of a node: its process and the second it started. Leases of two starts have nothing in common.
Incarnation = tuple[int, int]


@dataclass(slots=True)
class Answer:
    """One answer: its code, its flags, and the value where it is `VA`."""

    code: bytes
    flags: tuple[bytes, ...] = ()
    value: bytes | None = None

    def number(self, flag: bytes) -> int:
        """The number behind a flag: 59 of `t59`. Raises LookupError or ValueError where there is none."""
        for each in self.flags:
            if each[:1] == flag:
                return int(each[1:])
        raise LookupError(flag)


class Connection(Client):  # type: ignore[misc] # the driver has no types
    """One connection, which knows what it is connected to."""

    sock: Any
    incarnation: Incarnation | None = None

    def meta(self, request: bytes, answers: int = 1) -> list[Answer]:
        """Send commands and read as many answers. Raises OSError, MemcacheError, ValueError or LookupError."""
        if self.sock is None:
            # The first question of a connection; it opens it.
            told = self.stats()
            self.incarnation = int(told[b"pid"]), int(told[b"time"]) - int(told[b"uptime"])
            self._let_the_kernel_keep_time()
        self.sock.sendall(request)
        reader = _Reader(self.sock, self.timeout)
        found = [reader.answer() for _ in range(answers)]
        if reader.left:
            raise ValueError("more came than was asked for")
        return found

    def _let_the_kernel_keep_time(self) -> None:
        """The same limits by other means: Python's own ask `poll` before every send and receive, a third of a hit."""
        limit = struct.pack("ll", int(self.timeout), int(self.timeout % 1 * 1e6))
        self.sock.settimeout(None)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)


class _Reader:
    """Reads what comes, all of it within one time limit."""

    __slots__ = ("_sock", "_until", "left")

    def __init__(self, sock: socket.socket, within_s: float) -> None:
        self._sock = sock
        self._until = time.monotonic() + within_s
        self.left = b""

    def answer(self) -> Answer:
        end = self.left.find(b"\r\n")
        while end < 0:
            self._more()
            end = self.left.find(b"\r\n")
        code, *flags = self.left[:end].split(b" ")
        self.left = self.left[end + 2 :]
        if code != b"VA":
            if len(code) != 2:
                raise ValueError("not an answer of Memcached's meta commands")
            return Answer(code, tuple(flags))
        size = int(flags[0])
        if not 0 <= size <= _ANSWER_BYTES_MAX:
            raise ValueError("a value larger than there are any")
        while len(self.left) < size + 2:
            self._more()
        value, end_of_it = self.left[:size], self.left[size : size + 2]
        if end_of_it != b"\r\n":
            raise ValueError("a value of another length than was said")
        self.left = self.left[size + 2 :]
        return Answer(code, tuple(flags[1:]), value)

    def _more(self) -> None:
        if time.monotonic() > self._until:
            # It trickles. The socket's own limit holds for each piece.
            raise TimeoutError
        piece = self._sock.recv(_CHUNK)
        if not piece:
            raise MemcacheUnexpectedCloseError
        self.left += piece


class Pool:
    """Connections to one node. Thread-safe; opens nothing until it is asked."""

    def __init__(self, address: tuple[str, int], *, answer_s: float) -> None:
        """`address`: host and port. `answer_s`: to connect, and again for each answer."""
        self._client = _Pooled(
            address,
            connect_timeout=answer_s,
            timeout=answer_s,
            no_delay=True,
            max_pool_size=CONNECTIONS_MAX,
            default_noreply=False,
        )

    def connection(self) -> AbstractContextManager[Connection]:
        """One of them; one that failed is dropped."""
        found: AbstractContextManager[Connection] = self._client.client_pool.get_and_release(destroy_on_fail=True)
        return found

    def close(self) -> None:
        """Close those that are not in use."""
        self._client.close()


class _Pooled(PooledClient):  # type: ignore[misc] # the driver has no types
    client_class = Connection
