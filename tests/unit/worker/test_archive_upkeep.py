"""What one file that cannot be read costs an archive: nothing but what needs it. On a real database and a real disk."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from deploy.supervisor.workspace import temporary
from svc.chassis import migrate
from svc.chassis.context import Deadline
from svc.chassis.database import Database
from tests import postgres_pair
from tests.fakes.clock import FakeClock
from tests.fakes.worker import NOON, event, order_cancelled, order_placed
from worker import manifest
from worker.delivery import Event
from worker.handlers.archive.folder import Folder
from worker.handlers.archive.handler import ArchiveHandler
from worker.handlers.archive.upkeep import Upkeep
from worker.manifest import File

ROOT = Path(__file__).resolve().parents[3]
LATER = NOON + timedelta(days=3)
PLACED, CANCELLED = "weft.orders.v1.OrderPlaced", "weft.orders.v1.OrderCancelled"


@pytest.fixture(scope="module")
def database() -> Iterator[Database]:
    with temporary() as folder, postgres_pair.leader(folder) as server:
        migrate.upgrade(server.url(), str(ROOT / "svc" / "analytics" / "migrations"))
        opened = Database(server.url(), pool_size=2, name="analytics")
        yield opened
        opened.close()


def files(database: Database, kind: str) -> list[File]:
    found = database.read(manifest.live, deadline=Deadline.after(20))
    return [file for file in found if file.type == kind]


def archive(database: Database, root: Path, *events: Event) -> None:
    """Each in a file of its own."""
    for each in events:
        ArchiveHandler(database, Folder(root)).handle([each])


def failures() -> float:
    return REGISTRY.get_sample_value("weft_unexpected_errors_total", {"place": "archive"}) or 0.0


@pytest.mark.parametrize("gone", [True, False])
def test_a_file_that_cannot_be_read_keeps_no_other_waiting(database: Database, tmp_path: Path, gone: bool) -> None:
    database.serializable(lambda tx: tx.exec_driver_sql("DELETE FROM archive_files"), deadline=Deadline.after(20))
    archive(database, tmp_path, *(event(order_cancelled(f"orders/{number}")) for number in range(3)))
    archive(database, tmp_path, *(event(order_placed(f"orders/{number}")) for number in range(3)))
    bad = files(database, CANCELLED)[1]
    path = bad.path(tmp_path)
    content = path.read_bytes()
    if gone:
        path.unlink()
    else:
        path.write_bytes(content[:-9])
    upkeep = Upkeep(database, Folder(tmp_path), keep=timedelta(days=400), clock=FakeClock(LATER))
    before = failures()

    upkeep.turn()
    assert (1, 3) == (len(files(database, PLACED)), len(files(database, CANCELLED)))
    upkeep.turn()
    upkeep.turn()

    # The others of its own day, too; it is named once, and still counts.
    assert before + 1 == failures()
    assert {bad.id: 1, "merged": 2} == {
        bad.id if file.id == bad.id else "merged": file.events for file in files(database, CANCELLED)
    }

    # As another worker finds it, once somebody has put it back.
    path.write_bytes(content)
    Upkeep(database, Folder(tmp_path), keep=timedelta(days=400), clock=FakeClock(LATER)).turn()
    assert [3] == [file.events for file in files(database, CANCELLED)]
