"""How the sinks open their SQLite files: one writer, any number of readers, no waiting on each other (WAL)."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import quote

# A reader meets the writer only in a checkpoint.
_BUSY_S: Final = 5.0


def open_writer(path: Path, schema: str) -> sqlite3.Connection:
    """The one connection that writes. Any one thread at a time may use it; transactions are explicit."""
    connection = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
    # In this order: a file that is already in WAL ignores auto_vacuum.
    connection.executescript(
        "PRAGMA auto_vacuum = incremental; PRAGMA journal_mode = wal; PRAGMA synchronous = normal; " + schema
    )
    return connection


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Commit the block, or nothing of it."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        connection.rollback()
        raise
    connection.commit()


@contextmanager
def reader(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection that only reads, for one question."""
    connection = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, timeout=_BUSY_S)
    connection.row_factory = sqlite3.Row
    try:
        yield connection
    finally:
        connection.close()
