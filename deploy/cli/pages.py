"""Pages of the mesh, read over HTTP. They are on this machine: a proxy that the shell names is not asked for them."""

import json
import ssl
import urllib.request
from collections.abc import Mapping
from typing import Any, Final

TIMEOUT_S: Final = 10.0
_BYTES_MAX: Final = 64 << 20


def read(url: str, *, timeout_s: float = TIMEOUT_S, trusted: bytes = b"") -> tuple[str, Mapping[str, str]]:
    """The text and the headers of a page. Raises OSError; where the answer is no success, its subclass HTTPError.

    `trusted`: certificates, PEM, of whom to speak TLS with, whatever name the address has.
    """
    handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({})]
    if trusted:
        context = ssl.create_default_context(cadata=trusted.decode())
        context.check_hostname = False
        handlers.append(urllib.request.HTTPSHandler(context=context))
    with urllib.request.build_opener(*handlers).open(url, timeout=timeout_s) as response:
        return response.read(_BYTES_MAX).decode(errors="replace"), response.headers


def read_json(url: str, *, timeout_s: float = TIMEOUT_S) -> Any:
    """What a page says in JSON. Raises OSError, ValueError."""
    return json.loads(read(url, timeout_s=timeout_s)[0])
