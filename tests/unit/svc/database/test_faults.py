"""A real server that is killed, frozen, full or held up: what was acknowledged is there once; nobody waits for ever.

Every client writes under keys of its own and repeats a call that failed, with the same key, until it is answered.
"""

import contextlib
import itertools
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any

import psycopg
import pytest
from alembic.migration import MigrationContext
from alembic.operations import Operations

from svc.chassis import bounded, idempotency, tables
from svc.chassis.context import Deadline
from svc.chassis.database import Database, Transaction
from svc.chassis.errors import Aborted, AppError, DeadlineExceeded, Unavailable
from svc.chassis.hot_keys import row
from svc.chassis.idempotency import Key
from tests.postgres_pair import PostgresServer
from tests.waiting import eventually

TOLD = (Aborted, DeadlineExceeded, Unavailable)
CLIENTS = 6
CALLS = 12
HOT = [row("stock", "id", "mug")]


@pytest.fixture(scope="module", autouse=True)
def schema(leader: PostgresServer) -> None:
    database = Database(leader.url(), pool_size=1, name="schema")

    def create(tx: Transaction) -> None:
        tables.create_idempotency(Operations(MigrationContext.configure(tx)))
        tx.exec_driver_sql("CREATE TABLE effect (key uuid NOT NULL)")
        tx.exec_driver_sql("CREATE TABLE stock (id text PRIMARY KEY, pieces bigint NOT NULL CHECK (pieces >= 0))")

    database.serializable(create, deadline=Deadline.after(20))
    database.close()


@pytest.fixture
def database(leader: PostgresServer) -> Iterator[Database]:
    leader.execute("DELETE FROM effect")
    leader.execute("DELETE FROM stock")
    leader.execute("INSERT INTO stock VALUES ('mug', 1000)")
    opened = Database(leader.url(), pool_size=CLIENTS, name="trial")
    yield opened
    opened.close()
    leader.thaw()
    leader.start()


def take(tx: Transaction, key: Key) -> bytes:
    stored = idempotency.claim(tx, key)
    if stored is not None:
        return stored
    tx.exec_driver_sql("UPDATE stock SET pieces = pieces - 1 WHERE id = 'mug' AND pieces >= 1")
    tx.exec_driver_sql("INSERT INTO effect VALUES (%s::uuid)", (key.request_id,))
    idempotency.complete(tx, key, key.request_id.encode())
    return key.request_id.encode()


def call_until_answered(database: Database, seconds: float = 2.0) -> int:
    """One key, called again with the same id until there is an answer; the number of calls."""
    key, give_up = Key("ann", "/a.B/C", str(uuid.uuid4()), b"body"), time.monotonic() + 120
    for attempt in range(1, 10_000):
        assert time.monotonic() < give_up
        try:
            answer = database.serializable(
                lambda tx: take(tx, key), deadline=Deadline.after(seconds), once=key, hot_keys=HOT
            )
        except TOLD as told:
            threading.Event().wait(min(told.retry_after or 0.02, 0.05))
        else:
            assert key.request_id.encode() == answer
            return attempt
    raise AssertionError


def under_load(database: Database, fault: Callable[[], None]) -> None:
    """Many clients at once, and the fault as soon as they have begun."""
    begun = threading.Event()

    def client() -> None:
        for _ in range(CALLS):
            call_until_answered(database)
            begun.set()

    with ThreadPoolExecutor(CLIENTS) as threads:
        clients = [threads.submit(client) for _ in range(CLIENTS)]
        assert begun.wait(60)
        fault()
        for each in clients:
            each.result(120)


def balance(leader: PostgresServer) -> tuple[int, int, int]:
    """Effects, distinct ones, and pieces left."""
    [found] = leader.execute(
        "SELECT count(*), count(DISTINCT key), (SELECT pieces FROM stock WHERE id = 'mug') FROM effect"
    )
    return int(str(found[0])), int(str(found[1])), int(str(found[2]))


ALL = CLIENTS * CALLS


def test_a_backend_that_is_killed_takes_all_with_it_and_no_effect_is_lost_or_doubled(
    leader: PostgresServer, database: Database
) -> None:
    under_load(database, lambda: leader.kill_backend("application_name = 'weft-trial'"))

    assert (ALL, ALL, 1000 - ALL) == balance(leader)


def test_a_server_that_crashes_and_comes_back_has_lost_nothing_it_acknowledged(
    leader: PostgresServer, database: Database
) -> None:
    def crash() -> None:
        leader.kill()
        leader.start()

    under_load(database, crash)

    assert (ALL, ALL, 1000 - ALL) == balance(leader)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch, database: Database, leader: PostgresServer) -> Iterator[Database]:
    """One whose driver would wait for a connection longer than any test: where a call ends, something else ended it."""
    monkeypatch.setattr(bounded, "CONNECT_S", 100)
    opened = Database(leader.url(), pool_size=CLIENTS, name="trial")
    yield opened
    opened.close()


def test_a_server_that_hangs_holds_nobody_beyond_the_deadline(leader: PostgresServer, patient: Database) -> None:
    call_until_answered(patient)
    leader.freeze()
    with ThreadPoolExecutor(20) as threads:
        try:
            # Some on connections that there are, the others on new ones.
            waiting = [threads.submit(question, patient, 0.5) for _ in range(20)]
            outcomes = [each.exception(60) for each in waiting]
            afresh = threads.submit(question, patient, 0.5).exception(60)
        finally:
            leader.thaw()

    assert all(isinstance(each, AppError) for each in [*outcomes, afresh])
    assert call_until_answered(patient) >= 1


def test_who_finds_a_server_silent_tells_the_others(leader: PostgresServer, patient: Database) -> None:
    leader.freeze()
    with ThreadPoolExecutor(CLIENTS) as threads:
        try:
            with pytest.raises(AppError):
                question(patient, 0.5)
            # One or the other may be sent to look; those who would all wait are the test's failure.
            waiting = [threads.submit(question, patient, 100.0) for _ in range(CLIENTS)]
            told = next(as_completed(waiting, timeout=60)).exception()
        finally:
            leader.thaw()

    assert isinstance(told, Unavailable)
    assert "DATABASE_UNAVAILABLE" == told.reason
    eventually(lambda: not refused(patient))


def test_a_host_that_hangs_leaves_time_for_the_one_that_leads(leader: PostgresServer) -> None:
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as silent:
        hosts = f"host=127.0.0.1:{silent.getsockname()[1]}&host=127.0.0.1:{leader.port}"
        opened = Database(
            f"postgresql+psycopg://weft@/trial?{hosts}&target_session_attrs=read-write", pool_size=2, name="trial"
        )
        with contextlib.closing(opened):
            question(opened, 10.0)


def test_whoever_holds_a_row_for_ever_makes_others_come_back_and_not_wait(
    leader: PostgresServer, database: Database
) -> None:
    with psycopg.connect(host="127.0.0.1", port=leader.port, user="weft", dbname="trial") as hog:
        hog.execute("SELECT 1 FROM stock WHERE id = 'mug' FOR UPDATE")
        with pytest.raises((Aborted, DeadlineExceeded)) as told:
            database.serializable(
                lambda tx: tx.exec_driver_sql("UPDATE stock SET pieces = 0 WHERE id = 'mug'"),
                deadline=Deadline.after(0.5),
                hot_keys=HOT,
            )

    assert told.value.reason in {"CONTENTION", "DEADLINE_EXCEEDED"}
    assert (0, 0, 1000) == balance(leader)
    call_until_answered(database)


def runs(database: Database, hot_keys: Sequence[str]) -> tuple[int, bool]:
    """How often the work of one call ran, and whether the call got through."""
    key, begun = Key("ann", "/a.B/C", str(uuid.uuid4()), b"body"), itertools.count()

    def work(tx: Transaction) -> bytes:
        next(begun)
        return take(tx, key)

    try:
        database.serializable(work, deadline=Deadline.after(100), once=key, hot_keys=hot_keys)
    except Aborted:
        return next(begun), False
    return next(begun), True


def test_a_hundred_callers_of_one_row_all_get_through_at_the_first_attempt(
    leader: PostgresServer, database: Database
) -> None:
    with ThreadPoolExecutor(50) as threads:
        outcomes = [each.result(120) for each in [threads.submit(runs, database, HOT) for _ in range(100)]]

    assert (100, 100, 900) == balance(leader)
    assert [(1, True)] * 100 == outcomes


def test_a_storm_that_nobody_expected_ends_after_five_attempts_and_some_get_through(
    leader: PostgresServer, database: Database
) -> None:
    with ThreadPoolExecutor(50) as threads:
        outcomes = [each.result(120) for each in [threads.submit(runs, database, ()) for _ in range(100)]]

    through = sum(got_through for _, got_through in outcomes)
    assert (through, through, 1000 - through) == balance(leader)
    assert through > 0
    assert all(count <= 5 for count, _ in outcomes)
    assert all(count == 5 for count, got_through in outcomes if not got_through)


def test_a_server_without_a_free_connection_is_unavailable_and_says_when_to_come_back(
    leader: PostgresServer, database: Database
) -> None:
    target = {"host": "127.0.0.1", "port": leader.port, "user": "nobody", "dbname": "trial"}
    leader.execute("CREATE ROLE nobody LOGIN")
    taken = list(connections(target))
    plain = Database(leader.url().replace("weft@", "nobody@"), pool_size=1, name="full")

    with pytest.raises(Unavailable) as full:
        plain.read(lambda tx: tx.exec_driver_sql("SELECT 1"), deadline=Deadline.after(5))

    assert "DATABASE_UNAVAILABLE" == full.value.reason
    assert full.value.retry_after is not None
    for each in taken:
        each.close()
    eventually(lambda: not refused(plain))
    plain.close()


def connections(target: dict[str, Any]) -> Iterator[psycopg.Connection[Any]]:
    """As many as the server gives."""
    with contextlib.suppress(psycopg.OperationalError):
        while True:
            yield psycopg.connect(**target)


def question(database: Database, seconds: float) -> None:
    database.read(lambda tx: tx.exec_driver_sql("SELECT 1"), deadline=Deadline.after(seconds))


def refused(database: Database) -> bool:
    try:
        database.ping()
    except AppError:
        return True
    return False
