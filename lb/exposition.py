"""What a process shows over plain HTTP beside its own work: metrics, and whether it is ready and alive.

For whoever asks and cannot show a certificate: kubelets, and compose's checks.
"""

from collections.abc import Callable, Iterable, Mapping
from threading import Thread
from typing import Any, Final
from wsgiref.simple_server import WSGIServer

from prometheus_client import start_http_server

READY: Final = "/ready"
ALIVE: Final = "/alive"


def start(port: int, host: str, answers: Mapping[str, Callable[[], bool]]) -> tuple[WSGIServer, Thread]:
    """Serve `/metrics`, and 200 or 503 under READY and ALIVE. Raises OSError where the port is taken.

    `answers`: what these two say, looked up at each question; while there is none, no.
    """
    server, thread = start_http_server(port, addr=host)
    exposed: Any = server.get_app()

    def show(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path not in (READY, ALIVE):
            shown: Iterable[bytes] = exposed(environ, start_response)
            return shown
        good = path in answers and answers[path]()
        start_response("200 OK" if good else "503 Service Unavailable", [("Content-Type", "text/plain")])
        return [b"yes\n" if good else b"no\n"]

    server.set_app(show)
    return server, thread
