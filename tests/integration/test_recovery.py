"""Whatever is killed, no order fails and the books balance afterwards; what died is started again."""

import random
import threading
from collections.abc import Iterator

import pytest

from deploy.cli.gateway_client import GatewayClient
from deploy.cli.replay import books, lines, plan, synthetic
from deploy.cli.replay.run import Outcome, Runner
from deploy.supervisor import procfs, single
from deploy.supervisor.config import child_environ
from deploy.supervisor.mesh import Mesh
from deploy.supervisor.stack import REGISTRY
from deploy.supervisor.workspace import temporary
from tests.waiting import eventually, listens

#: One of each kind that an order comes by.
SOME = ("orders-1", "relay-1", "audit-1", "memcached-1", "control-plane-1")
KILLABLE = (
    *SOME,
    "identity-1",
    "catalog-1",
    "orders-2",
    "analytics-1",
    "email-1",
    "analytics-worker-1",
    "archive-1",
    "reports-1",
)
LONG_DAYS = pytest.mark.long(short="test_no_order_fails_and_the_books_balance_whatever_is_killed")
LONG_SERVERS = pytest.mark.long(short="test_orders_go_on_after_a_server_was_killed")


@pytest.fixture
def client(mesh: Mesh) -> Iterator[GatewayClient]:
    opened = GatewayClient.for_operator(mesh.gateway, mesh.secrets)
    yield opened
    opened.close()


def orders(client: GatewayClient, *, seed: int, killing: threading.Event | None = None) -> Outcome:
    """Send a synthetic day; `killing` is set when the first orders are answered."""

    def progress(phase: str, done: int, _total: int) -> None:
        if killing is not None and phase == "orders" and done >= 5:
            killing.set()

    day = plan.make(lines.parse(synthetic.day(invoices=60, products=30, customers=12, seed=seed), name="test"))
    outcome = Runner(day, client, concurrency=4, speed=None, progress=progress).run()
    assert (day.steps, 0, []) == (outcome.acknowledged, outcome.failed, outcome.failures)
    return outcome


def settle(mesh: Mesh) -> list[str]:
    """Names of the rows that are not even once nothing moves any more."""
    environment = {**child_environ(), "WEFT_SECRETS": str(mesh.secrets)}
    mail = str(mesh.status().urls["mail"]).rstrip("/")
    return [row.name for row in books.settle(environment, mail, on_wait=lambda _: None) if not row.even]


@pytest.mark.parametrize("killable", [pytest.param(SOME, id="some"), pytest.param(KILLABLE, marks=LONG_DAYS, id="all")])
def test_no_order_fails_and_the_books_balance_whatever_is_killed(
    mesh: Mesh, client: GatewayClient, killable: tuple[str, ...]
) -> None:
    mesh.wait_ready()
    before = {process.name: process.restarts for process in mesh.status().processes}
    victims = list(killable)
    random.Random(7).shuffle(victims)
    begun = threading.Event()

    def kill() -> None:
        assert begun.wait(60)
        for victim in victims:
            mesh.kill(victim)
            eventually(lambda victim=victim: mesh.status().process(victim).restarts > before[victim])

    killer = threading.Thread(target=kill)
    killer.start()
    seed = 1000
    while True:  # days go on until every part has been killed once
        orders(client, seed=seed, killing=begun)
        seed += 1
        if not killer.is_alive():
            break
    killer.join()

    mesh.wait_ready()
    assert [] == settle(mesh)
    after = {process.name: process.restarts for process in mesh.status().processes}
    assert {name: before[name] + 1 for name in killable} == {name: after[name] for name in killable}


@pytest.mark.parametrize(
    "name",
    ["rabbitmq-1", "postgres-1", *(pytest.param(name, marks=LONG_SERVERS) for name in ("etcd-1", "gateway-1"))],
)
def test_orders_go_on_after_a_server_was_killed(mesh: Mesh, client: GatewayClient, name: str) -> None:
    restarts = mesh.status().process(name).restarts
    mesh.kill(name)

    orders(client, seed=2000)

    eventually(lambda: mesh.status().process(name).restarts > restarts)
    mesh.wait_ready(timeout_s=120)
    assert [] == settle(mesh)


def test_a_second_start_finds_the_running_mesh(mesh: Mesh) -> None:
    pids = {process.name: process.pid for process in mesh.wait_ready().processes}

    assert pids == {process.name: process.pid for process in mesh.start().processes}


def test_stopping_leaves_no_process_and_no_port_behind() -> None:
    with temporary() as folder, single.started(folder, *REGISTRY, "memcached-1", "rabbitmq-1") as servers:
        status = servers.mesh.status()
        ports = [int(process.address.rpartition(":")[2]) for process in status.processes]
        assert {"epmd", *REGISTRY, "memcached-1", "rabbitmq-1"} == {process.name for process in status.processes}
        assert all(listens(port) for port in ports)

        assert servers.mesh.stop()

        assert [] == [process.name for process in status.processes if process.pid and procfs.start_time(process.pid)]
        assert [] == [port for port in ports if listens(port)]
