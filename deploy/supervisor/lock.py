"""Who supervises a data directory: whoever holds its lock file, which the kernel takes back when that process dies.

`serve` holds it for its life, a stand-by waits for it, and `Mesh` takes it for a moment where nobody may take over.
"""

import fcntl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

POLL_S = 0.05


@contextmanager
def held(path: Path, *, timeout_s: float | None = 0.0) -> Iterator[bool]:
    """Hold the lock for the block; False where somebody else does. `timeout_s` None: wait for as long as it takes.

    Raises FileNotFoundError where the directory is not there, that is, where nothing has ever run.
    """
    with path.open("a") as lock:
        yield _acquire(lock, timeout_s)


def _acquire(lock: IO[str], timeout_s: float | None) -> bool:
    if timeout_s is None:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return True
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            threading.Event().wait(POLL_S)
        else:
            return True
