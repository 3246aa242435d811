"""A read-only HTTP site of few pages: the query side of a sink.

It listens on loopback for the operator and the `weft` command. It serves GET alone, sends nothing that a browser
would run, and turns a wrong query into 400 with a reason.
"""

import json
import re
import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import structlog

from deploy.observability.config import Address

_log: Final = structlog.get_logger(__name__)

# A client that says nothing for this long frees its thread.
_IDLE_S: Final = 10
_SECURITY: Final = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class QueryError(ValueError):
    """The query is wrong; the message says how."""


@dataclass(frozen=True, slots=True)
class Response:
    """What a page answers."""

    body: bytes
    content_type: str
    status: int = HTTPStatus.OK


@dataclass(frozen=True, slots=True)
class Query:
    """The parameters behind the question mark; the last of equal names counts."""

    values: dict[str, str]

    def text(self, name: str) -> str:
        """A parameter; empty where it is not there."""
        return self.values.get(name, "")

    def number(self, name: str, *, default: int, most: int) -> int:
        """A number from 1 to `most`."""
        text = self.values.get(name)
        if text is None:
            return default
        if not text.isascii() or not text.isdigit() or len(text) > 20 or not 1 <= int(text) <= most:
            raise QueryError(f"{name}: {text!r} is not a number from 1 to {most}")
        return int(text)

    def flag(self, name: str) -> bool:
        """Whether a parameter says yes."""
        text = self.values.get(name, "false")
        if text not in {"true", "false", "1", "0"}:
            raise QueryError(f"{name}: {text!r} is not true or false")
        return text in {"true", "1"}


#: A path (whole, with groups) and what answers it: given the query and the groups.
Route = tuple[str, Callable[..., Response]]


def as_json(value: Any, *, status: int = HTTPStatus.OK) -> Response:
    """A JSON answer."""
    return Response(json.dumps(value, ensure_ascii=False).encode(), "application/json", status)


def as_html(document: str) -> Response:
    """A page for people."""
    return Response(document.encode(), "text/html; charset=utf-8")


def not_found(what: str) -> Response:
    """The answer for something that is not there."""
    return as_json({"error": f"no such {what}"}, status=HTTPStatus.NOT_FOUND)


class Site:
    """Serves routes from its own threads between `start` and `stop`."""

    def __init__(self, address: Address, routes: Sequence[Route]) -> None:
        """Opens nothing yet."""
        self._address = address
        self._routes = [(re.compile(path), answer) for path, answer in routes]
        self._server: _Server | None = None

    @property
    def port(self) -> int:
        """The port it listens on."""
        assert self._server is not None
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Listen. Raises OSError where the address is taken."""
        self._server = _Server((self._address.host, self._address.port), _Handler)
        self._server.site = self
        threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, name="http", daemon=True
        ).start()

    def stop(self) -> None:
        """Stop listening; answers under way are finished by their threads or die with the process."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()

    def answer(self, target: str) -> Response:
        """The answer to GET of a target."""
        parts = urlsplit(target)
        query = Query({name: values[-1] for name, values in parse_qs(parts.query, keep_blank_values=True).items()})
        for path, answer in self._routes:
            if match := path.fullmatch(parts.path):
                try:
                    return answer(query, *match.groups())
                except QueryError as error:
                    return as_json({"error": str(error)}, status=HTTPStatus.BAD_REQUEST)
                except Exception:  # noqa: BLE001 - one broken page must not end the sink; the log has the stack
                    _log.exception("page_failed", path=parts.path)
                    return as_json({"error": "internal error"}, status=HTTPStatus.INTERNAL_SERVER_ERROR)
        return not_found("page")


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    site: Site

    def server_bind(self) -> None:
        # The inherited one asks the resolver for the host's name.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "weft"
    sys_version = ""
    timeout = _IDLE_S
    disable_nagle_algorithm = True
    server: _Server

    def do_GET(self) -> None:
        """Answer a GET."""
        response = self.server.site.answer(self.path)
        self.send_response(response.status)
        self.send_header("Content-Type", response.content_type)
        self.send_header("Content-Length", str(len(response.body)))
        for name, value in _SECURITY.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(response.body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the inherited name
        """Requests of the operator are not logged."""
