"""Dumps and restores databases of PostgreSQL with its own programs, each in one snapshot.

Passwords go to them in a file (PGPASSFILE), never in an argument or the environment.
"""

import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from deploy.backup.bundle import BackupError, Dump
from deploy.supervisor.config import child_environ
from deploy.supervisor.servers.postgres import SUPERUSER, binary
from weft_protos import mesh_parts

CONNECT_S = 10
SNAPSHOT = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
IN_USE = {
    "catalog": "SELECT EXISTS (SELECT 1 FROM products)",
    "orders": "SELECT EXISTS (SELECT 1 FROM orders) OR EXISTS (SELECT 1 FROM stock_movement)",
    "identity": "SELECT count(*) > 1 FROM users",
}
"""Whether anybody has used a mesh. One that was only started has its operator, and what tells of that.

Databases that other parts fill in consequence are not asked; those of any further service are in use once a table of
theirs has a row.
"""
_CONSEQUENCES = ("analytics",)
_TABLES = "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'alembic_version'"


@dataclass(frozen=True, slots=True)
class Server:
    """Where the databases are: the one server, or the one that leads."""

    host: str
    port: int
    password: str

    def __repr__(self) -> str:
        return f"Server({self.host}:{self.port})"

    def connect(self, database: str) -> "psycopg.Connection[tuple[object, ...]]":
        """A session of the administrator, in autocommit. Raises psycopg.OperationalError."""
        return psycopg.connect(
            host=self.host,
            port=self.port,
            user=SUPERUSER,
            password=self.password,
            dbname=database,
            connect_timeout=CONNECT_S,
            autocommit=True,
        )


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One moment of one database, which others can read as long as whoever made it holds it."""

    name: str
    dump: Dump


@contextmanager
def snapshots(
    server: Server, databases: Sequence[str], *, behind: Mapping[str, Callable[[], None]] | None = None
) -> Iterator[Mapping[str, Snapshot]]:
    """A snapshot of each database, taken one right after the other in this order. Raises psycopg.Error.

    `behind`: what is to happen right behind the snapshot of a database, before the next one is taken.
    """
    with ExitStack() as stack:
        sessions = {name: stack.enter_context(server.connect(name)) for name in databases}
        for session in sessions.values():
            session.execute("SET idle_in_transaction_session_timeout = 0")
        taken = {}
        for name, session in sessions.items():
            taken[name] = _exported(session)
            if behind and name in behind:
                behind[name]()
        yield {name: Snapshot(*taken[name]) for name in databases}


def _exported(session: "psycopg.Connection[tuple[object, ...]]") -> tuple[str, Dump]:
    session.execute(SNAPSHOT)
    row = session.execute("SELECT pg_export_snapshot(), now() AT TIME ZONE 'UTC'").fetchone()
    revision = session.execute("SELECT version_num FROM alembic_version").fetchone()
    if row is None or revision is None:
        raise BackupError(f"database {session.info.dbname} was not migrated yet; wait until the mesh is up")
    return str(row[0]), Dump(str(revision[0]), f"{str(row[1]).replace(' ', 'T')}Z")


def dump(server: Server, database: str, snapshot: str, file: Path) -> None:
    """Write what one snapshot holds, in PostgreSQL's own format, compressed. Raises BackupError."""
    _run(
        server,
        "pg_dump",
        ("--format=custom", "--compress=1", f"--snapshot={snapshot}", f"--file={file}", database),
    )


def in_use(server: Server) -> str:
    """A database that somebody has used; empty where nobody has. Raises psycopg.Error."""
    with server.connect("postgres") as session:
        there = {str(row[0]) for row in session.execute("SELECT datname FROM pg_database")}
    asked = [*IN_USE, *(name for name in mesh_parts.STORING if name not in (*IN_USE, *_CONSEQUENCES))]
    for database in asked:
        if database not in there:
            continue
        with server.connect(database) as session:
            if session.execute("SELECT to_regclass('alembic_version')").fetchone() == (None,):
                continue  # made, and not migrated yet
            question = IN_USE[database].encode() if database in IN_USE else _any_row(session)
            row = session.execute(question).fetchone()
            if row is not None and row[0]:
                return database
    return ""


def _any_row(session: "psycopg.Connection[tuple[object, ...]]") -> sql.Composed:
    tables = [str(row[0]) for row in session.execute(_TABLES)]
    looks = [sql.SQL("EXISTS (SELECT 1 FROM {})").format(sql.Identifier(table)) for table in tables]
    return sql.SQL("SELECT {}").format(sql.SQL(" OR ").join([sql.SQL("false"), *looks]))


def make_anew(server: Server, database: str) -> None:
    """An empty database in the place of what is there, owned by the role of its name. Raises psycopg.Error."""
    name = sql.Identifier(database)
    with server.connect("postgres") as session:
        session.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(name))
        session.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(name, name))
        session.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(name))


def restore(server: Server, database: str, file: Path) -> None:
    """Make a database anew, owned by the role of its name, with what was dumped. Raises BackupError, psycopg.Error."""
    make_anew(server, database)
    _run(
        server,
        "pg_restore",
        ("--no-owner", f"--role={database}", "--exit-on-error", "--single-transaction", f"--dbname={database}", file),
    )
    with server.connect(database) as session:
        session.execute("ANALYZE")


def _run(server: Server, program: str, arguments: Sequence[str | Path]) -> None:
    with tempfile.TemporaryDirectory(prefix="weft-backup-") as folder:
        passwords = Path(folder) / "pgpass"
        passwords.touch(mode=0o600)
        escaped = server.password.replace("\\", "\\\\").replace(":", "\\:")
        passwords.write_text(f"{server.host}:{server.port}:*:{SUPERUSER}:{escaped}\n")
        done = subprocess.run(
            [
                binary(program),
                *(f"--host={server.host}", f"--port={server.port}", f"--username={SUPERUSER}", "--no-password"),
                *arguments,
            ],
            env={**child_environ(), "PGPASSFILE": str(passwords)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode != 0:
        said = done.stderr.strip().splitlines() or [f"ended with {done.returncode}"]
        raise BackupError(f"{program}: {said[0]}")
