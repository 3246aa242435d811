"""The database: work is a function of a transaction, run until it commits or must not be tried again.

Use cases call `serializable` and `read`; the relay calls `read_committed`. `work` must be pure but for the
transaction (no RPC, no cache, no publishing), because it runs again as a whole after a serialization failure or
deadlock. What holds: an exception from here other than Unavailable with reason COMMIT_UNKNOWN means that nothing was
committed, and every wait (for a connection, a lock, a statement, the server's answer) ends by the caller's deadline.

One transaction costs the round trips of its statements and two more: BEGIN travels with its timeouts and with the
hot keys' locks, COMMIT with their release. Connections are in driver-level autocommit, see `bounded`.
"""

import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Final, NoReturn, TypeVar

import psycopg
import sqlalchemy
import structlog
from opentelemetry.trace import INVALID_SPAN
from psycopg.pq import TransactionStatus
from sqlalchemy.exc import DBAPIError

from svc.chassis import hot_keys as locks
from svc.chassis import metrics, telemetry
from svc.chassis.bounded import open_engine
from svc.chassis.context import Deadline
from svc.chassis.errors import Aborted, AppError, DeadlineExceeded, Unavailable
from svc.chassis.sqlstate import Failure, backoff, classify

T = TypeVar("T")

#: What a store is given. It executes statements on it and neither commits nor rolls back.
Transaction = sqlalchemy.Connection

_log: Final = structlog.get_logger(__name__)

# Runs of one piece of work. More only feeds a storm: hot rows get `hot_keys`.
ATTEMPTS_MAX: Final = 5
# What callers are told to wait: after losing against others, and after the database was away.
_CONTENDED_RETRY_S: Final = 0.1
_AWAY_RETRY_S: Final = 1.0
# A lock that takes longer than this share of the time left is not worth the rest of it.
_LOCK_SHARE: Final = 0.75
# A connection that takes longer than this share to become free leaves too little for the work.
_POOL_SHARE: Final = 0.5
# The server's statement timeout comes first; after this the server is taken for dead.
_SILENCE_S: Final = 0.25
# A COMMIT that was sent gets at least this, whatever the deadline: giving up on it makes its outcome unknown.
_COMMIT_S: Final = 1.0
_ROLLBACK_S: Final = 0.5
# The server ends a transaction whose process is stopped this long after the deadline, and frees its locks.
_ABANDONED_MS: Final = 1000
# statement_timeout is off for COMMIT: cancelling one that waits for its replica would acknowledge what can be lost.
_SHORTEST: Final = sqlalchemy.text("SELECT 1")
# An answer that takes longer is none.
_PING_S: Final = 1.0
_COMMIT: Final = "SET LOCAL statement_timeout = 0; COMMIT"


class _ConflictError(Exception):
    """The attempt lost; another may win."""


@dataclass(frozen=True, slots=True)
class _Kind:
    begin: str
    writes: bool


_SERIALIZABLE: Final = _Kind("BEGIN ISOLATION LEVEL SERIALIZABLE", writes=True)
_READ: Final = _Kind("BEGIN ISOLATION LEVEL SERIALIZABLE, READ ONLY", writes=False)
_READ_COMMITTED: Final = _Kind("BEGIN ISOLATION LEVEL READ COMMITTED", writes=True)


@dataclass(frozen=True, slots=True)
class _Job:
    """One call of `serializable` and its kin."""

    kind: _Kind
    deadline: Deadline
    lock_ids: tuple[int, ...]

    def opening(self) -> str:
        """Everything up to the first statement of the work, as one message."""
        left_ms = int(self.deadline.remaining() * 1000)
        if left_ms <= 0:
            # Zero would turn the timeouts off.
            raise DeadlineExceeded("The deadline passed before the transaction began.")
        wait_ms = max(1, int(left_ms * _LOCK_SHARE))
        return (
            (locks.lock(self.lock_ids, wait_ms=wait_ms) if self.lock_ids else "")
            + f"{self.kind.begin}; SET LOCAL statement_timeout = {left_ms}; SET LOCAL lock_timeout = {wait_ms}; "
            + f"SET LOCAL idle_in_transaction_session_timeout = {left_ms + _ABANDONED_MS}"
        )

    def closing(self, verb: str) -> str:
        """COMMIT or ROLLBACK, with the release of the locks."""
        return f"{verb}; {locks.UNLOCK}" if self.lock_ids else verb


class Database:
    """One service's database: a bounded pool of connections and the only way to a transaction."""

    def __init__(self, url: str, *, pool_size: int, name: str) -> None:
        """Opens nothing yet. `name` is the database's name in metrics and traces, and the session's on the server."""
        self._engine = open_engine(url, pool_size=pool_size, name=f"weft-{name}")
        self._name = name
        self._pool_size = pool_size
        # Stands before the pool because its wait can differ from call to call, and the pool's cannot.
        self._free = threading.BoundedSemaphore(pool_size)
        self._closing = threading.Event()
        self._random = random.Random()

    def serializable(self, work: Callable[[Transaction], T], *, deadline: Deadline, hot_keys: Sequence[str] = ()) -> T:
        """Run work in a SERIALIZABLE transaction and commit it. Its result is the result.

        `hot_keys`: rows that many callers want at once, for instance `["stock/22423"]`; callers who share one wait
        for each other before they take their snapshot.
        """
        return self._run(work, _SERIALIZABLE, deadline, hot_keys)

    def read(self, work: Callable[[Transaction], T], *, deadline: Deadline) -> T:
        """Run work in a SERIALIZABLE, READ ONLY transaction: one consistent snapshot."""
        return self._run(work, _READ, deadline, ())

    def read_committed(self, work: Callable[[Transaction], T], *, deadline: Deadline) -> T:
        """Run work that claims rows by their state with FOR UPDATE SKIP LOCKED, and nothing else.

        Its row locks make it safe. Under SERIALIZABLE its scan of what is unpublished would conflict with every
        transaction that appends, and they would pay.
        """
        return self._run(work, _READ_COMMITTED, deadline, ())

    def ping(self) -> None:
        """Have it answer the shortest question soon. Raises AppError where it does not."""
        self.read(lambda tx: tx.execute(_SHORTEST), deadline=Deadline.after(_PING_S))

    def close(self) -> None:
        """Close the connections that are not in use; waits for none."""
        self._closing.set()
        self._engine.dispose()

    def _run(self, work: Callable[[Transaction], T], kind: _Kind, deadline: Deadline, keys: Sequence[str]) -> T:
        job = _Job(kind, deadline, locks.lock_ids(self._engine.dialect.name, keys))
        attributes = {"db.system": self._engine.dialect.name, "db.name": self._name}
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
        metrics.DB_TRANSACTIONS.labels(self._name, outcome).inc()

    def _repeat(self, work: Callable[[Transaction], T], job: _Job, report: Callable[[int], None]) -> T:
        for attempt in range(1, ATTEMPTS_MAX + 1):
            report(attempt)
            try:
                result = self._attempt(work, job)
            except _ConflictError as conflict:
                delay = backoff(attempt, self._random)
                if attempt == ATTEMPTS_MAX or delay >= job.deadline.remaining():
                    raise _contended() from conflict.__cause__
                metrics.DB_RETRIES.labels(self._name).inc()
                self._closing.wait(delay)
            else:
                self._count("committed")
                return result
        raise AssertionError("the last attempt returns or raises")

    def _attempt(self, work: Callable[[Transaction], T], job: _Job) -> T:
        with self._connection(job) as connection:
            try:
                result = work(connection)
                if job.deadline.expired():
                    raise DeadlineExceeded("The deadline passed before the transaction could commit.")
                _check_open(connection)
            except BaseException as error:
                _roll_back(connection, job)
                if isinstance(error, DBAPIError | psycopg.Error):
                    self._translate(error)
                raise
            self._commit(connection, job)
            return result

    @contextmanager
    def _connection(self, job: _Job) -> Iterator[Transaction]:
        """A connection of the pool on which the transaction has begun."""
        if not self._free.acquire(timeout=job.deadline.remaining() * _POOL_SHARE):
            raise Unavailable(
                "Too many calls wait for the database.", reason="DATABASE_BUSY", retry_after=_CONTENDED_RETRY_S
            )
        try:
            connection = self._begin(job)
            try:
                yield connection
            finally:
                connection.close()
        finally:
            self._free.release()

    def _begin(self, job: _Job) -> Transaction:
        # After a restart of the server every pooled connection is dead, and BEGIN is where that shows. Nothing has
        # happened then: take the next one, at the worst the first that is new.
        for stale in range(self._pool_size + 1):
            opening = job.opening()
            connection: Transaction | None = None
            try:
                connection = self._engine.connect()
                _send(connection, opening, within_s=job.deadline.remaining() + _SILENCE_S)
            except (DBAPIError, psycopg.Error) as error:
                failure = classify(error)
                if connection is not None:
                    _roll_back(connection, job)
                    connection.close()
                if job.lock_ids and failure is Failure.TIMEOUT:
                    # Nothing else in the opening takes time: it is the wait for the hot keys, well before the
                    # deadline. The statement timeout bounds their sum, and for one key it comes first by a hair.
                    raise _contended() from error
                if connection is None or failure is not Failure.LOST or stale == self._pool_size:
                    self._translate(error)
            else:
                return connection
        raise AssertionError("the last connection returns or raises")

    def _commit(self, connection: Transaction, job: _Job) -> None:
        try:
            _send(connection, job.closing(_COMMIT), within_s=max(job.deadline.remaining(), _COMMIT_S))
        except psycopg.Error as error:
            _roll_back(connection, job)
            if job.kind.writes and classify(error) is Failure.LOST:
                _log.warning("commit_unknown", database=self._name, sqlstate=error.sqlstate)
                raise Unavailable(
                    "The outcome of the transaction is not known.", reason="COMMIT_UNKNOWN", retry_after=_AWAY_RETRY_S
                ) from error
            self._translate(error)

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
                _log.warning("database_unavailable", database=self._name, cause=str(error).partition("\n")[0])
                raise Unavailable(
                    "The database is not available.", reason="DATABASE_UNAVAILABLE", retry_after=_AWAY_RETRY_S
                ) from error
            case Failure.OURS:
                raise error


def _contended() -> Aborted:
    return Aborted("Too many calls change the same data.", reason="CONTENTION", retry_after=_CONTENDED_RETRY_S)


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


def _send(connection: Transaction, statements: str, *, within_s: float) -> None:
    """Send statements without parameters as one message. They are several, so they must not be prepared."""
    driver = _driver(connection)
    driver.until = time.monotonic() + within_s
    driver.execute(statements, prepare=False)


def _check_open(connection: Transaction) -> None:
    """COMMIT of a failed transaction rolls back and reports success: refuse work that hid a failure."""
    status = _driver(connection).info.transaction_status
    if status != TransactionStatus.INTRANS:
        raise RuntimeError(f"the work left its transaction {TransactionStatus(status).name}")


def _roll_back(connection: Transaction, job: _Job) -> None:
    """Leave nothing of the attempt behind on the connection, or drop the connection."""
    if connection.invalidated:
        return
    driver = _driver(connection)
    try:
        if driver.closed:
            connection.invalidate()
        elif driver.info.transaction_status != TransactionStatus.IDLE:
            _send(connection, job.closing("ROLLBACK"), within_s=_ROLLBACK_S)
        elif job.lock_ids:
            _send(connection, locks.UNLOCK, within_s=_ROLLBACK_S)
    except psycopg.Error:
        # The server rolls back what its lost client left, and frees its locks.
        connection.invalidate()
