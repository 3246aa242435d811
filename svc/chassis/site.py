"""A small HTTP/1.1 server on one address, beside the gRPC server of a process: pages for browsers, a door for peers.

Requests are answered by threads of their own. It takes GET, HEAD and POST, bodies up to a bound, and closes connections
that say nothing. What is answered is up to a function; whatever that raises becomes 500 and is in the log.
"""

import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

import structlog

from svc.chassis import metrics
from svc.chassis.config import Address

#: A client that says nothing for this long frees its thread.
IDLE_S: Final = 30.0
#: Threads that answer at once; whoever comes when all are busy is told to come again.
CONNECTIONS_MAX: Final = 64
STOP_S: Final = 2.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Request:
    """What a client asks."""

    verb: str
    """GET or POST: HEAD is a GET whose body is not sent."""
    target: str
    """Path and query, as they were written."""
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Response:
    """What it is answered."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


class Site:
    """Serves between `start` and `stop`."""

    def __init__(self, address: Address, answer: Callable[[Request], Response], *, body_max: int = 0) -> None:
        """Opens nothing yet. `body_max`: bytes of a POST; 0: POST is refused."""
        self._address = address
        self._answer = answer
        self._server: _Server | None = None
        self._body_max = body_max

    @property
    def port(self) -> int:
        """The port it listens on."""
        assert self._server is not None
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Listen. Raises OSError where the address is taken."""
        self._server = _Server((self._address.host, self._address.port), _Handler)
        self._server.answer, self._server.body_max = self._answer, self._body_max
        threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, name="site", daemon=True
        ).start()

    def stop(self, timeout: float = STOP_S) -> None:
        """Take no further connections; answers under way are finished by their threads or die with the process."""
        if self._server is not None:
            closing = threading.Thread(target=self._server.shutdown, daemon=True)
            closing.start()
            closing.join(timeout)
            self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64
    answer: Callable[[Request], Response]
    body_max: int

    def __init__(self, *arguments: Any) -> None:
        self.places = threading.BoundedSemaphore(CONNECTIONS_MAX)
        super().__init__(*arguments)

    def server_bind(self) -> None:
        # The inherited one asks the resolver for the host's name.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self.places.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that leaves is no news; the library would print a stack."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "weft"
    sys_version = ""
    timeout = IDLE_S
    disable_nagle_algorithm = True
    server: _Server

    def do_GET(self) -> None:
        """Answer."""
        self._send(self._answered("GET", b""))

    def do_HEAD(self) -> None:
        """Answer without the body."""
        self._send(self._answered("GET", b""))

    def do_POST(self) -> None:
        """Answer what comes with a body."""
        # Whatever is refused unread would be taken for the next request.
        self.close_connection = True
        length = self.headers.get("Content-Length", "")
        if not self.server.body_max:
            self._send(Response(HTTPStatus.METHOD_NOT_ALLOWED))
        elif not length.isascii() or not length.isdigit():
            self._send(Response(HTTPStatus.LENGTH_REQUIRED))
        elif int(length) > self.server.body_max:
            self._send(Response(HTTPStatus.REQUEST_ENTITY_TOO_LARGE))
        else:
            self._send(self._answered("POST", self.rfile.read(int(length))))

    def _answered(self, verb: str, body: bytes) -> Response:
        headers = {name.lower(): value for name, value in self.headers.items()}
        try:
            return self.server.answer(Request(verb, self.path, headers, body))
        except Exception:  # one broken page must not end the others; the log has the stack
            metrics.UNEXPECTED_ERRORS.labels(place="site").inc()
            log.exception("page_failed")
            return Response(HTTPStatus.INTERNAL_SERVER_ERROR)

    def _send(self, response: Response) -> None:
        self.send_response(response.status)
        for name, value in response.headers.items():
            self.send_header(name, value)
        if response.status != HTTPStatus.NOT_MODIFIED:
            self.send_header("Content-Length", str(len(response.body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD" and response.status != HTTPStatus.NOT_MODIFIED:
            self.wfile.write(response.body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the inherited name
        """The gateway has logged it."""
