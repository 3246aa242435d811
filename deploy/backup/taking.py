"""Takes a backup of a running mesh, while it serves. Used by `weft backup`."""

import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

import psycopg

from deploy.backup import ORDER, bundle, postgres
from deploy.backup.bundle import BackupError, Manifest
from deploy.supervisor.errors import RefusedError
from deploy.supervisor.layout import Layout
from deploy.supervisor.messages import Status

KEYS = ("seal.key", "operator.email", "operator.password")
"""Without the first nobody can read the keys that sign tokens, without the others nobody can sign in as the operator.

Every other secret belongs to a mesh and not to its data, and each mesh makes its own."""
MAILBOX = "mail/mail.sqlite"

Tell = Callable[[str, float, int], None]
"""What was written, in how many seconds, how many bytes."""


def server_of(status: Status, secrets: Path) -> postgres.Server:
    """The database server that takes writes. Raises RefusedError where there is none."""
    for process in status.processes:
        if (process.kind, process.role, process.state) == ("database", "leader", "ready"):
            host, _, port = process.address.rpartition(":")
            return postgres.Server(host, int(port), (secrets / "postgres.password").read_text().strip())
    raise RefusedError("no database leads at the moment; `weft status` shows them")


def take(target: Path, status: Status, layout: Layout, *, keys: bool, tell: Tell) -> Manifest:
    """Write a backup to `target`. Raises ConfigError, BackupError, RefusedError; then nothing is at `target`."""
    server = server_of(status, layout.secrets)
    with bundle.writing(target) as folder, Mailbox(layout.home("mail") / "mail.sqlite") as mailbox:
        try:
            dumps = _databases(server, folder, mailbox, tell)
        except psycopg.Error as error:
            raise BackupError(f"the database server: {str(error).strip().splitlines()[0]}") from error
        mailbox.copy(folder / MAILBOX, tell)
        if layout.contracts.is_dir():
            shutil.copytree(layout.contracts, folder / "contracts")
        if keys:
            (folder / "keys").mkdir(mode=0o700)
            for name in KEYS:
                shutil.copyfile(layout.secrets / name, folder / "keys" / name)
        manifest = Manifest(datetime.now(UTC).isoformat(timespec="seconds"), keys, dumps)
        return bundle.seal(folder, manifest)


def _databases(server: postgres.Server, folder: Path, mailbox: "Mailbox", tell: Tell) -> dict[str, bundle.Dump]:
    (folder / "databases").mkdir(mode=0o700)
    with postgres.snapshots(server, ORDER, behind={"email": mailbox.freeze}) as snapshots:
        for name, snapshot in snapshots.items():
            began, file = time.monotonic(), folder / "databases" / f"{name}.dump"
            postgres.dump(server, name, snapshot.name, file)
            tell(name, time.monotonic() - began, file.stat().st_size)
        return {name: snapshot.dump for name, snapshot in snapshots.items()}


class Mailbox:
    """The local mailbox. Raises BackupError where it cannot be read.

    Behind the database that says what was sent, so that no mail is missing that nobody would send again; before those
    of what the mails are about, so that none is about what is not there.
    """

    def __init__(self, source: Path) -> None:
        self._source = source
        self._open = ExitStack()
        self._read: sqlite3.Connection | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def freeze(self) -> None:
        """From now on it is read as it is at this moment; nobody who writes to it waits."""
        if not self._source.exists():
            return
        with self._readable():
            read = sqlite3.connect(f"file:{self._source}?mode=ro", uri=True, isolation_level=None)
            self._open.enter_context(closing(read))
            read.execute("BEGIN")
            read.execute("SELECT count(*) FROM sqlite_master").fetchone()
            self._read = read

    def copy(self, file: Path, tell: Tell) -> None:
        """Write what it held."""
        if self._read is None:
            return
        began = time.monotonic()
        file.parent.mkdir(mode=0o700)
        with self._readable(), closing(sqlite3.connect(file)) as write:
            self._read.backup(write)
        tell("mailbox", time.monotonic() - began, file.stat().st_size)

    @contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise BackupError(f"{self._source}: {error}") from error
