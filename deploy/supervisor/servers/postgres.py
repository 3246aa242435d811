"""PostgreSQL: the database server. SCRAM over loopback TCP only; one database and one owning role per name."""

import asyncio
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from deploy.supervisor import process, procfs
from deploy.supervisor.account import Account
from deploy.supervisor.config import child_environ
from deploy.supervisor.errors import ConfigError, StartError
from deploy.supervisor.layout import Layout
from deploy.supervisor.part import Command, Kind, Server
from deploy.supervisor.probe import HOST
from deploy.supervisor.readiness import Postgres

SUPERUSER = "weft"
BINARIES = Path("/usr/lib/postgresql")
CONNECTIONS_MAX = 400
"""Thirty-two instances of one service with pools of eight, the rest of the mesh, and room for what restarts."""
INITDB_TIMEOUT_S = 120.0
BURIAL_TIMEOUT_S = 10.0
"""How long the machine's first process may take to notice that a child it has inherited is dead."""
BURIAL_POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class Owner:
    """A database and the role of the same name that owns it."""

    name: str
    password: str

    def __repr__(self) -> str:
        return f"Owner(name={self.name!r}, password=...)"


def binary(name: str) -> Path:
    """A program of the newest PostgreSQL installed. Raises ConfigError when there is none."""
    versions = [path for path in BINARIES.glob(f"*/bin/{name}") if path.parts[-3].isdigit()]
    if not versions:
        raise ConfigError(
            f"{name} is not below {BINARIES}; run `make up` or deploy/setup.sh, which installs PostgreSQL"
        )
    return max(versions, key=lambda path: int(path.parts[-3]))


def server(
    name: str, layout: Layout, account: Account | None, *, port: int, password: str, durable: bool = True
) -> Server:
    """One server with a cluster directory. Without `durable` a machine that stops may lose data, a process not."""
    home = layout.home(name)
    data = home / "cluster"
    environ = {**child_environ(), "HOME": str(home)}

    async def prepare() -> None:
        layout.private(home, account)
        layout.private(home / "socket", account)
        if not (data / "PG_VERSION").exists():
            await _initialise(name, layout, account, password=password)
        await _until_buried(data / "postmaster.pid")

    return Server(
        name=name,
        kind=Kind.DATABASE,
        service="postgres",
        command=Command(
            argv=(str(binary("postgres")), "-D", str(data), *_settings(port, home / "socket", durable=durable)),
            env=environ,
            cwd=home,
            account=account,
        ),
        probe=Postgres(port, SUPERUSER),
        ports=(port,),
        prepare=prepare,
        role="leader",
        stop_signal=signal.SIGINT,  # "fast": sessions are ended; SIGTERM would wait for clients to leave
        grace_s=30.0,
        start_timeout_s=90.0,  # crash recovery comes first
    )


async def _until_buried(lock: Path) -> None:
    """Wait until a server that was killed has no process left, not even a zombie: a start beside it is refused.

    The file is not removed instead: by it the server also finds sessions of the killed one that still write.
    """
    deadline = asyncio.get_running_loop().time() + BURIAL_TIMEOUT_S
    while asyncio.get_running_loop().time() < deadline:
        try:
            pid = int(lock.read_text().split(maxsplit=1)[0])
        except (FileNotFoundError, IndexError, ValueError):
            return
        if procfs.start_time(pid) is not None or not Path(f"/proc/{pid}").exists():
            return
        await asyncio.sleep(BURIAL_POLL_S)


def _settings(port: int, socket: Path, *, durable: bool) -> tuple[str, ...]:
    settings = {
        "listen_addresses": HOST,
        "port": str(port),
        "max_connections": str(CONNECTIONS_MAX),
        **parameters(socket, durable=durable),
    }
    return tuple(argument for name, value in settings.items() for argument in ("-c", f"{name}={value}"))


def parameters(socket: Path, *, durable: bool) -> dict[str, str]:
    """Settings of a server, however it is run."""
    settings = {
        "unix_socket_directories": str(socket),  # the default belongs to the system's own server
        "shared_buffers": "128MB",
        "timezone": "UTC",
        "log_timezone": "UTC",
        "log_line_prefix": "%m [%p] %u@%d ",
        "log_error_verbosity": "terse",  # the detail of an error holds the row that was refused
        "idle_in_transaction_session_timeout": "30s",  # a client that hangs in a transaction gives its locks back
        "max_wal_size": "512MB",
    }
    if not durable:
        # synchronous_commit stays on: where one session is killed the server starts all of them anew, and what was
        # committed but not yet handed to the system would be lost although it was acknowledged.
        settings |= {"fsync": "off", "full_page_writes": "off"}
    return settings


async def _initialise(name: str, layout: Layout, account: Account | None, *, password: str) -> None:
    home = layout.home(name)
    # A half-made directory of a start that was killed would be refused; `initdb` is finished when PG_VERSION is there
    # and moved into place, since the move is the last step.
    draft = home / "cluster.new"
    await process.run(
        Command(("/bin/rm", "-rf", str(draft)), child_environ(), home, account),
        log=layout.log_of(name),
        timeout_s=INITDB_TIMEOUT_S,
        dies_with_us=True,
    )
    password_file = layout.write(home / "password", password, account)
    argv = (
        *(str(binary("initdb")), "-D", str(draft), "-U", SUPERUSER, f"--pwfile={password_file}"),
        *("--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync", "--no-instructions"),
    )
    try:
        code = await process.run(
            Command(argv, {**child_environ(), "HOME": str(home)}, home, account),
            log=layout.log_of(name),
            timeout_s=INITDB_TIMEOUT_S,
            dies_with_us=True,
        )
    finally:
        password_file.unlink()
    if code != 0:
        raise StartError(name, f"initdb ended with code {code}")
    draft.rename(home / "cluster")


async def ensure_databases(ports: Sequence[int], password: str, owners: Sequence[Owner]) -> None:
    """Make every role and database that is missing, and set every password to what it should be.

    `ports`: of the one server, or of the members of a cluster, whose leader is looked for. Raises psycopg.Error.
    """
    await asyncio.to_thread(_ensure_databases, ports, password, owners)


def copy_database(port: int, password: str, *, of: str, to: str) -> None:
    """Make a database as another one is, to which nobody is connected, of the same owner. Raises psycopg.Error."""
    copied, copy = sql.Identifier(of), sql.Identifier(to)
    with _leader([port], password) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE {}").format(copy, copied, copied))
        connection.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(copy))


async def ensure_monitor(ports: Sequence[int], password: str, monitor: Owner) -> None:
    """Make the role that reads statistics, and set its password to what it should be."""
    await asyncio.to_thread(_ensure_monitor, ports, password, monitor)


def standbys(ports: Sequence[int], monitor: Owner) -> list[tuple[str, str, float]]:
    """Name, state and seconds of lag of each standby, as the server that leads sees it. Raises psycopg.Error."""
    with psycopg.connect(
        host=",".join(HOST for _ in ports),
        port=",".join(map(str, ports)),
        target_session_attrs="read-write",
        user=monitor.name,
        password=monitor.password,
        dbname="postgres",
        connect_timeout=5,
    ) as connection:
        rows = connection.execute(
            "SELECT application_name, coalesce(state, ''), coalesce(extract(epoch FROM replay_lag), 0)::float8 "
            "FROM pg_stat_replication ORDER BY application_name"
        ).fetchall()
    return [(str(name), str(state), float(lag)) for name, state, lag in rows]


def _ensure_monitor(ports: Sequence[int], password: str, monitor: Owner) -> None:
    with _leader(ports, password) as connection:
        known = connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (monitor.name,)).fetchone()
        _set_role(connection, monitor, "ALTER" if known else "CREATE")
        connection.execute(sql.SQL("GRANT pg_monitor TO {}").format(sql.Identifier(monitor.name)))


def _set_role(connection: psycopg.Connection[Any], owner: Owner, verb: str) -> None:
    # Hashed on this side: the statement, and a log that shows it, never holds the password itself.
    verifier = connection.pgconn.encrypt_password(
        owner.password.encode(), owner.name.encode(), b"scram-sha-256"
    ).decode()
    statement = sql.SQL("{} ROLE {} LOGIN PASSWORD {}")
    connection.execute(statement.format(sql.SQL(verb), sql.Identifier(owner.name), sql.Literal(verifier)))


def _leader(ports: Sequence[int], password: str) -> psycopg.Connection[Any]:
    return psycopg.connect(
        host=",".join(HOST for _ in ports),
        port=",".join(map(str, ports)),
        target_session_attrs="read-write",
        user=SUPERUSER,
        password=password,
        dbname="postgres",
        autocommit=True,
        connect_timeout=10,
    )


def _ensure_databases(ports: Sequence[int], password: str, owners: Sequence[Owner]) -> None:
    with _leader(ports, password) as connection:
        roles = {row[0] for row in connection.execute("SELECT rolname FROM pg_roles")}
        databases = {row[0] for row in connection.execute("SELECT datname FROM pg_database")}
        for owner in owners:
            role = sql.Identifier(owner.name)
            _set_role(connection, owner, "ALTER" if owner.name in roles else "CREATE")
            if owner.name not in databases:
                connection.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(role, role))
            connection.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(role))
