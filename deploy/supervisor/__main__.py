"""`python -m deploy.supervisor serve DATA`: the daemon. `... standby DATA N`: who takes over when it dies.

`... clean`: remove the data directory. All are started by others.

People use the `weft` command and `make`; tests use `mesh.Mesh`.
"""

import os
import random
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NoReturn

from deploy.supervisor import lock
from deploy.supervisor.backoff import STABLE_S, delay_s
from deploy.supervisor.config import Settings
from deploy.supervisor.errors import SupervisorError
from deploy.supervisor.layout import Layout

LOCK_TIMEOUT_S = 5.0
PAUSE_S = 1.0
"""At least so long the lock is free after a takeover that was not possible."""
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
        return _prepare(layout)(takeovers=0)


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
        try:
            run = _prepare(layout)
        except Exception:  # noqa: BLE001 - an update that is half there, a damaged file: nobody else is left to try
            traceback.print_exc()
            print("cannot take over; everything runs on, and it is tried again", file=sys.stderr, flush=True)
        else:
            return run(takeovers=takeovers)
    return _begin_anew(layout, takeovers + 1)


def _prepare(layout: Layout) -> Callable[..., int]:
    """What makes this process the daemon. Raises whatever the program or the desired state has wrong with it."""
    # Here and not above: a stand-by that waits for months needs a fifth of the memory without it.
    from deploy.supervisor import running
    from deploy.supervisor.desired import Desired

    return partial(running.run, layout, Desired.read(layout.desired))


def _begin_anew(layout: Layout, takeovers: int) -> NoReturn:
    """Be a fresh stand-by after a while, with nothing of the program loaded that was there before.

    The lock is free meanwhile: somebody may stop what runs, or start a supervisor by hand.
    """
    own = (sys.executable, "-c", f"import {__package__}.__main__")
    while True:
        threading.Event().wait(PAUSE_S + delay_s(takeovers, random.Random()))
        if subprocess.run(own, stdin=subprocess.DEVNULL, check=False).returncode == 0:
            os.execv(sys.executable, (sys.executable, "-m", __package__, "standby", str(layout.root), str(takeovers)))


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
