"""A COMMIT whose answer is lost: what the call is told, and that it takes effect once, whatever the server did."""

import contextlib
import threading
import uuid
from collections.abc import Callable, Iterator

import psycopg
import pytest
from alembic.migration import MigrationContext
from alembic.operations import Operations

from svc.chassis import hot_keys as locks
from svc.chassis import idempotency, tables
from svc.chassis.consistency import Session
from svc.chassis.context import Deadline
from svc.chassis.database import Database, Transaction
from svc.chassis.errors import Aborted, FailedPrecondition, Unavailable
from svc.chassis.idempotency import Key
from tests.cutting_proxy import Cut, CuttingProxy
from tests.postgres_pair import PostgresServer
from tests.waiting import eventually

COMMIT = "COMMIT"


@pytest.fixture(scope="module", autouse=True)
def schema(leader: PostgresServer) -> None:
    database = Database(leader.url(), pool_size=1, name="schema")

    def create(tx: Transaction) -> None:
        tables.create_idempotency(Operations(MigrationContext.configure(tx)))
        tx.exec_driver_sql("CREATE TABLE effect (id bigint GENERATED ALWAYS AS IDENTITY, key uuid NOT NULL)")

    database.serializable(create, deadline=Deadline.after(20))
    database.close()


@pytest.fixture
def proxy(leader: PostgresServer) -> Iterator[CuttingProxy]:
    with CuttingProxy(leader.port) as opened:
        yield opened


@pytest.fixture
def database(leader: PostgresServer, proxy: CuttingProxy) -> Iterator[Database]:
    opened = Database(leader.url(proxy.port), pool_size=3, name="trial")
    opened.ping()
    yield opened
    opened.close()


def new_key() -> Key:
    return Key("ann", "/weft.orders.v1.OrderService/PlaceOrder", str(uuid.uuid4()), b"body")


def take_effect(tx: Transaction, key: Key) -> bytes:
    stored = idempotency.claim(tx, key)
    if stored is not None:
        return stored
    tx.exec_driver_sql("INSERT INTO effect (key) VALUES (%s::uuid)", (key.request_id,))
    answer = uuid.uuid4().bytes
    idempotency.complete(tx, key, answer)
    return answer


def call(database: Database, key: Key, *, seconds: float = 20.0, session: Session | None = None) -> bytes:
    return database.serializable(
        lambda tx: take_effect(tx, key), deadline=Deadline.after(seconds), once=key, session=session
    )


def begin(database: Database, work: Callable[[Transaction], bytes], key: Key, answers: list[bytes]) -> threading.Thread:
    """Have a call served beside the test, and its answer added."""
    serving = threading.Thread(
        target=lambda: answers.append(database.serializable(work, deadline=Deadline.after(90), once=key))
    )
    serving.start()
    return serving


def effects(leader: PostgresServer, key: Key) -> int:
    return int(str(leader.execute(f"SELECT count(*) FROM effect WHERE key = '{key.request_id}'")[0][0]))


@pytest.mark.parametrize("when", list(Cut))
def test_the_caller_gets_the_answer_of_the_one_effect(
    leader: PostgresServer, proxy: CuttingProxy, database: Database, when: Cut
) -> None:
    key = new_key()
    proxy.cut(COMMIT, when)

    answer = call(database, key)

    assert 1 == proxy.cuts
    assert 1 == effects(leader, key)
    assert answer == call(database, key)


def test_without_a_key_nobody_can_tell_and_the_caller_is_told_so(
    leader: PostgresServer, proxy: CuttingProxy, database: Database
) -> None:
    key = new_key()
    proxy.cut(COMMIT, Cut.AFTER)

    with pytest.raises(Unavailable) as unknown:
        database.serializable(
            lambda tx: tx.exec_driver_sql("INSERT INTO effect (key) VALUES (%s::uuid)", (key.request_id,)),
            deadline=Deadline.after(20),
        )

    assert "COMMIT_UNKNOWN" == unknown.value.reason
    assert 1 == effects(leader, key)


def test_a_read_token_holds_a_commit_that_was_looked_up(proxy: CuttingProxy, database: Database) -> None:
    session = Session(home="trial", tracks=True)
    proxy.cut(COMMIT, Cut.AFTER)

    call(database, new_key(), session=session)

    assert session.least("trial") > 0


def test_a_database_that_stays_away_leaves_it_unknown(
    leader: PostgresServer, proxy: CuttingProxy, database: Database
) -> None:
    key = new_key()

    def lose_the_server(tx: Transaction) -> bytes:
        answer = take_effect(tx, key)
        leader.kill()
        return answer

    try:
        with pytest.raises(Unavailable) as unknown:
            database.serializable(lose_the_server, deadline=Deadline.after(1.5), once=key)
    finally:
        leader.start()

    assert "COMMIT_UNKNOWN" == unknown.value.reason
    assert 0 == effects(leader, key)
    assert call(database, key)
    assert 1 == effects(leader, key)


def test_a_repeat_of_a_call_that_is_being_served_is_told_to_come_back(database: Database) -> None:
    key, serving, leave = new_key(), threading.Event(), threading.Event()
    answers: list[bytes] = []

    def work(tx: Transaction) -> bytes:
        answer = take_effect(tx, key)
        serving.set()
        while not leave.wait(locks.IDLE_MS / 8000):
            tx.exec_driver_sql("SELECT 1")
        return answer

    first = begin(database, work, key, answers)
    assert serving.wait(20)
    with pytest.raises(Aborted) as in_flight:
        call(database, key)
    leave.set()
    first.join(20)

    assert "REQUEST_IN_FLIGHT" == in_flight.value.reason
    assert in_flight.value.retry_after is not None
    assert answers == [call(database, key)]


def test_a_repeat_outlasts_a_process_that_was_stopped_while_it_served_the_call(database: Database) -> None:
    key, serving, go_on = new_key(), threading.Event(), threading.Event()
    answers: list[bytes] = []

    def work(tx: Transaction) -> bytes:
        answer = take_effect(tx, key)
        serving.set()
        assert go_on.wait(20)
        return answer

    stopped = begin(database, work, key, answers)
    assert serving.wait(20)
    repeated = call(database, key)
    go_on.set()
    stopped.join(20)

    assert [repeated] == answers, "the stopped one goes on, finds that it lost its transaction, and the answer"


def test_another_body_under_the_same_id_is_refused_and_leaves_no_lock(database: Database) -> None:
    key = new_key()
    call(database, key)
    other = Key(key.principal, key.method, key.request_id, b"other")

    for _ in range(2):
        with pytest.raises(FailedPrecondition) as reused:
            call(database, other, seconds=20)

        assert "REQUEST_ID_REUSED" == reused.value.reason


@pytest.fixture
def synchronous(leader: PostgresServer, standby: PostgresServer) -> Iterator[PostgresServer]:
    """The standby without which the leader acknowledges nothing."""
    leader.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
    leader.execute("SELECT pg_reload_conf()")
    eventually(lambda: leader.execute("SELECT sync_state FROM pg_stat_replication") == [("sync",)])
    yield standby
    standby.thaw()
    leader.execute("ALTER SYSTEM RESET synchronous_standby_names")
    leader.execute("SELECT pg_reload_conf()")


def waiting_for_the_standby(leader: PostgresServer) -> int:
    [found] = leader.execute("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'")
    return int(str(found[0]))


def visible(leader: PostgresServer, key: Key) -> bool:
    with contextlib.suppress(psycopg.OperationalError):
        return effects(leader, key) == 1
    return False


def test_what_a_crash_has_made_visible_is_no_answer_before_the_standby_has_it(
    leader: PostgresServer, synchronous: PostgresServer
) -> None:
    key, answers = new_key(), list[bytes]()
    first = Database(leader.url(), pool_size=1, name="trial")
    second = Database(leader.url(), pool_size=1, name="trial")
    with contextlib.closing(first), contextlib.closing(second):
        synchronous.freeze()
        unknown = begin(first, lambda tx: take_effect(tx, key), key, answers)
        eventually(lambda: waiting_for_the_standby(leader) == 1)
        leader.kill_backend("wait_event = 'SyncRep'")
        # It is committed here, and lost when this server is: neither who looks it up nor who repeats it may be told.
        eventually(lambda: visible(leader, key))
        repeated = begin(second, lambda tx: take_effect(tx, key), key, answers)

        eventually(lambda: answers or waiting_for_the_standby(leader) == 2)
        assert [] == answers
        synchronous.thaw()
        unknown.join(60)
        repeated.join(60)

    assert 2 == len(answers)
    assert answers[0] == answers[1]
    assert 1 == effects(leader, key)
