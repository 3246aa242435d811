"""Makes the data of etcd's members that of one cluster, before any of them starts.

A member obeys the names and addresses its data was made with, whatever its flags say. So data that was made by another
set of members (the one of earlier releases, or members on other ports), or that one of them has lost, would leave the
registry in pieces that never find each other. Then all members are made anew from the one whose data is newest, by
etcdctl's restore: keys, users and passwords stay, and their revisions go on from where they were. Writes of the last
tenth of a second before a member was killed may be in its log alone; a member that was stopped has none there.
"""

import asyncio
import json
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from deploy.supervisor import process
from deploy.supervisor.account import Account
from deploy.supervisor.config import child_environ
from deploy.supervisor.layout import Layout
from deploy.supervisor.ports import is_free
from deploy.supervisor.servers.etcd import EtcdError, Member, data_dir, initial_cluster

log = structlog.get_logger()

ETCDCTL = "/usr/bin/etcdctl"
TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Found:
    """What one member's directory holds."""

    made_for: str
    """The members its data was made for, as `initial_cluster` names them; empty where nobody wrote it down."""
    revision: int
    """Of its newest key; 0 for none; -1: it has no data."""


def source(found: Mapping[str, Found], cluster: str) -> str | None:
    """Whose data all members are to be made from; None where they fit together, or there is nothing to keep."""
    if all(each.revision < 0 for each in found.values()):
        return None
    if all(each.revision >= 0 and each.made_for == cluster for each in found.values()):
        return None
    return max(sorted(found), key=lambda name: found[name].revision)


async def form(members: Sequence[Member], layout: Layout, account: Account | None) -> None:
    """Do what has to be done. Raises EtcdError; then nothing that could be lost has been touched.

    Where a member runs already nothing is done: it belongs to a cluster that was formed before.
    """
    if any(not is_free(port) for member in members for port in (member.client_port, member.peer_port)):
        return
    await asyncio.to_thread(_form, members, layout, account)


def _form(members: Sequence[Member], layout: Layout, account: Account | None) -> None:
    cluster = initial_cluster(members)
    for member in members:
        layout.private(layout.home(member.name), account)
    chosen = source({member.name: _look(member, layout) for member in members}, cluster)
    if chosen is not None:
        log.warning("etcd_formed_anew", source=chosen, members=cluster)
        database = _database(data_dir(chosen, layout))
        for member in members:
            _restore(database, member, cluster, layout=layout, account=account)
        for member in members:
            _replace(data_dir(member.name, layout))
    for member in members:
        layout.write(_note(member, layout), cluster, account)


def _look(member: Member, layout: Layout) -> Found:
    note, database = _note(member, layout), _database(data_dir(member.name, layout))
    made_for = note.read_text() if note.is_file() else ""
    if not database.is_file():
        return Found(made_for, -1)
    try:
        status = json.loads(_etcdctl(["snapshot", "status", str(database), "--write-out=json"], None))
        return Found(made_for, int(status["revision"]))
    except (EtcdError, ValueError, KeyError) as error:
        log.warning("etcd_data_unreadable", member=member.name, reason=str(error))
        return Found("", 0)


def _restore(database: Path, member: Member, cluster: str, *, layout: Layout, account: Account | None) -> None:
    fresh = _fresh(data_dir(member.name, layout))
    shutil.rmtree(fresh, ignore_errors=True)
    # The file of a member, not a copy that etcdctl saved: it carries no checksum of its own.
    arguments = ["snapshot", "restore", str(database), "--skip-hash-check", f"--data-dir={fresh}"]
    arguments += [f"--name={member.name}", f"--initial-cluster={cluster}"]
    arguments += [f"--initial-advertise-peer-urls={member.peer}"]
    _etcdctl(arguments, account)


def _replace(data: Path) -> None:
    """Put what was restored in its place; what was there before is kept beside it, once."""
    before = data.with_name("member.before")
    shutil.rmtree(before, ignore_errors=True)
    if data.exists():
        data.rename(before)
    _fresh(data).rename(data)


def _etcdctl(arguments: Sequence[str], account: Account | None) -> str:
    try:
        done = subprocess.run(
            [*process.become(account), ETCDCTL, *arguments],
            env={**child_environ(), "ETCDCTL_API": "3"},
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EtcdError(f"{ETCDCTL} {arguments[1]}: {error}") from error
    if done.returncode != 0:
        raise EtcdError(f"{ETCDCTL} {arguments[1]}: {done.stderr.strip()[-300:]}")
    return done.stdout


def _database(data: Path) -> Path:
    return data / "member" / "snap" / "db"


def _fresh(data: Path) -> Path:
    return data.with_name("member.new")


def _note(member: Member, layout: Layout) -> Path:
    return layout.home(member.name) / "cluster"
