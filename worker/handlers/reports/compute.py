"""The door to DuckDB: runs one question after the other over Parquet files, in bounded memory.

Lives in a process of its own (`python -m worker.handlers.reports`): what a question takes is given back when the
report is done, one that takes too much or crashes takes no worker with it, and to cancel one is to end its process.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any, Final

import duckdb
import ibis

from worker.handlers.reports import questions

#: Rows that one report may have.
ROWS_MAX: Final = 10_000

#: What an answer says of a question that needs more memory than it may take.
OUT_OF_MEMORY: Final = "memory"
#: What it says where a file of the archive is damaged or gone; `file` names it.
UNREADABLE: Final = "unreadable"
#: What it says of any other failure.
FAILED: Final = "failed"


class Engine:
    """One DuckDB without a database of its own."""

    def __init__(self, *, memory_mb: int, threads: int, spill: Path) -> None:
        """`spill`: where data goes that memory has no room for."""
        self._connection = ibis.duckdb.connect(
            memory_limit=f"{memory_mb}MiB",
            threads=threads,
            temp_directory=str(spill),
            # Without an order to keep, results need not be held back until they are whole.
            preserve_insertion_order=False,
            # Nothing is fetched from anywhere.
            autoinstall_known_extensions=False,
            autoload_known_extensions=False,
        )
        self._connection.raw_sql("SET TimeZone = 'UTC'")

    def answer(self, question: Mapping[str, Any]) -> dict[str, Any]:
        """Do what one question asks, `part` or `whole`; failures are answers, too."""
        files = [str(file) for file in question["files"]]
        try:
            if question["ask"] == "part":
                return self._part(question, files)
            return self._whole(question, files)
        except duckdb.OutOfMemoryException as error:
            return {"error": OUT_OF_MEMORY, "detail": _first_line(error)}
        except duckdb.Error as error:
            damaged = self._damaged(files) if question["ask"] == "part" else None
            if damaged is not None:
                return {"error": UNREADABLE, "file": damaged, "detail": _first_line(error)}
            return {"error": FAILED, "detail": _first_line(error)}

    def close(self) -> None:
        """Close it, and remove what was spilled."""
        self._connection.disconnect()

    def _read(self, files: Sequence[str]) -> Any:
        return self._connection.read_parquet(list(files), union_by_name=True, hive_partitioning=False)

    def _damaged(self, files: Sequence[str]) -> str | None:
        """The first that cannot be read, every column of it. After a failure only: it reads them all once more."""
        for file in files:
            try:
                self._connection.raw_sql("SELECT max(hash(rows)) FROM read_parquet(?) AS rows", parameters=[file])
            except duckdb.OutOfMemoryException:
                continue
            except duckdb.Error:
                return file
        return None

    def _part(self, question: Mapping[str, Any], files: Sequence[str]) -> dict[str, Any]:
        expression = questions.part(
            question["kind"],
            question["type"],
            self._read(files),
            start=_day(question["start"]),
            end=_day(question["end"]),
        )
        out = Path(question["out"])
        temporary = out.with_suffix(".part")
        self._connection.to_parquet(expression, temporary, compression="zstd")
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        temporary.rename(out)
        return {}

    def _whole(self, question: Mapping[str, Any], files: Sequence[str]) -> dict[str, Any]:
        expression = questions.whole(question["kind"], self._read(files), limit=question["limit"])
        # One more than there may be tells whether there are more.
        found = self._connection.raw_sql(ibis.to_sql(expression.limit(ROWS_MAX + 1), dialect="duckdb"))
        names = [column[0] for column in found.description]
        rows = found.fetchall()
        kept = [dict(zip(names, map(_plain, row), strict=True)) for row in rows[:ROWS_MAX]]
        return {"rows": kept, "truncated": len(rows) > ROWS_MAX}


def _day(text: str | None) -> date | None:
    return None if text is None else date.fromisoformat(text)


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, date) else value


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0][:300]
