"""Log files of children: the child itself appends, the supervisor only keeps them small.

No pipe: a child must be able to write its last words when the supervisor is the one that died.
"""

import os
import shutil
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path

SIZE_MAX = 16 * 1024 * 1024  # bytes; with one old file each, 30 processes stay below a gigabyte
TAIL_BYTES_MAX = 256 * 1024
"""Nobody reads more than this at an end of a log."""
FOLLOW_INTERVAL_S = 0.2


def open_for_append(path: Path) -> int:
    """Descriptor for a child's output. O_APPEND is what lets `rotate` shorten the file under the writer."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


def rotate(path: Path, *, size_max: int = SIZE_MAX) -> bool:
    """Copy a file that has grown too big to `.1` and empty it. Lines written in between are lost; True when done."""
    try:
        if path.stat().st_size <= size_max:
            return False
    except FileNotFoundError:
        return False
    shutil.copyfile(path, path.with_name(f"{path.name}.1"))
    os.truncate(path, 0)
    return True


def size(path: Path) -> int:
    """Length in bytes; 0 when there is no file."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def tail(path: Path, lines: int, *, since: int = 0) -> tuple[str, ...]:
    """The last `lines` lines, none that began before byte `since`."""
    try:
        with path.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(since if since <= end else 0, end - TAIL_BYTES_MAX))
            text = file.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return ()
    return tuple(deque(text.splitlines(), maxlen=lines))


def follow(positions: Mapping[Path, int]) -> Iterator[tuple[Path, str]]:
    """Whole lines as they are written, from these positions on, without end. A file that was emptied starts afresh."""
    at = dict(positions)
    pause = threading.Event()
    while True:
        for path, position in at.items():
            end = size(path)
            start = position if position <= end else 0
            with path.open("rb") as file:
                file.seek(start)
                whole, newline, _ = file.read(TAIL_BYTES_MAX).rpartition(b"\n")
            at[path] = start + len(whole) + len(newline)
            for line in whole.decode("utf-8", "replace").splitlines():
                yield path, line
        pause.wait(FOLLOW_INTERVAL_S)
