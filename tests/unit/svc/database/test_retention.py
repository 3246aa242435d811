"""Sweeping: what is over goes, a bounded number at a time, by any number of sweepers, and makes nobody run again."""

import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from alembic.migration import MigrationContext
from alembic.operations import Operations

from svc.chassis import idempotency, tables
from svc.chassis.context import Deadline
from svc.chassis.database import Database, Transaction
from svc.chassis.idempotency import Key
from svc.chassis.retention import BATCH, BATCHES_MAX, IDEMPOTENCY, INBOX, Sweeper, inbox_of

DAY_S = 86_400


@pytest.fixture(scope="module", autouse=True)
def schema(url: str) -> None:
    database = Database(url, pool_size=1, name="schema")

    def create(tx: Transaction) -> None:
        for table in ("idempotency", "inbox"):
            tx.exec_driver_sql(f"DROP TABLE IF EXISTS {table}")
        operations = Operations(MigrationContext.configure(tx))
        tables.create_idempotency(operations)
        tables.create_idempotency_retention(operations)
        tables.create_inbox(operations)
        tables.create_inbox_retention(operations)

    database.serializable(create, deadline=Deadline.after(30))
    database.close()


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    opened = Database(url, pool_size=8, name="trial")
    for table in ("idempotency", "inbox"):
        opened.serializable(lambda tx, table=table: tx.exec_driver_sql(f"DELETE FROM {table}"), deadline=soon())
    yield opened
    opened.close()


def soon() -> Deadline:
    return Deadline.after(30)


def keep(database: Database, count: int, *, age_s: int) -> None:
    statement = (
        "INSERT INTO idempotency (principal, method, request_id, body_hash, response, create_time) "
        "SELECT 'ann', 'm', gen_random_uuid(), ''::bytea, ''::bytea, now() - %s * interval '1 second' "
        "FROM generate_series(1, %s)"
    )
    database.serializable(lambda tx: tx.exec_driver_sql(statement, (age_s, count)), deadline=soon())


def left(database: Database, table: str = "idempotency") -> int:
    return database.read(
        lambda tx: int(tx.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar_one()), deadline=soon()
    )


def test_records_are_kept_for_a_day_and_more_and_then_go(database: Database) -> None:
    assert IDEMPOTENCY.kept_s > DAY_S
    keep(database, 3, age_s=DAY_S + 3600)
    keep(database, 5, age_s=IDEMPOTENCY.kept_s + 60)

    assert 5 == Sweeper(database, [IDEMPOTENCY, INBOX]).sweep()
    assert 3 == left(database)


def test_a_round_takes_so_many_and_no_more(database: Database) -> None:
    keep(database, BATCH * BATCHES_MAX + 10, age_s=IDEMPOTENCY.kept_s + 60)
    sweeper = Sweeper(database, [IDEMPOTENCY])

    assert [BATCH * BATCHES_MAX, 10, 0] == [sweeper.sweep() for _ in range(3)]


def test_several_at_once_take_each_row_once(database: Database) -> None:
    keep(database, BATCH * 5, age_s=IDEMPOTENCY.kept_s + 60)
    with ThreadPoolExecutor(4) as threads:
        swept = [each.result(60) for each in [threads.submit(Sweeper(database, [IDEMPOTENCY]).sweep) for _ in range(4)]]
    swept.append(Sweeper(database, [IDEMPOTENCY]).sweep())

    assert BATCH * 5 == sum(swept)
    assert 0 == left(database)


def test_what_somebody_holds_is_passed_by_and_nobody_waits(database: Database) -> None:
    keep(database, 2, age_s=IDEMPOTENCY.kept_s + 60)
    holding, leave = threading.Event(), threading.Event()

    def hold(tx: Transaction) -> None:
        tx.exec_driver_sql("SELECT 1 FROM idempotency ORDER BY request_id LIMIT 1 FOR UPDATE")
        holding.set()
        leave.wait(30)

    holder = threading.Thread(target=database.serializable, args=(hold,), kwargs={"deadline": Deadline.after(60)})
    holder.start()
    assert holding.wait(30)
    swept = Sweeper(database, [IDEMPOTENCY]).sweep()
    leave.set()
    holder.join(30)

    assert 1 == swept
    assert 1 == Sweeper(database, [IDEMPOTENCY]).sweep()


def test_a_sweep_between_read_and_write_makes_no_call_run_again(database: Database) -> None:
    keep(database, 20, age_s=IDEMPOTENCY.kept_s + 60)
    sweeper, runs = Sweeper(database, [IDEMPOTENCY]), list[int]()
    key = Key("ann", "m", str(uuid.uuid4()), b"body")

    def work(tx: Transaction) -> bytes:
        runs.append(1)
        assert idempotency.claim(tx, key) is None
        swept = threading.Thread(target=sweeper.sweep)
        swept.start()
        swept.join(30)
        idempotency.complete(tx, key, b"answer")
        return b"answer"

    assert b"answer" == database.serializable(work, deadline=soon(), once=key)
    assert [1] == runs
    assert 1 == left(database)


def handle(database: Database, *notes: tuple[str, int], count: int = 1) -> None:
    """So many events, each handled by those consumers that many seconds ago."""
    statement = (
        "WITH events AS MATERIALIZED (SELECT gen_random_uuid() AS id FROM generate_series(1, %s)) "
        "INSERT INTO inbox (consumer, message_id, create_time) "
        "SELECT consumer, id, now() - age * interval '1 second' "
        "FROM events, unnest(%s::text[], %s::int[]) AS notes (consumer, age)"
    )
    consumers, ages = [consumer for consumer, _ in notes], [age for _, age in notes]
    database.serializable(lambda tx: tx.exec_driver_sql(statement, (count, consumers, ages)), deadline=soon())


def test_notes_of_one_event_go_together_when_the_last_ones_time_is_over(database: Database) -> None:
    over, not_yet = INBOX.kept_s + 60, INBOX.kept_s - 60
    handle(database, ("analytics", over), ("archive", over + 5))
    handle(database, ("analytics", over), ("archive", over))
    handle(database, ("archive", over))
    handle(database, ("analytics", not_yet), ("archive", over))
    handle(database, ("analytics", not_yet))
    sweeper = Sweeper(database, [inbox_of("analytics", "archive")])

    assert [5, 0] == [sweeper.sweep(), sweeper.sweep()]
    assert 3 == left(database, "inbox")


def test_several_sweepers_of_notes_that_go_together_are_not_in_each_others_way(database: Database) -> None:
    over = INBOX.kept_s + 60
    handle(database, ("analytics", over), ("archive", over + 1), ("reports", over), count=BATCH * 2)
    kept = [inbox_of("analytics", "archive", "reports")]
    with ThreadPoolExecutor(4) as threads:
        swept = [each.result(60) for each in [threads.submit(Sweeper(database, kept).sweep) for _ in range(4)]]
    swept.append(Sweeper(database, kept).sweep())

    assert BATCH * 2 * 3 == sum(swept)
    assert 0 == left(database, "inbox")
