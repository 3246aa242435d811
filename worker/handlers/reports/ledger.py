"""Reports in the database as their worker writes them: taken, planned, done part by part, finished.

    pending --event--> queued --a worker takes it--> running --> succeeded | failed
                          ^------- given back --------'
    whoever asked may cancel it at any moment before its end

A report that runs belongs to one worker by a lease on the database's clock, and `attempts` fences off the one that had
it before: every write of a worker names its attempt and the state, and finds no row where it lost the report.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.types import ARRAY, BigInteger, Boolean, Date, DateTime, LargeBinary, Text, Uuid

from svc.chassis.database import Transaction
from worker.handlers.reports.stages import Stage
from worker.manifest import File

#: Name of the database: the analytics service's, which migrates it.
DATABASE: Final = "analytics"

METADATA: Final = sa.MetaData()

_TIME: Final = DateTime(timezone=True)

reports: Final = sa.Table(
    "reports",
    METADATA,
    sa.Column("report_id", Uuid, primary_key=True),
    sa.Column("owner", Text, nullable=False),
    sa.Column("kind", Text, nullable=False),
    sa.Column("start_day", Date, nullable=True),
    sa.Column("end_day", Date, nullable=True),
    sa.Column("row_limit", BigInteger, nullable=False),
    sa.Column("state", Text, nullable=False),
    sa.Column("create_time", _TIME, nullable=False),
    sa.Column("start_time", _TIME, nullable=True),
    sa.Column("end_time", _TIME, nullable=True),
    sa.Column("attempts", BigInteger, nullable=False),
    sa.Column("lease_until", _TIME, nullable=True),
    sa.Column("stages", BigInteger, nullable=False),
    sa.Column("stages_done", BigInteger, nullable=False),
    sa.Column("events", BigInteger, nullable=False),
    sa.Column("events_read", BigInteger, nullable=False),
    sa.Column("row_count", BigInteger, nullable=False),
    sa.Column("truncated", Boolean, nullable=False),
    sa.Column("failure", Text, nullable=False),
)

report_stages: Final = sa.Table(
    "report_stages",
    METADATA,
    sa.Column("report_id", Uuid, primary_key=True),
    sa.Column("stage", BigInteger, primary_key=True, autoincrement=False),
    sa.Column("type", Text, nullable=False),
    sa.Column("files", ARRAY(Uuid), nullable=False),
    sa.Column("events", BigInteger, nullable=False),
    sa.Column("outcome", Text, nullable=True),
)

report_rows: Final = sa.Table(
    "report_rows",
    METADATA,
    sa.Column("report_id", Uuid, primary_key=True),
    sa.Column("position", BigInteger, primary_key=True, autoincrement=False),
    sa.Column("content", LargeBinary, nullable=False),
)

_QUEUE: Final = "UPDATE reports SET state = 'queued' WHERE report_id = ANY(%(ids)s::uuid[]) AND state = 'pending'"
_REFUSE: Final = (
    "UPDATE reports SET state = 'failed', failure = %(failure)s, end_time = now() "
    "WHERE report_id = %(id)s::uuid AND state = 'pending'"
)
_TAKE: Final = """
UPDATE reports SET state = 'running', attempts = attempts + 1, lease_until = now() + %(lease)s,
    start_time = coalesce(start_time, now())
WHERE report_id = (
    SELECT report_id FROM reports
    WHERE state = 'queued' OR (state = 'running' AND lease_until < now())
    ORDER BY create_time LIMIT 1 FOR UPDATE SKIP LOCKED
)
RETURNING report_id, kind, start_day, end_day, row_limit, attempts, stages
"""
_MINE: Final = "report_id = %(id)s::uuid AND attempts = %(attempt)s AND state = 'running'"
_RENEW: Final = f"UPDATE reports SET lease_until = now() + %(lease)s WHERE {_MINE} RETURNING 1"
_GIVE_BACK: Final = (
    f"UPDATE reports SET state = 'queued', attempts = attempts - %(refund)s, lease_until = NULL WHERE {_MINE}"
)
_PLAN: Final = f"UPDATE reports SET stages = %(stages)s, events = %(events)s WHERE {_MINE} RETURNING 1"
_UNPLAN: Final = "DELETE FROM report_stages WHERE report_id = %(id)s::uuid"
_ADD_STAGE: Final = (
    "INSERT INTO report_stages (report_id, stage, type, files, events) VALUES (%s, %s, %s, %s::uuid[], %s)"
)
_STAGES: Final = "SELECT stage, type, files, outcome FROM report_stages WHERE report_id = %(id)s::uuid ORDER BY stage"
_FILES: Final = "SELECT file_id, day, type, events, bytes FROM archive_files WHERE file_id = ANY(%(ids)s::uuid[])"
_STAGE_DONE: Final = (
    "UPDATE report_stages SET outcome = %(outcome)s WHERE report_id = %(id)s::uuid AND stage = %(stage)s"
)
_PROGRESS: Final = f"""
UPDATE reports SET
    stages_done = (SELECT count(*) FROM report_stages AS s WHERE s.report_id = %(id)s::uuid AND s.outcome IS NOT NULL),
    events_read = (
        SELECT coalesce(sum(s.events), 0)::bigint FROM report_stages AS s
        WHERE s.report_id = %(id)s::uuid AND s.outcome IS NOT NULL
    )
WHERE {_MINE} RETURNING 1
"""
_SUCCEED: Final = (
    "UPDATE reports SET state = 'succeeded', row_count = %(rows)s, truncated = %(truncated)s, end_time = now(), "
    f"lease_until = NULL WHERE {_MINE} RETURNING 1"
)
_FAIL: Final = (
    "UPDATE reports SET state = 'failed', failure = %(failure)s, end_time = now(), lease_until = NULL "
    f"WHERE {_MINE} RETURNING kind"
)
_ADD_ROWS: Final = (
    "INSERT INTO report_rows (report_id, position, content) SELECT %(id)s::uuid, r.position - 1, r.content "
    "FROM unnest(%(contents)s::bytea[]) WITH ORDINALITY AS r (content, position)"
)
_UNFINISHED: Final = (
    "SELECT report_id FROM reports WHERE report_id = ANY(%(ids)s::uuid[]) AND state IN ('pending', 'queued', 'running')"
)
_OLD: Final = "SELECT report_id FROM reports WHERE end_time < now() - %(keep)s ORDER BY end_time LIMIT 100"
_DROP: Final = tuple(
    f"DELETE FROM {table} WHERE report_id = ANY(%(ids)s::uuid[])"
    for table in ("report_rows", "report_stages", "reports")
)


@dataclass(frozen=True, slots=True)
class Work:
    """A report that a worker has taken."""

    id: str
    kind: str
    start: date | None
    end: date | None
    limit: int
    attempt: int
    planned: bool


@dataclass(frozen=True, slots=True)
class Step:
    """One stage as it stands; `outcome` names the file with what came out of it."""

    stage: Stage
    outcome: str | None


def queue(tx: Transaction, report_ids: Sequence[str]) -> None:
    """Have workers find reports that wait for that."""
    tx.exec_driver_sql(_QUEUE, {"ids": _ids(report_ids)})


def refuse(tx: Transaction, report_id: str, failure: str) -> None:
    """End a report that was never queued."""
    tx.exec_driver_sql(_REFUSE, {"id": report_id, "failure": failure})


def take(tx: Transaction, lease: timedelta) -> Work | None:
    """The oldest report that nobody makes, from now on ours. For `Database.read_committed`."""
    row = tx.exec_driver_sql(_TAKE, {"lease": lease}).first()
    if row is None:
        return None
    planned = row.stages > 0
    return Work(str(row.report_id), row.kind, row.start_day, row.end_day, row.row_limit, row.attempts, planned)


def renew(tx: Transaction, work: Work, lease: timedelta) -> bool:
    """Keep it for another while; False where it was cancelled or is another's."""
    return tx.exec_driver_sql(_RENEW, {**_mine(work), "lease": lease}).first() is not None


def give_back(tx: Transaction, work: Work, *, counts: bool) -> None:
    """Let another worker take it; `counts`: as an attempt that failed."""
    tx.exec_driver_sql(_GIVE_BACK, {**_mine(work), "refund": 0 if counts else 1})


def plan(tx: Transaction, work: Work, stages: Sequence[Stage]) -> bool:
    """Store what it is made in: its files stay until it ends. False where it is not ours any more.

    In the place of an earlier plan of ours, of which we were not told that it was stored.
    """
    totals = {"stages": len(stages), "events": sum(stage.events for stage in stages)}
    if tx.exec_driver_sql(_PLAN, {**_mine(work), **totals}).first() is None:
        return False
    tx.exec_driver_sql(_UNPLAN, {"id": work.id})
    rows = [
        (uuid.UUID(work.id), stage.number, stage.type, _ids([file.id for file in stage.files]), stage.events)
        for stage in stages
    ]
    if rows:
        tx.exec_driver_sql(_ADD_STAGE, rows)
    return True


def steps(tx: Transaction, work: Work) -> list[Step]:
    """Its stages in their order."""
    rows = tx.exec_driver_sql(_STAGES, {"id": work.id}).all()
    wanted = [one for row in rows for one in row.files]
    found = {
        str(row.file_id): File(day=row.day, type=row.type, id=str(row.file_id), events=row.events, bytes=row.bytes)
        for row in tx.exec_driver_sql(_FILES, {"ids": wanted})
    }
    return [Step(Stage(row.stage, row.type, tuple(found[str(one)] for one in row.files)), row.outcome) for row in rows]


def stage_done(tx: Transaction, work: Work, stage: Stage, outcome: str) -> bool:
    """Store that a stage is done; False, and the transaction must fail: the report is not ours any more."""
    tx.exec_driver_sql(_STAGE_DONE, {"id": work.id, "stage": stage.number, "outcome": outcome})
    return tx.exec_driver_sql(_PROGRESS, _mine(work)).first() is not None


def succeed(tx: Transaction, work: Work, rows: Sequence[bytes], *, truncated: bool) -> bool:
    """Store its rows and its end; False where it is not ours any more."""
    parameters = {**_mine(work), "rows": len(rows), "truncated": truncated}
    if tx.exec_driver_sql(_SUCCEED, parameters).first() is None:
        return False
    tx.exec_driver_sql(_ADD_ROWS, {"id": work.id, "contents": list(rows)})
    return True


def fail(tx: Transaction, work: Work, failure: str) -> bool:
    """Store that it cannot be made; False where it is not ours any more."""
    return tx.exec_driver_sql(_FAIL, {**_mine(work), "failure": failure}).first() is not None


def unfinished(tx: Transaction, report_ids: Sequence[str]) -> set[str]:
    """Those of the reports that are still to be made."""
    return {str(row.report_id) for row in tx.exec_driver_sql(_UNFINISHED, {"ids": _ids(report_ids)})}


def drop_old(tx: Transaction, keep: timedelta) -> int:
    """Drop some of the reports that ended so long ago, with their rows; how many."""
    ids = [row.report_id for row in tx.exec_driver_sql(_OLD, {"keep": keep})]
    for statement in _DROP if ids else ():
        tx.exec_driver_sql(statement, {"ids": ids})
    return len(ids)


def _mine(work: Work) -> dict[str, Any]:
    return {"id": work.id, "attempt": work.attempt}


def _ids(texts: Sequence[str]) -> list[uuid.UUID]:
    return [uuid.UUID(text) for text in texts]
