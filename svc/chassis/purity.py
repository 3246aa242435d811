"""What a transaction's work may not do: act where a rollback does not reach.

`database` runs work again as a whole after a conflict, so a call to a peer, a look into the cache or a message sent
from inside it would happen twice, or happen although nothing was committed. The doors to all of these call `refuse`,
which raises inside work and does nothing elsewhere. A mistake is thus found by the first test that walks the path, not
by the first conflict in production. Work of `read_committed` is free: the relay publishes under its row locks.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final


class ImpureError(RuntimeError):
    """Work did something besides using its transaction: a mistake of ours, never of a caller."""


class _State(threading.local):
    working = False


_STATE: Final = _State()


@contextmanager
def work() -> Iterator[None]:
    """What runs in here, in this thread, is the work of a transaction."""
    _STATE.working = True
    try:
        yield
    finally:
        _STATE.working = False


def refuse(act: str) -> None:
    """Raise ImpureError inside work; `act` says what was tried: `a call of catalog`."""
    if _STATE.working:
        raise ImpureError(f"{act} inside a transaction: it would be repeated with it, and outlive its rollback")
