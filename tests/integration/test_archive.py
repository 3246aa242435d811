"""The archive on a real database and a real disk: every event once, whatever dies when, and equal to the roll-up."""

import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from random import Random

import pytest

from svc.chassis import crash
from svc.chassis.crash import Point
from tests.fakes.clock import FakeClock
from tests.fakes.worker import NOON, event, order_cancelled, order_placed, user_created
from tests.integration.worker_databases import Migrated, databases, in_threads, through_outages
from worker import manifest, reconcile
from worker.delivery import Event
from worker.errors import Outage
from worker.handlers.analytics.handler import AnalyticsHandler
from worker.handlers.archive.folder import Folder
from worker.handlers.archive.handler import ArchiveHandler
from worker.handlers.archive.upkeep import Upkeep

KEEP = timedelta(days=400)
EVER = date.min


class Crash(BaseException):
    """The process ends here: nothing above may catch it and go on."""


@contextmanager
def crashing(point: Point, *, time: int = 1) -> Iterator[None]:
    """Whoever comes by the point in the block for that time ends there."""
    left = [None] * time

    def strike(passed: Point) -> None:
        if passed is point:
            left.pop()
            if not left:
                raise Crash

    crash.arm(strike)
    try:
        with pytest.raises(Crash):
            yield
    finally:
        crash.arm(None)


@pytest.fixture
def analytics(migrated_url: Callable[[str, str], str]) -> Iterator[Migrated]:
    with databases(migrated_url) as make:
        yield make("analytics")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "events"


def archived(analytics: Migrated, root: Path) -> Counter[str]:
    """How often each event is in a file that counts."""
    files = analytics.read(manifest.live)
    ids = reconcile.event_ids(files, root)
    assert sum(file.events for file in files) == len(ids)
    return Counter(map(str, ids))


def once(events: list[Event]) -> Counter[str]:
    return Counter(event.id for event in events)


def sales(count: int) -> list[Event]:
    return [event(order_placed(f"orders/{number}", minor=100 + number)) for number in range(count)]


def upkeep(analytics: Migrated, folder: Folder) -> Upkeep:
    return Upkeep(analytics.database, folder, keep=KEEP, clock=FakeClock(NOON))


def test_every_event_is_archived_once_however_often_it_comes(analytics: Migrated, root: Path) -> None:
    handler = ArchiveHandler(analytics.database, Folder(root))
    events = [*sales(5), event(order_cancelled()), event(user_created())]

    handler.handle(events[:4])
    handler.handle([*events[2:], events[6]])
    handler.handle(events)

    assert once(events) == archived(analytics, root)
    assert {"weft.orders.v1.OrderPlaced": 5, "weft.orders.v1.OrderCancelled": 1, "weft.identity.v1.UserCreated": 1} == (
        analytics.read(manifest.counts)
    )


@pytest.mark.parametrize(
    "point",
    [
        *(Point.FILE_WRITTEN, Point.FILE_SYNCED, Point.FILE_RENAMED, Point.FILES_WRITTEN),
        *(Point.INBOX_CLAIMED, Point.FILES_NAMED, Point.COMMITTED),
    ],
)
def test_a_crash_at_any_step_of_archiving_loses_nothing_and_doubles_nothing(
    analytics: Migrated, root: Path, point: Point
) -> None:
    events = sales(4)
    # The first commit is that of a look at what is archived already.
    with crashing(point, time=2 if point is Point.COMMITTED else 1):
        ArchiveHandler(analytics.database, Folder(root)).handle(events)
    assert archived(analytics, root) in (Counter(), once(events))

    ArchiveHandler(analytics.database, Folder(root)).handle(events)

    assert once(events) == archived(analytics, root)


@pytest.mark.parametrize(
    "point",
    [
        *(Point.FILE_WRITTEN, Point.FILE_SYNCED, Point.FILE_RENAMED),
        *(Point.FILES_MERGED, Point.FILES_SWAPPED, Point.FILES_FORGOTTEN),
    ],
)
def test_a_crash_at_any_step_of_the_upkeep_loses_nothing_and_doubles_nothing(
    analytics: Migrated, root: Path, point: Point
) -> None:
    events = sales(10)
    for one in events:
        ArchiveHandler(analytics.database, Folder(root)).handle([one])

    with crashing(point):
        upkeep(analytics, Folder(root)).turn()
    assert once(events) == archived(analytics, root)
    upkeep(analytics, Folder(root)).turn()

    assert once(events) == archived(analytics, root)
    assert 1 == len(analytics.read(manifest.live))


def test_what_does_not_count_is_removed_after_a_while_and_nothing_else(analytics: Migrated, root: Path) -> None:
    events = sales(9)
    folder = Folder(root)
    for one in events:
        ArchiveHandler(analytics.database, folder).handle([one])
    for point in (Point.FILE_SYNCED, Point.FILES_WRITTEN):
        with crashing(point):
            ArchiveHandler(analytics.database, Folder(root)).handle([*sales(1)])
    upkeep(analytics, folder).turn()
    assert (11, 1) == (len(folder.finished(-1)), len(folder.unfinished(-1)))

    # Two hours later, by the database's clock and that of the file system.
    earlier = datetime.now(UTC).timestamp() - 7200
    for path in root.glob("*/*/*"):
        os.utime(path, (earlier, earlier))
    with analytics.engine.begin() as connection:
        connection.exec_driver_sql(
            "UPDATE archive_files SET remove_time = remove_time - interval '2 hours' WHERE remove_time IS NOT NULL"
        )
    upkeep(analytics, folder).turn()

    (kept,) = analytics.read(manifest.live)
    assert ({kept.id}, []) == (set(folder.finished(-1)), folder.unfinished(-1))
    assert once(events) == archived(analytics, root)


def test_a_file_that_an_unfinished_report_reads_stays(analytics: Migrated, root: Path) -> None:
    ArchiveHandler(analytics.database, Folder(root)).handle(sales(1))
    (file,) = analytics.read(manifest.live)
    report = "11111111-1111-4111-8111-111111111111"
    with analytics.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE archive_files SET remove_time = now() - interval '2 hours'")
        connection.exec_driver_sql(
            "INSERT INTO reports (report_id, owner, kind, row_limit, state, create_time) "
            f"VALUES ('{report}', 'ada', 'cohorts', 1, 'running', now())"
        )
        connection.exec_driver_sql(
            f"INSERT INTO report_stages VALUES ('{report}', 0, 'x', ARRAY['{file.id}'::uuid], 1)"
        )

    upkeep(analytics, Folder(root)).turn()
    assert {file.id} == analytics.read(lambda tx: manifest.known(tx, [file.id]))
    with analytics.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE reports SET state = 'cancelled'")
    upkeep(analytics, Folder(root)).turn()

    assert (set(), False) == (analytics.read(lambda tx: manifest.known(tx, [file.id])), file.path(root).exists())


def test_days_that_are_too_old_count_no_more(analytics: Migrated, root: Path) -> None:
    ArchiveHandler(analytics.database, Folder(root)).handle(sales(3))
    clock = FakeClock(NOON + KEEP)
    looking_after = Upkeep(analytics.database, Folder(root), keep=KEEP, clock=clock)

    looking_after.turn()
    assert {"weft.orders.v1.OrderPlaced": 3} == analytics.read(manifest.counts)
    clock.move(timedelta(days=1))
    looking_after.turn()

    assert {} == analytics.read(manifest.counts)


def test_several_workers_archive_and_merge_at_once(analytics: Migrated, root: Path) -> None:
    events = sales(60)

    def work(number: int) -> None:
        handler, mine = ArchiveHandler(analytics.database, Folder(root)), list(events)
        Random(number).shuffle(mine)
        for start in range(0, len(mine), 5):
            through_outages(handler, mine[start : start + 5])
            try:
                upkeep(analytics, Folder(root)).turn()
            except Outage:
                continue  # the others changed the manifest at the same moment

    in_threads(3, work)

    assert once(events) == archived(analytics, root)


def test_the_roll_up_is_the_fold_of_the_archive_at_any_moment(analytics: Migrated, root: Path) -> None:
    chance = Random(7)
    events = [
        event(kind(f"orders/{number}", minor=chance.randrange(1, 10**6), when=NOON + timedelta(hours=number)))
        for number in range(120)
        for kind in (order_placed, order_cancelled)
    ] + [event(user_created())]
    done = threading.Event()

    def counting(number: int) -> None:
        handler = (AnalyticsHandler(analytics.database), ArchiveHandler(analytics.database, Folder(root)))[number]
        # The roll-up's worker is not told of people.
        mine = events[:-1] if number == 0 else list(events)
        Random(number).shuffle(mine)
        for start in range(0, len(mine), 8):
            through_outages(handler, mine[start : start + 8])

    def looking() -> list[list[reconcile.Difference]]:
        found = []
        while not done.is_set() or not found:
            snapshot = analytics.read(reconcile.read)
            while (late := analytics.read(lambda tx, seen=snapshot: reconcile.arrived(tx, seen))) is None:
                threading.Event().wait(0.02)
            found.append(reconcile.differences(snapshot, late, root, since=EVER))
        return found

    looks: list[list[reconcile.Difference]] = []
    observer = threading.Thread(target=lambda: looks.extend(looking()))
    observer.start()
    in_threads(2, counting)
    done.set()
    observer.join(60)

    assert [] == [one for one in looks if one]
    assert len(looks) > 1
    snapshot = analytics.read(reconcile.read)
    assert (0, {events[-1].id}, 120) == (
        len(snapshot.unarchived),
        snapshot.uncounted,
        sum(sums[0] for sums in reconcile.fold(snapshot.files, root).values()),
    )


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE sales_daily SET revenue_minor = revenue_minor + 1 WHERE day = '2011-12-05'",
        "UPDATE sales_daily SET orders = orders - 1 WHERE day = '2011-12-05'",
        "DELETE FROM sales_daily",
        "UPDATE archive_files SET remove_time = now()",
    ],
)
def test_a_sum_that_is_wrong_is_told_with_its_day(analytics: Migrated, root: Path, statement: str) -> None:
    events = sales(3)
    ArchiveHandler(analytics.database, Folder(root)).handle(events)
    AnalyticsHandler(analytics.database).handle(events)
    with analytics.engine.begin() as connection:
        connection.exec_driver_sql(statement)

    snapshot = analytics.read(reconcile.read)

    found = reconcile.differences(snapshot, [], root, since=EVER)
    assert [(date(2011, 12, 5), "GBP")] == [(one.day, one.currency) for one in found]
    assert [] == reconcile.differences(snapshot, [], root, since=date(2011, 12, 6))
