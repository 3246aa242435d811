"""The manifest of the archive: which files hold events, each event in exactly one of them.

The archive worker writes it, the reports worker reads it. A file counts from the transaction that names it here until
`remove_time` is set; what lies on the disk without a row is nobody's. A file that counts no more stays until no
unfinished report reads it, see `forget`.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.types import BigInteger, Date, DateTime, Text, Uuid

from svc.chassis.database import Transaction

#: Name of the database: the analytics service's, which migrates it.
DATABASE: Final = "analytics"

METADATA: Final = sa.MetaData()

archive_files: Final = sa.Table(
    "archive_files",
    METADATA,
    sa.Column("file_id", Uuid, primary_key=True),
    sa.Column("day", Date, nullable=False),
    sa.Column("type", Text, nullable=False),
    sa.Column("events", BigInteger, nullable=False),
    sa.Column("bytes", BigInteger, nullable=False),
    sa.Column("create_time", DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
    sa.Column("remove_time", DateTime(timezone=True), nullable=True),
)

_ADD: Final = (
    "INSERT INTO archive_files (file_id, day, type, events, bytes) SELECT * FROM unnest("
    "%(ids)s::uuid[], %(days)s::date[], %(types)s::text[], %(events)s::bigint[], %(bytes)s::bigint[])"
)
_LIVE: Final = "SELECT file_id, day, type, events, bytes FROM archive_files WHERE remove_time IS NULL"
_CROWDED: Final = (
    f"{_LIVE} AND (day, type) IN ("
    "SELECT day, type FROM archive_files WHERE remove_time IS NULL GROUP BY day, type HAVING count(*) > 1)"
)
_LIVE_IN: Final = (
    f"{_LIVE} AND type = ANY(%(types)s::text[]) AND day >= coalesce(%(start)s::date, '0001-01-01'::date) "
    "AND day <= coalesce(%(end)s::date, '9999-12-31'::date) ORDER BY type, day, file_id"
)
_REPLACE: Final = (
    "UPDATE archive_files SET remove_time = now() WHERE file_id = ANY(%(ids)s::uuid[]) AND remove_time IS NULL "
    "RETURNING events"
)
_EXPIRE: Final = (
    "UPDATE archive_files SET remove_time = now() WHERE day < %(before)s AND remove_time IS NULL RETURNING file_id"
)
_FORGET: Final = """
DELETE FROM archive_files
WHERE remove_time < now() - %(grace)s AND file_id NOT IN (
    SELECT unnest(s.files) FROM report_stages AS s JOIN reports AS r ON r.report_id = s.report_id
    WHERE r.state IN ('pending', 'queued', 'running')
)
RETURNING file_id, day, type, events, bytes
"""
_KNOWN: Final = "SELECT file_id FROM archive_files WHERE file_id = ANY(%(ids)s::uuid[])"
_COUNTS: Final = "SELECT type, sum(events)::bigint AS events FROM archive_files WHERE remove_time IS NULL GROUP BY type"


@dataclass(frozen=True, slots=True, order=True)
class File:
    """One file of events of one type and one UTC day."""

    day: date
    type: str
    id: str
    events: int
    bytes: int

    def path(self, root: Path) -> Path:
        """Where it lies below the archive's directory; partitions are named as Hive names them."""
        return partition(root, self.day, self.type) / f"{self.id}.parquet"


def partition(root: Path, day: date, event_type: str) -> Path:
    """The directory of the events of one day and type."""
    return root / f"day={day.isoformat()}" / f"type={event_type}"


def add(tx: Transaction, files: Sequence[File]) -> None:
    """Have files count from this transaction on."""
    parameters = {
        "ids": [uuid.UUID(file.id) for file in files],
        "days": [file.day for file in files],
        "types": [file.type for file in files],
        "events": [file.events for file in files],
        "bytes": [file.bytes for file in files],
    }
    tx.exec_driver_sql(_ADD, parameters)


def live(tx: Transaction) -> list[File]:
    """Every file that counts."""
    return [_file(row) for row in tx.exec_driver_sql(_LIVE)]


def crowded(tx: Transaction) -> list[File]:
    """Every file that counts and is not the only one of its day and type."""
    return [_file(row) for row in tx.exec_driver_sql(_CROWDED)]


def live_in(tx: Transaction, types: Sequence[str], start: date | None, end: date | None) -> list[File]:
    """The files that count of some types, from one day to another; in order."""
    return [_file(row) for row in tx.exec_driver_sql(_LIVE_IN, {"types": list(types), "start": start, "end": end})]


def replace(tx: Transaction, old: Sequence[File], new: File) -> bool:
    """Have one file count in the place of others. False, and the transaction must fail: one of them counts no more."""
    rows = tx.exec_driver_sql(_REPLACE, {"ids": [uuid.UUID(file.id) for file in old]}).all()
    add(tx, [new])
    return len(rows) == len(old) and sum(row.events for row in rows) == new.events


def expire(tx: Transaction, before: date) -> int:
    """Have files of earlier days count no more; how many there were."""
    return len(tx.exec_driver_sql(_EXPIRE, {"before": before}).all())


def forget(tx: Transaction, grace: timedelta) -> list[File]:
    """Drop the rows of files that have not counted for so long, and that no unfinished report reads."""
    return [_file(row) for row in tx.exec_driver_sql(_FORGET, {"grace": grace})]


def known(tx: Transaction, ids: Sequence[str]) -> set[str]:
    """Those of the ids that have a row."""
    rows = tx.exec_driver_sql(_KNOWN, {"ids": [uuid.UUID(one) for one in ids]})
    return {str(row.file_id) for row in rows}


def counts(tx: Transaction) -> dict[str, int]:
    """Archived events by type."""
    return {row.type: row.events for row in tx.exec_driver_sql(_COUNTS)}


def _file(row: Any) -> File:
    return File(day=row.day, type=row.type, id=str(row.file_id), events=row.events, bytes=row.bytes)
