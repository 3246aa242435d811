"""The sales roll-up in the database, which the analytics worker writes and this service reads.

Called by use cases inside a transaction of theirs. The SQL is a constant in the common subset of PostgreSQL and
CockroachDB.
"""

from collections.abc import Sequence
from typing import Final

from svc.analytics.model import DailySales, Period
from svc.chassis.database import Transaction

_SALES: Final = """
SELECT day, currency, orders, cancellations, pieces, revenue_minor
FROM sales_daily
WHERE day >= coalesce(%(start)s::date, '0001-01-01'::date) AND day <= coalesce(%(end)s::date, '9999-12-31'::date)
ORDER BY day, currency
"""
_TOTALS: Final = """
SELECT coalesce(sum(orders), 0)::bigint AS orders, coalesce(sum(cancellations), 0)::bigint AS cancellations
FROM sales_daily
"""


class Store:
    """Reads the roll-up; keeps no state of its own."""

    def sales(self, tx: Transaction, period: Period) -> Sequence[DailySales]:
        """The days of a period that had sales, the earliest first, currencies in the order of their codes."""
        rows = tx.exec_driver_sql(_SALES, {"start": period.start, "end": period.end})
        return [
            DailySales(row.day, row.currency, row.orders, row.cancellations, row.pieces, row.revenue_minor)
            for row in rows
        ]

    def totals(self, tx: Transaction) -> tuple[int, int]:
        """Orders and cancellations of all days."""
        row = tx.exec_driver_sql(_TOTALS).one()
        return row.orders, row.cancellations
