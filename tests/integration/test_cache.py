"""The cache between a real table and a real outbox: what was written is what is read, whoever dies in between."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

import svc.catalog
from svc.catalog import rpc, usecases
from svc.catalog.model import Price, Product
from svc.catalog.store import ProductStore
from svc.catalog.usecases import Ports, Update
from svc.chassis import outbox
from svc.chassis.cache.store import Cache
from svc.chassis.clock import SystemClock
from svc.chassis.database import Database
from svc.chassis.errors import NotFound
from tests.cache_observer import METHOD, Observer, products
from tests.fakes.catalog import make_call
from weft.catalog.v1 import catalog_pb2
from weft_protos import caching
from worker.delivery import Outgoing
from worker.forgetting import Forgetting
from worker.relay import Relay

KEY = b"k" * 32
PATIENT_S = 5.0
MIGRATIONS = str(Path(svc.catalog.__file__).parent / "migrations")
GET = catalog_pb2.DESCRIPTOR.services_by_name["CatalogService"].methods_by_name["GetProduct"]


class Taking:
    """A broker that takes everything."""

    def ready(self, timeout_s: float) -> bool:
        return True

    def publish(self, messages: Sequence[Outgoing], *, timeout_s: float) -> list[bool]:
        return [True] * len(messages)


class Instance:
    """One process of the catalog."""

    def __init__(self, database: Database, nodes: Sequence[tuple[str, int]]) -> None:
        self.cache = Cache(nodes, key=KEY, answer_s=PATIENT_S)
        self.ports = Ports(
            transactions=database,
            products=ProductStore(),
            cache=self.cache.entry(GET, rpc.CODEC),
            append=outbox.append,
            clock=SystemClock(),
        )

    def read(self, product_id: str = "mug") -> Product:
        call = make_call(cache_key=f"products/{product_id}")
        return usecases.get_product(self.ports, product_id, call=call)

    def create(self) -> Product:
        return usecases.create_product(
            self.ports, "mug", display_name="White mug", price=Price("GBP", 1), call=make_call()
        )

    def commit(self, minor: int) -> None:
        """Change the price, and die before anything is forgotten: nothing here forgets but the relay."""
        update = Update(product_id="mug", display_name="", price=Price("GBP", minor), etag="", fields=["price"])
        usecases.update_product(self.ports, update, call=make_call())


@pytest.fixture
def nodes(memcached: str) -> list[tuple[str, int]]:
    pairs = [address.rpartition(":") for address in memcached.split(",")]
    return [(host, int(port)) for host, _, port in pairs]


@pytest.fixture
def url(migrated_url: Callable[[str, str], str]) -> str:
    return migrated_url("catalog", MIGRATIONS)


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    with contextlib.closing(Database(url, pool_size=4, name="catalog")) as opened:
        yield opened


@pytest.fixture
def instance(database: Database, nodes: list[tuple[str, int]]) -> Iterator[Instance]:
    made = Instance(database, nodes)
    made.cache.forget([METHOD], ["products/mug"], everywhere=True)
    yield made
    made.cache.close()


@pytest.fixture
def relay(database: Database, nodes: list[tuple[str, int]]) -> Iterator[Relay]:
    with contextlib.closing(Cache(nodes, key=KEY, answer_s=PATIENT_S)) as cache:
        forgetting = Forgetting(Taking(), cache, outdated_by=caching.outdated_by())
        yield Relay(database, forgetting, name="catalog", routing_keys={})


def test_a_writer_that_dies_after_its_commit_leaves_nothing_behind_once_its_event_is_out(
    instance: Instance, relay: Relay, url: str, nodes: list[tuple[str, int]]
) -> None:
    observer = Observer(nodes, products(url), secret=KEY)
    instance.create()
    relay.drain_once()
    instance.read()
    instance.commit(2)
    assert 1 == instance.read().price.minor
    observer.look()
    assert ["products/mug"] == [found.key for found in observer.look()]

    relay.drain_once()

    assert 2 == instance.read().price.minor
    assert [[], []] == [observer.look() for _ in range(2)]
    assert observer.seen >= 4


def test_that_there_was_nothing_is_forgotten_when_there_is_something(instance: Instance, relay: Relay) -> None:
    with pytest.raises(NotFound):
        instance.read()
    made = instance.create()
    with pytest.raises(NotFound):
        instance.read()

    relay.drain_once()

    assert made == instance.read()


def test_a_node_that_only_the_relay_knows_forgets_too(
    database: Database, relay: Relay, nodes: list[tuple[str, int]]
) -> None:
    # While the list of nodes changes, processes have the same key at different ones.
    fewer, more = Instance(database, nodes[:1]), Instance(database, nodes[1:])
    fewer.cache.forget([METHOD], ["products/mug"], everywhere=True)
    more.cache.forget([METHOD], ["products/mug"], everywhere=True)
    fewer.create()
    relay.drain_once()
    assert [1, 1] == [each.read().price.minor for each in (fewer, more)]

    fewer.commit(2)
    fewer.cache.forget([METHOD], ["products/mug"])
    relay.drain_once()

    assert [2, 2] == [each.read().price.minor for each in (fewer, more)]
    fewer.cache.close()
    more.cache.close()
