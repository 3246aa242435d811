"""The cache on two real Memcached servers."""

import contextlib
import time
from collections.abc import Callable, Iterator

import pytest
from pymemcache.client.base import Client

from svc.chassis.cache import Cache, Entry, choose

KEY = b"k" * 32


@pytest.fixture
def servers(memcached: str) -> list[tuple[str, int]]:
    pairs = [address.rpartition(":") for address in memcached.split(",")]
    for host, _, port in pairs:
        with contextlib.closing(Client((host, int(port)), timeout=1)) as client:
            client.flush_all(noreply=False)
    return [(host, int(port)) for host, _, port in pairs]


@pytest.fixture
def entry(servers: list[tuple[str, int]]) -> Iterator[Entry[str]]:
    with contextlib.closing(Cache(servers, key=KEY)) as cache:
        yield cache.entry("product.v1", ttl_s=30, encode=str.encode, decode=bytes.decode)


class Source:
    def __init__(self, value: str = "mug") -> None:
        self.value = value
        self.loads = 0

    def __call__(self) -> str:
        self.loads += 1
        return self.value


def test_every_key_is_loaded_once_and_both_servers_hold_some(entry: Entry[str], servers: list[tuple[str, int]]) -> None:
    source = Source()

    for _ in range(2):
        for number in range(40):
            assert "mug" == entry.get_or_load(str(number), source)

    assert 40 == source.loads
    for server in servers:
        with contextlib.closing(Client(server, timeout=1)) as client:
            assert int(client.stats()[b"curr_items"]) > 0


def test_a_cache_answers_where_all_its_servers_do(servers: list[tuple[str, int]]) -> None:
    with contextlib.closing(Cache(servers, key=KEY)) as cache:
        assert cache.ping()
    with contextlib.closing(Cache([*servers, ("127.0.0.1", 1)], key=KEY)) as cache:
        assert not cache.ping()


def test_a_deleted_value_is_loaded_anew_and_a_late_fill_is_refused(
    entry: Entry[str], servers: list[tuple[str, int]]
) -> None:
    with contextlib.closing(Cache(servers, key=KEY)) as elsewhere:
        other = elsewhere.entry("product.v1", ttl_s=30, encode=str.encode, decode=bytes.decode)

        def overtaken() -> str:
            other.delete("22423")
            return "old"

        assert "old" == entry.get_or_load("22423", overtaken)

        assert "new" == other.get_or_load("22423", Source("new"))
        entry.delete("22423")
        assert "newer" == other.get_or_load("22423", Source("newer"))


def test_values_of_every_byte_and_of_any_size_never_fail(servers: list[tuple[str, int]]) -> None:
    with contextlib.closing(Cache(servers, key=KEY)) as cache:
        raw: Entry[bytes] = cache.entry("raw", ttl_s=30, encode=bytes, decode=bytes)
        for number, value in enumerate([b"", bytes(range(256)), b"\r\nEND\r\n", b"x" * 3_000_000]):
            assert value == raw.get_or_load(str(number), lambda value=value: value)  # type: ignore[misc]
            assert value == raw.get_or_load(str(number), lambda value=value: value)  # type: ignore[misc]


def test_a_value_from_elsewhere_is_a_miss_and_is_overwritten(entry: Entry[str], servers: list[tuple[str, int]]) -> None:
    source = Source()
    entry.get_or_load("22423", source)
    slot = entry._slot("22423")
    for server in servers:
        with contextlib.closing(Client(server, timeout=1)) as client:
            client.set(slot, b"forged", noreply=False)

    assert ["mug", "mug"] == [entry.get_or_load("22423", source) for _ in range(2)]
    assert 2 == source.loads


def test_a_killed_server_costs_nothing_but_its_share_of_hits(
    servers: list[tuple[str, int]], entry: Entry[str], memcached_kill: Callable[[int], None]
) -> None:
    source = Source()
    for number in range(40):
        entry.get_or_load(str(number), source)
    names = [f"{host}:{port}" for host, port in servers]
    moved = sum(choose(names, entry._slot(str(number))) == names[0] for number in range(40))

    memcached_kill(0)

    began = time.monotonic()
    for number in range(40):
        assert "mug" == entry.get_or_load(str(number), source)
        entry.delete(f"other {number}")
    assert time.monotonic() - began < 20.0
    assert 40 + moved == source.loads
