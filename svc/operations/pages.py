"""The console's pages and the documents', as files: what the gateway sends browsers that come without a method.

A file is served when it lies in one of two directories, under a plain name, and is of a kind that pages are made of.
Nothing of a request is ever part of an answer. What is named by its content may be kept for ever; all else is asked for
again each time, and most often has not changed.
"""

import gzip
import hashlib
import re
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from threading import Lock
from typing import Final

from svc.chassis.site import Request, Response

#: Longest that a file may be; what pages are made of is far below.
FILE_BYTES_MAX: Final = 16 << 20
#: Files that are kept in memory, packed: all of a console, and the documents somebody reads.
KEPT_BYTES_MAX: Final = 8 << 20
#: Below it, packing saves no packet.
PACKED_FROM: Final = 1024

_TYPES: Final[Mapping[str, str]] = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
    ".webp": "image/webp",
    ".woff2": "font/woff2",
    ".txt": "text/plain; charset=utf-8",
    ".proto": "text/plain; charset=utf-8",
    ".webmanifest": "application/manifest+json",
}
_PACKABLE: Final = frozenset({".html", ".js", ".css", ".json", ".svg", ".txt", ".proto", ".webmanifest"})
#: The same for every answer. Nothing is loaded from elsewhere, nothing is framed, nobody is told where a reader was.
_ALWAYS: Final[Mapping[str, str]] = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
_CONSOLE_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
#: Documents run what searches them and nothing else, reading only each other; their style may stand in a page.
_DOCS_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
_FOR_EVER: Final = "public, max-age=31536000, immutable"
_ASK_AGAIN: Final = "no-cache"
_SEGMENT: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_INDEX: Final = "index.html"
_DOCS: Final = "/docs/"
_ASSETS: Final = "/assets/"
_MISSING: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Weft</title></head><body>
<h1>The console is not built</h1>
<p>The mesh runs. <code>make setup</code> builds its pages; then load this one again.</p>
<p>Meanwhile <code>.venv/bin/weft status</code> shows what runs.</p>
</body></html>
"""
_NOT_FOUND: Final = "<!doctype html><title>Not found</title><h1>There is no such page</h1>\n"
_NO_DOCS: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Weft</title></head><body>
<h1>The documents are not built</h1>
<p><code>make up</code> builds them beside the start, and <code>make docs</code> at once; then load this page again.
They can be read in <code>docs/</code>, too.</p>
</body></html>
"""


@dataclass(frozen=True, slots=True)
class _File:
    """A file as it is sent."""

    content: bytes
    packed: bytes
    """By gzip; empty where that saves nothing."""
    brotli: bytes
    """As it lies beside the file, where it does."""
    tag: str
    stamp: tuple[int, int]
    """Time of its last change, and length."""


class Pages:
    """Answers for files of the console and the documents."""

    def __init__(self, *, console: Path | None, docs: Path | None) -> None:
        """None, or a directory that is not there: those pages are missing, and may come later."""
        self._console = console
        self._docs = docs
        self._kept: OrderedDict[Path, _File] = OrderedDict()
        self._lock = Lock()

    def answer(self, request: Request) -> Response:
        """What a browser gets."""
        path = request.target.partition("?")[0]
        if path == _DOCS.rstrip("/"):
            return Response(HTTPStatus.PERMANENT_REDIRECT, b"", {"Location": _DOCS, **_ALWAYS})
        docs = path.startswith(_DOCS)
        root = self._docs if docs else self._console
        found = None if root is None else self._find(root, path.removeprefix(_DOCS) if docs else path[1:])
        policy = _DOCS_POLICY if docs else _CONSOLE_POLICY
        if found is None:
            if path == "/":
                return _page(HTTPStatus.OK, _MISSING)
            return _page(HTTPStatus.NOT_FOUND, _NO_DOCS if path == _DOCS else _NOT_FOUND)
        file, kept = found
        lasting = path.startswith(_ASSETS)
        return _send(file, kept, request, {"Content-Security-Policy": policy, **_ALWAYS}, lasting=lasting)

    def _find(self, root: Path, name: str) -> tuple[Path, _File] | None:
        """The file of a name below a directory."""
        segments = name.split("/")
        if segments[-1] == "":
            segments[-1] = _INDEX
        if not all(_SEGMENT.fullmatch(each) for each in segments):
            return None
        path = root.joinpath(*segments)
        if path.suffix not in _TYPES:
            return None
        try:
            # A link in there must not lead anywhere else.
            if not path.is_file() or not path.resolve().is_relative_to(root.resolve()):
                return None
            return path, self._read(path)
        except OSError:
            return None

    def _read(self, path: Path) -> _File:
        status = path.stat()
        stamp = (status.st_mtime_ns, status.st_size)
        with self._lock:
            kept = self._kept.get(path)
            if kept is not None and kept.stamp == stamp:
                self._kept.move_to_end(path)
                return kept
        made = _load(path, stamp)
        with self._lock:
            self._kept[path] = made
            while len(self._kept) > 1 and sum(len(each.content) for each in self._kept.values()) > KEPT_BYTES_MAX:
                self._kept.popitem(last=False)
        return made


def _load(path: Path, stamp: tuple[int, int]) -> _File:
    if stamp[1] > FILE_BYTES_MAX:
        raise OSError("too long for a page")
    content = path.read_bytes()
    packed = gzip.compress(content, 6, mtime=0) if path.suffix in _PACKABLE and len(content) >= PACKED_FROM else b""
    beside = path.with_name(f"{path.name}.br")
    fresh = beside.is_file() and beside.stat().st_mtime_ns >= stamp[0]
    return _File(
        content=content,
        packed=packed if len(packed) < len(content) else b"",
        brotli=beside.read_bytes() if fresh else b"",
        tag=hashlib.sha256(content).hexdigest()[:24],
        stamp=stamp,
    )


def _send(path: Path, file: _File, request: Request, headers: Mapping[str, str], *, lasting: bool) -> Response:
    accepted = _accepted(request.headers.get("accept-encoding", ""))
    body, encoding = file.content, ""
    if file.packed and "gzip" in accepted:
        body, encoding = file.packed, "gzip"
    if file.brotli and "br" in accepted:
        body, encoding = file.brotli, "br"
    tag = f'"{file.tag}{encoding and f"-{encoding}"}"'
    said = {
        "Content-Type": _TYPES[path.suffix],
        "Cache-Control": _FOR_EVER if lasting else _ASK_AGAIN,
        "ETag": tag,
        "Vary": "Accept-Encoding",
        **headers,
    }
    known = {each.strip().removeprefix("W/") for each in request.headers.get("if-none-match", "").split(",")}
    if tag in known or "*" in known:
        return Response(HTTPStatus.NOT_MODIFIED, b"", said)
    return Response(HTTPStatus.OK, body, {**said, **({"Content-Encoding": encoding} if encoding else {})})


def _accepted(said: str) -> frozenset[str]:
    """The encodings of an Accept-Encoding (RFC 9110, 12.5.3) that are named and not refused."""
    found = set()
    for each in said.split(","):
        name, _, weight = each.partition(";")
        if weight.strip().lower() not in {"q=0", "q=0.0", "q=0.00", "q=0.000"}:
            found.add(name.strip().lower())
    return frozenset(found)


def _page(status: HTTPStatus, text: str) -> Response:
    headers = {"Content-Type": _TYPES[".html"], "Cache-Control": "no-store", **_ALWAYS}
    return Response(status, text.encode(), {**headers, "Content-Security-Policy": _CONSOLE_POLICY})
