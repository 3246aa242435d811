"""What one call of `database` is to do: the kind of its transaction, and the messages that open and close it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from svc.chassis import hot_keys as locks
from svc.chassis import idempotency
from svc.chassis.consistency import Session
from svc.chassis.context import Deadline
from svc.chassis.errors import DeadlineExceeded

# A lock that takes longer than this share of the time left is not worth the rest of it.
_LOCK_SHARE: Final = 0.75
# The server ends a transaction whose process is stopped this long after the deadline.
_ABANDONED_MS: Final = 1000


@dataclass(frozen=True, slots=True)
class Kind:
    """What kind of transaction."""

    begin: str
    writes: bool = False
    pure: bool = True
    """Its work is held to `purity`."""


SERIALIZABLE: Final = Kind("BEGIN ISOLATION LEVEL SERIALIZABLE", writes=True)
READ: Final = Kind("BEGIN ISOLATION LEVEL SERIALIZABLE, READ ONLY")
READ_COMMITTED: Final = Kind("BEGIN ISOLATION LEVEL READ COMMITTED", writes=True, pure=False)


NO_LOCKS: Final = locks.Locks()


@dataclass(frozen=True, slots=True)
class Job:
    """One call of `serializable` and its kin."""

    kind: Kind
    deadline: Deadline
    plan: locks.Locks = NO_LOCKS
    once: idempotency.Key | None = None
    """Under which its effect is found again."""
    session: Session | None = None
    """Is told how far the work has written."""
    probe: str = ""
    """A query that goes before BEGIN, so that what it says of the server holds of every later snapshot."""
    judge: Callable[[str | None], None] = lambda answer: None
    """Is given the probe's answer, one value, and raises what keeps the work from running here."""

    def opening(self) -> str:
        """Everything up to the first statement of the work, as one message."""
        left_ms = int(self.deadline.remaining() * 1000)
        if left_ms <= 0:
            # Zero would turn the timeouts off.
            raise DeadlineExceeded("The deadline passed before the transaction began.")
        wait_ms = max(1, int(left_ms * _LOCK_SHARE))
        return (
            (f"BEGIN; {self.probe}; COMMIT; " if self.probe else "")
            + locks.lock(self.plan, wait_ms=wait_ms)
            + f"{self.kind.begin}; SET LOCAL statement_timeout = {left_ms}; SET LOCAL lock_timeout = {wait_ms}; "
            + f"SET LOCAL idle_in_transaction_session_timeout = {self._idle_ms(left_ms)}"
        )

    def _idle_ms(self, left_ms: int) -> int:
        """How long the server waits for the work's next statement before it ends the transaction."""
        abandoned_ms = left_ms + _ABANDONED_MS
        return min(locks.IDLE_MS, abandoned_ms) if self.plan.locks else abandoned_ms

    def closing(self, verb: str) -> str:
        """COMMIT or ROLLBACK, with the release of the locks."""
        return f"{verb}; {locks.UNLOCK}" if self.plan.advisory else verb

    @property
    def tracked(self) -> Session | None:
        """The session, where it wants to know how far the call has written."""
        return self.session if self.session is not None and self.session.tracks else None
