"""The sales roll-up, which a worker writes and this service reads, and reports, which it shares with their worker.

Called by use cases inside a transaction of theirs. All SQL is constant, in the common subset of PostgreSQL and
CockroachDB.
"""

from collections.abc import Sequence
from typing import Any, Final

from svc.analytics.model import UNFINISHED, Cursor, DailySales, Kind, Period, Question, Report, State
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
_COLUMNS: Final = (
    "report_id, owner, kind, start_day, end_day, row_limit, state, create_time, start_time, end_time, stages, "
    "stages_done, events, events_read, row_count, truncated, failure"
)
_REPORT: Final = f"SELECT {_COLUMNS} FROM reports WHERE report_id = %(id)s::uuid AND owner = %(owner)s"
_LOCK: Final = f"{_REPORT} FOR UPDATE"
_PAGE: Final = f"""
SELECT {_COLUMNS} FROM reports
WHERE owner = %(owner)s AND {{behind}}
ORDER BY create_time DESC, report_id DESC
LIMIT %(limit)s
"""
_FIRST: Final = _PAGE.format(behind="true")
_NEXT: Final = _PAGE.format(behind="(create_time, report_id) < (%(time)s::timestamptz, %(id)s::uuid)")
_UNFINISHED: Final = "SELECT count(*) FROM reports WHERE owner = %(owner)s AND state = ANY(%(states)s::text[])"
_INSERT: Final = """
INSERT INTO reports (report_id, owner, kind, start_day, end_day, row_limit, state, create_time)
VALUES (%(id)s::uuid, %(owner)s, %(kind)s, %(start)s::date, %(end)s::date, %(limit)s, %(state)s, %(time)s)
"""
_ROWS: Final = """
SELECT content FROM report_rows
WHERE report_id = %(id)s::uuid AND position >= %(start)s
ORDER BY position
LIMIT %(limit)s
"""
_CANCEL: Final = "UPDATE reports SET state = %(state)s, end_time = %(time)s WHERE report_id = %(id)s::uuid"


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


class ReportStore:
    """Tables `reports` and `report_rows`; keeps no state of its own."""

    def unfinished(self, tx: Transaction, owner: str) -> int:
        """How many of a user's reports wait or are made."""
        parameters = {"owner": owner, "states": [state.value for state in UNFINISHED]}
        return int(tx.exec_driver_sql(_UNFINISHED, parameters).scalar_one())

    def insert(self, tx: Transaction, report: Report) -> None:
        """Store a new report."""
        question = report.question
        parameters = {
            "id": report.id,
            "owner": report.owner,
            "kind": question.kind.value,
            "start": question.period.start,
            "end": question.period.end,
            "limit": question.limit,
            "state": report.state.value,
            "time": report.create_time,
        }
        tx.exec_driver_sql(_INSERT, parameters)

    def report(self, tx: Transaction, report_id: str, *, owner: str) -> Report | None:
        """One report of a user's."""
        row = tx.exec_driver_sql(_REPORT, {"id": report_id, "owner": owner}).first()
        return None if row is None else _report(row)

    def lock_report(self, tx: Transaction, report_id: str, *, owner: str) -> Report | None:
        """One report of a user's, which nobody else changes until the transaction ends."""
        row = tx.exec_driver_sql(_LOCK, {"id": report_id, "owner": owner}).first()
        return None if row is None else _report(row)

    def reports(self, tx: Transaction, owner: str, *, before: Cursor | None, limit: int) -> Sequence[Report]:
        """A user's reports after `before`, the newest first."""
        if before is None:
            rows = tx.exec_driver_sql(_FIRST, {"owner": owner, "limit": limit})
        else:
            parameters = {"owner": owner, "limit": limit, "time": before.create_time, "id": before.report_id}
            rows = tx.exec_driver_sql(_NEXT, parameters)
        return [_report(row) for row in rows]

    def rows(self, tx: Transaction, report_id: str, *, start: int, limit: int) -> Sequence[bytes]:
        """Rows of a report from a position on, in their order."""
        rows = tx.exec_driver_sql(_ROWS, {"id": report_id, "start": start, "limit": limit})
        return [bytes(row.content) for row in rows]

    def cancel(self, tx: Transaction, report: Report) -> None:
        """Store that a locked report was given up."""
        tx.exec_driver_sql(_CANCEL, {"id": report.id, "state": report.state.value, "time": report.end_time})


def _report(row: Any) -> Report:
    return Report(
        id=str(row.report_id),
        owner=row.owner,
        question=Question(Kind(row.kind), Period(row.start_day, row.end_day), row.row_limit),
        state=State(row.state),
        create_time=row.create_time,
        start_time=row.start_time,
        end_time=row.end_time,
        stages=row.stages,
        stages_done=row.stages_done,
        events=row.events,
        events_read=row.events_read,
        rows=row.row_count,
        truncated=row.truncated,
        failure=row.failure,
    )
