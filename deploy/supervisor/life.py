"""The life of one part as a pure machine: what happened goes in, the new state comes out. Driven by `slot.py`.

down --started--> starting --answered READY--> ready <--> draining (answers, but refuses work)
  ^                  |                           |
  +----- exited -----+---------------------------+

A part that dies again and again soon after it was started is in quarantine: it is tried rarely, and somebody is told.
It leaves by being ready for a while, or because an operator says so.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from deploy.supervisor import backoff

MISSES_MAX = 3
"""Probes in a row without any answer after which a process counts as hung, ..."""
SILENCE_S = 2.0
"""... if that took at least this long: refused connections are quick, and say less."""
REFUSING_MAX_S = 30.0
"""Readiness is a process's own state only, so one that refuses work for this long will not heal by itself."""
DEATHS_MAX = 5
"""So many deaths, each soon after the start, ..."""
DEATHS_WITHIN_S = 120.0
"""... within this time are a crash loop."""
SOON_S = 10.0
"""A death is soon as long as the process has not been ready for this long."""


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
    deaths: tuple[float, ...] = ()
    """When it died soon, the latest DEATHS_MAX times in a row."""
    quarantined: bool = False
    reason: str = ""
    """Why it ended last."""
    ready_at: float | None = None
    refusing_at: float | None = None
    misses: int = 0
    silent_since: float = 0.0
    """Since when the probes of `misses` have not been answered."""

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

    def adopted(self, pid: int, *, starts: int, since: datetime) -> "Life":
        """A process that an earlier supervisor had spawned was taken over: no new start."""
        return replace(self, state=State.STARTING, pid=pid, starts=starts, since=since, misses=0)

    def ready(self, *, at: float, now: datetime) -> "Life":
        """The process answered that it is ready."""
        if self.state is State.READY:
            stable = self.ready_at is not None and at - self.ready_at >= backoff.STABLE_S
            return replace(self, misses=0).forgiven() if stable and self.quarantined else replace(self, misses=0)
        ready_at = at if self.ready_at is None else self.ready_at
        return replace(self, state=State.READY, since=now, ready_at=ready_at, refusing_at=None, misses=0)

    def refusing(self, *, at: float, now: datetime) -> "Life":
        """The process answered that it takes no work."""
        if self.state is State.DRAINING:
            return replace(self, misses=0)
        return replace(self, state=State.DRAINING, since=now, refusing_at=at, misses=0)

    def missed(self, *, asked: float) -> "Life":
        """A probe, sent at `asked`, got no answer."""
        return replace(self, misses=self.misses + 1, silent_since=self.silent_since if self.misses else asked)

    def exited(self, *, at: float, now: datetime, reason: str = "", asked: bool = False) -> "Life":
        """The process is gone. `asked`: an operator ended it, so it is not to blame."""
        served = 0.0 if self.ready_at is None else at - self.ready_at
        gone = replace(
            self, state=State.DOWN, pid=None, since=now, reason=reason, ready_at=None, refusing_at=None, misses=0
        )
        if asked:
            return replace(gone, failures=0)
        deaths = () if served >= SOON_S else (*self.deaths[1 - DEATHS_MAX :], at)
        loop = len(deaths) == DEATHS_MAX and at - deaths[0] <= DEATHS_WITHIN_S
        failures = 1 if served >= backoff.STABLE_S else self.failures + 1
        return replace(gone, failures=failures, deaths=deaths, quarantined=self.quarantined or loop)

    def forgiven(self) -> "Life":
        """Whatever it did before is forgotten."""
        return replace(self, failures=0, deaths=(), quarantined=False)

    def verdict(self, *, at: float) -> Verdict:
        """What to do about the process now. One that drains closes its port before it ends: that is not silence."""
        if self.state is not State.DRAINING and self.misses >= MISSES_MAX and at - self.silent_since >= SILENCE_S:
            return Verdict.HUNG
        if self.refusing_at is not None and at - self.refusing_at > REFUSING_MAX_S:
            return Verdict.STUCK
        return Verdict.KEEP
