import asyncio
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from lb.endpoint import Endpoint
from lb.xds.clients import Clients
from lb.xds.departures import Departures
from lb.xds.feed import Feed
from lb.xds.gateways import Gateways
from lb.xds.server import Server
from tests.unit.lb import asked

DEADLINE_S = 20.0


class ControlPlane:
    """The real server over a feed that the test fills, in a thread with its own loop. No etcd."""

    def __init__(self) -> None:
        self.feed = Feed()
        self.gateways: list[tuple[str, Endpoint]] = []
        self.clients = Clients("control-plane-1")
        self.answers: dict[Endpoint, bytes] = {}
        self.departures = Departures(self.feed, answer=self.answers.__setitem__, withdraw=self.answers.__delitem__)
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server: Server | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self, credentials: grpc.ServerCredentials | None = None) -> None:
        """Listen on a free port; after `stop`, on the same one again."""

        async def work() -> int:
            self._server = Server(
                self.feed,
                Gateways(
                    arrived=lambda each: self.gateways.append(("arrived", each)),
                    departed=lambda each: self.gateways.append(("departed", each)),
                ),
                self.clients,
                self.departures,
            )
            return await self._server.start(self.address, credentials)

        self.port = self.run(work())

    def stop(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            self.run(server.stop(0))

    def serving(self) -> None:
        assert self._server is not None
        self.run(self._server.set_serving())

    def run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(DEADLINE_S)

    def feeding(self, action: Callable[[Feed], None]) -> None:
        """Change the feed in its own loop."""

        async def work() -> None:
            action(self.feed)

        self.run(work())

    def close(self) -> None:
        self.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(DEADLINE_S)
        self._loop.close()


class Client:
    """The process of xds_client.py."""

    def __init__(
        self,
        control_planes: str,
        service: str = "orders",
        state: Path | None = None,
        *,
        identity: Path | None = None,
    ) -> None:
        script = Path(__file__).with_name("xds_client.py")
        self._process = subprocess.Popen(
            [sys.executable, str(script), control_planes, service, str(state or ""), str(identity or "")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, verb: str, seconds: float = 2.0) -> dict[str, str]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{verb} {seconds}\n")
        self._process.stdin.flush()
        answer: dict[str, str] = json.loads(self._process.stdout.readline())
        return answer

    def until(self, accepted: Callable[[dict[str, str]], bool]) -> dict[str, str]:
        """Call again and again until an answer is accepted."""
        answer: dict[str, str] = {}

        def tried() -> bool:
            nonlocal answer
            answer = self.ask("call")
            return accepted(answer)

        eventually(tried, lambda: answer)
        return answer

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(DEADLINE_S)
        finally:
            self._process.kill()
            self._process.stdout.close()


def eventually(condition: Callable[[], bool], last: Callable[[], Any] = lambda: None) -> None:
    """Wait until the condition holds; fail with what was last seen."""
    deadline = time.monotonic() + DEADLINE_S
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, f"not in time; last: {last()!r}"
        pause.wait(0.02)


@pytest.fixture
def control_plane() -> Iterator[ControlPlane]:
    running = ControlPlane()
    running.start()
    yield running
    running.close()


@pytest.fixture
def client_of(control_plane: ControlPlane) -> Iterator[Callable[..., Client]]:
    clients: list[Client] = []

    def start(*control_planes: str, state: Path | None = None) -> Client:
        clients.append(Client(",".join(control_planes or (control_plane.address,)), state=state))
        return clients[-1]

    yield start
    for client in clients:
        client.close()


@pytest.fixture
def backend() -> Iterator[Callable[[str], int]]:
    """Start an instance that answers with its name; returns its port."""
    with asked.servers(threads=2) as start:
        yield lambda name: start(lambda _: name.encode())
