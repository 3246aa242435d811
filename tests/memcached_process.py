"""A real Memcached of a test's own, which it may stop, kill and start again on the same port."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from typing import Any, Self

import psutil
from pymemcache.client.base import Client

from deploy.supervisor.servers.memcached import BINARY
from tests.waiting import eventually, free_port

HOST = "127.0.0.1"
PORTS_TRIED = 10


class MemcachedProcess:
    def __init__(self, *, memory_mb: int = 16) -> None:
        self._memory_mb = memory_mb
        self._process: subprocess.Popen[bytes] | None = None
        # A port that is free now may be somebody else's before the server has it: then it ends, and takes another.
        for _ in range(PORTS_TRIED):
            self.address: tuple[str, int] = (HOST, free_port())
            if self._runs():
                return
        raise AssertionError("no Memcached could be started")

    @property
    def name(self) -> str:
        return f"{HOST}:{self.address[1]}"

    def start(self) -> None:
        """Start it again on the port it had."""
        assert self._runs(), "its port is taken"

    def _runs(self) -> bool:
        user = ("-u", "nobody") if os.geteuid() == 0 else ()
        flags = ("-l", HOST, "-p", str(self.address[1]), "-U", "0", "-m", str(self._memory_mb), "-t", "1", *user)
        process = self._process = subprocess.Popen([BINARY, *flags], stderr=subprocess.DEVNULL)
        eventually(lambda: process.poll() is not None or self._answers())
        return process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def restart(self) -> None:
        """SIGKILL and a new start: empty, and counting from one again."""
        self.kill()
        self.start()

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """Frozen by SIGSTOP: it holds its connections and answers nothing."""
        self.signal(signal.SIGSTOP)
        try:
            # A signal that was sent has not arrived yet.
            eventually(lambda: self._state() == psutil.STATUS_STOPPED)
            yield
        finally:
            self.signal(signal.SIGCONT)

    def client(self) -> "contextlib.closing[Any]":
        """A plain client, as anybody on the machine can have one."""
        return contextlib.closing(Client(self.address, timeout=5))

    def holds(self, key: str) -> bool:
        """Whether it has the key now."""
        with self.client() as client:
            return bool(client.raw_command(f"mg {key}") == b"HD")

    def stat(self, name: str) -> int:
        with self.client() as client:
            return int(client.stats()[name.encode()])

    def close(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self.signal(signal.SIGCONT)
            self.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _state(self) -> str:
        assert self._process is not None
        return psutil.Process(self._process.pid).status()

    def _answers(self) -> bool:
        try:
            with self.client() as client:
                # Whoever answers must be ours.
                return self._process is not None and int(client.stats()[b"pid"]) == self._process.pid
        except OSError:
            return False
