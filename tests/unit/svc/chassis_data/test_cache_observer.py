"""The observer of the cache: it finds what is planted, on a real Memcached, and accuses nobody else."""

import socket
import threading
from collections.abc import Iterator

import pytest

from svc.catalog import rpc
from svc.chassis.cache.entry import Codec
from svc.chassis.cache.store import Cache
from svc.chassis.errors import NotFound
from tests.cache_observer import METHOD, Observer, digest_of
from tests.memcached_process import MemcachedProcess
from tests.unit.svc.chassis_data.kept import KEY, PATIENT_S, call
from weft.catalog.v1 import catalog_pb2
from weft_protos import caching

NUMBERS: Codec[int] = Codec(lambda number: b"%d" % number, int, version=lambda number: number)
GET = catalog_pb2.DESCRIPTOR.services_by_name["CatalogService"].methods_by_name["GetProduct"]


class Stand:
    """A node, a cache as the catalog has it, a table, and the observer."""

    def __init__(self, memcached: MemcachedProcess) -> None:
        self.memcached = memcached
        self.rows = {"products/a": 1, "products/b": 1}
        self.cache = Cache([memcached.address], key=KEY, answer_s=PATIENT_S)
        self.entry = self.cache.entry(GET, NUMBERS)
        self.observer = Observer([memcached.address], lambda: self.rows, secret=KEY)

    def read(self, key: str) -> int:
        def load() -> int:
            if key not in self.rows:
                raise NotFound
            return self.rows[key]

        return self.entry.get_or_load(call(key), load)

    def looks(self) -> list[str]:
        """What two looks say of it."""
        self.observer.look()
        return [f"{found.key}: {found.says}, not {found.row}" for found in self.observer.look()]


@pytest.fixture
def stand() -> Iterator[Stand]:
    with MemcachedProcess() as memcached:
        made = Stand(memcached)
        yield made
        made.cache.close()


def test_a_cache_that_agrees_with_the_table_is_not_accused(stand: Stand) -> None:
    for key in stand.rows:
        stand.read(key)

    assert ([], 4) == (stand.looks(), stand.observer.seen)


def test_an_entry_older_than_its_row_is_found(stand: Stand) -> None:
    stand.read("products/a")
    stand.rows["products/a"] = 2

    assert ["products/a: version 1, not version 2"] == stand.looks()


def test_a_node_that_is_killed_while_it_is_asked_holds_nothing_and_ends_no_observer(stand: Stand) -> None:
    stand.read("products/a")

    def hang_up() -> None:
        connection, _ = dying.accept()
        with connection:
            connection.recv(4096)

    with socket.create_server(("127.0.0.1", 0)) as dying:
        threading.Thread(target=hang_up, daemon=True).start()
        nodes = [dying.getsockname(), stand.memcached.address]
        observer = Observer(nodes, lambda: stand.rows, secret=KEY)
        found = observer.entries(["products/a"])

    assert [("products/a", "version 1")] == [(key, says) for _, key, says in found]


def test_an_entry_that_was_outdated_for_a_moment_only_is_not_accused(stand: Stand) -> None:
    stand.read("products/a")
    stand.rows["products/a"] = 2
    assert [] == stand.observer.look()
    stand.cache.forget([METHOD], ["products/a"])

    assert [] == stand.looks()


def test_that_something_is_missing_although_it_is_there_is_found(stand: Stand) -> None:
    with pytest.raises(NotFound):
        stand.read("products/c")
    stand.rows["products/c"] = 1

    assert ["products/c: absent, not version 1"] == stand.looks()


def test_what_the_mesh_has_not_written_is_found(stand: Stand) -> None:
    with stand.memcached.client() as client:
        client.set(stand.observer.slot("products/a"), b"x" * 80, noreply=False)

    assert ["products/a: foreign, not version 1"] == stand.looks()


def test_it_reads_the_contracts_as_the_mesh_does() -> None:
    assert caching.every()[METHOD].schema.hex() == digest_of(catalog_pb2.Product.DESCRIPTOR)
    assert rpc.CODEC.version is rpc.version
