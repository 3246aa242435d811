"""Real servers for the tests of this folder: started once, on free ports, with data of their own, stopped at the end."""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from deploy.supervisor import single
from deploy.supervisor.account import server_account
from deploy.supervisor.single import Servers
from deploy.supervisor.workspace import temporary
from tests.integration.etcd_server import EtcdServer

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def real_servers() -> Iterator[Servers]:
    """Etcd, PostgreSQL, two memcacheds and RabbitMQ, without anything of ours."""
    names = ("etcd-1", "postgres-1", "memcached-1", "memcached-2", "rabbitmq-1")
    with temporary() as folder, single.started(folder, *names) as started:
        yield started


@pytest.fixture(scope="session")
def postgres_url(real_servers: Servers) -> Callable[[str], str]:
    """Makes a fresh, empty database with each call; the name only helps to tell them apart in logs."""
    return lambda name: real_servers.new_database(f"{name}_{next(_numbers)}")


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
