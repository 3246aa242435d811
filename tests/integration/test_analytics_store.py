"""The sales roll-up, and reports as they are asked for, on a real database."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy.exc import IntegrityError

import svc.analytics
from svc.analytics import facts
from svc.analytics.model import Cursor, DailySales, Kind, Period, Question, Report, State
from svc.analytics.store import ReportStore, Store
from svc.chassis.context import Deadline
from svc.chassis.database import Database, Transaction

MIGRATIONS = str(Path(svc.analytics.__file__).parent / "migrations")
ROWS = [
    DailySales(date(2026, 1, 31), "EUR", 1, 0, 1, 0),
    DailySales(date(2026, 1, 31), "GBP", 0, 1, -4, -250),
    DailySales(date(2026, 2, 1), "GBP", 2, 0, 30, 2**53),
]
INSERT = "INSERT INTO sales_daily (day, currency, orders, cancellations, pieces, revenue_minor) VALUES "


@pytest.fixture
def database(migrated_url: Callable[[str, str], str]) -> Iterator[Database]:
    database = Database(migrated_url("analytics", MIGRATIONS), pool_size=2, name="analytics")

    def fill(tx: Transaction) -> None:
        for row in reversed(ROWS):
            values = (row.day, row.currency, row.orders, row.cancellations, row.pieces, row.revenue_minor)
            tx.exec_driver_sql(INSERT + "(%s, %s, %s, %s, %s, %s)", values)

    database.serializable(fill, deadline=Deadline.after(10))
    yield database
    database.close()


def sales(database: Database, start: date | None, end: date | None) -> list[DailySales]:
    return list(database.read(lambda tx: Store().sales(tx, Period(start, end)), deadline=Deadline.after(10)))


@pytest.mark.parametrize(
    ("start", "end", "found"),
    [
        (None, None, ROWS),
        (date(2026, 2, 1), None, ROWS[2:]),
        (None, date(2026, 1, 31), ROWS[:2]),
        (date(2026, 1, 31), date(2026, 2, 1), ROWS),
        (date(2026, 3, 1), date(9999, 12, 31), []),
    ],
)
def test_a_period_holds_its_days_in_order(
    database: Database, start: date | None, end: date | None, found: list[DailySales]
) -> None:
    assert found == sales(database, start, end)


def test_facts_add_up_all_days(database: Database) -> None:
    assert {"service": "analytics", "outbox": {}, "unpublished": 0, "orders": 3, "cancellations": 1} == database.read(
        facts.collect, deadline=Deadline.after(10)
    )


def test_a_row_starts_from_zero_and_never_counts_below(database: Database) -> None:
    def start(tx: Transaction) -> None:
        tx.exec_driver_sql("INSERT INTO sales_daily (day, currency) VALUES ('2027-01-01', 'GBP')")
        tx.exec_driver_sql("DELETE FROM sales_daily WHERE day = '2027-01-01' AND orders = 0 AND revenue_minor = 0")

    def below(tx: Transaction) -> None:
        tx.exec_driver_sql("UPDATE sales_daily SET orders = orders - 100")

    database.serializable(start, deadline=Deadline.after(10))
    with pytest.raises(IntegrityError):
        database.serializable(below, deadline=Deadline.after(10))

    assert ROWS == sales(database, None, None)


def report(number: int, *, owner: str = "ada", state: State = State.PENDING) -> Report:
    return Report(
        id=f"{number:08}-0000-4000-8000-000000000000",
        owner=owner,
        question=Question(Kind.TOP_PRODUCTS, Period(date(2026, 1, 1), None), 7),
        state=state,
        create_time=datetime(2026, 3, 1, tzinfo=UTC) + timedelta(hours=number // 2),
    )


def test_reports_are_kept_and_listed_as_they_were_asked_for(database: Database) -> None:
    store, asked = ReportStore(), [report(number) for number in range(5)]
    deadline = Deadline.after(10)

    def insert(tx: Transaction) -> None:
        for one in [*asked, report(9, owner="bob")]:
            store.insert(tx, one)

    database.serializable(insert, deadline=deadline)

    def read(tx: Transaction) -> None:
        assert asked[3] == store.report(tx, asked[3].id, owner="ada")
        assert store.report(tx, report(8).id, owner="ada") is None
        assert store.report(tx, asked[3].id, owner="bob") is None
        pages, before = list[Report](), None
        while page := list(store.reports(tx, "ada", before=before, limit=2)):
            pages += page
            before = Cursor(page[-1].create_time, page[-1].id)
        assert asked[::-1] == pages
        assert (5, 1, 0) == tuple(store.unfinished(tx, owner) for owner in ("ada", "bob", "eve"))

    database.read(read, deadline=deadline)


def test_nobody_waits_for_a_report_of_another(database: Database) -> None:
    store, asked = ReportStore(), report(1)
    database.serializable(lambda tx: store.insert(tx, asked), deadline=Deadline.after(10))

    def foreign() -> Report | None:
        return database.serializable(
            lambda tx: store.lock_report(tx, asked.id, owner="bob"), deadline=Deadline.after(10)
        )

    def meanwhile(tx: Transaction) -> Report | None:
        assert asked == store.lock_report(tx, asked.id, owner="ada")
        # A wait for that lock would end at its deadline.
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(foreign).result()

    assert database.serializable(meanwhile, deadline=Deadline.after(30)) is None


def test_a_report_that_was_given_up_counts_no_more(database: Database) -> None:
    store, asked, deadline = ReportStore(), report(1), Deadline.after(10)
    database.serializable(lambda tx: store.insert(tx, asked), deadline=deadline)

    def cancel(tx: Transaction) -> None:
        locked = store.lock_report(tx, asked.id, owner="ada")
        assert locked is not None
        store.cancel(tx, replace(locked, state=State.CANCELLED, end_time=locked.create_time))

    database.serializable(cancel, deadline=deadline)

    found = database.read(
        lambda tx: (store.report(tx, asked.id, owner="ada"), store.unfinished(tx, "ada")), deadline=deadline
    )
    assert (replace(asked, state=State.CANCELLED, end_time=asked.create_time), 0) == found
