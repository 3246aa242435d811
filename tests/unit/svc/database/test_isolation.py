"""Every claim of isolation that the chassis makes, held against what concurrent transactions saw on real servers.

`serializable` and `read` claim SERIALIZABLE, a read of a replica one snapshot, `read_committed` READ COMMITTED. Lists
that are appended to, and a bank whose money is always the same.
"""

import random
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy

from svc.chassis.consistency import Consistency, Level, Session
from svc.chassis.context import Deadline
from svc.chassis.database import Database, Transaction
from svc.chassis.errors import Aborted, AppError, Unavailable
from svc.chassis.hot_keys import plan, row
from svc.chassis.replicas import Replicated, opened
from tests.histories import list_append
from tests.histories.list_append import Anomaly, Append, Read, Status, check
from tests.postgres_pair import PostgresServer
from tests.waiting import eventually

KEYS = ("a", "b", "c", "d")
ACCOUNTS = 5
MONEY = 100
EVENTUAL = Session(Consistency(Level.EVENTUAL))
Run = Callable[[Callable[[Transaction], None]], None]


@pytest.fixture(scope="module", autouse=True)
def schema(url: str) -> None:
    database = Database(url, pool_size=1, name="schema")

    def create(tx: Transaction) -> None:
        for statement in (
            "DROP TABLE IF EXISTS lists",
            "DROP TABLE IF EXISTS bank",
            "CREATE TABLE lists (key text PRIMARY KEY, elements text NOT NULL)",
            "CREATE TABLE bank (id text PRIMARY KEY, money bigint NOT NULL CHECK (money >= 0))",
        ):
            tx.exec_driver_sql(statement)

    database.serializable(create, deadline=Deadline.after(30))
    database.close()


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    each = opened(url, replicas=(), pool_size=8, name="trial")
    each.serializable(fresh, deadline=Deadline.after(30))
    yield each
    each.close()


@pytest.fixture
def replicated(leader: PostgresServer, standby: PostgresServer) -> Iterator[Replicated]:
    each = Replicated(leader.url(), replicas=[standby.url()], pool_size=8, name="trial")
    each.serializable(fresh, deadline=Deadline.after(30))
    yield each
    each.close()


def fresh(tx: Transaction) -> None:
    tx.exec_driver_sql("DELETE FROM lists")
    tx.exec_driver_sql("DELETE FROM bank")
    for number in range(ACCOUNTS):
        tx.exec_driver_sql("INSERT INTO bank VALUES (%s, %s)", (str(number), MONEY))


def read_list(tx: Transaction, key: str) -> tuple[int, ...]:
    found = tx.exec_driver_sql("SELECT elements FROM lists WHERE key = %s", (key,)).scalar()
    return tuple(map(int, found.split(","))) if found else ()


def append(tx: Transaction, key: str, value: int) -> None:
    statement = (
        "INSERT INTO lists VALUES (%s, %s) "
        "ON CONFLICT (key) DO UPDATE SET elements = lists.elements || ',' || excluded.elements"
    )
    tx.exec_driver_sql(statement, (key, str(value)))


def play(run: Run, steps: Sequence[Append | str]) -> list_append.Transaction:
    """One transaction: appends, and reads of the keys that are named. What it saw is that of its last run."""
    done: list[Append | Read] = []

    def work(tx: Transaction) -> None:
        done.clear()
        for step in steps:
            if isinstance(step, Append):
                append(tx, step.key, step.value)
                done.append(step)
            else:
                done.append(Read(step, read_list(tx, step)))

    try:
        run(work)
    except Aborted:
        return list_append.Transaction(tuple(done), Status.ABORTED)
    except Unavailable as error:
        status = Status.UNKNOWN if error.reason == "COMMIT_UNKNOWN" else Status.ABORTED
        return list_append.Transaction(tuple(done), status)
    return list_append.Transaction(tuple(done))


def steps_of(chance: random.Random, number: int) -> list[Append | str]:
    return [
        Append(chance.choice(KEYS), number * 10 + step) if chance.random() < 0.5 else chance.choice(KEYS)
        for step in range(chance.randint(2, 4))
    ]


def at_once(jobs: Sequence[Callable[[], list[list_append.Transaction]]]) -> list[list_append.Transaction]:
    with ThreadPoolExecutor(len(jobs)) as threads:
        return [each for future in [threads.submit(job) for job in jobs] for each in future.result(120)]


def history_of(
    write: Run, look: Run, final: Callable[[], dict[str, tuple[int, ...]]]
) -> tuple[list[list_append.Transaction], list[Anomaly]]:
    """Four clients write and read at once while a fifth only reads; what happened, and what is wrong with it."""

    def client(number: int) -> list[list_append.Transaction]:
        chance = random.Random(number)
        return [play(write, steps_of(chance, number * 1000 + each)) for each in range(40)]

    def reader() -> list[list_append.Transaction]:
        return [play(look, KEYS) for _ in range(40)]

    history = at_once([*(lambda number=number: client(number) for number in range(4)), reader])
    return history, check(history, final=final())


def final_of(database: Database) -> Callable[[], dict[str, tuple[int, ...]]]:
    return lambda: database.read(lambda tx: {key: read_list(tx, key) for key in KEYS}, deadline=Deadline.after(30))


def committed(history: Sequence[list_append.Transaction]) -> int:
    return sum(each.status is Status.COMMITTED for each in history)


@pytest.mark.parametrize("hot", [False, True], ids=["cold", "hot"])
def test_serializable_transactions_and_reads_leave_no_anomaly(database: Database, hot: bool) -> None:
    keys = [row("lists", "key", key) for key in KEYS] if hot else []

    history, found = history_of(
        lambda work: database.serializable(work, deadline=Deadline.after(30), hot_keys=keys),
        lambda work: database.read(work, deadline=Deadline.after(30)),
        final_of(database),
    )

    assert [] == [anomaly for anomaly in found if anomaly.name in list_append.SERIALIZABLE]
    assert committed(history) > 80
    if hot:
        assert 200 == committed(history)


def test_a_replica_shows_one_snapshot_in_each_read(replicated: Replicated) -> None:
    history, found = history_of(
        lambda work: replicated.serializable(work, deadline=Deadline.after(30)),
        lambda work: replicated.read(work, deadline=Deadline.after(30), session=EVENTUAL),
        final_of(replicated),
    )

    assert [] == [anomaly for anomaly in found if anomaly.name in list_append.SNAPSHOT]
    assert committed(history) > 80


def test_read_committed_transactions_see_nothing_that_is_not_committed(database: Database) -> None:
    def run(work: Callable[[Transaction], None]) -> None:
        database.read_committed(work, deadline=Deadline.after(30))

    _, found = history_of(run, run, final_of(database))

    assert [] == [anomaly for anomaly in found if anomaly.name in list_append.READ_COMMITTED]


def skew(run: Run) -> tuple[list[list_append.Transaction], int]:
    """Two that each read what the other is about to write, and how often their work ran."""
    both, runs = threading.Barrier(2, timeout=20), list[str]()

    def one(mine: str, other: str, value: int) -> list[list_append.Transaction]:
        seen: list[Read] = []

        def work(tx: Transaction) -> None:
            seen[:] = [Read(other, read_list(tx, other))]
            runs.append(mine)
            if runs.count(mine) == 1:
                both.wait()
            append(tx, mine, value)

        run(work)
        return [list_append.Transaction((*seen, Append(mine, value)))]

    return at_once([lambda: one("a", "b", 1), lambda: one("b", "a", 2)]), len(runs)


def test_a_write_skew_makes_one_of_the_two_run_again(database: Database) -> None:
    history, runs = skew(lambda work: database.serializable(work, deadline=Deadline.after(30)))

    assert [] == check(history, final=final_of(database)())
    assert runs > 2


def test_the_same_two_on_snapshots_alone_are_found_out(leader: PostgresServer, replicated: Replicated) -> None:
    # The checker's own test: the anomaly is real where nothing prevents it.
    engine = sqlalchemy.create_engine(leader.url(), isolation_level="REPEATABLE READ")

    def run(work: Callable[[Transaction], None]) -> None:
        with engine.begin() as connection:
            work(connection)

    history, _ = skew(run)
    engine.dispose()

    assert ["G2"] == [anomaly.name for anomaly in check(history, final=final_of(replicated)())]


def transfer(tx: Transaction, giver: int, taker: int, money: int) -> None:
    """Reads and writes apart, so that only serialization keeps the sum right."""
    find, store = "SELECT money FROM bank WHERE id = %s", "UPDATE bank SET money = %s WHERE id = %s"
    has, gets = (tx.exec_driver_sql(find, (str(each),)).scalar_one() for each in (giver, taker))
    if has >= money and giver != taker:
        tx.exec_driver_sql(store, (has - money, str(giver)))
        tx.exec_driver_sql(store, (gets + money, str(taker)))


def money_seen(database: Database, session: Session | None) -> set[int]:
    """Totals that readers saw while three clients moved money about."""

    def move(number: int) -> None:
        chance = random.Random(number)
        for _ in range(40):
            giver, taker, money = chance.randrange(ACCOUNTS), chance.randrange(ACCOUNTS), chance.randint(1, MONEY)

            def work(tx: Transaction, g: int = giver, t: int = taker, m: int = money) -> None:
                transfer(tx, g, t, m)

            try:
                database.serializable(work, deadline=Deadline.after(30))
            except Aborted:
                continue  # lost too often: nothing of it is there

    def total(tx: Transaction) -> int:
        # One by one: the sum is right only on one snapshot.
        accounts = (
            tx.exec_driver_sql("SELECT money FROM bank WHERE id = %s", (str(each),)).scalar_one()
            for each in range(ACCOUNTS)
        )
        return sum(accounts)

    def look() -> set[int]:
        return {database.read(total, deadline=Deadline.after(30), session=session) for _ in range(60)}

    with ThreadPoolExecutor(4) as threads:
        moving = [threads.submit(move, number) for number in range(3)]
        seen = threads.submit(look).result(120)
        for each in moving:
            each.result(120)
    return seen | {database.read(total, deadline=Deadline.after(30))}


def test_no_reader_of_the_leader_sees_money_come_or_go(database: Database) -> None:
    assert {ACCOUNTS * MONEY} == money_seen(database, None)


def test_no_reader_of_a_replica_sees_money_come_or_go(replicated: Replicated) -> None:
    arrived(replicated)

    assert {ACCOUNTS * MONEY} == money_seen(replicated, EVENTUAL)


def arrived(replicated: Replicated) -> None:
    """Return when the standby has the accounts of this test."""
    session = Session(home="trial", tracks=True)
    replicated.serializable(lambda tx: tx.exec_driver_sql("SELECT 1"), deadline=Deadline.after(10), session=session)
    seen = Session(EVENTUAL.consistency, home="trial", seen=session.marks)
    where = "SELECT pg_is_in_recovery()"
    eventually(
        lambda: replicated.read(
            lambda tx: tx.exec_driver_sql(where).scalar_one(), deadline=Deadline.after(10), session=seen
        )
    )


def test_the_rows_of_hot_keys_are_locked_as_on_cockroachdb_too(database: Database) -> None:
    [lock] = plan("cockroachdb", [row("bank", "id", each) for each in ("3", "1")]).rows

    with pytest.raises(AppError):
        database.serializable(
            lambda tx: database_is_busy(tx, database, lock.statement, lock.ids), deadline=Deadline.after(30)
        )


def database_is_busy(tx: Transaction, database: Database, statement: str, ids: list[str]) -> None:
    """Locks rows here, and has another transaction, in a thread of its own, want one of them."""
    assert 2 == len(tx.exec_driver_sql(statement, (ids,)).all())
    with ThreadPoolExecutor(1) as other:
        other.submit(
            database.serializable,
            lambda theirs: theirs.exec_driver_sql("SELECT 1 FROM bank WHERE id = '1' FOR UPDATE NOWAIT"),
            deadline=Deadline.after(10),
        ).result(30)
