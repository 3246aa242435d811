"""The exporter of PostgreSQL's metrics: Debian's, as a role that can read statistics and nothing else."""

from deploy.supervisor.account import Account
from deploy.supervisor.config import child_environ
from deploy.supervisor.layout import Layout
from deploy.supervisor.part import Command, Kind, Server
from deploy.supervisor.probe import HOST
from deploy.supervisor.readiness import Http

BINARY = "/usr/bin/prometheus-postgres-exporter"
ROLE = "monitor"
"""Member of pg_monitor; it owns nothing and may connect to `postgres` alone."""


def server(
    name: str, layout: Layout, account: Account | None, *, port: int, database_port: int, password: str
) -> Server:
    """The exporter of one server; it answers while the database is away, with `pg_up` 0."""
    home = layout.home(name)
    password_file = home / "password"

    async def prepare() -> None:
        layout.private(home, account)
        layout.write(password_file, password, account)

    return Server(
        name=name,
        kind=Kind.MONITOR,
        service="postgres-exporter",
        command=Command(
            argv=(
                BINARY,
                f"--web.listen-address={HOST}:{port}",
                # These open a connection for each database and scrape; the statistics of all come with the others.
                "--no-collector.database",
                "--no-collector.bgwriter",
                "--log.level=warn",
            ),
            env={
                **child_environ(),
                "HOME": str(home),
                "GOMAXPROCS": "1",
                "DATA_SOURCE_URI": f"{HOST}:{database_port}/postgres?sslmode=disable&connect_timeout=3",
                "DATA_SOURCE_USER": ROLE,
                "DATA_SOURCE_PASS_FILE": str(password_file),
            },
            cwd=home,
            account=account,
        ),
        probe=Http(port, "/"),
        ports=(port,),
        after=("databases",),
        prepare=prepare,
    )
