"""Waiting in tests: for a condition, with a deadline, never for a time."""

import socket
import threading
import time
from collections.abc import Callable

#: Generous: a test that fails because a loaded machine was slow has found nothing.
DEADLINE_S = 60.0


def eventually(condition: Callable[[], object], *, deadline_s: float = DEADLINE_S) -> None:
    """Return as soon as `condition()` is true; fail where it is not within the deadline."""
    give_up = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < give_up, "the condition did not come true in time"
        threading.Event().wait(0.02)


def free_port() -> int:
    """A port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listens(port: int) -> bool:
    """Whether somebody accepts connections on a port of this machine."""
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(("127.0.0.1", port)) == 0
