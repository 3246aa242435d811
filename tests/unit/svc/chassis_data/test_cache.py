"""The cache against a Memcached that fails on demand. Against real ones: tests/integration/test_cache.py."""

import contextlib
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Protocol

import pytest
from hypothesis import given
from hypothesis import strategies as st

from svc.chassis.cache import Cache, Entry, Health, choose, lifetime
from svc.chassis.errors import NotFound
from tests.fakes.memcached_wire import FakeMemcached

KEY = b"k" * 32
TTL_S = 30


@pytest.fixture
def memcached() -> Iterator[FakeMemcached]:
    with FakeMemcached() as server:
        yield server


class EntryOf(Protocol):
    def __call__(self, server: tuple[str, int], *, key: bytes = KEY, name: str = "product.v1") -> Entry[str]: ...


@pytest.fixture
def entry_of() -> Iterator[EntryOf]:
    """Opens an entry in a cache of its own, as another process would."""
    with contextlib.ExitStack() as caches:

        def open_entry(server: tuple[str, int], *, key: bytes = KEY, name: str = "product.v1") -> Entry[str]:
            cache = Cache([server], key=key)
            caches.callback(cache.close)
            return cache.entry(name, ttl_s=TTL_S, encode=str.encode, decode=bytes.decode)

        yield open_entry


class Source:
    """The database behind the cache: says its value and counts who asked."""

    def __init__(self, value: str = "mug") -> None:
        self.value = value
        self.loads = 0

    def __call__(self) -> str:
        self.loads += 1
        return self.value


def test_what_was_loaded_once_is_found_by_every_process(entry_of: EntryOf, memcached: FakeMemcached) -> None:
    source = Source()

    first = entry_of(memcached.address).get_or_load("22423", source)
    second = entry_of(memcached.address).get_or_load("22423", source)

    assert ("mug", "mug", 1) == (first, second, source.loads)
    ((_, ttl, _),) = memcached.values.values()
    assert 0.9 * TTL_S <= ttl <= TTL_S


def test_any_text_is_a_key(entry_of: EntryOf, memcached: FakeMemcached) -> None:
    entry, source = entry_of(memcached.address), Source()

    for key in ("", "a b\r\n", "é" * 300):
        assert "mug" == entry.get_or_load(key, source)
        assert "mug" == entry.get_or_load(key, source)

    assert 3 == source.loads


def test_what_is_not_found_is_not_kept(entry_of: EntryOf, memcached: FakeMemcached) -> None:
    entry = entry_of(memcached.address)

    def missing() -> str:
        raise NotFound

    with pytest.raises(NotFound):
        entry.get_or_load("22423", missing)

    assert "mug" == entry.get_or_load("22423", Source())


def test_a_deleted_value_is_loaded_anew(entry_of: EntryOf, memcached: FakeMemcached) -> None:
    entry, source = entry_of(memcached.address), Source()
    entry.get_or_load("22423", source)
    source.value = "cup"

    entry.delete("22423")

    assert "cup" == entry.get_or_load("22423", source)


def test_what_was_read_before_a_delete_is_not_filled_in_after_it(entry_of: EntryOf, memcached: FakeMemcached) -> None:
    entry, other = entry_of(memcached.address), entry_of(memcached.address)

    def overtaken() -> str:
        other.delete("22423")
        return "old"

    assert "old" == entry.get_or_load("22423", overtaken)

    assert "new" == other.get_or_load("22423", Source("new"))


def test_a_late_fill_does_not_replace_a_later_one(entry_of: EntryOf, memcached: FakeMemcached) -> None:
    entry, other = entry_of(memcached.address), entry_of(memcached.address)

    def overtaken() -> str:
        other.delete("22423")
        other.get_or_load("22423", Source("new"))
        return "old"

    entry.get_or_load("22423", overtaken)

    assert "new" == other.get_or_load("22423", Source("newer"))


def test_while_one_process_loads_another_serves_itself_and_fills_nothing(
    entry_of: EntryOf, memcached: FakeMemcached
) -> None:
    entry, other = entry_of(memcached.address), entry_of(memcached.address)
    seen: list[str] = []

    def slow() -> str:
        seen.append(other.get_or_load("22423", Source("other")))
        return "mine"

    entry.get_or_load("22423", slow)

    assert (["other"], "mine") == (seen, other.get_or_load("22423", Source("again")))


@pytest.mark.parametrize("foreign", [b"", b"x", b"\x80\x04N.", b"z" * 500])
def test_a_foreign_value_is_a_miss_and_is_overwritten(
    entry_of: EntryOf, memcached: FakeMemcached, foreign: bytes
) -> None:
    entry, source = entry_of(memcached.address), Source()
    entry.get_or_load("22423", source)
    (slot,) = memcached.values
    memcached.store(slot, foreign, 0)

    entry.get_or_load("22423", source)
    entry.get_or_load("22423", source)

    assert 2 == source.loads


def test_a_value_is_worth_nothing_under_another_key_name_or_secret(entry_of: EntryOf, memcached: FakeMemcached) -> None:
    source = Source()
    entry_of(memcached.address).get_or_load("a", source)
    ((stolen, _, _),) = memcached.values.values()
    strangers = [
        (entry_of(memcached.address), "b"),
        (entry_of(memcached.address, name="order.v1"), "a"),
        (entry_of(memcached.address, key=b"other" * 8), "a"),
    ]
    for number, (entry, key) in enumerate(strangers, 2):
        entry.get_or_load(key, source)
        newest = max(memcached.values, key=lambda slot: memcached.values[slot][2])
        memcached.store(newest, stolen, 0)
        entry.get_or_load(key, source)

        assert 2 * number - 1 == source.loads


def test_a_value_that_no_longer_decodes_is_a_miss(memcached: FakeMemcached) -> None:
    with contextlib.closing(Cache([memcached.address], key=KEY)) as cache:
        old = cache.entry("count", ttl_s=TTL_S, encode=str.encode, decode=bytes.decode)
        new = cache.entry("count", ttl_s=TTL_S, encode=lambda number: b"%d" % number, decode=int)
        old.get_or_load("a", Source("not a number"))

        assert 7 == new.get_or_load("a", lambda: 7)
        assert 7 == new.get_or_load("a", lambda: 8)


def test_many_callers_of_one_key_load_once(entry_of: EntryOf, memcached: FakeMemcached) -> None:
    entry, source = entry_of(memcached.address), Source()
    waiting = threading.Barrier(8)
    found: list[str] = []

    def slow() -> str:
        # Ends when everybody is on the way, or after a while: the barrier is for the callers alone.
        threading.Event().wait(0.1)
        return source()

    def call() -> None:
        waiting.wait(5)
        found.append(entry.get_or_load("22423", slow))

    threads = [threading.Thread(target=call) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)

    assert (["mug"] * 8, 1) == (found, source.loads)


def test_a_server_that_is_gone_is_a_miss(entry_of: EntryOf) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        gone = free.getsockname()[:2]
    entry, source = entry_of(gone), Source()

    entry.delete("22423")

    assert ["mug"] * 3 == [entry.get_or_load("22423", source) for _ in range(3)]


def test_a_silent_server_costs_its_timeout_once_and_then_little(entry_of: EntryOf, memcached: FakeMemcached) -> None:
    entry, source = entry_of(memcached.address), Source()
    memcached.silent = True

    began = time.monotonic()
    for number in range(50):
        assert "mug" == entry.get_or_load(str(number), source)

    # Fifty timeouts would take 2.5 s.
    assert time.monotonic() - began < 1.0


def test_a_delete_that_the_server_missed_is_made_up_before_anything_is_read_from_it(
    entry_of: EntryOf, memcached: FakeMemcached
) -> None:
    entry, source = entry_of(memcached.address), Source("old")
    entry.get_or_load("22423", source)
    source.value = "new"
    memcached.silent = True
    entry.delete("22423")
    memcached.silent = False

    deadline = time.monotonic() + 5.0
    while not memcached.count("delete") and time.monotonic() < deadline:
        assert "new" == entry.get_or_load("22423", source)

    assert 1 == memcached.count("delete")
    assert "new" == entry.get_or_load("22423", source)


def test_connections_that_a_restart_broke_are_replaced_unseen(entry_of: EntryOf) -> None:
    with FakeMemcached() as server:
        entry, source = entry_of(server.address), Source()
        entry.get_or_load("22423", source)
        # What a restart leaves of the pooled connections: closed by the other side.
        (client,) = entry._cache.server("any")._client.client_pool.free
        client.sock.shutdown(socket.SHUT_RDWR)

        entry.get_or_load("22423", source)

    assert 1 == source.loads


@pytest.mark.parametrize("name", ["", "a b", "ä", "x" * 65, "a\r\n"])
def test_a_name_that_memcached_would_not_take_is_refused(entry_of: EntryOf, name: str) -> None:
    with pytest.raises(ValueError, match="is not letters"):
        entry_of(("127.0.0.1", 1), name=name)


SERVERS = st.lists(st.from_regex(r"\A10\.0\.0\.[0-9]{1,3}:11211\Z"), min_size=2, max_size=6, unique=True)


@given(SERVERS, st.text(max_size=40))
def test_without_a_server_only_its_own_keys_move(servers: list[str], key: str) -> None:
    chosen = choose(servers, key)

    for server in servers:
        rest = [other for other in servers if other != server]
        if server != chosen:
            assert chosen == choose(rest, key)
    assert chosen == choose(servers[::-1], key)


def test_keys_spread_evenly() -> None:
    servers = ["a:1", "b:1", "c:1"]

    load = Counter(choose(servers, f"products/{number}") for number in range(3000))

    assert all(900 < load[server] < 1100 for server in servers)


@given(st.floats(1, 86_400), st.floats(0, 1, exclude_max=True))
def test_a_value_never_outlives_its_ttl(ttl_s: float, share: float) -> None:
    assert 1 <= lifetime(ttl_s, share) <= ttl_s


def test_a_server_rests_longer_with_each_failure_and_is_tried_by_one_at_a_time() -> None:
    health = Health()
    assert health.ask(0.0)
    assert health.failed(0.0)
    assert not health.ask(0.1)

    assert health.ask(0.2)
    assert not health.ask(0.2)
    assert not health.failed(0.3)
    assert not health.ask(0.6)
    assert health.ask(0.7)

    assert health.answered()
    assert health.ask(0.7)
    assert health.ask(0.7)
    assert not health.answered()


def test_a_rest_has_an_upper_bound() -> None:
    health = Health()
    for _ in range(1000):
        health.failed(0.0)

    assert not health.ask(1.9)
    assert health.ask(2.0)
