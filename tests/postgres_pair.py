"""PostgreSQL servers of a test's own: a leader, and a standby that follows it. Killed, frozen and started as told."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from deploy.supervisor.account import server_account
from deploy.supervisor.servers.postgres import binary
from tests.waiting import eventually, free_port

USER = "weft"


class PostgresServer:
    """One server on a data directory. Trusts loopback; synchronous commits, no fsync: a process may die, no machine."""

    def __init__(self, folder: Path, *, settings: dict[str, str] | None = None) -> None:
        self.port = free_port()
        self._folder = folder
        self._data = folder / "data"
        self._settings = settings or {}
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir()
        account = server_account()
        if account is not None:
            os.chown(folder, account.uid, account.gid)

    def initialise(self) -> None:
        """Make an empty cluster."""
        self._run("initdb", "-D", str(self._data), "-U", USER, "--auth=trust", "--no-sync", "--encoding=UTF8")

    def copy(self, leader: "PostgresServer") -> None:
        """Become a standby of a running server."""
        source = f"host=127.0.0.1 port={leader.port} user={USER}"
        self._run("pg_basebackup", "-D", str(self._data), "-d", source, "-R", "-X", "stream", "-c", "fast", "--no-sync")

    def start(self) -> None:
        """Start it where it does not run, and wait until it answers."""
        if self._process is None:
            settings = {
                "listen_addresses": "127.0.0.1",
                "port": str(self.port),
                "unix_socket_directories": "",
                "fsync": "off",
                "shared_buffers": "16MB",
                "max_connections": "60",
                **self._settings,
            }
            flags = [flag for name, value in settings.items() for flag in ("-c", f"{name}={value}")]
            self._process = subprocess.Popen(
                [*self._as_user(), str(binary("postgres")), "-D", str(self._data), *flags],
                cwd=self._folder,
                stderr=subprocess.DEVNULL,
            )
        eventually(self.answers)

    def kill(self) -> None:
        """End it with all its processes as a crash would, and wait until it is gone."""
        if self._process is not None:
            self.thaw()
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(30)
            self._process = None

    def kill_backend(self, which: str) -> None:
        """End one server process with SIGKILL: all others start anew, and every connection is lost."""
        found = self.execute(f"SELECT pid FROM pg_stat_activity WHERE {which} LIMIT 1")
        assert found, "no such connection"
        os.kill(int(str(found[0][0])), signal.SIGKILL)

    def freeze(self) -> None:
        """From now on neither it nor any of its processes answers, and connections stay open."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen one go on."""
        self._signal(signal.SIGCONT)

    def answers(self) -> bool:
        try:
            self.execute("SELECT 1", database="postgres")
        except psycopg.OperationalError:
            return False
        return True

    def execute(self, statement: str, *, database: str = "trial") -> list[tuple[object, ...]]:
        """Run one statement by itself."""
        with psycopg.connect(
            host="127.0.0.1", port=self.port, user=USER, dbname=database, autocommit=True, connect_timeout=5
        ) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def url(self, port: int | None = None, *, database: str = "trial") -> str:
        """SQLAlchemy URL, at another port where something stands in front of it."""
        return f"postgresql+psycopg://{USER}@127.0.0.1:{port or self.port}/{database}"

    def _signal(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        for pid in (self._process.pid, *map(int, children)):
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue

    def _run(self, program: str, *arguments: str) -> None:
        command = [*self._as_user(), str(binary(program)), *arguments]
        subprocess.run(command, cwd=self._folder, check=True, capture_output=True, timeout=120)

    def _as_user(self) -> list[str]:
        # Not by Popen itself: to change the user it would fork, and among gRPC's threads such a child may crash.
        account = server_account()
        switch = [f"--reuid={account.uid}", f"--regid={account.gid}", "--clear-groups"] if account else []
        return ["setpriv", *switch, "--"]


@contextmanager
def leader(folder: Path, *, settings: dict[str, str] | None = None) -> Iterator[PostgresServer]:
    """One server with an empty database `trial`."""
    server = PostgresServer(folder / "leader", settings=settings)
    server.initialise()
    server.start()
    try:
        server.execute("CREATE DATABASE trial", database="postgres")
        yield server
    finally:
        server.kill()
        shutil.rmtree(folder / "leader")


@contextmanager
def standby(folder: Path, of: PostgresServer) -> Iterator[PostgresServer]:
    """A standby of a running server."""
    server = PostgresServer(folder / "standby")
    server.copy(of)
    server.start()
    try:
        yield server
    finally:
        server.kill()
        shutil.rmtree(folder / "standby")
