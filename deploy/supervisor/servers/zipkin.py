"""Zipkin: shows traces beside the built-in store, for whoever asks for it. They are in its memory, and end with it.

The one server that Debian has no package of, and the only one in Java: `zipkin_jar.py` says where both come from.
"""

import asyncio
import os
import shutil
from pathlib import Path

from deploy.supervisor.account import Account
from deploy.supervisor.config import child_environ
from deploy.supervisor.layout import Layout
from deploy.supervisor.part import Command, Kind, Server
from deploy.supervisor.probe import HOST
from deploy.supervisor.readiness import Http

SPANS_MAX = 100_000
"""The oldest traces give way; a span takes some 1 kB of the heap."""
JAVA_FLAGS = (
    "-Xmx384m",
    "-XX:+UseSerialGC",
    # It is up in half the time, and never as busy as would be worth more.
    "-XX:TieredStopAtLevel=1",
    # Whoever has no memory left answers nothing; started again it does.
    "-XX:+ExitOnOutOfMemoryError",
    # Its counters would be a file below /tmp.
    "-XX:-UsePerfData",
)


def server(name: str, layout: Layout, account: Account | None, *, port: int, java: str, jar: Path) -> Server:
    """The one Zipkin, which runs a copy of the jar.

    Its account need not be able to read the clone, and a jar that is replaced under a running Java ends it.
    """
    home = layout.home(name)
    copy, temporary = home / "zipkin.jar", home / "tmp"

    async def prepare() -> None:
        layout.private(home, account)
        # What one that was killed has unpacked there.
        shutil.rmtree(temporary, ignore_errors=True)
        layout.private(temporary, account)
        await asyncio.to_thread(_copy, jar, copy, account)

    return Server(
        name=name,
        kind=Kind.MONITOR,
        service="zipkin",
        command=Command(
            argv=(
                *(java, *JAVA_FLAGS, f"-Djava.io.tmpdir={temporary}", "-jar", str(copy)),
                *(f"--armeria.ports[0].address={HOST}", f"--armeria.ports[0].port={port}"),
                "--armeria.ports[0].protocols[0]=http",
                # By default pages of any site may read what is traced here.
                f"--zipkin.query.allowed-origins=http://{HOST}:{port}",
                "--spring.main.banner-mode=off",
            ),
            env={**child_environ(), "HOME": str(home), "STORAGE_TYPE": "mem", "MEM_MAX_SPANS": str(SPANS_MAX)},
            cwd=home,
            account=account,
        ),
        probe=Http(port, "/health"),
        ports=(port,),
        prepare=prepare,
        heavy=True,
        start_timeout_s=120.0,
    )


def _copy(jar: Path, copy: Path, account: Account | None) -> None:
    """`jar` as `copy`, unless it is that already, or there is no other any more."""
    if copy.exists() and (not jar.exists() or _look(copy) == _look(jar)):
        return
    temporary = copy.with_suffix(".new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as target, jar.open("rb") as source:
        shutil.copyfileobj(source, target)
        if account is not None:
            os.fchown(descriptor, account.uid, account.gid)
    status = jar.stat()
    os.utime(temporary, ns=(status.st_atime_ns, status.st_mtime_ns))
    temporary.replace(copy)


def _look(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns
