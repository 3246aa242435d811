"""Cache-aside that keeps the contract's promise: which call may be answered from the cache, and what may be kept in it.

Use cases of methods with a `cache` read through `cached`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Generic, Protocol, TypeVar

from svc.chassis.consistency import Session
from svc.chassis.context import Deadline
from svc.chassis.errors import AppError, DeadlineExceeded, Unavailable

K = TypeVar("K", contravariant=True)
T = TypeVar("T")

# What a call that is content with less than the leader gives the leader before it asks a replica.
_LEADER_SHARE: Final = 0.5


class Cached(Protocol[K, T]):
    """A kind of cached value: `cache.Entry`."""

    def serves(self, max_age_s: float) -> bool:
        """Whether what it keeps is never older than that."""
        ...

    def get_or_load(self, key: K, load: Callable[[], T]) -> T:
        """The kept value, or what `load` returns, which is then kept."""
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


def cached(
    entry: Cached[K, T],
    key: K,
    read: Callable[[Deadline, Session | None], T],
    *,
    deadline: Deadline,
    session: Session,
) -> T:
    """A value from the cache where the call may have it from there, else as `read` gives it.

    `read(deadline, session)` reads the database: the leader where the session is None. Only what the leader said is
    kept: an entry filled from a replica could bring back what was deleted from the cache after a commit.
    """
    if not entry.serves(session.max_age_s()):
        return read(deadline, session)

    def load() -> T:
        try:
            return read(Deadline.after(deadline.remaining() * _LEADER_SHARE), None)
        except (Unavailable, DeadlineExceeded):
            outcome = _outcome(lambda: read(deadline, session))
        raise _NotKeptError(outcome)

    try:
        return entry.get_or_load(key, load)
    except _NotKeptError as past:
        outcome: _Outcome[T] = past.outcome
    return outcome.get()


def _outcome(work: Callable[[], T]) -> _Outcome[T]:
    try:
        return _Outcome(value=(work(),))
    except AppError as error:
        return _Outcome(error=error)
