"""Reads as the contract's word for them says, on a real leader and a real standby that lags, dies and is left alone."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pytest

from deploy.supervisor.workspace import temporary
from svc.chassis import bounded
from svc.chassis.cached_reads import cached
from svc.chassis.consistency import Consistency, Level, Session
from svc.chassis.context import CallContext, Deadline
from svc.chassis.database import Transaction
from svc.chassis.errors import AppError, Unavailable
from svc.chassis.positions import parse
from svc.chassis.replicas import Positions, Replicated
from tests import postgres_pair
from tests.postgres_pair import PostgresServer
from tests.waiting import eventually

T = TypeVar("T")

STRONG = Consistency()
EVENTUAL = Consistency(Level.EVENTUAL)


@pytest.fixture(scope="module", autouse=True)
def schema(leader: PostgresServer) -> None:
    leader.execute("CREATE TABLE register (id text PRIMARY KEY, value bigint NOT NULL)")
    leader.execute("INSERT INTO register VALUES ('r', 0)")


@pytest.fixture
def database(leader: PostgresServer, standby: PostgresServer) -> Iterator[Replicated]:
    standby.start()
    opened = Replicated(leader.url(), replicas=[standby.url()], pool_size=4, name="trial")
    opened.start()
    yield opened
    opened.stop()
    opened.close()
    leader.start()
    resume(standby)


def resume(standby: PostgresServer) -> None:
    standby.execute("SELECT pg_wal_replay_resume() WHERE pg_is_wal_replay_paused()")


def pause(standby: PostgresServer) -> None:
    standby.execute("SELECT pg_wal_replay_pause()")
    eventually(lambda: standby.execute("SELECT pg_get_wal_replay_pause_state()") == [("paused",)])


def within(seconds: float) -> Consistency:
    return Consistency(Level.BOUNDED, seconds)


def read(database: Replicated, consistency: Consistency, *, seen: Session | None = None) -> tuple[int, bool]:
    """The register, and whether a standby said it."""
    session = Session(consistency, home="trial", seen=seen.marks if seen is not None else None)
    return asked(database, Deadline.after(10), session)


def asked(database: Replicated, deadline: Deadline, session: Session | None) -> tuple[int, bool]:
    def work(tx: Transaction) -> tuple[int, bool]:
        row = tx.exec_driver_sql("SELECT value, pg_is_in_recovery() FROM register WHERE id = 'r'").one()
        return row[0], row[1]

    return database.read(work, deadline=deadline, session=session)


def write(database: Replicated) -> tuple[int, Session]:
    """Count the register up; its value, and the session that did it."""
    session = Session(home="trial", tracks=True)
    statement = "UPDATE register SET value = value + 1 WHERE id = 'r' RETURNING value"
    value = database.serializable(
        lambda tx: int(tx.exec_driver_sql(statement).scalar_one()), deadline=Deadline.after(10), session=session
    )
    return value, session


def test_each_word_is_answered_by_whom_it_names(database: Replicated) -> None:
    assert (0, False) == read(database, STRONG)
    assert (0, True) == read(database, EVENTUAL)
    eventually(lambda: read(database, within(5)) == (0, True))


def test_a_write_is_read_by_who_made_it_and_by_others_when_it_has_arrived(
    database: Replicated, standby: PostgresServer
) -> None:
    pause(standby)
    before = read(database, EVENTUAL)[0]

    value, mine = write(database)

    assert (before, True) == read(database, EVENTUAL)
    assert (value, False) == read(database, EVENTUAL, seen=mine)
    assert (value, False) == read(database, STRONG)
    resume(standby)
    eventually(lambda: read(database, EVENTUAL, seen=mine) == (value, True))


def test_a_bounded_read_is_never_older_than_its_bound(database: Replicated, standby: PostgresServer) -> None:
    value, _ = write(database)
    eventually(lambda: read(database, within(2)) == (value, True))
    pause(standby)
    newer, _ = write(database)

    eventually(lambda: read(database, within(2)) == (newer, False))

    assert (value, True) == read(database, within(600))
    assert (value, True) == read(database, EVENTUAL)


def test_an_idle_leader_does_not_age_its_standby(database: Replicated) -> None:
    eventually(lambda: read(database, within(1))[1])
    begun = time.monotonic()

    def older_than_the_bound() -> bool:
        assert read(database, within(1))[1]
        return time.monotonic() - begun > 2.5

    eventually(older_than_the_bound)


def test_without_the_leader_eventual_reads_go_on_bounded_ones_for_a_while_and_strong_ones_fail(
    database: Replicated, leader: PostgresServer
) -> None:
    value, mine = write(database)
    eventually(lambda: read(database, within(2), seen=mine) == (value, True))
    leader.kill()

    with pytest.raises(Unavailable) as away:
        read(database, STRONG)

    assert "DATABASE_UNAVAILABLE" == away.value.reason
    assert (value, True) == read(database, EVENTUAL)
    assert (value, True) == read(database, EVENTUAL, seen=mine)
    assert (value, True) == read(database, within(600))
    eventually(lambda: refused(lambda: read(database, within(2))))
    assert (value, True) == read(database, EVENTUAL)
    leader.start()
    eventually(lambda: not refused(lambda: read(database, STRONG)))
    eventually(lambda: read(database, within(2)) == (value, True))


def test_a_leader_that_hangs_holds_up_no_eventual_read(database: Replicated, leader: PostgresServer) -> None:
    value, _ = write(database)
    eventually(lambda: read(database, EVENTUAL) == (value, True))
    leader.freeze()
    try:
        waiting = [threading.Thread(target=refused, args=(lambda: read(database, STRONG),)) for _ in range(6)]
        for thread in waiting:
            thread.start()

        assert [(value, True)] * 20 == [read(database, EVENTUAL) for _ in range(20)]
    finally:
        leader.thaw()
    for thread in waiting:
        thread.join(30)


class Empty:
    """A cache that has nothing."""

    def get_or_load(self, call: CallContext, load: Callable[[], T], *, max_age_s: float) -> T:
        return load()


def test_cached_reads_go_on_while_the_leader_hangs(
    leader: PostgresServer, standby: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Longer than any call has: what leaves time for the standby is not the driver's patience.
    monkeypatch.setattr(bounded, "CONNECT_S", 100)
    database = Replicated(leader.url(), replicas=[standby.url()], pool_size=2, name="trial")

    def answered() -> bool:
        session = Session(EVENTUAL, home="trial")
        call = CallContext("/x", None, Deadline.after(6), b"", lambda: True, session=session)
        return cached(Empty(), call, lambda deadline, seen: asked(database, deadline, seen)[1])

    with contextlib.closing(database):
        assert not answered(), "the leader fills the cache"
        leader.freeze()
        try:
            with ThreadPoolExecutor(6) as threads:
                by_standby = [each.result(60) for each in [threads.submit(answered) for _ in range(12)]]
        finally:
            leader.thaw()

        assert [True] * 12 == by_standby
        eventually(lambda: not answered())


def test_a_standby_is_not_left_alone_for_what_its_callers_did(database: Replicated) -> None:
    value, _ = write(database)
    eventually(lambda: read(database, EVENTUAL) == (value, True))

    with pytest.raises(AppError):
        database.read(
            lambda tx: tx.exec_driver_sql("SELECT pg_sleep(1)"), deadline=Deadline.after(1), session=Session(EVENTUAL)
        )

    assert (value, True) == read(database, EVENTUAL)


def test_a_standby_that_is_away_is_passed_by(database: Replicated, standby: PostgresServer) -> None:
    value, _ = write(database)
    standby.kill()

    assert (value, False) == read(database, EVENTUAL)
    assert (value, False) == read(database, within(60))
    standby.start()
    eventually(lambda: read(database, EVENTUAL)[1])


def test_a_server_that_is_no_standby_is_not_taken_for_one(leader: PostgresServer) -> None:
    # After a fail-over the URL of a standby may lead to a leader, and not to that of this cluster.
    database = Replicated(leader.url(), replicas=[leader.url()], pool_size=2, name="trial")
    database.sample()
    _, mine = write(database)

    assert not read(database, within(5), seen=mine)[1]
    database.close()


@pytest.fixture
def promoted(leader: PostgresServer) -> Iterator[tuple[PostgresServer, PostgresServer]]:
    """The leader of a new timeline, and a standby that had come farther on the old one, up to what was lost."""
    with (
        temporary() as first,
        temporary() as second,
        postgres_pair.standby(first, leader) as candidate,
        postgres_pair.standby(second, leader) as ahead,
    ):
        candidate.kill()
        leader.execute("SELECT pg_logical_emit_message(false, 'far', repeat('x', 1000000))")
        leader.execute("UPDATE register SET value = -1")
        eventually(lambda: ahead.execute("SELECT value FROM register") == [(-1,)])
        leader.kill()
        candidate.start()
        candidate.execute("SELECT pg_promote()")
        yield candidate, ahead
    leader.start()


def test_who_is_ahead_on_the_old_timeline_has_nothing_of_the_new_one(
    promoted: tuple[PostgresServer, PostgresServer],
) -> None:
    candidate, ahead = promoted
    database = Replicated(candidate.url(), replicas=[ahead.url()], pool_size=2, name="trial")
    with contextlib.closing(database):
        value, mine = write(database)
        database.sample()

        assert (-1, True) == read(database, EVENTUAL), "the standby is there"
        assert (value, False) == read(database, EVENTUAL, seen=mine)
        assert (value, False) == read(database, within(600))


def test_a_standby_of_the_new_timeline_holds_what_was_written_on_both(
    promoted: tuple[PostgresServer, PostgresServer],
) -> None:
    candidate, _ = promoted
    with temporary() as folder, postgres_pair.standby(folder, candidate) as follower:
        database = Replicated(candidate.url(), replicas=[follower.url()], pool_size=2, name="trial")
        with contextlib.closing(database):
            value, mine = write(database)
            older = Session(home="trial")
            older.wrote("trial", mine.least("trial") % 2**64)

            eventually(lambda: read(database, EVENTUAL, seen=mine) == (value, True))
            assert (value, True) == read(database, EVENTUAL, seen=older), "an older token knows no timeline"
            database.sample()
            eventually(lambda: read(database, within(600)) == (value, True))


def test_a_standby_takes_no_write(database: Replicated) -> None:
    with pytest.raises(AppError):
        database.read(
            lambda tx: tx.exec_driver_sql("UPDATE register SET value = 9"),
            deadline=Deadline.after(5),
            session=Session(EVENTUAL),
        )


def refused(work: Callable[[], object]) -> bool:
    try:
        work()
    except AppError:
        return True
    return False


def test_the_age_of_a_position_is_that_of_the_last_moment_it_holds() -> None:
    positions = Positions()
    assert float("inf") == positions.age_s(100, now=10.0)

    positions.learn(1.0, 100)
    positions.learn(2.0, 100)
    positions.learn(3.0, 200)

    assert float("inf") == positions.age_s(99, now=10.0)
    assert 8.0 == positions.age_s(100, now=10.0)
    assert 8.0 == positions.age_s(199, now=10.0)
    assert 7.0 == positions.age_s(200, now=10.0)


def test_positions_of_a_leader_that_was_replaced_say_nothing_of_who_follows_the_new_one() -> None:
    positions = Positions()
    positions.learn(1.0, parse("1/0/64"))

    assert 9.0 == positions.age_s(parse("1/0/64"), now=10.0)
    assert float("inf") == positions.age_s(parse("2/0/64"), now=10.0)

    positions.learn(2.0, parse("2/0/32"))

    assert 9.0 == positions.age_s(parse("1/FF/0"), now=10.0)
    assert 8.0 == positions.age_s(parse("2/0/32"), now=10.0)
