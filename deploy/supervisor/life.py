"""The life of one part as a pure machine: what happened goes in, the new state comes out. Driven by `slot.py`.

down --started--> starting --answered READY--> ready <--> draining (answers, but refuses work)
  ^                  |                           |
  +----- exited -----+---------------------------+
"""

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from deploy.supervisor import backoff

MISSES_MAX = 3
"""Probes in a row without any answer after which a process counts as hung."""
REFUSING_MAX_S = 30.0
"""Readiness is a process's own state only, so one that refuses work for this long will not heal by itself."""


class State(StrEnum):
    """What `weft status` says about a process."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    DOWN = "down"


class Verdict(StrEnum):
    """What to do about a running process."""

    KEEP = "keep"
    HUNG = "hung"
    """No answer any more: kill, then start again."""
    STUCK = "stuck"
    """Answers, but refuses work for too long: stop politely, then start again."""


@dataclass(frozen=True, slots=True)
class Life:
    """State of one part. `at` arguments are monotonic seconds, `now` is the wall clock and for display only."""

    since: datetime
    state: State = State.DOWN
    pid: int | None = None
    starts: int = 0
    failures: int = 0
    """Deaths in a row, for the backoff."""
    ready_at: float | None = None
    refusing_at: float | None = None
    misses: int = 0

    @property
    def restarts(self) -> int:
        """Starts after the first one."""
        return max(0, self.starts - 1)

    def started(self, pid: int, *, now: datetime) -> "Life":
        """A process was spawned."""
        return replace(
            self,
            state=State.STARTING,
            pid=pid,
            starts=self.starts + 1,
            since=now,
            ready_at=None,
            refusing_at=None,
            misses=0,
        )

    def ready(self, *, at: float, now: datetime) -> "Life":
        """The process answered that it is ready."""
        if self.state is State.READY:
            return replace(self, misses=0)
        ready_at = at if self.ready_at is None else self.ready_at
        return replace(self, state=State.READY, since=now, ready_at=ready_at, refusing_at=None, misses=0)

    def refusing(self, *, at: float, now: datetime) -> "Life":
        """The process answered that it takes no work."""
        if self.state is State.DRAINING:
            return replace(self, misses=0)
        return replace(self, state=State.DRAINING, since=now, refusing_at=at, misses=0)

    def missed(self) -> "Life":
        """A probe got no answer."""
        return replace(self, misses=self.misses + 1)

    def exited(self, *, at: float, now: datetime, wanted: bool = False) -> "Life":
        """The process is gone. `wanted`: it was asked to make place for another one, which is no failure of its own."""
        stable = self.ready_at is not None and at - self.ready_at >= backoff.STABLE_S
        failures = 0 if wanted else 1 if stable else self.failures + 1
        return replace(self, state=State.DOWN, pid=None, since=now, failures=failures, ready_at=None, refusing_at=None)

    def verdict(self, *, at: float) -> Verdict:
        """What to do about the process now."""
        if self.misses >= MISSES_MAX:
            return Verdict.HUNG
        if self.refusing_at is not None and at - self.refusing_at > REFUSING_MAX_S:
            return Verdict.STUCK
        return Verdict.KEEP
