"""The database: work is a function of a transaction, run until it commits or must not be tried again.

Use cases call `serializable` and `read`; the relay calls `read_committed`. `work` must be pure but for the
transaction (no RPC, no cache, no publishing: `purity`), because it runs again as a whole after a serialization failure
or deadlock. What holds: an exception from here other than Unavailable with reason COMMIT_UNKNOWN means that nothing was
committed, and every wait (for a connection, a lock, a statement, the server's answer) ends by the caller's deadline.
Where a call has a key of idempotency, an unknown commit is looked up under it on a fresh connection.

One transaction costs the round trips of its statements and two more: BEGIN travels with its timeouts and with the
hot keys' locks, COMMIT with their release. Connections are in driver-level autocommit, see `bounded`.
"""

import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any, Final, NoReturn, TypeVar, cast

import psycopg
import sqlalchemy
import structlog
from opentelemetry.trace import INVALID_SPAN
from psycopg.pq import TransactionStatus
from psycopg.pq.abc import PGresult
from sqlalchemy.exc import DBAPIError

from svc.chassis import crash, idempotency, metrics, positions, purity, telemetry
from svc.chassis import hot_keys as locks
from svc.chassis.bounded import NoAnswerError, connect, open_engine
from svc.chassis.consistency import Session
from svc.chassis.context import Deadline
from svc.chassis.crash import Point
from svc.chassis.errors import Aborted, AppError, DeadlineExceeded, Unavailable
from svc.chassis.job import NO_LOCKS, READ, READ_COMMITTED, SERIALIZABLE, Job
from svc.chassis.silence import Silence
from svc.chassis.sqlstate import Failure, backoff, classify, origin

T = TypeVar("T")

#: What a store is given. It executes statements on it and neither commits nor rolls back.
Transaction = sqlalchemy.Connection

_log: Final = structlog.get_logger(__name__)

# Runs of one piece of work. More only feeds a storm: hot rows get `hot_keys`.
ATTEMPTS_MAX: Final = 5
#: Reason of an Unavailable that is the server's: it is not there, serves nobody now, or says nothing.
AWAY: Final = "DATABASE_UNAVAILABLE"
# What callers are told to wait: after losing against others, and after the database was away.
_CONTENDED_RETRY_S: Final = 0.1
_AWAY_RETRY_S: Final = 1.0
# A connection that takes longer than this share to become free leaves too little for the work.
_POOL_SHARE: Final = 0.5
# The server's statement timeout comes first; after this the server is taken for dead.
_SILENCE_S: Final = 0.25
# A COMMIT that was sent gets at least this, whatever the deadline: giving up on it makes its outcome unknown.
_COMMIT_S: Final = 1.0
_ROLLBACK_S: Final = 0.5
# statement_timeout is off for COMMIT: cancelling one that waits for its replica would acknowledge what can be lost.
_SHORTEST: Final = sqlalchemy.text("SELECT 1")
# An answer that takes longer is none.
_PING_S: Final = 1.0
_COMMIT: Final = "SET LOCAL statement_timeout = 0; COMMIT"
# Which result of the opening is the probe's: the one after its BEGIN.
_PROBED: Final = 1
# How often an unknown commit is looked for while the database is away.
_SETTLE_EVERY_S: Final = 0.2


# What is the database's trouble and not the work's answer.
_TROUBLE: Final = frozenset(
    {"COMMIT_UNKNOWN", "CONTENTION", "DATABASE_BUSY", AWAY, "DEADLINE_EXCEEDED", "REQUEST_IN_FLIGHT"}
)


class _ConflictError(Exception):
    """The attempt lost; another may win."""


class _UnknownError(Exception):
    """COMMIT was sent and not answered."""


class Database:
    """One service's database: a bounded pool of connections and the only way to a transaction."""

    def __init__(self, url: str, *, pool_size: int, name: str) -> None:
        """Opens nothing yet. `name` is the database's name in metrics and traces, and the session's on the server."""
        self._engine = open_engine(url, pool_size=pool_size, name=f"weft-{name}")
        self.name = name
        self._pool_size = pool_size
        # Stands before the pool because its wait can differ from call to call, and the pool's cannot.
        self._free = threading.BoundedSemaphore(pool_size)
        # Connections that nobody uses, taken out of the pool for good: to ask it for one and give it back costs as much
        # as a round trip. The last one used is the next: its server process has everything at hand.
        self._idle: deque[Transaction] = deque()
        self._silence = Silence()
        self._closing = threading.Event()
        self._random = random.Random()

    def serializable(
        self,
        work: Callable[[Transaction], T],
        *,
        deadline: Deadline,
        hot_keys: Sequence[str] = (),
        once: idempotency.Key | None = None,
        session: Session | None = None,
    ) -> T:
        """Run work in a SERIALIZABLE transaction and commit it. Its result is the result.

        `hot_keys`: rows that many callers want at once (`hot_keys.row`); callers who share one wait for each other
        before they take their snapshot. `once`: the key that work claims and under which it stores its result, as
        bytes: a call that is still being served elsewhere under the same key is Aborted with reason REQUEST_IN_FLIGHT,
        and a commit without an answer is looked up. `session` is told how far the call has written.
        """
        plan = locks.plan(self._engine.dialect.name, hot_keys, once=once.text if once is not None else "")
        return self.run(work, Job(SERIALIZABLE, deadline, plan, once=once, session=session))

    def read(self, work: Callable[[Transaction], T], *, deadline: Deadline, session: Session | None = None) -> T:
        """Run work in a SERIALIZABLE, READ ONLY transaction: one consistent snapshot of the leader.

        `session` says what the call is content with; a database with replicas (`replicas`) goes by it.
        """
        return self.run(work, Job(READ, deadline))

    def read_committed(self, work: Callable[[Transaction], T], *, deadline: Deadline) -> T:
        """Run work that claims rows by their state with FOR UPDATE SKIP LOCKED, and nothing else.

        Its row locks make it safe. Under SERIALIZABLE its scan of what is unpublished would conflict with every
        transaction that appends, and they would pay.
        """
        return self.run(work, Job(READ_COMMITTED, deadline))

    def ping(self) -> None:
        """Have it answer the shortest question soon. Raises AppError where it does not."""
        self.read(lambda tx: tx.execute(_SHORTEST), deadline=Deadline.after(_PING_S))

    def close(self) -> None:
        """Close the connections that are not in use; waits for none."""
        self._closing.set()
        self._forget_connections()

    def run(self, work: Callable[[Transaction], T], job: Job) -> T:
        """Run work as the job says. Called by the methods above, and for replicas by theirs."""
        purity.refuse("a transaction")
        attributes = {"db.system": self._engine.dialect.name, "db.name": self.name}
        refusal: AppError | None = None
        # Pollers run transactions outside of any trace, and each would be a trace of its own that tells nothing.
        traced = bool(telemetry.current_traceparent())
        with telemetry.span("db.transaction", attributes=attributes) if traced else nullcontext(INVALID_SPAN) as span:
            try:
                return self._repeat(work, job, lambda attempt: span.set_attribute("attempts", attempt))
            except AppError as error:
                outcome = _outcome(error)
                self._count(outcome)
                span.set_attribute("outcome", outcome)
                if outcome != "refused":
                    raise
                # The work said no: an answer, not a failure of the transaction.
                refusal = error
            except BaseException:
                self._count("error")
                raise
        raise refusal

    def _count(self, outcome: str) -> None:
        metrics.DB_TRANSACTIONS.labels(self.name, outcome).inc()

    def _repeat(self, work: Callable[[Transaction], T], job: Job, report: Callable[[int], None] = lambda _: None) -> T:
        for attempt in range(1, ATTEMPTS_MAX + 1):
            report(attempt)
            try:
                result = self._attempt(work, job)
            except _ConflictError as conflict:
                delay = backoff(attempt, self._random)
                if attempt == ATTEMPTS_MAX or delay >= job.deadline.remaining():
                    raise _contended() from conflict.__cause__
                metrics.DB_RETRIES.labels(self.name).inc()
                self._closing.wait(delay)
            except _UnknownError as lost:
                unknown = Unavailable(
                    "The outcome of the transaction is not known.", reason="COMMIT_UNKNOWN", retry_after=_AWAY_RETRY_S
                )
                if job.once is None:
                    raise unknown from lost.__cause__
                return self._settle(work, job, unknown)
            else:
                self._count("committed")
                return result
        raise AssertionError("the last attempt returns or raises")

    def _settle(self, work: Callable[[Transaction], T], job: Job, unknown: Unavailable) -> T:
        """Find out what became of a COMMIT that was not answered. Raises `unknown` where time does not allow it.

        Its answer is under its key, or nothing was committed: then work runs again, and its claim waits for a
        transaction that the server may still be about to commit.
        """
        key = job.once
        assert key is not None
        # A pooled connection may lead to a server that is no leader any more.
        self._forget_connections()
        while not self._closing.is_set():
            try:
                stored = self._repeat(lambda tx: idempotency.recall(tx, key), replace(job, kind=READ, plan=NO_LOCKS))
                if stored is None:
                    return self._repeat(work, job)
            except AppError as error:
                if error.reason not in _TROUBLE:
                    raise
                if job.deadline.remaining() <= _SETTLE_EVERY_S:
                    raise unknown from error
                self._closing.wait(_SETTLE_EVERY_S)
            else:
                _log.info("commit_found", database=self.name)
                return cast(T, stored)
        raise unknown

    def _forget_connections(self) -> None:
        """Close the connections that are not in use, and those that are once they are given back."""
        idle, self._idle = self._idle, deque()
        while idle:
            idle.pop().close()
        self._engine.dispose()

    def _attempt(self, work: Callable[[Transaction], T], job: Job) -> T:
        _passed(job, Point.TRANSACTION_DUE)
        with self._connection(job) as connection:
            _passed(job, Point.TRANSACTION_BEGUN)
            try:
                with purity.work() if job.kind.pure else nullcontext():
                    result = work(connection)
                if job.deadline.expired():
                    raise DeadlineExceeded("The deadline passed before the transaction could commit.")
                _check_open(connection)
                _passed(job, Point.WORK_DONE)
            except BaseException as error:
                _roll_back(connection, job)
                if isinstance(error, DBAPIError | psycopg.Error):
                    self._translate(error)
                raise
            self._commit(connection, job)
            _passed(job, Point.COMMITTED)
            return result

    @contextmanager
    def _connection(self, job: Job) -> Iterator[Transaction]:
        """A connection of the pool on which the transaction has begun."""
        self._enter(job)
        try:
            idle = self._idle
            connection = self._begin(job)
            try:
                yield connection
            finally:
                if connection.invalidated or idle is not self._idle or self._closing.is_set():
                    connection.close()
                else:
                    idle.append(connection)
        finally:
            self._free.release()

    def _enter(self, job: Job) -> None:
        """Wait for a place, where the server is worth waiting for."""
        if self._silence.refuses():
            raise _away()
        if self._free.acquire(blocking=False):
            return
        if not self._free.acquire(timeout=job.deadline.remaining() * _POOL_SHARE):
            raise Unavailable(
                "Too many calls wait for the database.", reason="DATABASE_BUSY", retry_after=_CONTENDED_RETRY_S
            )
        if self._silence.lasts():
            # Found out by those who were waited for.
            self._free.release()
            raise _away()

    def _take(self, within_s: float) -> Transaction:
        try:
            return self._idle.pop()
        except IndexError:
            return connect(self._engine, within_s)

    def _begin(self, job: Job) -> Transaction:
        # After a restart of the server every pooled connection is dead, and BEGIN is where that shows. Nothing has
        # happened then: take the next one, at the worst the first that is new.
        for stale in range(self._pool_size + 1):
            opening = job.opening()
            connection: Transaction | None = None
            try:
                connection = self._take(job.deadline.remaining() + _SILENCE_S)
                answers = _send(connection, opening, within_s=job.deadline.remaining() + _SILENCE_S)
                if job.probe:
                    self._judge(connection, job, _value(answers[_PROBED]))
                for lock in job.plan.rows:
                    connection.exec_driver_sql(lock.statement, (lock.ids,))
            except (DBAPIError, psycopg.Error) as error:
                failure = classify(error)
                if connection is not None:
                    _roll_back(connection, job)
                    connection.close()
                if isinstance(origin(error), NoAnswerError):
                    if self._silence.noted():
                        # The others lead to the same server.
                        self._forget_connections()
                    self._translate(error)
                if job.plan.once is not None and failure is Failure.LOCKED:
                    raise _in_flight() from error
                if job.plan.ids and failure is Failure.TIMEOUT:
                    # Nothing else in the opening takes time: it is the wait for the hot keys, well before the deadline.
                    raise _contended() from error
                if connection is None or failure is not Failure.LOST or stale == self._pool_size:
                    self._translate(error)
            else:
                self._silence.broken()
                return connection
        raise AssertionError("the last connection returns or raises")

    def _commit(self, connection: Transaction, job: Job) -> None:
        session, closing = job.tracked, job.closing(_COMMIT)
        if session is not None:
            closing = f"{closing}; {positions.committed(self._engine.dialect.name)}"
        try:
            answers = _send(connection, closing, within_s=max(job.deadline.remaining(), _COMMIT_S))
        except psycopg.Error as error:
            _roll_back(connection, job)
            if job.kind.writes and classify(error) is Failure.LOST:
                _log.warning("commit_unknown", database=self.name, sqlstate=error.sqlstate)
                raise _UnknownError from error
            self._translate(error)
        if session is not None:
            session.wrote(self.name, positions.parse(_value(answers[-1]) or ""))

    def _judge(self, connection: Transaction, job: Job, answer: str | None) -> None:
        try:
            job.judge(answer)
        except BaseException:
            _roll_back(connection, job)
            connection.close()
            raise

    def _translate(self, error: DBAPIError | psycopg.Error) -> NoReturn:
        """Raise what a failure of the database, with nothing committed, means to the caller."""
        match classify(error):
            case Failure.CONFLICT:
                raise _ConflictError from error
            case Failure.LOCKED:
                raise _contended() from error
            case Failure.TIMEOUT:
                raise DeadlineExceeded("The database did not finish in time.") from error
            case Failure.LOST | Failure.REFUSED:
                _log.warning("database_unavailable", database=self.name, cause=str(error).partition("\n")[0])
                raise _away() from error
            case Failure.OURS:
                raise error


def _passed(job: Job, point: Point) -> None:
    # Of those that use cases and handlers write in: a read leaves nothing half done, the relay has points of its own.
    if job.kind is SERIALIZABLE:
        crash.passed(point)


def _away() -> Unavailable:
    return Unavailable("The database is not available.", reason=AWAY, retry_after=_AWAY_RETRY_S)


def _contended() -> Aborted:
    return Aborted("Too many calls change the same data.", reason="CONTENTION", retry_after=_CONTENDED_RETRY_S)


def _in_flight() -> Aborted:
    return Aborted(
        "A call with this request_id is still being served.",
        reason="REQUEST_IN_FLIGHT",
        retry_after=locks.IN_FLIGHT_MS / 1000,
    )


def _outcome(error: AppError) -> str:
    """The label of a transaction that ended with an error of ours."""
    match error:
        case Unavailable() if error.reason == "COMMIT_UNKNOWN":
            return "unknown"
        case Unavailable():
            return "unavailable"
        case Aborted():
            return "aborted"
        case DeadlineExceeded():
            return "deadline"
        case _:
            return "refused"


def _driver(connection: Transaction) -> Any:
    """The driver's own connection: a `BoundedConnection`."""
    return connection.connection.driver_connection


def rows(tx: Transaction, statement: str, parameters: Mapping[str, object]) -> Sequence[Any]:
    """What a statement returns, as tuples: for the one statement of a hot path, a constant with named parameters.

    It goes to the driver at once. `tx.exec_driver_sql` does the same for twice the CPU, half of it to learn what it
    knows from the last time.
    """
    found: Sequence[Any] = _driver(tx).rows(statement, parameters)
    return found


def _send(connection: Transaction, statements: str, *, within_s: float) -> Sequence[PGresult]:
    """Send statements without parameters as one message; their results."""
    driver = _driver(connection)
    driver.until = time.monotonic() + within_s
    results: Sequence[PGresult] = driver.exchange(statements)
    return results


def _value(result: PGresult) -> str | None:
    """The first column of a result's first row; None where it has none."""
    value = result.get_value(0, 0) if result.ntuples else None
    return value.decode() if value is not None else None


def _check_open(connection: Transaction) -> None:
    """COMMIT of a failed transaction rolls back and reports success: refuse work that hid a failure."""
    status = _driver(connection).info.transaction_status
    if status != TransactionStatus.INTRANS:
        raise RuntimeError(f"the work left its transaction {TransactionStatus(status).name}")


def _roll_back(connection: Transaction, job: Job) -> None:
    """Leave nothing of the attempt behind on the connection, or drop the connection."""
    if connection.invalidated:
        return
    driver = _driver(connection)
    try:
        if driver.closed:
            connection.invalidate()
        elif driver.info.transaction_status != TransactionStatus.IDLE:
            # Through a cursor: it sees the ROLLBACK and forgets the prepared statements, one of which may be the cause.
            driver.until = time.monotonic() + _ROLLBACK_S
            driver.execute(job.closing("ROLLBACK"), prepare=False)
        elif job.plan.advisory:
            _send(connection, locks.UNLOCK, within_s=_ROLLBACK_S)
    except psycopg.Error:
        # The server rolls back what its lost client left, and frees its locks.
        connection.invalidate()
