"""What is kept only for a time, and who deletes it: idempotency records and inbox rows.

Every instance and every worker sweeps its own database, so nobody has to be elected and nothing stops when one is away.
Any number may sweep at once: each takes rows that no other holds. A sweep deletes a bounded number of rows in a READ
COMMITTED transaction of its own. Serializable transactions take no notice of those, so it never makes one run again;
what it would have to wait for, it skips.
"""

import random
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import structlog
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from svc.chassis import metrics
from svc.chassis.context import Deadline
from svc.chassis.database import Database, Transaction
from svc.chassis.errors import AppError
from svc.chassis.resources import Resources

#: Rows of one transaction, and transactions of one round: 10,000 rows a round are 160 a second.
BATCH: Final = 500
BATCHES_MAX: Final = 20
#: Seconds between two rounds; each is up to a half longer, so that instances do not go in step.
EVERY_S: Final = 60.0
_BATCH_S: Final = 5.0
_STOP_S: Final = 6.0
_DAY_S: Final = 86_400
# Nobody asked for it: in no trace.
_UNTRACED: Final = NonRecordingSpan(SpanContext(trace_id=1, span_id=1, is_remote=False, trace_flags=TraceFlags(0)))

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Kept:
    """Rows of one table that are deleted some time after their `create_time`, on which the table has an index."""

    table: str
    statement: str
    """Deletes the oldest whose time is over, as many as one transaction may."""
    kept_s: int


def _each(table: str, key: str, kept_s: int) -> Kept:
    """Each row by itself; `key`: the columns of the primary key."""
    statement = (
        f"DELETE FROM {table} WHERE ({key}) IN (SELECT {key} FROM {table} "
        f"WHERE create_time < now() - interval '{kept_s} seconds' "
        f"ORDER BY create_time LIMIT {BATCH} FOR UPDATE SKIP LOCKED)"
    )
    return Kept(table, statement, kept_s)


#: A repeat of a call is answered for two days: a client that was switched off over night still gets its first answer.
IDEMPOTENCY: Final = _each("idempotency", "principal, method, request_id", 2 * _DAY_S)
#: An event that comes again within thirty days has no second effect, wherever it lay meanwhile.
INBOX: Final = _each("inbox", "consumer, message_id", 30 * _DAY_S)


def inbox_of(*consumers: str) -> Kept:
    """The inbox of a database in which several consumers note what they have handled, for whoever compares them.

    The notes about one event go together, when the last one's time is over: so there is no moment at which one of them
    seems to have missed what it has handled. The last one stands for all, so that no two sweepers are in each other's
    way.
    """
    named = ", ".join(f"'{consumer}'" for consumer in consumers)
    last = (
        "SELECT last.message_id FROM inbox AS last "
        f"WHERE last.create_time < now() - interval '{INBOX.kept_s} seconds' AND NOT EXISTS ("
        f"SELECT 1 FROM inbox AS other WHERE other.consumer IN ({named}) AND other.message_id = last.message_id "
        "AND (other.create_time, other.consumer) > (last.create_time, last.consumer)) "
        f"ORDER BY last.create_time LIMIT {BATCH} FOR UPDATE OF last SKIP LOCKED"
    )
    return Kept("inbox", f"DELETE FROM inbox WHERE consumer IN ({named}) AND message_id IN ({last})", INBOX.kept_s)


class Sweeper:
    """One thread that sweeps one database."""

    def __init__(self, database: Database, kept: Sequence[Kept]) -> None:
        self._database = database
        self._kept = kept
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"sweep-{database.name}", daemon=True)

    def start(self) -> None:
        """Begin; the first round comes after a pause."""
        self._thread.start()

    def stop(self) -> None:
        """Finish the batch in hand and end."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(_STOP_S)

    def sweep(self) -> int:
        """One round; how many rows were deleted. Raises AppError where the database is away."""
        return sum(self._sweep(each) for each in self._kept)

    def _sweep(self, kept: Kept) -> int:
        swept = 0

        def delete(tx: Transaction) -> int:
            return tx.exec_driver_sql(kept.statement).rowcount

        for _ in range(BATCHES_MAX):
            with trace.use_span(_UNTRACED):
                count = self._database.read_committed(delete, deadline=Deadline.after(_BATCH_S))
            metrics.DB_SWEPT.labels(self._database.name, kept.table).inc(count)
            swept += count
            if count < BATCH or self._stopping.is_set():
                break
        return swept

    def _run(self) -> None:
        while not self._stopping.wait(EVERY_S * random.uniform(1.0, 1.5)):
            try:
                self.sweep()
            except AppError as error:
                log.warning("sweep_failed", database=self._database.name, reason=error.reason)
            except Exception:
                # The next round tries again; until then rows are only kept for longer.
                metrics.UNEXPECTED_ERRORS.labels(place="sweep").inc()
                log.exception("sweep_broken", database=self._database.name)


def sweep(resources: Resources, database: Database, *kept: Kept) -> None:
    """Have the process sweep a database of its own beside its calls."""
    sweeper = Sweeper(database, kept)
    resources.add_background(f"sweep-{database.name}", sweeper.start, sweeper.stop)
