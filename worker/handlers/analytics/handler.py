"""The analytics worker's handler: adds what events change to the sales of their days.

The database belongs to the analytics service, which migrates it and reads the same rows; the table is stated here as
this worker uses it, and a test compares it with the migrated one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Final

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.types import BigInteger, Date, Text

from svc.chassis.database import Database, Transaction
from worker import inbox
from worker.delivery import Event
from worker.handlers.analytics import rollup

CONSUMER: Final = "analytics"

#: Name of the database.
DATABASE: Final = "analytics"

METADATA: Final = sa.MetaData()

sales_daily: Final = sa.Table(
    "sales_daily",
    METADATA,
    sa.Column("day", Date, primary_key=True),
    sa.Column("currency", Text, primary_key=True),
    sa.Column("orders", BigInteger, nullable=False),
    sa.Column("cancellations", BigInteger, nullable=False),
    sa.Column("pieces", BigInteger, nullable=False),
    sa.Column("revenue_minor", BigInteger, nullable=False),
)

_SUMS: Final = ("orders", "cancellations", "pieces", "revenue_minor")
_NEW: Final = insert(sales_daily)
_ADD: Final = _NEW.on_conflict_do_update(
    index_elements=[sales_daily.c.day, sales_daily.c.currency],
    set_={name: sales_daily.c[name] + _NEW.excluded[name] for name in _SUMS},
)
_TOTALS: Final = sa.select(
    sales_daily.c.currency, *(sa.func.sum(sales_daily.c[name]).label(name) for name in _SUMS)
).group_by(sales_daily.c.currency)


class AnalyticsHandler:
    """Adds orders and cancellations to the roll-up, each once."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def handle(self, events: Sequence[Event]) -> None:
        """Fold a batch and add its sums in one transaction.

        Nearly every event is of today: workers wait for a day's row before their snapshot, and do not lose against each
        other.
        """
        rows = [f"sales_daily/{change.day}/{change.currency}" for change in rollup.fold(events)]
        inbox.once(self._database, CONSUMER, events, _add, hot_keys=rows)

    def abandon(self, event: Event) -> None:
        """Nothing: an event that was put aside has changed no sum."""


@dataclass(frozen=True, slots=True)
class Totals:
    """Everything the roll-up holds, over all days."""

    orders: int
    cancellations: int
    revenue_minor: dict[str, int]


def totals(tx: Transaction) -> Totals:
    """Sum the roll-up up."""
    rows = tx.execute(_TOTALS).all()
    return Totals(
        orders=sum(int(row.orders) for row in rows),
        cancellations=sum(int(row.cancellations) for row in rows),
        revenue_minor={row.currency: int(row.revenue_minor) for row in rows},
    )


def _add(tx: Transaction, events: Sequence[Event]) -> None:
    # Sorted by `fold`: two workers take the rows' locks in one order.
    tx.execute(_ADD, [asdict(change) for change in rollup.fold(events)])
