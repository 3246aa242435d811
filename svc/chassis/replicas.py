"""A database with replicas: reads go where the contract's word for them allows.

- STRONG: the leader.
- BOUNDED_STALENESS: a replica that is known to hold all that was acknowledged so long ago; else the leader.
- EVENTUAL: any replica; the leader where there is none.

Whatever the word, a call that brings a read token is answered by a server that has come as far as the token.

How old a PostgreSQL standby is, is measured by its position and by no server's clock: every instance asks the leader
now and then for its position, and a standby that has replayed the position of a moment holds what was acknowledged
before that moment. While the leader is away nothing is learned: the standbys' age grows, and bounded reads end when it
passes their bound. `pg_last_xact_replay_timestamp()` would age on an idle leader, and what the receiver says of itself
stays young on one that is cut off.

On CockroachDB any node is a replica: such reads are made AS OF SYSTEM TIME a few seconds ago, which the nearest one
answers without asking the leaseholder.
"""

import random
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

import structlog

from svc.chassis import metrics, positions
from svc.chassis.bounded import parse_url
from svc.chassis.consistency import Level, Session
from svc.chassis.context import Deadline
from svc.chassis.database import AWAY, Database, Transaction
from svc.chassis.errors import AppError, DeadlineExceeded, Unavailable
from svc.chassis.job import Job, Kind

T = TypeVar("T")

log = structlog.get_logger(__name__)

# One snapshot. A standby cannot tell who would lose a conflict, and refuses SERIALIZABLE.
_STANDBY: Final = Kind("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
_FOLLOWER: Final = Kind(
    "BEGIN ISOLATION LEVEL SERIALIZABLE, READ ONLY, AS OF SYSTEM TIME follower_read_timestamp()",
)
#: How old `follower_read_timestamp()` is at most, with CockroachDB's settings as they come (4.2 s).
FOLLOWER_AGE_S: Final = 5.0
#: How often the leader's position is asked for: no bound below a few of these can be kept by a standby.
SAMPLE_EVERY_S: Final = 0.25
#: Moments kept. A standby that is older than all of them is of unknown age.
_SAMPLES_MAX: Final = 2400
_SAMPLE_S: Final = 1.0
#: How long a replica that did not answer is left alone.
_REST_S: Final = 1.0
#: What one replica gets of the time that is left, so that there is some for the next.
_REPLICA_SHARE: Final = 0.5


class _BehindError(Exception):
    """The replica has not come far enough for this call."""


class Positions:
    """Where the leader was when. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: deque[tuple[float, int]] = deque(maxlen=_SAMPLES_MAX)

    def learn(self, moment: float, position: int) -> None:
        """All that was acknowledged before that monotonic moment is at or below the position."""
        with self._lock:
            if self._known and self._known[-1][1] == position:
                # Nothing was written meanwhile: one moment says it all.
                self._known.pop()
            self._known.append((moment, position))

    def age_s(self, position: int, now: float) -> float:
        """How long ago at most a server that is there held all that was acknowledged; infinity where nobody knows."""
        with self._lock:
            if self._known and positions.timeline(position) > positions.timeline(self._known[-1][1]):
                # Another leads it than the one whose positions these are.
                return float("inf")
            for moment, reached in reversed(self._known):
                if reached <= position:
                    return now - moment
        return float("inf")


class Replicated(Database):
    """PostgreSQL with standbys."""

    def __init__(self, url: str, *, replicas: Sequence[str], pool_size: int, name: str) -> None:
        """Opens nothing yet. `replicas`: URLs of the standbys. It learns nothing of them before `start`."""
        super().__init__(url, pool_size=pool_size, name=name)
        self._replicas = [_Standby(Database(each, pool_size=pool_size, name=name)) for each in replicas]
        self._positions = Positions()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._follow, name=f"positions-{name}", daemon=True)

    def read(self, work: Callable[[Transaction], T], *, deadline: Deadline, session: Session | None = None) -> T:
        """Run work on one snapshot of a server that is good enough for the session; of the leader without one."""
        if session is None or session.consistency.level is Level.STRONG:
            return super().read(work, deadline=deadline)
        for replica in random.sample(self._replicas, len(self._replicas)):
            if replica.resting():
                continue
            try:
                result = self._read_at(replica, work, deadline, session)
            except _BehindError:
                metrics.DB_REPLICA_READS.labels(self.name, "behind").inc()
            except (Unavailable, DeadlineExceeded) as error:
                if error.reason == AWAY:
                    # Any other failure is its caller's, who came late, or that of the many who came at once.
                    replica.rest()
                metrics.DB_REPLICA_READS.labels(self.name, "away").inc()
                log.warning("replica_away", database=self.name, reason=error.reason)
            else:
                metrics.DB_REPLICA_READS.labels(self.name, "answered").inc()
                return result
        return super().read(work, deadline=deadline)

    def _read_at(
        self, replica: "_Standby", work: Callable[[Transaction], T], deadline: Deadline, session: Session
    ) -> T:
        def judge(answer: str | None) -> None:
            position = 0 if answer is None else positions.parse(answer)
            if position < session.least(self.name):
                raise _BehindError
            bounded = session.consistency.level is Level.BOUNDED
            if bounded and self._positions.age_s(position, time.monotonic()) > session.consistency.max_s:
                raise _BehindError

        within = Deadline.after(deadline.remaining() * _REPLICA_SHARE)
        return replica.database.run(work, Job(_STANDBY, within, probe=positions.REPLAYED, judge=judge))

    def start(self) -> None:
        """Follow the leader's position from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Follow it no longer."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(_SAMPLE_S)

    def close(self) -> None:
        """Close the connections that are not in use; waits for none."""
        self._stopping.set()
        super().close()
        for replica in self._replicas:
            replica.database.close()

    def sample(self) -> None:
        """Ask the leader for its position. Raises AppError where it is away."""
        moment = time.monotonic()
        position = super().read(
            lambda tx: positions.parse(tx.exec_driver_sql(positions.committed("postgresql")).scalar_one()),
            deadline=Deadline.after(_SAMPLE_S),
        )
        self._positions.learn(moment, position)

    def _follow(self) -> None:
        while not self._stopping.wait(SAMPLE_EVERY_S):
            try:
                self.sample()
            except AppError:
                # Its age grows: that is what a leader that is away means to the standbys.
                continue
            except Exception:
                # The next look may do; until then bounded reads go to the leader.
                metrics.UNEXPECTED_ERRORS.labels(place="positions").inc()
                log.exception("position_not_read", database=self.name)


class _Standby:
    """One replica, and whether it is worth asking."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._rest_until = 0.0

    def resting(self) -> bool:
        return time.monotonic() < self._rest_until

    def rest(self) -> None:
        self._rest_until = time.monotonic() + _REST_S


class Followers(Database):
    """CockroachDB, whose nodes answer for the recent past."""

    def read(self, work: Callable[[Transaction], T], *, deadline: Deadline, session: Session | None = None) -> T:
        """Run work on the present, or on one snapshot of a few seconds ago where the session is content with it."""
        if session is None or not _content(session, self.name):
            return super().read(work, deadline=deadline)
        return self.run(work, Job(_FOLLOWER, deadline))


def _content(session: Session, database: str) -> bool:
    level, max_s = session.consistency.level, session.consistency.max_s
    old_enough = session.written_s(database) > FOLLOWER_AGE_S
    return old_enough and (level is Level.EVENTUAL or (level is Level.BOUNDED and max_s >= FOLLOWER_AGE_S))


def opened(url: str, *, replicas: Sequence[str], pool_size: int, name: str) -> Database:
    """The database at that URL, with what replicas it has."""
    if parse_url(url).get_backend_name() == "cockroachdb":
        return Followers(url, pool_size=pool_size, name=name)
    if replicas:
        return Replicated(url, replicas=replicas, pool_size=pool_size, name=name)
    return Database(url, pool_size=pool_size, name=name)
