"""The sales roll-up on a real database."""

from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path

import pytest
from sqlalchemy.exc import IntegrityError

import svc.analytics
from svc.analytics import facts
from svc.analytics.model import DailySales, Period
from svc.analytics.store import Store
from svc.chassis import migrate
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
def database(postgres_url: Callable[[str], str]) -> Iterator[Database]:
    url = postgres_url("analytics")
    migrate.upgrade(url, MIGRATIONS)
    migrate.upgrade(url, MIGRATIONS)
    database = Database(url, pool_size=2, name="analytics")

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
