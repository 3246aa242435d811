"""Cache-aside that keeps the contract's promise: which call may be answered from the cache, and what may be kept in it.

Use cases of methods with a `cache` read through `cached`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Generic, Protocol, TypeVar

from svc.chassis.consistency import Session
from svc.chassis.context import CallContext, Deadline
from svc.chassis.errors import AppError, DeadlineExceeded, Unavailable

T = TypeVar("T")

# What a call that is content with less than the leader gives the leader before it asks a replica.
_LEADER_SHARE: Final = 0.5


class Kept(Protocol[T]):
    """The kept answers of one method: `cache.entry.Entry`."""

    def get_or_load(self, call: CallContext, load: Callable[[], T], *, max_age_s: float) -> T:
        """The answer kept under the call's key and no older, or what `load` returns, which is then kept."""
        ...


@dataclass(frozen=True, slots=True)
class _Outcome(Generic[T]):
    value: tuple[T, ...] = ()
    error: AppError | None = None

    def get(self) -> T:
        if self.error is not None:
            raise self.error
        return self.value[0]


class _NotKeptError(Exception):
    """Carries an outcome past the cache: it came from a replica, and kept it would outlive what made it untrue."""

    def __init__(self, outcome: "_Outcome[Any]") -> None:
        super().__init__()
        self.outcome = outcome


def cached(entry: Kept[T], call: CallContext, read: Callable[[Deadline, Session | None], T]) -> T:
    """A value from the cache where the call may have it from there, else as `read` gives it.

    `read(deadline, session)` reads the database: the leader where the session is None. Only what the leader said is
    kept: an entry filled from a replica could bring back what was forgotten in the cache after a commit.
    """
    max_age_s = call.session.max_age_s()
    if max_age_s <= 0:
        return read(call.deadline, call.session)

    def load() -> T:
        try:
            return read(Deadline.after(call.deadline.remaining() * _LEADER_SHARE), None)
        except (Unavailable, DeadlineExceeded):
            outcome = _outcome(lambda: read(call.deadline, call.session))
        raise _NotKeptError(outcome)

    try:
        return entry.get_or_load(call, load, max_age_s=max_age_s)
    except _NotKeptError as past:
        outcome: _Outcome[T] = past.outcome
    return outcome.get()


def _outcome(work: Callable[[], T]) -> _Outcome[T]:
    try:
        return _Outcome(value=(work(),))
    except AppError as error:
        return _Outcome(error=error)
