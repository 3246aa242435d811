"""Whether the site that was built is of today's sources, and whether somebody builds it now. Standard library alone."""

import fcntl
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

#: What the site is made of: documents, contracts, what compiles them, and the versions of the tools.
SOURCES: Final = ("ARCHITECTURE.md", "docs", "protos/weft", "gateway", "uv.lock")
#: In the site itself, so that one move brings both; no page can be called that.
_NAME: Final = ".built"


def digest(root: Path) -> str:
    """Of every source's path and content."""
    found = hashlib.sha256()
    for path in sorted(_files(root)):
        found.update(f"{path.relative_to(root)}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return found.hexdigest()


def fresh(root: Path, out: Path) -> bool:
    """Whether `out` was built from what is there now."""
    try:
        return (out / _NAME).read_text(encoding="ascii") == digest(root)
    except FileNotFoundError:
        return False


def put(out: Path, of: str) -> None:
    """Say in a site what it was built from."""
    (out / _NAME).write_text(of, encoding="ascii")


@contextmanager
def alone(out: Path) -> Iterator[None]:
    """Build `out` with nobody else at it; who comes second waits."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with _lock(out).open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


def building(out: Path) -> bool:
    """Whether somebody is at it."""
    return held(_lock(out))


def held(path: Path) -> bool:
    """Whether somebody holds the lock on a file, which need not be there."""
    try:
        with path.open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _lock(out: Path) -> Path:
    return out.with_name(f".{out.name}.lock")


def _files(root: Path) -> Iterator[Path]:
    for source in SOURCES:
        top = root / source
        found = [top] if top.is_file() else top.rglob("*")
        yield from (path for path in found if path.is_file() and path.suffix != ".pyc")
