"""Real servers for the tests of this folder: started once, on free ports, with their own data, stopped at the end."""

import contextlib
import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pika
import pytest

from deploy.cli.gateway_client import GatewayClient
from deploy.supervisor import single
from deploy.supervisor.account import server_account
from deploy.supervisor.config import Settings
from deploy.supervisor.mesh import Mesh
from deploy.supervisor.single import Servers
from deploy.supervisor.workspace import temporary
from docs.site import building
from svc.chassis import migrate
from tests.integration.etcd_server import EtcdServer
from worker.amqp import topology
from worker.delivery import EXCHANGE

#: Below the data directory of the suite's own mesh.
CRASH_POINTS = "crash-points"

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def real_servers() -> Iterator[Servers]:
    """PostgreSQL, two memcacheds and RabbitMQ, without anything of ours."""
    names = ("postgres-1", "memcached-1", "memcached-2", "rabbitmq-1")
    with temporary() as folder, single.started(folder, *names) as started:
        yield started


@pytest.fixture(scope="session")
def postgres_url(real_servers: Servers) -> Callable[[str], str]:
    """Makes a fresh, empty database with each call; the name only helps to tell them apart in logs."""
    return lambda name: real_servers.new_database(f"{name}_{next(_numbers)}")


@pytest.fixture(scope="session")
def migrated_url(real_servers: Servers, postgres_url: Callable[[str], str]) -> Callable[[str, str], str]:
    """Makes a fresh database, migrated by the directory given, with each call: a copy of the first of its kind."""
    made: dict[str, str] = {}

    def make(name: str, migrations: str) -> str:
        if migrations not in made:
            url = postgres_url(name)
            for _ in range(2):  # a second run finds nothing to do
                migrate.upgrade(url, migrations)
            made[migrations] = url
        return real_servers.copied_database(made[migrations], f"{name}_{next(_numbers)}")

    return make


@pytest.fixture(scope="session")
def memcached(real_servers: Servers) -> str:
    """`host:port,host:port` of two servers."""
    return ",".join(real_servers.address(f"memcached-{number}") for number in (1, 2))


@pytest.fixture
def memcached_kill(real_servers: Servers) -> Iterator[Callable[[int], None]]:
    """Ends one of the two with SIGKILL; the supervisor starts it again, and the test ends only when it has."""
    yield lambda index: (real_servers.mesh.kill(f"memcached-{index + 1}"), None)[1]
    real_servers.mesh.wait_ready()


@pytest.fixture(scope="session")
def clone() -> Path:
    """The root of the project."""
    return Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def documents(clone: Path) -> Path:
    """The documents' site, built of today's sources where a mesh serves it from."""
    out = clone / "build" / "docs"
    building.build(clone, out, unless_fresh=True)
    return out


@pytest.fixture(scope="module")
def etcd_process() -> Iterator[EtcdServer]:
    """One etcd of the module's own, which its tests kill and restart."""
    with temporary() as folder:
        server = EtcdServer(folder, server_account())
        yield server
        server.kill()


@pytest.fixture
def etcd(etcd_process: EtcdServer) -> str:
    """`host:port` of that etcd, running."""
    etcd_process.restart()
    return etcd_process.address


@pytest.fixture(scope="session")
def mesh() -> Iterator[Mesh]:
    """A whole mesh of the suite's own. WEFT_TEST_MESH names the data directory of a running one to use instead."""
    running = os.environ.get("WEFT_TEST_MESH")
    if running:
        yield Mesh(Path(running))
        return
    with temporary() as folder:
        armed = folder / CRASH_POINTS
        settings = Settings(data=folder, crash_points=armed)
        with Mesh(folder, ports="free", ephemeral=True, settings=settings) as started:
            started.start()
            armed.mkdir(mode=0o700)
            yield started


@pytest.fixture
def crash_points(mesh: Mesh) -> Path:
    """The directory whose files say where a process of the mesh ends itself."""
    folder = mesh.secrets.parent / CRASH_POINTS
    if not folder.is_dir():
        pytest.skip("the mesh of WEFT_TEST_MESH has no crash points")
    return folder


@pytest.fixture(scope="session")
def operator(mesh: Mesh) -> Iterator[GatewayClient]:
    """A client of the gateway with the operator's credentials."""
    client = GatewayClient.for_operator(mesh.gateway, mesh.secrets)
    yield client
    client.close()


class Broker:
    """The broker, which a test may start anew."""

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh

    def restart(self) -> None:
        """Stop it in an orderly way and start it again; returns when it answers."""
        self._mesh.restart("rabbitmq-1")


@pytest.fixture(scope="session")
def rabbitmq(real_servers: Servers) -> Broker:
    """The broker behind `amqp_url`."""
    return Broker(real_servers.mesh)


@pytest.fixture
def amqp_url(real_servers: Servers) -> str:
    """URL of a broker without any queue or exchange of ours."""
    url = real_servers.amqp_url()
    with contextlib.closing(pika.BlockingConnection(pika.URLParameters(url))) as connection:
        channel = connection.channel()
        for work in topology.work_queues():
            for name in work.names:
                channel.queue_delete(name)
        channel.exchange_delete(EXCHANGE)
    return url
