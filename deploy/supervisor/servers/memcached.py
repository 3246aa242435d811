"""memcached: the cache. It cannot ask for credentials, so it listens on loopback and values carry an HMAC."""

from deploy.supervisor.account import Account
from deploy.supervisor.config import child_environ
from deploy.supervisor.layout import Layout
from deploy.supervisor.part import Command, Kind, Server
from deploy.supervisor.probe import HOST
from deploy.supervisor.readiness import Memcached

BINARY = "/usr/bin/memcached"
MEMORY_MB = 64
CONNECTIONS_MAX = 1024


def server(name: str, layout: Layout, account: Account | None, *, port: int) -> Server:
    """One node; nodes know nothing of each other, clients hash over them."""
    home = layout.home(name)

    async def prepare() -> None:
        layout.private(home, account)

    flags = ("-l", HOST, "-p", str(port), "-U", "0", "-m", str(MEMORY_MB), "-c", str(CONNECTIONS_MAX), "-t", "2")
    return Server(
        name=name,
        kind=Kind.MEMCACHED,
        service="memcached",
        command=Command(
            argv=(BINARY, *flags),
            env={**child_environ(), "HOME": str(home)},
            cwd=home,
            account=account,
        ),
        probe=Memcached(port),
        ports=(port,),
        prepare=prepare,
        watched=True,
        grace_s=5.0,
    )
