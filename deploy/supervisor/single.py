"""Some of the real servers without the rest of the mesh, for tests: the same parts, started the same way.

with temporary() as folder, single.started(folder, "postgres-1", "memcached-1") as servers:
    url = servers.new_database("trial")
"""

import asyncio
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from deploy.supervisor.mesh import Mesh
from deploy.supervisor.probe import HOST
from deploy.supervisor.servers import postgres as postgres_server
from deploy.supervisor.stack import REGISTRY


class Servers:
    """Servers that run, and what one needs to talk to them."""

    def __init__(self, mesh: Mesh) -> None:
        self.mesh = mesh

    def address(self, name: str) -> str:
        """`host:port` of a server: `etcd-1`, `memcached-1`, `rabbitmq-1`, `postgres-1`."""
        return self.mesh.status().process(name).address

    def secret(self, name: str) -> str:
        """A credential: `etcd.password`, `postgres.password`, ..."""
        return (self.mesh.secrets / name).read_text()

    def amqp_url(self) -> str:
        """URL of the broker, credentials included."""
        return self.secret("amqp.url")

    def new_database(self, name: str) -> str:
        """SQLAlchemy URL of a new, empty database with a role of its own."""
        owner = postgres_server.Owner(name, secrets.token_urlsafe(16))
        port = int(self.address("postgres-1").rpartition(":")[2])
        asyncio.run(postgres_server.ensure_databases([port], self.secret("postgres.password"), [owner]))
        return f"postgresql+psycopg://{name}:{quote(owner.password, safe='')}@{HOST}:{port}/{name}"

    def copied_database(self, url: str, name: str) -> str:
        """SQLAlchemy URL of a new database that is as one of `new_database` is now. Nobody may be connected to that."""
        server, _, copied = url.rpartition("/")
        port = int(self.address("postgres-1").rpartition(":")[2])
        postgres_server.copy_database(port, self.secret("postgres.password"), of=copied, to=name)
        return f"{server}/{name}"


@contextmanager
def started(folder: Path, *names: str) -> Iterator[Servers]:
    """These parts, and what they need, on free ports; stopped at the end. Raises StartError."""
    with Mesh(folder, ports="free", only=names, ephemeral=True) as mesh:
        mesh.start()
        yield Servers(mesh)


@contextmanager
def etcd(folder: Path, *, authentication: bool = False) -> Iterator[str]:
    """Addresses of an etcd of three members, with commas between them.

    With `authentication`, user `weft` and the password in `secrets/etcd.password`.
    """
    with started(folder, *(("etcd-auth",) if authentication else REGISTRY)) as servers:
        yield ",".join(servers.address(name) for name in REGISTRY)


@contextmanager
def memcached(folder: Path) -> Iterator[str]:
    """Address of one memcached."""
    with started(folder, "memcached-1") as servers:
        yield servers.address("memcached-1")


@contextmanager
def rabbitmq(folder: Path) -> Iterator[str]:
    """URL of one broker, with its epmd."""
    with started(folder, "rabbitmq-1") as servers:
        yield servers.amqp_url()


@contextmanager
def postgres(folder: Path, *, database: str = "trial") -> Iterator[str]:
    """URL of an empty database on a server of its own."""
    with started(folder, "postgres-1") as servers:
        yield servers.new_database(database)
