"""Takes a backup of a running mesh, while it serves. Used by `weft backup`."""

import shutil
import sqlite3
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

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
    with bundle.writing(target) as folder:
        try:
            dumps = _databases(server, folder, tell)
        except psycopg.Error as error:
            raise BackupError(f"the database server: {str(error).strip().splitlines()[0]}") from error
        _mailbox(layout, folder, tell)
        if layout.contracts.is_dir():
            shutil.copytree(layout.contracts, folder / "contracts")
        if keys:
            (folder / "keys").mkdir(mode=0o700)
            for name in KEYS:
                shutil.copyfile(layout.secrets / name, folder / "keys" / name)
        manifest = Manifest(datetime.now(UTC).isoformat(timespec="seconds"), keys, dumps)
        return bundle.seal(folder, manifest)


def _databases(server: postgres.Server, folder: Path, tell: Tell) -> dict[str, bundle.Dump]:
    (folder / "databases").mkdir(mode=0o700)
    with postgres.snapshots(server, ORDER) as snapshots:
        for name, snapshot in snapshots.items():
            began, file = time.monotonic(), folder / "databases" / f"{name}.dump"
            postgres.dump(server, name, snapshot.name, file)
            tell(name, time.monotonic() - began, file.stat().st_size)
        return {name: snapshot.dump for name, snapshot in snapshots.items()}


def _mailbox(layout: Layout, folder: Path, tell: Tell) -> None:
    """The local mailbox, behind the database that says what was sent: a mail may be there twice, never not at all."""
    source = layout.home("mail") / "mail.sqlite"
    if not source.exists():
        return
    began, file = time.monotonic(), folder / MAILBOX
    file.parent.mkdir(mode=0o700)
    try:
        with sqlite3.connect(f"file:{source}?mode=ro", uri=True) as read, sqlite3.connect(file) as write:
            read.backup(write)
    except sqlite3.Error as error:
        raise BackupError(f"{source}: {error}") from error
    tell("mailbox", time.monotonic() - began, file.stat().st_size)
