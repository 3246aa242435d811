"""`python -m deploy.supervisor serve DATA`: the daemon. `... standby DATA N`: who takes over when it dies.

`... clean`: remove the data directory. All are started by others.

People use the `weft` command and `make`; tests use `mesh.Mesh`.
"""

import os
import random
import sys
import threading
import time
from pathlib import Path

from deploy.supervisor import lock
from deploy.supervisor.backoff import STABLE_S, delay_s
from deploy.supervisor.config import Settings
from deploy.supervisor.errors import SupervisorError
from deploy.supervisor.layout import Layout

LOCK_TIMEOUT_S = 5.0
USAGE = "usage: python -m deploy.supervisor serve DATA | standby DATA TAKEOVERS | clean"


def main() -> int:
    """Command line."""
    match sys.argv[1:]:
        case ["serve", data]:
            return serve(Layout(Path(data)))
        case ["standby", data, takeovers] if takeovers.isdigit():
            return stand_by(Layout(Path(data)), int(takeovers))
        case ["clean"]:
            return clean()
        case _:
            print(USAGE, file=sys.stderr)
            return 2


def serve(layout: Layout) -> int:
    """Run the daemon of one data directory, if nobody does."""
    os.umask(0o077)
    # A supervisor that has just said goodbye holds the lock a moment longer, so a moment is waited for.
    with lock.held(layout.lock, timeout_s=LOCK_TIMEOUT_S) as ours:
        if not ours:
            print(f"another supervisor already runs on {layout.root}", file=sys.stderr)
            return 3
        return _run(layout, takeovers=0)


def stand_by(layout: Layout, takeovers: int) -> int:
    """Wait until the daemon of a data directory dies, however that happens, and be the next one.

    `takeovers`: how often that has happened in a row, this time included, if it happens soon.
    """
    os.umask(0o077)
    began = time.monotonic()
    with lock.held(layout.lock, timeout_s=None):
        if time.monotonic() - began > STABLE_S:
            takeovers = 1
        # Whatever kills supervisors, such as a lack of memory, is not fed one after the other at full speed.
        threading.Event().wait(delay_s(takeovers - 1, random.Random()))
        return _run(layout, takeovers=takeovers)


def _run(layout: Layout, *, takeovers: int) -> int:
    # Here and not above: a stand-by that waits for months needs a fifth of the memory without it.
    from deploy.supervisor import running

    return running.run(layout, takeovers=takeovers)


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
