"""The archive's files on the disk: written whole or not at all, and never changed.

A file is written under a temporary name, synced, renamed, and its directory synced: whatever has the final name is
complete and stays over a loss of power. Names are random and never used twice, so a name without a row in the manifest
that is older than any transaction can be is garbage for good.
"""

from __future__ import annotations

import errno
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from svc.chassis import crash
from svc.chassis.crash import Point
from svc.chassis.ids import new_id
from worker import manifest
from worker.errors import Outage, Unreadable
from worker.handlers.archive import columns
from worker.manifest import File

#: Rows that are in memory at a time while files are merged, and so the size of a row group.
ROWS_AT_ONCE: Final = 20_000

_COMPRESSION: Final = "zstd"
_FINAL: Final = ".parquet"
_TEMPORARY: Final = ".part"
_ID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class Folder:
    """The directory `day=2026-11-22/type=weft.orders.v1.OrderPlaced/UUID.parquet` and so on lie in."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def write(self, day: date, event_type: str, rows: pa.Table) -> File:
        """Write a new file of events of one day and type. Raises Outage where the disk does not take it."""

        def fill(writer: pq.ParquetWriter) -> None:
            writer.write_table(rows)

        return self._create(day, event_type, rows.schema, fill)

    def merge(self, files: Sequence[File], schema: pa.Schema) -> File:
        """Write a new file with the events of others of one day and type, in the columns of `schema` and all they have.

        Raises Unreadable of the first that is damaged or gone, and Outage where the disk does not take the new one.
        """
        wide = columns.widened(schema, [self._schema(file) for file in files])

        def fill(writer: pq.ParquetWriter) -> None:
            waiting: list[pa.Table] = []
            for rows in self._read(files, wide):
                waiting.append(rows)
                if sum(one.num_rows for one in waiting) >= ROWS_AT_ONCE:
                    writer.write_table(pa.concat_tables(waiting))
                    waiting.clear()
            if waiting:
                writer.write_table(pa.concat_tables(waiting))

        return self._create(files[0].day, files[0].type, wide, fill)

    def remove(self, paths: Sequence[Path]) -> None:
        """Remove files, and partitions that are empty then; those that are gone already are no mistake."""
        for path in paths:
            path.unlink(missing_ok=True)
            for folder in (path.parent, path.parent.parent):
                try:
                    folder.rmdir()
                except OSError:
                    break  # something else lies in it, or it is gone

    def unfinished(self, older_than_s: float) -> list[Path]:
        """Temporary files that nobody writes any more."""
        return [path for path in self.root.glob(f"*/*/*{_TEMPORARY}") if _age_s(path) > older_than_s]

    def finished(self, older_than_s: float) -> dict[str, Path]:
        """Whole files of ours of some age, by id, whether they count or not."""
        found = (path for path in self.root.glob(f"*/*/*{_FINAL}") if _ID.fullmatch(path.stem))
        return {path.stem: path for path in found if _age_s(path) > older_than_s}

    def _create(self, day: date, event_type: str, schema: pa.Schema, fill: Callable[[pq.ParquetWriter], None]) -> File:
        file_id = new_id()
        home = manifest.partition(self.root, day, event_type)
        temporary, final = home / f"{file_id}{_TEMPORARY}", home / f"{file_id}{_FINAL}"
        try:
            _make(home)
            with temporary.open("wb") as stream:
                with pq.ParquetWriter(stream, schema, compression=_COMPRESSION) as writer:
                    fill(writer)
                crash.passed(Point.FILE_WRITTEN)
                stream.flush()
                os.fsync(stream.fileno())
                size = stream.tell()
            crash.passed(Point.FILE_SYNCED)
            temporary.rename(final)
            crash.passed(Point.FILE_RENAMED)
            _sync(home)
        except OSError as error:
            raise Outage(f"archive: {errno.errorcode.get(error.errno or 0, type(error).__name__)}") from error
        events: int = pq.read_metadata(final).num_rows
        return File(day=day, type=event_type, id=file_id, events=events, bytes=size)

    def _schema(self, file: File) -> pa.Schema:
        with _reading(file, self.root) as path:
            return pq.read_schema(path)

    def _read(self, files: Sequence[File], schema: pa.Schema) -> Iterator[pa.Table]:
        for file in files:
            with _reading(file, self.root) as path, pq.ParquetFile(path) as source:
                for batch in source.iter_batches(batch_size=ROWS_AT_ONCE):
                    yield columns.conform(pa.Table.from_batches([batch]), schema)


@contextmanager
def _reading(file: File, root: Path) -> Iterator[Path]:
    path = file.path(root)
    try:
        yield path
    except (pa.ArrowException, OSError) as error:
        raise Unreadable(str(path), file.id, error) from error


def _make(home: Path) -> None:
    """A directory with its parents; each new one is synced into the one it lies in."""
    missing = [folder for folder in (home, *home.parents) if not folder.exists()]
    for folder in reversed(missing):
        folder.mkdir(mode=0o700, exist_ok=True)
        _sync(folder.parent)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _age_s(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime  # noqa: TID251 - compared with times of the file system
    except FileNotFoundError:
        return 0.0
