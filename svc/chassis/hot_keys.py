"""The seam for what many transactions want at once: who waits, waits before its snapshot is taken.

`database.serializable(..., hot_keys=[...], once=...)` is the only caller.

- PostgreSQL: each key is a session advisory lock, taken in one order before BEGIN: a transaction that waited sees what
  the one before it wrote and does not lose against it (0 retries instead of 2.7 on five hot products).
- CockroachDB has no advisory locks: there the rows that the keys name are locked by `SELECT ... FOR UPDATE` in the
  order of their ids, before the work's first statement. A key that names no row (not made by `row`) locks nothing.

The locks are only ever held inside one message to the server or inside the transaction, so the server's own
idle-in-transaction timeout (`IDLE_MS`) frees them when a process is stopped while it holds them.
"""

import hashlib
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

_ADVISORY: Final = frozenset({"postgresql"})
_ROW: Final = re.compile(r"([a-z_]+)\.([a-z_]+)/(.+)", re.DOTALL)
#: How long a process may hold locks and say nothing. The work between two statements takes a thousandth of it, so it
#: tells a process that is stopped; one that was merely slow lost nothing and is run again.
IDLE_MS: Final = 800
#: How long a repeat of a call waits for the first to end, before it is told to come back. Long enough for what a retry
#: of the gateway meets: an instance that was killed or is stopped, whose transaction the server is about to roll back.
IN_FLIGHT_MS: Final = IDLE_MS + 200

# Travels with the COMMIT or ROLLBACK of a transaction that holds locks: no further round trip, no gap.
UNLOCK: Final = "SELECT pg_advisory_unlock_all()"


@dataclass(frozen=True, slots=True)
class RowLock:
    """One statement that locks rows; it is the first of its transaction."""

    statement: str
    ids: list[str]


@dataclass(frozen=True, slots=True)
class Locks:
    """What one transaction locks before its work begins."""

    ids: tuple[int, ...] = ()
    """Advisory locks of the hot keys, each once, in the order that every process takes them in."""
    once: int | None = None
    """Advisory lock of the call itself, taken before all others."""
    rows: tuple[RowLock, ...] = ()

    @property
    def advisory(self) -> bool:
        """Whether there is something to unlock."""
        return bool(self.ids) or self.once is not None

    @property
    def locks(self) -> bool:
        """Whether others may wait for what the transaction holds."""
        return self.advisory or bool(self.rows)


def row(table: str, column: str, value: str) -> str:
    """The hot key of a row: `row("stock", "product_id", "22423")`. `column` is the table's key, of type text."""
    return f"{table}.{column}/{value}"


def plan(dialect: str, keys: Sequence[str], *, once: str = "") -> Locks:
    """The locks for those keys on that database. `once`: what makes two calls the same; empty: nothing does."""
    if dialect in _ADVISORY:
        return Locks(ids=tuple(sorted({_id(key) for key in keys})), once=_id(f"once {once}") if once else None)
    tables: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for key in keys:
        found = _ROW.fullmatch(key)
        if found:
            tables[found[1], found[2]].add(found[3])
    return Locks(rows=tuple(_row_lock(table, column, tables[table, column]) for table, column in sorted(tables)))


def lock(locks: Locks, *, wait_ms: int) -> str:
    """SQL that goes in front of BEGIN and takes the advisory locks; empty where there are none.

    A wait for the call's own lock ends with lock_not_available (55P03), one for the hot keys with query_canceled
    (57014): that tells them apart.
    """
    if not locks.advisory:
        return ""
    parts = ["BEGIN"]
    if locks.once is not None:
        parts += [f"SET LOCAL lock_timeout = {min(IN_FLIGHT_MS, wait_ms)}", f"SELECT pg_advisory_lock({locks.once})"]
    if locks.ids:
        # A function scan yields the array in its order, and nothing sorts after it.
        array = ",".join(str(lock_id) for lock_id in locks.ids)
        parts += [
            "SET LOCAL lock_timeout = 0",
            f"SET LOCAL statement_timeout = {wait_ms}",
            f"SELECT pg_advisory_lock(k) FROM unnest(ARRAY[{array}]::bigint[]) AS k",
        ]
    return "; ".join([*parts, "COMMIT; "])


def _id(key: str) -> int:
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big", signed=True)


def _row_lock(table: str, column: str, values: set[str]) -> RowLock:
    statement = f"SELECT 1 FROM {table} WHERE {column} = ANY(%s::text[]) ORDER BY {column} FOR UPDATE"
    return RowLock(statement, sorted(values))
