"""Spans in SQLite: appended by one writer, asked by trace, by service and by time, pruned by age and size.

`TraceSink` owns it. A span's body is its own OTLP serialization, the fastest form to keep; a summary row for each
trace answers lists without reading bodies. A span that is exported twice is kept and counted once.
"""

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from deploy.observability.span_tree import Arrival, StoredSpan, duration_ms, moment
from deploy.observability.sqlite import open_writer, reader, transaction

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS span (
  trace_id TEXT NOT NULL, span_id TEXT NOT NULL, service TEXT NOT NULL, body BLOB NOT NULL,
  PRIMARY KEY (trace_id, span_id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS trace (
  trace_id TEXT PRIMARY KEY, service TEXT NOT NULL, name TEXT NOT NULL, rooted INTEGER NOT NULL,
  lead INTEGER NOT NULL, start INTEGER NOT NULL, finish INTEGER NOT NULL,
  spans INTEGER NOT NULL, errors INTEGER NOT NULL, seen REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS trace_start ON trace (start);
CREATE INDEX IF NOT EXISTS trace_error ON trace (start) WHERE errors > 0;
CREATE INDEX IF NOT EXISTS trace_seen ON trace (seen);
CREATE TABLE IF NOT EXISTS trace_service (
  service TEXT NOT NULL, trace_id TEXT NOT NULL, PRIMARY KEY (service, trace_id)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS trace_service_trace ON trace_service (trace_id);
"""
_ADD: Final = "INSERT OR IGNORE INTO span (trace_id, span_id, service, body) VALUES (?, ?, ?, ?)"
# The trace is called after its root, or, until that comes, after the span that began first.
_SUMMARISE: Final = """
INSERT INTO trace (trace_id, service, name, rooted, lead, start, finish, spans, errors, seen)
VALUES (:trace_id, :service, :name, :rooted, :start, :start, :finish, 1, :errors, :seen)
ON CONFLICT (trace_id) DO UPDATE SET
  service = CASE WHEN (excluded.rooted, -excluded.lead) > (rooted, -lead) THEN excluded.service ELSE service END,
  name = CASE WHEN (excluded.rooted, -excluded.lead) > (rooted, -lead) THEN excluded.name ELSE name END,
  lead = CASE WHEN (excluded.rooted, -excluded.lead) > (rooted, -lead) THEN excluded.lead ELSE lead END,
  rooted = max(rooted, excluded.rooted),
  start = min(start, excluded.start), finish = max(finish, excluded.finish),
  spans = spans + 1, errors = errors + excluded.errors, seen = excluded.seen
"""
_PRUNE_TRACES: Final = 500


@dataclass(frozen=True, slots=True)
class Retention:
    """What is kept: whatever is older or more goes, oldest traces first."""

    age_s: float = 24 * 3600
    """Since the last span of a trace arrived."""
    size_bytes: int = 512 * 1024 * 1024
    """Of the file, without what is free in it."""


class SpanWriter:
    """The side that writes; one thread uses it."""

    def __init__(self, path: Path) -> None:
        """Creates the file where it is not there."""
        self._db = open_writer(path, _SCHEMA)

    def add(self, arrivals: Iterable[Arrival]) -> int:
        """Keep spans, in one transaction; the number of those that were new."""
        new = 0
        now = _now()
        with transaction(self._db):
            for arrival in arrivals:
                span = arrival.span
                if self._db.execute(_ADD, (span.trace_id, span.span_id, span.service, span.body)).rowcount == 0:
                    continue
                new += 1
                self._db.execute(_SUMMARISE, _summary(arrival, now))
                self._db.execute("INSERT OR IGNORE INTO trace_service VALUES (?, ?)", (span.service, span.trace_id))
        return new

    def prune(self, retention: Retention) -> int:
        """Drop the oldest traces until the rest is within bounds; the number of those dropped."""
        dropped = 0
        while True:
            size = self._size()
            oldest = self._db.execute("SELECT trace_id, seen FROM trace ORDER BY seen LIMIT ?", (_PRUNE_TRACES,))
            limit = _now() - retention.age_s
            victims = [(row[0],) for row in oldest if size > retention.size_bytes or row[1] < limit]
            if not victims:
                break
            with transaction(self._db):
                for table in ("span", "trace_service", "trace"):
                    self._db.executemany(f"DELETE FROM {table} WHERE trace_id = ?", victims)
            dropped += len(victims)
        if dropped:
            # As a script: as a statement it frees one page.
            self._db.executescript("PRAGMA incremental_vacuum")
        return dropped

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def _size(self) -> int:
        pages, free, page_bytes = (
            int(self._db.execute(f"PRAGMA {name}").fetchone()[0])
            for name in ("page_count", "freelist_count", "page_size")
        )
        return (pages - free) * page_bytes


def _now() -> float:
    return datetime.now(UTC).timestamp()


def _summary(arrival: Arrival, now: float) -> dict[str, Any]:
    return {
        "trace_id": arrival.span.trace_id,
        "service": arrival.span.service,
        "name": arrival.name,
        "rooted": int(arrival.root),
        "start": arrival.start,
        "finish": arrival.finish,
        "errors": int(arrival.failed),
        "seen": now,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """Which traces are meant; what is left empty excludes none."""

    service: str = ""
    """Any span is of that service."""
    name: str = ""
    """A part of the trace's name, in any case."""
    errors: bool = False
    """Something failed."""
    least_nanos: int = 0
    """It took so long or longer."""
    since: int = 0
    """It began then or later: nanoseconds since 1970, as all times here."""
    until: int = 0
    """It began before then; 0: whenever."""
    before: tuple[int, str] | None = None
    """It comes behind the trace with this start and id, in a list of the newest first."""


class SpanReader:
    """The side that is asked; any thread, a connection of its own for each question."""

    def __init__(self, path: Path) -> None:
        """The file must have been created by a SpanWriter."""
        self._path = path

    def latest(self, search: Search, *, limit: int) -> list[dict[str, Any]]:
        """Summaries of traces, the newest first; `start_nanos` beside the start for people."""
        conditions, values = _conditions(search)
        where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
        statement = f"SELECT * FROM trace {where} ORDER BY start DESC, trace_id DESC LIMIT ?"
        with reader(self._path) as db:
            rows = db.execute(statement, (*values, limit)).fetchall()
        return [_summary_json(row) for row in rows]

    def spans(self, trace_id: str) -> Sequence[StoredSpan]:
        """The spans of a trace; none where it is not known."""
        with reader(self._path) as db:
            rows = db.execute("SELECT * FROM span WHERE trace_id = ?", (trace_id,)).fetchall()
        return [StoredSpan(row["trace_id"], row["span_id"], row["service"], row["body"]) for row in rows]

    def began(self, trace_id: str) -> int:
        """When a trace began, in nanoseconds since 1970; 0 where it is not known."""
        with reader(self._path) as db:
            row = db.execute("SELECT start FROM trace WHERE trace_id = ?", (trace_id,)).fetchone()
        return 0 if row is None else int(row["start"])

    def services(self) -> list[dict[str, Any]]:
        """Every service that spans came from, with the number of its traces."""
        statement = "SELECT service, count(*) AS traces FROM trace_service GROUP BY service ORDER BY service"
        with reader(self._path) as db:
            return [dict(row) for row in db.execute(statement)]


def _conditions(search: Search) -> tuple[list[str], list[Any]]:
    """The words of a WHERE and their values: all constant but for the values."""
    wanted: list[tuple[str, tuple[Any, ...]]] = []
    if search.service:
        wanted.append(("trace_id IN (SELECT trace_id FROM trace_service WHERE service = ?)", (search.service,)))
    if search.name:
        wanted.append(("instr(lower(name), lower(?)) > 0", (search.name,)))
    if search.errors:
        wanted.append(("errors > 0", ()))
    if search.least_nanos:
        wanted.append(("finish - start >= ?", (search.least_nanos,)))
    if search.since:
        wanted.append(("start >= ?", (search.since,)))
    if search.until:
        wanted.append(("start < ?", (search.until,)))
    if search.before is not None:
        wanted.append(("(start, trace_id) < (?, ?)", search.before))
    return [words for words, _ in wanted], [value for _, values in wanted for value in values]


def _summary_json(row: sqlite3.Row) -> dict[str, Any]:
    return {
        "trace_id": row["trace_id"],
        "start_nanos": row["start"],
        "service": row["service"],
        "name": row["name"],
        "start": moment(row["start"]),
        "duration_ms": duration_ms(row["finish"] - row["start"]),
        "spans": row["spans"],
        "errors": row["errors"],
    }
