"""The supervisor's door on loopback: GET /metrics for Prometheus, POST /recovery for Alertmanager.

Requests are answered by threads of their own, and whatever they need of the supervisor is asked of its loop: a loop
that hangs makes the door time out, and so shows up as a target that is down.
"""

import asyncio
import hmac
import json
import socket
import threading
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, TypeVar

import structlog

from deploy.supervisor.exposition import Snapshot, expose
from deploy.supervisor.probe import HOST

log = structlog.get_logger()

LOOP_TIMEOUT_S: Final = 3.0
"""How long the supervisor may take to answer; a scrape gives up after five."""
IDLE_S: Final = 30.0
BODY_BYTES_MAX: Final = 256 * 1024
METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

Found = TypeVar("Found")


class Door:
    """Serves between `open` and `close`."""

    def __init__(
        self,
        port: int,
        *,
        token: str,
        snapshot: Callable[[], Awaitable[Snapshot]],
        receive: Callable[[Mapping[str, Any]], Awaitable[object]],
    ) -> None:
        """`snapshot` and `receive` run in the loop that this is made in; `receive` raises ValueError."""
        self.token = token
        self._loop = asyncio.get_running_loop()
        self._address = (HOST, port)
        self._snapshot = snapshot
        self._receive = receive
        self._server: _Server | None = None

    def open(self) -> None:
        """Listen. Raises OSError where the port is taken."""
        self._server = _Server(self._address, _Handler)
        self._server.door = self
        threading.Thread(target=self._server.serve_forever, name="door", daemon=True).start()

    async def close(self) -> None:
        """Stop listening."""
        if self._server is not None:
            await asyncio.to_thread(self._server.shutdown)
            self._server.server_close()

    def metrics(self) -> bytes:
        """The exposition. Raises TimeoutError."""
        return expose(self._ask(self._snapshot()))

    def recover(self, notification: Mapping[str, Any]) -> object:
        """What becomes of a notification. Raises ValueError and TimeoutError."""
        return self._ask(self._receive(notification))

    def _ask(self, question: Awaitable[Found]) -> Found:
        async def asked() -> Found:
            return await question

        return asyncio.run_coroutine_threadsafe(asked(), self._loop).result(LOOP_TIMEOUT_S)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    door: Door

    def server_bind(self) -> None:
        # The inherited one asks the resolver for the host's name.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "weft"
    sys_version = ""
    timeout = IDLE_S
    disable_nagle_algorithm = True
    server: _Server

    def do_GET(self) -> None:
        """The metrics."""
        if self.path.partition("?")[0] != "/metrics":
            self._say(HTTPStatus.NOT_FOUND, "no such page")
            return
        try:
            content = self.server.door.metrics()
        except TimeoutError:
            self._say(HTTPStatus.SERVICE_UNAVAILABLE, "the supervisor does not answer")
            return
        self._send(HTTPStatus.OK, content, METRICS_TYPE)

    def do_POST(self) -> None:
        """A notification of Alertmanager's."""
        # Whatever is refused unread would be taken for the next request.
        self.close_connection = True
        length = self.headers.get("Content-Length", "")
        if self.path != "/recovery":
            self._say(HTTPStatus.NOT_FOUND, "no such page")
        elif not self._authorized():
            self._say(HTTPStatus.UNAUTHORIZED, "say who you are: Authorization: Bearer <token>")
        elif not length.isascii() or not length.isdigit():
            self._say(HTTPStatus.LENGTH_REQUIRED, "say Content-Length")
        elif int(length) > BODY_BYTES_MAX:
            self._say(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"up to {BODY_BYTES_MAX} bytes")
        else:
            self._recover(self.rfile.read(int(length)))

    def _recover(self, body: bytes) -> None:
        try:
            notification = json.loads(body)
            if not isinstance(notification, dict):
                raise ValueError("not an object")
            self.server.door.recover(notification)
        except (ValueError, RecursionError) as error:
            log.warning("notification_refused", reason=str(error))
            self._say(HTTPStatus.BAD_REQUEST, str(error))
        except TimeoutError:
            self._say(HTTPStatus.SERVICE_UNAVAILABLE, "the supervisor does not answer")
        else:
            self._say(HTTPStatus.OK, "")

    def _authorized(self) -> bool:
        scheme, _, given = self.headers.get("Authorization", "").partition(" ")
        return scheme == "Bearer" and hmac.compare_digest(given.encode(), self.server.door.token.encode())

    def _say(self, status: HTTPStatus, text: str) -> None:
        self._send(status, f"{text}\n".encode() if text else b"", "text/plain; charset=utf-8")

    def _send(self, status: HTTPStatus, content: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the inherited name
        """Scrapes are not logged."""
