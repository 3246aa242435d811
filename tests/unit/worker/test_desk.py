"""The desk where the database does not say whether it has stored something, and where a report cannot be made."""

import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from deploy.supervisor.workspace import temporary
from svc.chassis import crash, migrate
from svc.chassis.crash import Point
from svc.chassis.database import Database
from tests import postgres_pair
from tests.cutting_proxy import Cut, CuttingProxy
from tests.fakes.worker import event, order_placed
from tests.postgres_pair import PostgresServer
from worker.handlers.archive.folder import Folder
from worker.handlers.archive.handler import ArchiveHandler
from worker.handlers.reports.desk import Desk, Places

ROOT = Path(__file__).resolve().parents[3]
COMMIT = "COMMIT"
EVENTS = 3


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with temporary() as folder, postgres_pair.leader(folder) as started:
        migrate.upgrade(started.url(), str(ROOT / "svc" / "analytics" / "migrations"))
        yield started


@pytest.fixture
def proxy(server: PostgresServer) -> Iterator[CuttingProxy]:
    with CuttingProxy(server.port) as opened:
        yield opened


@pytest.fixture
def database(server: PostgresServer, proxy: CuttingProxy) -> Iterator[Database]:
    opened = Database(server.url(proxy.port), pool_size=2, name="analytics")
    yield opened
    opened.close()


@pytest.fixture
def report(server: PostgresServer, database: Database, tmp_path: Path) -> str:
    """One that waits to be made, of an archive with one file; no other does."""
    server.execute("DELETE FROM archive_files")
    orders = [event(order_placed(f"orders/{number}")) for number in range(EVENTS)]
    ArchiveHandler(database, Folder(tmp_path / "events")).handle(orders)
    report_id = str(uuid.uuid4())
    server.execute(
        "INSERT INTO reports (report_id, owner, kind, row_limit, state, create_time) "
        f"VALUES ('{report_id}', 'ada', 'cohorts', 1, 'queued', now())"
    )
    return report_id


def state(server: PostgresServer, report: str) -> tuple[object, ...]:
    return server.execute(f"SELECT state, stages, events, failure FROM reports WHERE report_id = '{report}'")[0]


class Answers:
    """An engine that has its answers ready."""

    def __init__(self, part: Mapping[str, Any], before: Callable[[], None] = lambda: None) -> None:
        self._part = part
        self._before = before
        self._asked = ""

    def ask(self, question: Mapping[str, Any]) -> None:
        self._asked = question["ask"]

    def answer(self, timeout_s: float) -> Mapping[str, Any]:
        self._before()
        return self._part if self._asked == "part" else {"rows": [], "truncated": False}

    def stop(self) -> None:
        """There is nothing to end."""


def desk(database: Database, folder: Path, engine: Answers) -> Desk:
    return Desk(database, Places(archive=folder / "events", work=folder / "reports"), lambda _: engine)


@pytest.mark.parametrize("when", list(Cut))
def test_a_plan_of_which_nobody_knows_whether_it_was_stored_is_stored_once(
    server: PostgresServer, proxy: CuttingProxy, database: Database, report: str, tmp_path: Path, when: Cut
) -> None:
    def strike(point: Point) -> None:
        if point is Point.REPORT_TAKEN:
            proxy.cut(COMMIT, when)

    crash.arm(strike)
    try:
        assert desk(database, tmp_path, Answers({})).turn()
    finally:
        crash.arm(None)

    assert 1 == proxy.cuts
    assert ("succeeded", 1, EVENTS, "") == state(server, report)


TOO_MUCH = {"error": "memory", "detail": "128 MiB used"}


def test_a_failure_of_which_nobody_knows_whether_it_was_stored_does_not_end_the_desk(
    server: PostgresServer, proxy: CuttingProxy, database: Database, report: str, tmp_path: Path
) -> None:
    making = desk(database, tmp_path, Answers(TOO_MUCH, lambda: proxy.cut(COMMIT, Cut.AFTER)))

    assert making.turn()

    assert (1, "failed") == (proxy.cuts, state(server, report)[0])
    assert not making.turn()


def test_a_report_that_is_cancelled_as_it_fails_does_not_end_the_desk(
    server: PostgresServer, database: Database, report: str, tmp_path: Path
) -> None:
    def cancel() -> None:
        server.execute(f"UPDATE reports SET state = 'cancelled', end_time = now() WHERE report_id = '{report}'")

    making = desk(database, tmp_path, Answers(TOO_MUCH, cancel))

    assert making.turn()

    assert "cancelled" == state(server, report)[0]
    assert not (tmp_path / "reports" / report).exists()


def test_a_report_that_needs_a_file_that_cannot_be_read_names_it(
    server: PostgresServer, database: Database, report: str, tmp_path: Path
) -> None:
    name = "day=2011-12-05/type=weft.orders.v1.OrderPlaced/1.parquet"
    answer = {"error": "unreadable", "file": str(tmp_path / "events" / name), "detail": "no magic bytes"}

    assert desk(database, tmp_path, Answers(answer)).turn()

    failure = f"a file of the archive cannot be read: {name}; ask again when it has been put back"
    assert ("failed", failure) == (state(server, report)[0], state(server, report)[3])
