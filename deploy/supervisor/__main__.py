"""`python -m deploy.supervisor serve DATA`: the daemon. `... clean`: remove the data directory. Started by others.

People use the `weft` command and `make`; tests use `mesh.Mesh`.
"""

import asyncio
import fcntl
import os
import random
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

import structlog

from deploy.supervisor import process
from deploy.supervisor.config import Settings
from deploy.supervisor.daemon import Daemon
from deploy.supervisor.desired import Desired
from deploy.supervisor.errors import SupervisorError
from deploy.supervisor.layout import Layout
from weft_protos import redaction

LOCK_TIMEOUT_S = 5.0
LOCK_POLL_S = 0.05
USAGE = "usage: python -m deploy.supervisor serve DATA | clean"


def main() -> int:
    """Command line."""
    match sys.argv[1:]:
        case ["serve", data]:
            return serve(Layout(Path(data)))
        case ["clean"]:
            return clean()
        case _:
            print(USAGE, file=sys.stderr)
            return 2


def serve(layout: Layout) -> int:
    """Run the daemon of one data directory, if nobody does."""
    os.umask(0o077)
    process.forbid_core_files()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            redaction.clean,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger("info"),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
    )
    with layout.lock.open("w") as lock:
        if not _acquire(lock):
            print(f"another supervisor already runs on {layout.root}", file=sys.stderr)
            return 3
        return asyncio.run(_run(layout))


def _acquire(lock: IO[str]) -> bool:
    """Take the lock, which the kernel takes back when we die, however that happens.

    A supervisor that has just said goodbye holds it a moment longer, so a moment is waited for.
    """
    deadline = time.monotonic() + LOCK_TIMEOUT_S
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            threading.Event().wait(LOCK_POLL_S)
        else:
            return True


async def _run(layout: Layout) -> int:
    daemon = Daemon(layout, Desired.read(layout.desired), now=lambda: datetime.now(UTC), rng=random.Random())
    return await daemon.run()


def clean() -> int:
    """Remove the data directory of this user's settings; only one that carries our marker."""
    try:
        root = Settings.from_environ().data
        removed = Layout(root).remove()
    except SupervisorError as error:
        print(f"weft: {error}", file=sys.stderr)
        return 2
    print(f"removed {root}" if removed else f"nothing to remove at {root}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
