"""Those who tell about a mesh, as real servers that say what a test wants: HTTP on loopback, a supervisor's socket."""

import contextlib
import json
import socket
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from svc.chassis.config import Address
from svc.chassis.context import CallContext, Deadline
from svc.chassis.site import Request, Response, Site
from svc.chassis.tokens import Principal

NOW = "2026-06-01T12:00:00+00:00"


class Told:
    """An HTTP server: answers by path, remembers what it was asked. What it has no answer for is 404."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {}
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.sent: list[Any] = []
        self.headers: list[Mapping[str, str]] = []
        self.status = 200
        self._site = Site(Address("127.0.0.1", 0), self._answer, body_max=1 << 20)

    @property
    def address(self) -> Address:
        return Address("127.0.0.1", self._site.port)

    def _answer(self, request: Request) -> Response:
        parts = urlsplit(request.target)
        self.asked.append((parts.path, dict(parse_qsl(parts.query))))
        self.headers.append(request.headers)
        if request.verb == "POST":
            self.sent.append(request.body)
        if parts.path not in self.answers:
            return Response(404, b'{"error": "no such page"}')
        said = self.answers[parts.path]
        return Response(self.status, said if isinstance(said, bytes) else json.dumps(said).encode())

    @contextlib.contextmanager
    def serving(self) -> Iterator["Told"]:
        self._site.start()
        try:
            yield self
        finally:
            self._site.stop()


class Supervised:
    """A supervisor's socket: answers by operation, and remembers the requests."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.answers: dict[str, Any] = {}
        self.asked: list[dict[str, Any]] = []

    @contextlib.contextmanager
    def serving(self) -> Iterator["Supervised"]:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(str(self.path))
        listener.listen(16)
        thread = threading.Thread(target=self._serve, args=(listener,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()
            thread.join(5)
            self.path.unlink()

    def _serve(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection, connection.makefile("rwb") as stream:
                    request = json.loads(stream.readline())
                    self.asked.append(request)
                    answer = self.answers.get(request["op"], {"error": f"no operation is called {request['op']}"})
                    stream.write(json.dumps(answer).encode() + b"\n")


def process(
    name: str, *, service: str = "", kind: str = "service", state: str = "ready", **more: Any
) -> dict[str, Any]:
    """One process as the supervisor tells of it."""
    return {
        "name": name,
        "kind": kind,
        "service": service or name.rpartition("-")[0],
        "pid": 100,
        "address": "127.0.0.1:21001",
        "state": state,
        "restarts": 0,
        "since": NOW,
        "role": "member",
        "quarantined": False,
        "reason": "",
        "log": [],
        **more,
    }


def status(*processes: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """A supervisor's status."""
    return {
        "gateway": "",
        "urls": {},
        "processes": list(processes),
        "supervisor": 1,
        "sizes": {},
        "rolling": [],
        **more,
    }


def series(asked: str, value: float, **labels: str) -> dict[str, Any]:
    """One figure of Prometheus' answer to the joint question."""
    return {"metric": {"asked": asked, **labels}, "value": [1_780_000_000.0, str(value)]}


def prometheus(*found: Mapping[str, Any]) -> dict[str, Any]:
    """An answer of Prometheus."""
    return {"status": "success", "data": {"resultType": "vector", "result": list(found)}}


def make_call(method: str = "/weft.operations.v1.MeshService/Test", *, timeout_s: float = 10.0) -> CallContext:
    """An operator's call."""
    scopes = frozenset({"mesh.read", "mesh.operate"})
    return CallContext(
        method=method,
        principal=Principal(subject="operator", scopes=scopes, session="s", actor=None, token="t"),
        deadline=Deadline.after(timeout_s),
        body_hash=b"",
        is_active=lambda: True,
    )
