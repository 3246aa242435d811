"""The cache of a running mesh while its nodes and its writers are killed and frozen: slower, never wrong."""

import random
import signal
import threading
from collections.abc import Iterator

import pytest
from google.protobuf import field_mask_pb2

from deploy.cli.gateway_client import GatewayClient
from deploy.supervisor.mesh import Mesh
from tests.cache_observer import Observer, products
from tests.integration.shop import Shop, send
from tests.integration.steady_load import SteadyLoad
from tests.integration.test_request_path import as_operator, get_product
from tests.waiting import eventually
from weft.catalog.v1 import catalog_pb2

#: Well below the contract's `ttl` of a product, so that it is not its expiry that heals.
HEALED_S = 25.0
NODES = ("memcached-1", "memcached-2")


@pytest.fixture(scope="module")
def shop(mesh: Mesh, operator: GatewayClient) -> Shop:
    return Shop(mesh, operator)


@pytest.fixture
def all_back(mesh: Mesh) -> Iterator[None]:
    yield
    mesh.wait_ready()


def observer(mesh: Mesh, names: list[str]) -> Observer:
    """Looks at the entries of these products alone."""
    nodes = [mesh.status().process(name).address.rpartition(":") for name in NODES]
    rows = products((mesh.secrets / "database-catalog.url").read_text().strip())
    return Observer(
        [(host, int(port)) for host, _, port in nodes],
        lambda: {name: version for name, version in rows().items() if name in names},
        secret=bytes.fromhex((mesh.secrets / "cache.key").read_text().strip()),
    )


def change(shop: Shop, product_id: str, minor: int) -> catalog_pb2.UpdateProductRequest:
    """Another price."""
    product = catalog_pb2.Product(name=f"products/{product_id}", price=shop.money(minor))
    return catalog_pb2.UpdateProductRequest(product=product, update_mask=field_mask_pb2.FieldMask(paths=["price"]))


class Changing:
    """Somebody who changes prices and reads them, until told to stop. What was acknowledged is in `prices`."""

    def __init__(self, shop: Shop) -> None:
        self.prices = {shop.product(price_minor=1, stock=None): 1 for _ in range(6)}
        self.changes = 0
        self._shop = shop
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Changing":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def advance(self) -> None:
        wanted = self.changes + 20
        eventually(lambda: self.changes >= wanted)

    def _run(self) -> None:
        chance = random.Random(11)
        minor = 1
        while not self._stop.is_set():
            product_id, minor = chance.choice(list(self.prices)), minor + 1
            self.prices[product_id] = minor
            # Repeated where an instance that dies leaves it unanswered.
            self._shop.operator.call(self._shop.catalog.UpdateProduct, change(self._shop, product_id, minor))
            for other in self.prices:
                get_product(self._shop, other)
            self.changes += 1


@pytest.mark.usefixtures("all_back")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_no_read_and_no_write_fails_when_every_node_is_killed_or_frozen(
    mesh: Mesh, shop: Shop, number: signal.Signals
) -> None:
    mesh.wait_ready()
    product_id, changer = shop.product(price_minor=1, stock=None), as_operator(shop)
    before = {name: mesh.status().process(name).restarts for name in NODES}

    with SteadyLoad(shop) as load:
        load.advance()
        for name in NODES:
            mesh.kill(name, number)
        for minor in range(2, 8):
            # Sent once: a write that failed would raise.
            send(shop.catalog.UpdateProduct, change(shop, product_id, minor), changer)
            eventually(lambda minor=minor: get_product(shop, product_id).price == shop.money(minor))
        load.advance()
        # A frozen one is found hung, and started again.
        eventually(lambda: all(mesh.status().process(name).restarts > before[name] for name in NODES))
        load.advance()

    assert [] == load.failed


@pytest.mark.usefixtures("all_back")
def test_the_cache_never_stays_behind_the_table_whoever_is_killed(mesh: Mesh, shop: Shop) -> None:
    mesh.wait_ready()
    with Changing(shop) as changing:
        watching = observer(mesh, [f"products/{product_id}" for product_id in changing.prices])

        def agrees() -> bool:
            return not watching.look() and not watching.look()

        changing.advance()
        for name in ("memcached-1", "catalog-1", "memcached-2", "catalog-2", "relay-1"):
            restarts = mesh.status().process(name).restarts
            mesh.kill(name)
            eventually(lambda name=name, restarts=restarts: mesh.status().process(name).restarts > restarts)
            changing.advance()
            # Before the next one is killed: a node that starts anew has forgotten what it was wrong about.
            eventually(agrees, deadline_s=HEALED_S)
        mesh.wait_ready()
        changing.advance()

    eventually(agrees, deadline_s=HEALED_S)
    assert watching.seen > 0
    for product_id, minor in changing.prices.items():
        assert shop.money(minor) == get_product(shop, product_id).price
