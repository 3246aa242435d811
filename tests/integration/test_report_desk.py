"""Reports on a real database, made by the real engine: taken, made, taken over, cancelled, given up."""

import threading
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from svc.analytics.model import Kind, Period, Question, Report, State
from svc.analytics.store import ReportStore
from svc.chassis.context import Deadline
from tests.fakes import sales_history
from tests.fakes.sales_history import history, within
from tests.fakes.worker import event, order_placed
from tests.integration.worker_databases import Migrated, databases, through_outages
from tests.waiting import eventually
from weft.analytics.v1.analytics_pb2 import ReportRow
from weft.analytics.v1.events_pb2 import ReportRequested
from worker.delivery import Event
from worker.errors import Permanent
from worker.handlers.archive.folder import Folder
from worker.handlers.archive.handler import ArchiveHandler
from worker.handlers.reports import desk as desks
from worker.handlers.reports import stages
from worker.handlers.reports.desk import Desk, Places
from worker.handlers.reports.engine import Engine
from worker.handlers.reports.handler import ReportsHandler

SALES = history(400)
NOW = datetime(2026, 3, 1, tzinfo=UTC)


class Bench:
    """An archive of some sales, and what asks for reports of it and makes them."""

    def __init__(self, analytics: Migrated, root: Path) -> None:
        self.analytics = analytics
        self.places = Places(archive=root / "events", work=root / "reports")
        self.store = ReportStore()
        self.count = 0
        handler = ArchiveHandler(analytics.database, Folder(self.places.archive))
        events = [sale.event() for sale in SALES]
        for start in range(0, len(events), 100):
            through_outages(handler, events[start : start + 100])

    def ask(self, kind: Kind, period: Period = Period(None, None), *, queued: bool = True) -> str:  # noqa: B008
        self.count += 1
        report_id = f"{self.count:08}-0000-4000-8000-000000000000"
        report = Report(
            id=report_id, owner="ada", question=Question(kind, period, 50), state=State.PENDING, create_time=NOW
        )
        deadline = Deadline.after(10)
        self.analytics.database.serializable(lambda tx: self.store.insert(tx, report), deadline=deadline)
        if queued:
            ReportsHandler(self.analytics.database, lambda: None).handle([self.event(report_id)])
        return report_id

    @staticmethod
    def event(report_id: str) -> Event:
        return event(ReportRequested(report=f"reports/{report_id}", user="users/ada"))

    def desk(self, engine: Callable[[Path], Any] | None = None) -> Desk:
        return Desk(self.analytics.database, self.places, engine or start)

    def report(self, report_id: str) -> Report:
        found: Report | None = self.analytics.read(lambda tx: self.store.report(tx, report_id, owner="ada"))
        assert found is not None
        return found

    def rows(self, report_id: str) -> list[ReportRow]:
        rows = self.analytics.read(lambda tx: self.store.rows(tx, report_id, start=0, limit=10_000))
        return [ReportRow.FromString(row) for row in rows]

    def cancel(self, report_id: str) -> None:
        self.execute(f"UPDATE reports SET state = 'cancelled', end_time = now() WHERE report_id = '{report_id}'")

    def execute(self, statement: str) -> None:
        with self.analytics.engine.begin() as connection:
            connection.exec_driver_sql(statement)


def start(spill: Path) -> Engine:
    return Engine(memory_mb=128, threads=1, spill=spill)


class Death(BaseException):
    """The worker ends here: nothing above may catch it and go on."""


class Mortal:
    """The real engine, and a worker that dies, or does something else, instead of asking its n-th question."""

    def __init__(self, spill: Path, *, at: int, instead: Callable[[], None]) -> None:
        self._engine = start(spill)
        self._left = at
        self._instead = instead
        self.asked: list[str] = []

    def ask(self, question: Mapping[str, Any]) -> None:
        if self._left == 0:
            self._instead()
        self._left -= 1
        self.asked.append(question["ask"])
        self._engine.ask(question)

    def answer(self, timeout_s: float) -> Mapping[str, Any] | None:
        return self._engine.answer(timeout_s)

    def stop(self) -> None:
        self._engine.stop()


class Stuck:
    """An engine that never answers."""

    def __init__(self, spill: Path) -> None:
        self.stopped = False

    def ask(self, question: Mapping[str, Any]) -> None:
        """Nothing comes of it."""

    def answer(self, timeout_s: float) -> Mapping[str, Any] | None:
        threading.Event().wait(0.02)
        return None

    def stop(self) -> None:
        self.stopped = True


@pytest.fixture
def bench(migrated_url: Callable[[str, str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    # Small parts, so that a few hundred events make several.
    monkeypatch.setattr(stages, "EVENTS_MAX", 100)
    with databases(migrated_url) as make:
        yield Bench(make("analytics"), tmp_path)


def die() -> None:
    raise Death


@pytest.mark.parametrize("kind", list(Kind))
def test_every_kind_of_report_is_made_in_parts_and_equals_a_count_by_hand(bench: Bench, kind: Kind) -> None:
    report_id = bench.ask(kind)

    assert bench.desk().turn()

    report = bench.report(report_id)
    assert (State.SUCCEEDED, 100, "") == (report.state, report.progress_percent, report.failure)
    assert report.stages == report.stages_done > 1
    assert report.events == report.events_read > 0
    rows = bench.rows(report_id)
    assert sales_history.report(kind, SALES, limit=50) == rows
    assert (len(rows), False) == (report.rows, report.truncated)
    assert [] == list(bench.places.work.iterdir())


def test_a_report_of_some_days_reads_no_other_files(bench: Bench) -> None:
    start_day, end_day = datetime(2025, 12, 24, tzinfo=UTC).date(), datetime(2025, 12, 26, tzinfo=UTC).date()
    report_id = bench.ask(Kind.REVENUE_BY_COUNTRY, Period(start_day, end_day))

    assert bench.desk().turn()

    assert 0 < bench.report(report_id).events < len(SALES) / 5
    expected = sales_history.report("revenue_by_country", within(SALES, start_day, end_day), limit=50)
    assert expected == bench.rows(report_id)


def test_a_report_without_events_has_no_rows(bench: Bench) -> None:
    day = datetime(1999, 1, 1, tzinfo=UTC).date()
    report_id = bench.ask(Kind.COHORTS, Period(day, day))

    assert bench.desk().turn()

    assert (State.SUCCEEDED, 0) == (bench.report(report_id).state, bench.report(report_id).rows)


def test_who_takes_over_a_report_goes_on_where_its_worker_died(bench: Bench) -> None:
    report_id = bench.ask(Kind.TOP_PRODUCTS)
    with pytest.raises(Death):
        bench.desk(partial(Mortal, at=2, instead=die)).turn()
    died = bench.report(report_id)
    assert (State.RUNNING, 2) == (died.state, died.stages_done)
    assert 0 < died.progress_percent < 100

    assert not bench.desk().turn(), "a worker that may be alive still has it"
    # More events come, files are merged: what was planned stays as it was planned.
    through_outages(
        ArchiveHandler(bench.analytics.database, Folder(bench.places.archive)), [event(order_placed("orders/late"))]
    )
    bench.execute("UPDATE reports SET lease_until = now() - interval '1 second'")
    second: list[Mortal] = []
    assert bench.desk(lambda spill: second.append(Mortal(spill, at=-1, instead=die)) or second[0]).turn()

    done = bench.report(report_id)
    assert (State.SUCCEEDED, died.stages) == (done.state, done.stages)
    assert ["part"] * (died.stages - 2) + ["whole"] == second[0].asked
    assert sales_history.report("top_products", SALES, limit=50) == bench.rows(report_id)


def test_a_part_whose_outcome_is_gone_is_made_again(bench: Bench) -> None:
    report_id = bench.ask(Kind.BASKET_PAIRS)
    with pytest.raises(Death):
        bench.desk(partial(Mortal, at=2, instead=die)).turn()
    for path in bench.places.work.glob("*/*.parquet"):
        path.unlink()
    bench.execute("UPDATE reports SET lease_until = now() - interval '1 second'")

    assert bench.desk().turn()

    assert sales_history.report("basket_pairs", SALES, limit=50) == bench.rows(report_id)


def test_a_worker_that_lost_its_report_changes_nothing_of_it(bench: Bench) -> None:
    report_id = bench.ask(Kind.COHORTS)

    def overtaken() -> None:
        # The lease has run out, and another worker makes the whole report.
        bench.execute("UPDATE reports SET lease_until = now() - interval '1 second'")
        assert bench.desk().turn()

    assert bench.desk(partial(Mortal, at=1, instead=overtaken)).turn()

    assert State.SUCCEEDED == bench.report(report_id).state
    assert sales_history.report("cohorts", SALES, limit=50) == bench.rows(report_id)


def test_a_report_that_is_cancelled_is_noticed_while_it_is_made(bench: Bench) -> None:
    report_id, engines = bench.ask(Kind.COHORTS), list[Stuck]()
    desk = bench.desk(lambda spill: engines.append(Stuck(spill)) or engines[0])

    desk.start()
    eventually(lambda: bench.report(report_id).state is State.RUNNING and engines)
    bench.cancel(report_id)
    eventually(lambda: engines[0].stopped)
    desk.stop(10)

    assert (State.CANCELLED, []) == (bench.report(report_id).state, bench.rows(report_id))
    assert [] == list(bench.places.work.iterdir())


def test_a_worker_that_is_stopped_gives_its_report_back_at_once(bench: Bench) -> None:
    report_id, engines = bench.ask(Kind.TOP_PRODUCTS), list[Stuck]()
    desk = bench.desk(lambda spill: engines.append(Stuck(spill)) or engines[0])
    desk.start()
    eventually(lambda: engines)

    desk.stop(10)

    assert (False, State.QUEUED) == (desk.alive(), bench.report(report_id).state)
    assert bench.desk().turn()
    assert State.SUCCEEDED == bench.report(report_id).state


def test_a_report_that_no_worker_survives_is_given_up(bench: Bench) -> None:
    report_id = bench.ask(Kind.COHORTS)
    for _ in range(desks.ATTEMPTS_MAX):
        with pytest.raises(Death):
            bench.desk(partial(Mortal, at=0, instead=die)).turn()
        bench.execute("UPDATE reports SET lease_until = now() - interval '1 second'")

    assert bench.desk().turn()

    report = bench.report(report_id)
    assert (State.FAILED, "it could not be made, several times over") == (report.state, report.failure)


def test_a_report_that_needs_too_much_memory_fails_and_says_what_to_do(bench: Bench) -> None:
    report_id = bench.ask(Kind.BASKET_PAIRS)

    assert bench.desk(lambda spill: Engine(memory_mb=1, threads=1, spill=spill)).turn()

    report = bench.report(report_id)
    assert (State.FAILED, True) == (report.state, "ask for fewer days" in report.failure)


def test_reports_are_made_in_the_order_in_which_they_were_asked_for_and_only_once_queued(bench: Bench) -> None:
    first = bench.ask(Kind.COHORTS, queued=False)
    assert not bench.desk().turn()
    again = bench.event(first)
    for _ in range(2):
        ReportsHandler(bench.analytics.database, lambda: None).handle([again])

    assert bench.desk().turn()

    assert State.SUCCEEDED == bench.report(first).state
    ReportsHandler(bench.analytics.database, lambda: None).handle([bench.event(first)])
    assert not bench.desk().turn(), "an event that comes late does not make a report again"


def test_a_report_whose_event_is_put_aside_says_so(bench: Bench) -> None:
    report_id = bench.ask(Kind.COHORTS, queued=False)

    ReportsHandler(bench.analytics.database, lambda: None).abandon(bench.event(report_id))

    assert State.FAILED == bench.report(report_id).state


@pytest.mark.parametrize("payload", [ReportRequested(report="reports/../x"), order_placed()])
def test_an_event_that_names_no_report_is_put_aside(bench: Bench, payload: Any) -> None:
    with pytest.raises(Permanent):
        ReportsHandler(bench.analytics.database, lambda: None).handle([event(payload)])


def test_old_reports_and_what_nobody_makes_any_more_are_removed(bench: Bench) -> None:
    report_id = bench.ask(Kind.COHORTS)
    assert bench.desk().turn()
    bench.execute("UPDATE reports SET end_time = now() - interval '31 days'")
    (bench.places.work / report_id).mkdir()
    (bench.places.work / "notes").mkdir()
    desk = bench.desk()

    desk.start()
    eventually(lambda: not (bench.places.work / report_id).exists())
    desk.stop(10)

    assert [] == bench.rows(report_id)
    assert ["notes"] == [path.name for path in bench.places.work.iterdir()]
