"""Holds the roll-up of sales against the archive of all events: the sums that a worker keeps, and the same sums anew.

`python -m worker reconcile`. Both consumers write to one database, so one snapshot tells exactly which events each has
taken: what the roll-up has not counted yet is left out of the fold, and what is not archived yet is waited for and
added to it. So the two are equal at any moment, under any load, or something is broken.

Days that the archive has dropped, whole or in part, are not compared.
"""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from svc.chassis.database import Transaction
from worker import manifest
from worker.errors import Unreadable
from worker.manifest import File

#: Moment and sign of the events that the roll-up counts.
_COUNTED: Final = {
    "weft.orders.v1.OrderPlaced": ("place_time", 1),
    "weft.orders.v1.OrderCancelled": ("cancel_time", -1),
}
_ONE_WITHOUT_OTHER: Final = (
    "SELECT message_id FROM inbox AS mine WHERE mine.consumer = %s AND NOT EXISTS ("
    "SELECT 1 FROM inbox AS other WHERE other.consumer = %s AND other.message_id = mine.message_id)"
)
_ARCHIVED: Final = "SELECT count(*) FROM inbox WHERE consumer = 'archive' AND message_id = ANY(%s::uuid[])"
_ROLLUP: Final = "SELECT day, currency, orders, cancellations, pieces, revenue_minor FROM sales_daily"
_NANOS_PER_MINOR: Final = 10_000_000
_ROWS_AT_ONCE: Final = 50_000

#: Orders, cancellations, pieces, revenue in minor units.
Sums = tuple[int, int, int, int]
_ZERO: Final[Sums] = (0, 0, 0, 0)
_Key = tuple[date, str]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What one moment of the database says."""

    rollup: Mapping[_Key, Sums]
    files: Sequence[File]
    uncounted: frozenset[str]
    """Archived events that the roll-up's worker has not taken: sales to come, and events that are no sales."""
    unarchived: frozenset[str]
    """Events that the roll-up counts and the archive does not have yet."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A day and currency whose sums differ."""

    day: date
    currency: str
    rollup: Sums
    archive: Sums


def read(tx: Transaction) -> Snapshot:
    """One snapshot."""
    rollup = {
        (row.day, row.currency): (row.orders, row.cancellations, row.pieces, row.revenue_minor)
        for row in tx.exec_driver_sql(_ROLLUP)
    }
    uncounted = tx.exec_driver_sql(_ONE_WITHOUT_OTHER, ("archive", "analytics"))
    unarchived = tx.exec_driver_sql(_ONE_WITHOUT_OTHER, ("analytics", "archive"))
    return Snapshot(
        rollup=rollup,
        files=manifest.live(tx),
        uncounted=frozenset(str(row.message_id) for row in uncounted),
        unarchived=frozenset(str(row.message_id) for row in unarchived),
    )


def arrived(tx: Transaction, snapshot: Snapshot) -> Sequence[File] | None:
    """The files that hold what was not archived at the moment of a snapshot; None where some of it still is not."""
    wanted = [uuid.UUID(one) for one in snapshot.unarchived]
    claimed = tx.exec_driver_sql(_ARCHIVED, (wanted,)).scalar_one()
    before = {file.id for file in snapshot.files}
    return [file for file in manifest.live(tx) if file.id not in before] if claimed == len(wanted) else None


def differences(snapshot: Snapshot, late: Sequence[File], root: Path, *, since: date) -> list[Difference]:
    """Where the roll-up is not the fold of what it has taken.

    `late` is what `arrived` says, `root` the archive's directory, `since` the first day of which nothing was dropped.
    Raises Unreadable.
    """
    folded = fold(snapshot.files, root, without=snapshot.uncounted)
    for key, sums in fold(late, root, only=snapshot.unarchived).items():
        folded[key] = _sum(folded.get(key, _ZERO), sums)
    keys = sorted(snapshot.rollup.keys() | folded.keys())
    pairs = [(key, snapshot.rollup.get(key, _ZERO), folded.get(key, _ZERO)) for key in keys if key[0] >= since]
    return [Difference(*key, kept, found) for key, kept, found in pairs if kept != found]


def whole_since(today: date, keep: timedelta) -> date:
    """The first day that is whole in an archive with this retention: the cut may have gone through the one before."""
    return today - keep + timedelta(days=2)


def fold(
    files: Sequence[File], root: Path, *, without: Collection[str] = (), only: Collection[str] | None = None
) -> dict[_Key, Sums]:
    """The sums of all sales in files, but for some events; or of some events only. Raises Unreadable."""
    named = pa.array(sorted(without if only is None else only), pa.string())
    sums: dict[_Key, Sums] = defaultdict(lambda: _ZERO)
    for file in files:
        if file.type in _COUNTED:
            moment, sign = _COUNTED[file.type]
            for kept in _rows(file, root, ["event_id", moment, "total", "items"]):
                is_named = pc.is_in(kept["event_id"], named)
                _add(sums, kept.filter(pc.invert(is_named) if only is None else is_named), moment, sign)
    return dict(sums)


def _rows(file: File, root: Path, columns: Sequence[str]) -> Iterator[pa.Table]:
    path = file.path(root)
    try:
        with pq.ParquetFile(path) as source:
            for batch in source.iter_batches(batch_size=_ROWS_AT_ONCE, columns=columns):
                yield pa.Table.from_batches([batch])
    except (pa.ArrowException, OSError) as error:
        raise Unreadable(str(path), file.id, error) from error


def _add(sums: dict[_Key, Sums], rows: pa.Table, moment: str, sign: int) -> None:
    for row in rows.select([moment, "total", "items"]).to_pylist():
        total: Mapping[str, Any] = row["total"]
        minor = total["units"] * 100 + int(total["nanos"] / _NANOS_PER_MINOR)
        pieces = sum(item["quantity"] for item in row["items"])
        key = (row[moment].date(), total["currency_code"])
        sums[key] = _sum(sums[key], (int(sign > 0), int(sign < 0), sign * pieces, sign * minor))


def _sum(left: Sums, right: Sums) -> Sums:
    return left[0] + right[0], left[1] + right[1], left[2] + right[2], left[3] + right[3]


def event_ids(files: Sequence[File], root: Path) -> list[uuid.UUID]:
    """The ids of all events in files."""
    found: list[uuid.UUID] = []
    for file in files:
        ids = pq.read_table(file.path(root), columns=["event_id"]).column("event_id").to_pylist()
        found += [uuid.UUID(one) for one in ids]
    return found
