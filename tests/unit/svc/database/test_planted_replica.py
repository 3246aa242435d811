"""A bug that others have made: a bounded read off a replica that nobody has checked. The check of reads finds it."""

import contextlib
import io
import json
import time
from collections.abc import Iterator, Mapping, Sequence

import pytest

from svc.chassis.consistency import Consistency, Level, Session
from svc.chassis.context import Deadline
from svc.chassis.database import Transaction
from svc.chassis.errors import AppError
from svc.chassis.replicas import Positions, Replicated
from tests.chaos.check import DURING, find
from tests.chaos.history import Books, Event, Recorder
from tests.postgres_pair import PostgresServer
from tests.waiting import eventually

BOUND_S = 0.5
#: A machine that is busy has found nothing.
DEADLINE_S = 60.0
PRODUCT = "products/lamp"
NOTHING = Books(stock={}, orders={}, placed=[], events=[], audited=[], counted=0, mailed=[])


@pytest.fixture
def replicated(leader: PostgresServer, standby: PostgresServer) -> Iterator[Replicated]:
    leader.execute("DROP TABLE IF EXISTS price; CREATE TABLE price (version bigint NOT NULL)")
    leader.execute("INSERT INTO price VALUES (1)")
    opened = Replicated(leader.url(), replicas=[standby.url()], pool_size=2, name="trial")
    yield opened
    standby.execute("SELECT pg_wal_replay_resume()")
    opened.close()


def read(database: Replicated, level: Level) -> int:
    def work(tx: Transaction) -> int:
        return int(tx.exec_driver_sql("SELECT version FROM price").scalar_one())

    session = Session(Consistency(level, BOUND_S))
    return database.read(work, deadline=Deadline.after(DEADLINE_S), session=session)


def learn(database: Replicated) -> None:
    """As the database does in its own thread: what it cannot learn it goes on without."""
    with contextlib.suppress(AppError):
        database.sample()


def broken(database: Replicated, standby: PostgresServer) -> Mapping[str, Sequence[str]]:
    """A standby falls behind; somebody writes, and reads when the bound is over."""
    learn(database)
    eventually(lambda: standby.execute("SELECT to_regclass('price') IS NOT NULL") == [(True,)])
    eventually(lambda: standby.execute("SELECT version FROM price") == [(1,)])
    standby.execute("SELECT pg_wal_replay_pause()")
    eventually(lambda: standby.execute("SELECT pg_get_wal_replay_pause_state()") == [("paused",)])
    out = io.StringIO()
    recorder = Recorder(out)

    changing = recorder.begin("reprice", product=PRODUCT)
    database.serializable(
        lambda tx: tx.exec_driver_sql("UPDATE price SET version = 2"), deadline=Deadline.after(DEADLINE_S)
    )
    changing.ok(version=2)
    over = time.monotonic() + 2 * BOUND_S
    eventually(lambda: learn(database) or time.monotonic() > over)
    assert 1 == read(database, Level.EVENTUAL), "the standby is not behind"
    reading = recorder.begin("quote", product=PRODUCT, bound_s=BOUND_S, least=0)
    reading.ok(version=read(database, Level.BOUNDED))

    return find([Event(**json.loads(line)) for line in out.getvalue().splitlines()], NOTHING, DURING)


def test_without_the_bug_nothing_is_found(replicated: Replicated, standby: PostgresServer) -> None:
    assert {} == broken(replicated, standby)


def test_a_replica_whose_age_nobody_checks_is_found(
    replicated: Replicated, standby: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Positions, "age_s", lambda self, position, now: 0.0)

    assert ["reads_are_as_new_as_declared"] == list(broken(replicated, standby))
