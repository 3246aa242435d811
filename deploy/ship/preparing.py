"""What has to be in the servers before anything of ours runs: users of the registry, roles and databases.

Both may run at any time again, and change nothing where everything is there. Passwords are read from the files that
the mesh reads them from, so that neither can know another one.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import psycopg
import structlog
from psycopg import sql
from sqlalchemy import make_url

from deploy.ship.errors import ShipError
from deploy.supervisor.secrets import DATABASES
from deploy.supervisor.servers import etcd

T = TypeVar("T")

#: A cluster that has just been started elects first.
WAIT_S: Final = 120.0
AGAIN_S: Final = 1.0
SCRAM: Final = b"scram-sha-256"

log = structlog.get_logger()


def registry(members: Sequence[str], secrets: Path, *, wait_s: float = WAIT_S) -> None:
    """Make the registry ask for passwords. Raises ShipError where no member answers in time."""
    user = etcd.User(etcd.USER, _read(secrets / "etcd.password"), etcd.PREFIX)
    passwords = etcd.Passwords(root=_read(secrets / "etcd-root.password"), users=(user,))
    _patient(
        lambda: asyncio.run(etcd.enable_authentication(members, passwords)), (OSError, etcd.EtcdError), wait_s=wait_s
    )


def databases(nodes: Sequence[str], secrets: Path, tls: Path, *, wait_s: float = WAIT_S) -> None:
    """Make every role and every database of CockroachDB that is missing. Raises ShipError."""
    owners = [(name, _password(secrets / f"database-{name}.url")) for name in DATABASES]
    hosts, ports = zip(*(node.rsplit(":", 1) for node in nodes), strict=True)

    def make() -> None:
        with psycopg.connect(
            host=",".join(hosts),
            port=",".join(ports),
            user="root",
            dbname="defaultdb",
            sslmode="verify-full",
            sslrootcert=str(tls / "ca.crt"),
            sslcert=str(tls / "client.root.crt"),
            sslkey=str(tls / "client.root.key"),
            connect_timeout=5,
            autocommit=True,
        ) as connection:
            for name, password in owners:
                for statement in statements(name, verifier(connection, name, password)):
                    connection.execute(statement)

    _patient(make, (psycopg.OperationalError,), wait_s=wait_s)


def verifier(connection: psycopg.Connection[Any], name: str, password: str) -> str:
    """What the server keeps of a password; hashed here, so that no statement, and no log of one, ever holds it."""
    return connection.pgconn.encrypt_password(password.encode(), name.encode(), SCRAM).decode()


def statements(name: str, password: str) -> Sequence[sql.Composed]:
    """What makes one database and the role that owns it, whatever is there already. `password`: hashed."""
    owner = sql.Identifier(name)
    return [
        sql.SQL(text).format(owner=owner, password=sql.Literal(password))
        for text in (
            "CREATE USER IF NOT EXISTS {owner}",
            "ALTER USER {owner} WITH PASSWORD {password}",
            "CREATE DATABASE IF NOT EXISTS {owner}",
            "ALTER DATABASE {owner} OWNER TO {owner}",
            "REVOKE CONNECT ON DATABASE {owner} FROM public",
            "GRANT ALL ON DATABASE {owner} TO {owner}",
        )
    ]


def _patient(work: Callable[[], T], failures: tuple[type[Exception], ...], *, wait_s: float) -> T:
    deadline = time.monotonic() + wait_s
    while True:
        try:
            return work()
        except failures as error:
            if time.monotonic() + AGAIN_S > deadline:
                raise ShipError(f"no answer in {wait_s:g} s: {_line(error)}") from error
            log.info("waiting", reason=_line(error))
        asyncio.run(asyncio.sleep(AGAIN_S))


def _line(error: Exception) -> str:
    said = str(error).strip().splitlines()
    return said[0] if said else type(error).__name__


def _read(path: Path) -> str:
    try:
        text = path.read_text().strip()
    except OSError as error:
        raise ShipError(f"{path}: {error.strerror}; `weft export secrets` makes it") from error
    if not text:
        raise ShipError(f"{path} is empty; remove it, and `weft export secrets` makes it again")
    return text


def _password(path: Path) -> str:
    password = make_url(_read(path)).password
    if not password:
        raise ShipError(f"{path} names no password")
    return password
