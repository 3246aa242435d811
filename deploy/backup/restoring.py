"""Restores a backup into a mesh that is down: only its database servers run meanwhile. Used by `weft restore`."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

import psycopg

from deploy.backup import ORDER, postgres
from deploy.backup.bundle import BackupError, Manifest
from deploy.backup.taking import KEYS, MAILBOX, Tell, server_of
from deploy.supervisor.config import PROJECT, Settings
from deploy.supervisor.errors import RefusedError
from deploy.supervisor.layout import Layout
from deploy.supervisor.mesh import Mesh
from deploy.supervisor.stack import MIGRATED_BY_WORKER

MIGRATIONS = {
    name: PROJECT / (f"worker/handlers/{name}" if name in MIGRATED_BY_WORKER else f"svc/{name}") / "migrations/versions"
    for name in ORDER
}
COMMAND_TIMEOUT_S = 3600.0


def known(manifest: Manifest) -> None:
    """Raise RefusedError where this release does not know a database of the backup, or its schema.

    A database that the backup does not have is of a service that is younger; it begins empty.
    """
    for name, dump in manifest.databases.items():
        if name not in MIGRATIONS or dump.revision not in _revisions(name):
            raise RefusedError(
                f"the {name} database of the backup is at revision {dump.revision}, which this release does not know; "
                "restore with the release that made it, or a later one"
            )


def _revisions(name: str) -> Mapping[str, str]:
    """Every revision of a database's schema that this release knows, and the one before it."""
    texts = [file.read_text() for file in MIGRATIONS[name].glob("*.py")]
    return {
        revision.group(1): "".join(re.findall(r'^down_revision = "(.*)"$', text, re.MULTILINE))
        for text in texts
        if (revision := re.search(r'^revision = "(.*)"$', text, re.MULTILINE))
    }


def refuse_used(mesh: Mesh, layout: Layout) -> None:
    """Raise RefusedError where the databases of a running mesh hold what somebody would miss."""
    try:
        used = postgres.in_use(server_of(mesh.status(), layout.secrets))
    except psycopg.Error as error:
        raise BackupError(f"the database server: {str(error).strip().splitlines()[0]}") from error
    if used:
        raise RefusedError(
            f"the {used} database of {layout.root} is in use; restore into an empty mesh, or replace all of this one's "
            "data with --force"
        )


def restore(folder: Path, manifest: Manifest, settings: Settings, *, force: bool, tell: Tell) -> Mapping[str, int]:
    """Restore into the mesh of `settings`, which must be down; how many events each outbox will send again.

    Raises RefusedError, BackupError, StartError, ConfigError. Interrupted, it is to be repeated with `force`.
    """
    known(manifest)
    layout = Layout(settings.data, ha=settings.ha)
    with Mesh(settings.data, settings=settings, only=("databases",)) as mesh:
        mesh.start()
        if not force:
            refuse_used(mesh, layout)
        _keys(folder, layout, manifest)
        server = server_of(mesh.status(), layout.secrets)
        for name in manifest.databases:
            began, file = time.monotonic(), folder / "databases" / f"{name}.dump"
            try:
                postgres.restore(server, name, file)
            except psycopg.Error as error:
                raise BackupError(f"{name}: {str(error).strip().splitlines()[0]}") from error
            tell(name, time.monotonic() - began, file.stat().st_size)
        younger = [name for name in ORDER if name not in manifest.databases]
        for name in younger:
            postgres.make_anew(server, name)
        _forget(layout)
        _mailbox(folder, layout)
        behind = [name for name, dump in manifest.databases.items() if dump.revision in _revisions(name).values()]
        return _again(mesh.publishing().environ, [*behind, *younger], _moment(manifest))


def _keys(folder: Path, layout: Layout, manifest: Manifest) -> None:
    if not manifest.keys:
        return
    for name in KEYS:
        temporary = layout.secrets / f".{name}.new"
        temporary.touch(mode=0o600)
        shutil.copyfile(folder / "keys" / name, temporary)
        temporary.replace(layout.secrets / name)


def _forget(layout: Layout) -> None:
    """Remove what tells of another history: messages in the broker, and what processes knew last of each other."""
    for name in os.listdir(layout.data):
        if name.startswith("rabbitmq-"):
            shutil.rmtree(layout.home(name))
    shutil.rmtree(layout.state, ignore_errors=True)


def _mailbox(folder: Path, layout: Layout) -> None:
    kept = folder / MAILBOX
    if not kept.exists():
        return
    home = layout.home("mail")
    home.mkdir(mode=0o700, exist_ok=True)
    for beside in ("-wal", "-shm"):
        (home / f"mail.sqlite{beside}").unlink(missing_ok=True)
    shutil.copyfile(kept, home / "mail.sqlite")


def _moment(manifest: Manifest) -> str:
    """The latest that one of its databases is of, RFC 3339. Raises BackupError."""
    times = [dump.snapshot_time for dump in manifest.databases.values()] or [manifest.create_time]
    try:
        return max(map(datetime.fromisoformat, times)).isoformat()
    except (ValueError, TypeError) as error:
        raise BackupError(f"the backup does not say of which moment it is: {error}") from error


def _again(environ: Mapping[str, str], behind: Sequence[str], moment: str) -> Mapping[str, int]:
    """Bring the schemas up to date that are behind, then mark what has to be sent again: as of the backup's moment."""
    for name in behind:
        _python(environ, *(("worker", "migrate", name) if name in MIGRATED_BY_WORKER else (f"svc.{name}", "migrate")))
    counts: Mapping[str, int] = json.loads(_python(environ, "worker", "restored", "--as-of", moment).splitlines()[-1])
    return counts


def _python(environ: Mapping[str, str], *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=PROJECT,
        env={**environ, "WEFT_LOG_LEVEL": "error"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=COMMAND_TIMEOUT_S,
        check=False,
    )
    if done.returncode != 0:
        said = done.stderr.strip().splitlines() or ["it said nothing"]
        raise BackupError(f"python -m {' '.join(arguments)}: {said[-1]}")
    return done.stdout
