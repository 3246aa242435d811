"""A tiny real HTTP server as a part, and what runs it."""

import asyncio
import random
import socket
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

from deploy.supervisor import readiness
from deploy.supervisor.config import child_environ
from deploy.supervisor.layout import Layout
from deploy.supervisor.messages import Event
from deploy.supervisor.part import Command, Kind, Part, Server
from deploy.supervisor.record import Record
from deploy.supervisor.slot import Host
from deploy.supervisor.starvation import Lag
from deploy.supervisor.supervisor import Supervisor

DEADLINE_S = 20.0

SERVER = """
import http.server, os, sys

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(503 if os.path.exists(sys.argv[2]) else 200)
        self.send_header("Content-Length", "0")
        self.end_headers()

http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def web(folder: Path, *, port: int | None = None, source: str = SERVER, name: str = "web-1") -> Server:
    port = port or free_port()
    argv = (sys.executable, "-S", "-c", source, str(port), str(folder / "refuse"))
    return Server(
        name=name,
        kind=Kind.SERVICE,
        service="web",
        command=Command(argv, child_environ(), folder),
        probe=readiness.Http(port, "/"),
        ports=(port,),
        watched=True,
        heavy=True,
        grace_s=5.0,
        start_timeout_s=DEADLINE_S,
    )


def host(folder: Path, events: list[Event], *, lenient: bool = False) -> Host:
    layout = Layout(folder)
    layout.prepare(None)
    return Host(
        layout=layout,
        record=Record(layout.processes),
        heavy=asyncio.Semaphore(1),
        emit=events.append,
        now=lambda: datetime.now(UTC),
        rng=random.Random(1),
        lag=Lag(),
        dies_with_us=True,
        lenient=lenient,
    )


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not condition():
            await asyncio.sleep(0.01)


def supervise(folder: Path, parts: list[Part], scenario: Callable[[Supervisor], Awaitable[None]]) -> list[Event]:
    events: list[Event] = []

    async def run() -> None:
        supervisor = Supervisor(parts, host(folder, events))
        try:
            await supervisor.start()
            await scenario(supervisor)
        finally:
            await supervisor.stop()

    asyncio.run(run())
    return events
