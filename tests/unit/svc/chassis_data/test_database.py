"""`Database` against a server that fails where it is told to. Against real ones: tests/integration/test_database.py."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from svc.chassis.context import Deadline
from svc.chassis.database import ATTEMPTS_MAX, Database, Transaction
from svc.chassis.errors import Aborted, AppError, DeadlineExceeded, FailedPrecondition, Unavailable
from tests.fakes.postgres_wire import Answer, Drops, Fails, FakePostgres, Hangs, Rows, Rule
from tests.waiting import eventually

WORK = "SELECT work"


@contextmanager
def database(rule: Rule | None = None, *, pool_size: int = 2) -> Iterator[tuple[FakePostgres, Database]]:
    with FakePostgres(rule) as server:
        opened = Database(server.url, pool_size=pool_size, name="test")
        try:
            yield server, opened
        finally:
            opened.close()


def do_work(tx: Transaction) -> str:
    return str(tx.exec_driver_sql(WORK).scalar())


def first(count: int, statement: str, answer: Answer) -> Rule:
    """The answer to the first `count` statements of that text, then the usual one."""
    left = [count]

    def rule(text: str, session: int) -> Answer:
        if text == statement and left[0]:
            left[0] -= 1
            return answer
        return Rows([("done",)]) if text == WORK else None

    return rule


def soon() -> Deadline:
    return Deadline.after(5.0)


def test_a_transaction_is_its_statements_and_two_messages() -> None:
    with database(first(0, "", None)) as (server, db):
        assert "done" == db.serializable(do_work, deadline=soon())

        opening, work, closing = server.messages
    assert opening.startswith("BEGIN ISOLATION LEVEL SERIALIZABLE; SET LOCAL statement_timeout = 49")
    assert "SET LOCAL lock_timeout = 37" in opening
    assert "SET LOCAL idle_in_transaction_session_timeout = 59" in opening
    assert WORK == work
    assert "SET LOCAL statement_timeout = 0; COMMIT" == closing


def test_the_server_soon_ends_what_holds_locks_and_says_nothing() -> None:
    with database() as (server, db):
        db.serializable(do_work, deadline=soon(), hot_keys=["stock/a"])

        assert "SET LOCAL idle_in_transaction_session_timeout = 800" in server.messages[0]


def test_a_read_says_that_it_only_reads() -> None:
    with database() as (server, db):
        db.read(do_work, deadline=soon())

        assert server.messages[0].startswith("BEGIN ISOLATION LEVEL SERIALIZABLE, READ ONLY;")


def test_hot_keys_are_locked_before_begin_in_one_order_and_released_with_commit() -> None:
    with database() as (server, db):
        db.serializable(do_work, deadline=soon(), hot_keys=["stock/b", "stock/a", "stock/b"])
        db.serializable(do_work, deadline=soon(), hot_keys=["stock/a", "stock/b"])

        first_opening, _, closing, second_opening, _, _ = server.messages
    lock, begin = first_opening.index("pg_advisory_lock"), first_opening.index("BEGIN ISOLATION LEVEL SERIALIZABLE")
    assert lock < begin
    assert first_opening[lock:begin] == second_opening[lock : second_opening.index("BEGIN ISOLATION")]
    assert 1 == first_opening[lock:begin].count(",")
    assert closing.endswith("COMMIT; SELECT pg_advisory_unlock_all()")


@pytest.mark.parametrize("code", ["55P03", "57014"])
def test_a_hot_key_that_is_not_to_be_had_in_time_is_contention_and_leaves_no_lock_behind(code: str) -> None:
    def rule(text: str, session: int) -> Answer:
        return Fails(code) if text.startswith("SELECT pg_advisory_lock") else None

    with database(rule) as (server, db):
        with pytest.raises(Aborted) as contended:
            db.serializable(do_work, deadline=soon(), hot_keys=["stock/a"])

        assert 0 == server.messages.count(WORK)
        assert "ROLLBACK; SELECT pg_advisory_unlock_all()" == server.messages[-1]
    assert "CONTENTION" == contended.value.reason
    assert contended.value.retry_after is not None


@pytest.mark.parametrize("code", ["40001", "40P01"])
@pytest.mark.parametrize("where", [WORK, "COMMIT"])
def test_a_conflict_runs_the_whole_work_again(code: str, where: str) -> None:
    runs: list[int] = []

    def work(tx: Transaction) -> str:
        runs.append(1)
        return do_work(tx)

    with database(first(2, where, Fails(code))) as (_, db):
        assert "done" == db.serializable(work, deadline=soon())

    assert 3 == len(runs)


def test_conflicts_without_end_are_reported_after_a_bounded_number_of_runs() -> None:
    with database(first(99, WORK, Fails("40001"))) as (server, db):
        with pytest.raises(Aborted) as refused:
            db.serializable(do_work, deadline=soon())

        assert ATTEMPTS_MAX == server.messages.count(WORK)
    assert "CONTENTION" == refused.value.reason
    assert refused.value.retry_after is not None


def test_a_refusal_of_the_work_rolls_back_and_reaches_the_caller() -> None:
    def refuse(tx: Transaction) -> str:
        do_work(tx)
        raise FailedPrecondition(reason="STOCK")

    with database() as (server, db):
        with pytest.raises(FailedPrecondition):
            db.serializable(refuse, deadline=soon(), hot_keys=["a"])

        assert "ROLLBACK; SELECT pg_advisory_unlock_all()" == server.messages[-1]


def test_work_that_hides_a_failed_statement_does_not_commit() -> None:
    def hide(tx: Transaction) -> None:
        with pytest.raises(Exception, match="as told"):
            do_work(tx)

    with database(first(1, WORK, Fails("23505"))) as (server, db):
        with pytest.raises(RuntimeError, match="INERROR"):
            db.serializable(hide, deadline=soon())

        assert not any("COMMIT" in message for message in server.messages)


def test_dead_connections_are_replaced_before_anything_happened() -> None:
    with database(pool_size=3) as (server, db):
        barrier = threading.Barrier(3)

        def meet(tx: Transaction) -> None:
            do_work(tx)
            barrier.wait(5)

        threads = [threading.Thread(target=db.serializable, args=(meet,), kwargs={"deadline": soon()}) for _ in "abc"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(5)
        server.break_connections()

        for _ in range(3):
            db.serializable(do_work, deadline=soon())

    assert 6 == server.messages.count(WORK)


def test_a_connection_lost_in_commit_leaves_the_outcome_unknown_and_is_not_repeated() -> None:
    with database(first(1, "COMMIT", Drops())) as (server, db):
        with pytest.raises(Unavailable) as unknown:
            db.serializable(do_work, deadline=soon())

        assert 1 == server.messages.count(WORK)
        assert "None" != db.serializable(do_work, deadline=soon())
    assert "COMMIT_UNKNOWN" == unknown.value.reason
    assert unknown.value.retry_after is not None


@pytest.mark.parametrize("answer", [Drops(), Fails("57P01"), Fails("53100")])
def test_a_server_lost_in_the_work_is_unavailable_and_nothing_is_repeated(answer: Answer) -> None:
    with database(first(1, WORK, answer)) as (server, db):
        with pytest.raises(Unavailable) as lost:
            db.serializable(do_work, deadline=soon())

        assert 1 == server.messages.count(WORK)
        assert "done" == db.serializable(do_work, deadline=soon())
    assert "DATABASE_UNAVAILABLE" == lost.value.reason


def test_a_read_lost_in_commit_is_only_unavailable() -> None:
    with database(first(1, "COMMIT", Drops())) as (_, db), pytest.raises(Unavailable) as lost:
        db.read(do_work, deadline=soon())

    assert "DATABASE_UNAVAILABLE" == lost.value.reason


@pytest.mark.parametrize("where", [WORK, "BEGIN ISOLATION LEVEL SERIALIZABLE"])
def test_a_silent_server_costs_no_more_than_the_deadline(where: str) -> None:
    with database(first(1, where, Hangs())) as (_, db):
        db.read(lambda tx: None, deadline=soon())
        began = time.monotonic()
        with pytest.raises(AppError):
            db.serializable(do_work, deadline=Deadline.after(0.2))

        assert time.monotonic() - began < 2.0
        eventually(lambda: done(db))


def done(db: Database) -> bool:
    """Whether it works; for a moment after it was silent nobody asks it."""
    with contextlib.suppress(Unavailable):
        return db.serializable(do_work, deadline=soon()) == "done"
    return False


@pytest.mark.parametrize(
    ("code", "expected"), [("55P03", Aborted), ("57014", DeadlineExceeded), ("25006", Unavailable)]
)
def test_what_the_server_refuses_has_its_own_word(code: str, expected: type[AppError]) -> None:
    with database(first(1, WORK, Fails(code))) as (_, db), pytest.raises(expected):
        db.serializable(do_work, deadline=soon())


def test_a_database_that_is_down_is_unavailable_with_a_time_to_come_back() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    db = Database(f"postgresql+psycopg://weft:secret@127.0.0.1:{port}/weft", pool_size=1, name="test")

    with pytest.raises(Unavailable) as down:
        db.read(do_work, deadline=soon())

    assert "DATABASE_UNAVAILABLE" == down.value.reason
    assert down.value.retry_after is not None
    assert "secret" not in str(down.value)


def test_a_caller_waits_for_a_connection_no_longer_than_its_deadline_allows() -> None:
    with database(pool_size=1) as (_, db):
        inside, leave = threading.Event(), threading.Event()

        def hold(tx: Transaction) -> None:
            inside.set()
            leave.wait(5)

        holder = threading.Thread(target=db.read, args=(hold,), kwargs={"deadline": soon()})
        holder.start()
        assert inside.wait(5)
        with pytest.raises(Unavailable) as busy:
            db.read(do_work, deadline=Deadline.after(0.1))
        leave.set()
        holder.join(5)

    assert "DATABASE_BUSY" == busy.value.reason


@pytest.mark.parametrize("run", [Database.serializable, Database.read, Database.read_committed])
def test_a_deadline_that_passed_sends_nothing(run: Callable[..., object]) -> None:
    with database() as (server, db):
        with pytest.raises(DeadlineExceeded):
            run(db, do_work, deadline=Deadline.after(0))

        assert [] == server.messages


def test_work_that_outlives_its_deadline_does_not_commit() -> None:
    deadline = Deadline.after(0.2)

    def slow(tx: Transaction) -> None:
        threading.Event().wait(0.3)

    with database() as (server, db):
        with pytest.raises(DeadlineExceeded):
            db.serializable(slow, deadline=deadline)

        assert "ROLLBACK" == server.messages[-1]
