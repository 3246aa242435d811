"""`Database`, idempotency, outbox and migrations on a real database."""

import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
import sqlalchemy

from svc.chassis import idempotency, outbox, tables
from svc.chassis.bounded import parse_url
from svc.chassis.context import Deadline
from svc.chassis.database import Database, Transaction
from svc.chassis.errors import Aborted, DeadlineExceeded, FailedPrecondition, Internal, Unavailable
from svc.chassis.migrate import upgrade
from weft.orders.v1.events_pb2 import StockDepleted

UrlOf = Callable[[str], str]

ENV = '"""Alembic\'s entry."""\n\nfrom svc.chassis.alembic_env import run\n\nrun()\n'
VERSION = '''"""Everything that these tests use."""

import sqlalchemy as sa
from alembic import op

from svc.chassis import tables

revision = "0001"
down_revision = None


def upgrade() -> None:
    tables.create_outbox(op)
    tables.create_outbox_retention(op)
    tables.create_idempotency(op)
    tables.create_inbox(op)
    tables.create_inbox_position(op)
    op.create_table("stock", sa.Column("id", sa.Text, primary_key=True), sa.Column("quantity", sa.BigInteger))
    op.execute("INSERT INTO stock VALUES ('mug', 0), ('cup', 0)")
'''


@pytest.fixture(scope="module")
def migrations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("migrations")
    (directory / "versions").mkdir()
    (directory / "env.py").write_text(ENV)
    (directory / "versions" / "v0001.py").write_text(VERSION)
    return directory


@pytest.fixture
def url(migrated_url: Callable[[str, str], str], migrations: Path) -> str:
    return migrated_url("chassis", str(migrations))


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    opened = Database(url, pool_size=8, name="test")
    yield opened
    opened.close()


def test_a_database_that_is_there_answers_the_shortest_question_and_one_that_is_not_does_not(
    database: Database, url: str
) -> None:
    database.ping()

    away = Database(
        sqlalchemy.make_url(url).set(port=1).render_as_string(hide_password=False), pool_size=1, name="away"
    )
    with pytest.raises(Unavailable):
        away.ping()
    away.close()


def soon() -> Deadline:
    return Deadline.after(20.0)


def quantity(tx: Transaction, product: str) -> int:
    return int(tx.exec_driver_sql("SELECT quantity FROM stock WHERE id = %s", (product,)).scalar_one())


def add_one(tx: Transaction, product: str = "mug") -> None:
    """Reads and writes apart, so that only serialization keeps the sum right."""
    found = quantity(tx, product)
    tx.exec_driver_sql("UPDATE stock SET quantity = %s WHERE id = %s", (found + 1, product))


def at_once(jobs: int, job: Callable[[], object]) -> list[object]:
    barrier = threading.Barrier(jobs)

    def start() -> object:
        barrier.wait(10)
        return job()

    with ThreadPoolExecutor(jobs) as threads:
        return [future.result(30) for future in [threads.submit(start) for _ in range(jobs)]]


def test_two_rows_of_a_small_table_do_not_conflict(database: Database) -> None:
    # Only now the planner knows that the table is one page.
    database.read_committed(lambda tx: tx.exec_driver_sql("ANALYZE stock"), deadline=soon())
    both = threading.Barrier(2)
    attempts = list[str]()

    def change(product: str) -> None:
        def work(tx: Transaction) -> None:
            attempts.append(product)
            tx.exec_driver_sql("SELECT quantity FROM stock WHERE id = %s FOR UPDATE", (product,))
            if attempts.count(product) == 1:
                both.wait(20)  # each has read before one of them writes
            add_one(tx, product)

        database.serializable(work, deadline=soon())

    with ThreadPoolExecutor() as threads:
        list(threads.map(change, ["mug", "cup"]))

    assert ["cup", "mug"] == sorted(attempts)


def test_migrating_twice_or_from_two_processes_at_once_is_migrating_once(postgres_url: UrlOf, migrations: Path) -> None:
    address = postgres_url(f"chassis_{uuid.uuid4().hex[:8]}")

    at_once(2, lambda: upgrade(address, str(migrations)))
    upgrade(address, str(migrations))

    database = Database(address, pool_size=1, name="test")
    names = database.read(lambda tx: set(sqlalchemy.inspect(tx).get_table_names()), deadline=soon())
    database.close()
    assert {*tables.METADATA.tables, "stock", "alembic_version", "migration_lock"} == names


def test_the_migrated_tables_are_the_declared_ones(database: Database) -> None:
    def columns(tx: Transaction) -> dict[str, list[tuple[str, bool]]]:
        inspector = sqlalchemy.inspect(tx)
        return {
            name: [(column["name"], column["nullable"]) for column in inspector.get_columns(name)]
            for name in tables.METADATA.tables
        }

    declared = {
        table.name: [(column.name, bool(column.nullable)) for column in table.columns]
        for table in tables.METADATA.sorted_tables
    }

    assert declared == database.read(columns, deadline=soon())


@pytest.mark.parametrize("hot_keys", [[], ["stock/mug"]])
def test_concurrent_changes_of_one_row_are_all_there(database: Database, hot_keys: list[str]) -> None:
    def job() -> int:
        done = 0
        for _ in range(10):
            try:
                database.serializable(add_one, deadline=soon(), hot_keys=hot_keys)
                done += 1
            except Aborted:
                # Lost five times in a row: refused, and nothing of it is there.
                assert not hot_keys
        return done

    acknowledged = sum(int(str(done)) for done in at_once(4, job))

    assert acknowledged == database.read(lambda tx: quantity(tx, "mug"), deadline=soon())
    if hot_keys:
        assert 40 == acknowledged


def test_hot_keys_in_any_order_never_deadlock(database: Database) -> None:
    orders = iter([["mug", "cup"], ["cup", "mug"]] * 10)

    def work(tx: Transaction) -> None:
        add_one(tx, "mug")
        add_one(tx, "cup")

    def job() -> None:
        for _ in range(5):
            database.serializable(work, deadline=soon(), hot_keys=next(orders))

    at_once(4, job)

    assert 20 == database.read(lambda tx: quantity(tx, "cup"), deadline=soon())


def test_hot_keys_are_free_again_after_success_refusal_and_conflict(url: str) -> None:
    database = Database(url, pool_size=1, name="test")
    if not url.startswith("postgresql"):
        pytest.skip("advisory locks are PostgreSQL's")

    def refuse(tx: Transaction) -> None:
        raise FailedPrecondition

    def conflict(tx: Transaction) -> None:
        tx.exec_driver_sql("DO $$ BEGIN RAISE EXCEPTION 'lost' USING ERRCODE = '40001'; END $$")

    database.serializable(add_one, deadline=soon(), hot_keys=["a", "b"])
    with pytest.raises(FailedPrecondition):
        database.serializable(refuse, deadline=soon(), hot_keys=["a", "b"])
    with pytest.raises(Aborted):
        database.serializable(conflict, deadline=soon(), hot_keys=["a", "b"])

    held = "SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database "
    held += "WHERE locktype = 'advisory' AND datname = current_database()"
    assert 0 == database.read(lambda tx: tx.exec_driver_sql(held).scalar_one(), deadline=soon())
    database.close()


def test_work_and_locks_end_with_the_deadline(database: Database) -> None:
    holding, leave = threading.Event(), threading.Event()

    def hold(tx: Transaction) -> None:
        add_one(tx)
        holding.set()
        leave.wait(10)

    holder = threading.Thread(target=database.serializable, args=(hold,), kwargs={"deadline": soon()})
    holder.start()
    assert holding.wait(10)
    with pytest.raises((Aborted, DeadlineExceeded)):
        database.serializable(
            lambda tx: tx.exec_driver_sql("UPDATE stock SET quantity = 9 WHERE id = 'mug'"),
            deadline=Deadline.after(0.3),
        )
    leave.set()
    holder.join(10)

    assert 1 == database.read(lambda tx: quantity(tx, "mug"), deadline=soon())


def test_a_statement_is_cancelled_at_the_deadline(database: Database) -> None:
    with pytest.raises(DeadlineExceeded):
        database.read(lambda tx: tx.exec_driver_sql("SELECT pg_sleep(10)"), deadline=Deadline.after(0.3))

    assert 0 == database.read(lambda tx: quantity(tx, "mug"), deadline=soon())


def test_a_read_cannot_write(database: Database) -> None:
    with pytest.raises(Unavailable):
        database.read(add_one, deadline=soon())


def test_connections_that_the_server_ended_are_replaced_unseen(url: str, database: Database) -> None:
    at_once(4, lambda: database.read(lambda tx: quantity(tx, "mug"), deadline=soon()))
    plain = parse_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(plain, autocommit=True) as other:
        other.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )

    for _ in range(8):
        database.serializable(add_one, deadline=soon())

    assert 8 == database.read(lambda tx: quantity(tx, "mug"), deadline=soon())


def key_of(request_id: str, body: bytes = b"body", principal: str = "ann") -> idempotency.Key:
    return idempotency.Key(principal, "/weft.orders.v1.OrderService/PlaceOrder", request_id, body)


def effect_once(tx: Transaction, key: idempotency.Key) -> bytes:
    answer = idempotency.claim(tx, key)
    if answer is not None:
        return answer
    add_one(tx)
    answer = b"quantity %d" % quantity(tx, "mug")
    idempotency.complete(tx, key, answer)
    return answer


def test_a_repeated_call_gets_the_first_answer_and_has_no_second_effect(database: Database) -> None:
    key = key_of(str(uuid.uuid4()))

    answers = [database.serializable(lambda tx: effect_once(tx, key), deadline=soon()) for _ in range(3)]

    assert [b"quantity 1"] * 3 == answers


def test_the_same_call_many_times_at_once_takes_effect_once(database: Database) -> None:
    key = key_of(str(uuid.uuid4()))

    answers = at_once(6, lambda: database.serializable(lambda tx: effect_once(tx, key), deadline=soon()))

    assert [b"quantity 1"] * 6 == answers


def test_a_request_id_means_one_body_and_one_principal(database: Database) -> None:
    request_id = str(uuid.uuid4())
    database.serializable(lambda tx: effect_once(tx, key_of(request_id)), deadline=soon())

    with pytest.raises(FailedPrecondition) as reused:
        database.serializable(lambda tx: effect_once(tx, key_of(request_id, b"other")), deadline=soon())
    stranger = database.serializable(lambda tx: effect_once(tx, key_of(request_id, b"x", "bob")), deadline=soon())

    assert "REQUEST_ID_REUSED" == reused.value.reason
    assert b"quantity 2" == stranger


def test_a_refused_call_leaves_its_request_id_free(database: Database) -> None:
    key = key_of(str(uuid.uuid4()))

    def refuse(tx: Transaction) -> None:
        effect_once(tx, key)
        raise FailedPrecondition

    with pytest.raises(FailedPrecondition):
        database.serializable(refuse, deadline=soon())

    assert b"quantity 1" == database.serializable(lambda tx: effect_once(tx, key), deadline=soon())


def test_only_who_claimed_completes(database: Database) -> None:
    with pytest.raises(Internal):
        database.serializable(lambda tx: idempotency.complete(tx, key_of(str(uuid.uuid4())), b""), deadline=soon())


def test_events_are_there_with_the_transaction_and_in_the_order_given(database: Database) -> None:
    events = [outbox.event(StockDepleted(product_id=str(n)), source="orders", call=None) for n in range(5)]

    def append(tx: Transaction) -> None:
        outbox.append(tx, events[:1])
        outbox.append(tx, events[1:])
        outbox.append(tx, [])

    def fail(tx: Transaction) -> None:
        append(tx)
        raise FailedPrecondition

    with pytest.raises(FailedPrecondition):
        database.serializable(fail, deadline=soon())
    database.serializable(append, deadline=soon())

    ids = "SELECT id FROM outbox ORDER BY sequence"
    stored = database.read(lambda tx: [str(row.id) for row in tx.exec_driver_sql(ids)], deadline=soon())
    assert [event.id for event in events] == stored
    assert {"weft.orders.v1.StockDepleted": 5} == database.read(outbox.counts, deadline=soon())
    assert 5 == database.read(outbox.unpublished, deadline=soon())
