"""The cache on a real Memcached: what is found, what is loaded once, and what is never believed."""

import threading
from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from svc.chassis.cache.entry import lifetime
from svc.chassis.cache.health import Health
from svc.chassis.cache.ring import choose
from svc.chassis.cache.value import Seal, Value, not_found, nothing
from svc.chassis.errors import NotFound, Unavailable
from svc.chassis.signed import Signer
from tests.memcached_process import MemcachedProcess
from tests.unit.svc.chassis_data.kept import KEY, METHOD, TTL_S, Opener, Process, Source, processes, said


@pytest.fixture(scope="module")
def server() -> Iterator[MemcachedProcess]:
    with MemcachedProcess() as started:
        yield started


@pytest.fixture
def memcached(server: MemcachedProcess) -> MemcachedProcess:
    with server.client() as client:
        client.flush_all(noreply=False)
    return server


@pytest.fixture
def opened() -> Iterator[Opener]:
    with processes() as opener:
        yield opener


def raw(memcached: MemcachedProcess, slot: str) -> bytes:
    with memcached.client() as client:
        found: bytes = client.get(slot)
    return found


def put(memcached: MemcachedProcess, slot: str, value: bytes, *, expire: int = 0) -> None:
    with memcached.client() as client:
        client.set(slot, value, expire=expire, noreply=False)


def counted(result: str, method: str = METHOD) -> float:
    return REGISTRY.get_sample_value("weft_cache_requests_total", {"entry": method, "result": result}) or 0.0


def test_what_was_loaded_once_is_found_by_every_process(opened: Opener, memcached: MemcachedProcess) -> None:
    source, before = Source(), counted("hit")

    first = opened(memcached.address).get("22423", source)
    second = opened(memcached.address).get("22423", source)

    assert ("mug", "mug", 1, 1) == (first, second, source.loads, counted("hit") - before)
    with memcached.client() as client:
        (answer,) = client.raw_command(f"mg {opened(memcached.address).slot('22423')} t").split()[1:]
    assert 0.9 * TTL_S - 2 <= int(answer[1:]) <= TTL_S


def test_any_text_is_a_key(opened: Opener, memcached: MemcachedProcess) -> None:
    process, source = opened(memcached.address), Source()

    for key in ("", "a b\r\n", "é" * 300):
        assert "mug" == process.get(key, source)
        assert "mug" == process.get(key, source)

    assert 3 == source.loads


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 4097, 65_536, 300_000, 999_000, 3_000_000])
def test_a_value_of_any_size_comes_back_whole(opened: Opener, memcached: MemcachedProcess, size: int) -> None:
    process, value = opened(memcached.address), ("\r\nEND\r\nMN\r\n" * (size // 8 + 1))[:size]

    assert [value] * 2 == [process.get(f"size {size}", lambda: value) for _ in range(2)]


def missing() -> str:
    raise NotFound("There is no such mug.", reason="MUG_NOT_FOUND", resource=("mug", "mugs/1"), metadata={"a": "b"})


def test_that_there_is_nothing_is_kept_where_the_contract_says_so(opened: Opener, memcached: MemcachedProcess) -> None:
    # Also where it lives no longer than what is to be renewed early has left.
    process = opened(memcached.address, kept=said(ttl_s=600, negative_ttl_s=30))
    with pytest.raises(NotFound):
        process.get("1", missing)

    for _ in range(2):
        with pytest.raises(NotFound) as found:
            process.get("1", Source())

    kept = found.value
    assert ("There is no such mug.", "MUG_NOT_FOUND") == (kept.message, kept.reason)
    assert (("mug", "mugs/1"), {"a": "b"}) == (kept.resource, kept.metadata)
    process.forget("1")
    assert "mug" == process.get("1", Source())


def test_that_there_is_nothing_is_not_kept_otherwise(opened: Opener, memcached: MemcachedProcess) -> None:
    process = opened(memcached.address)
    with pytest.raises(NotFound):
        process.get("1", missing)

    assert "mug" == process.get("1", Source())


def test_a_forgotten_value_is_loaded_anew_by_every_process(opened: Opener, memcached: MemcachedProcess) -> None:
    process, other, source = opened(memcached.address), opened(memcached.address), Source()
    process.get("22423", source)
    source.value = "cup"

    assert other.forget("22423")

    assert ["cup", "cup"] == [process.get("22423", source), other.get("22423", source)]


def test_what_was_read_before_a_change_is_not_filled_in_after_it(opened: Opener, memcached: MemcachedProcess) -> None:
    process, other = opened(memcached.address), opened(memcached.address)

    def overtaken() -> str:
        other.forget("22423")
        return "old"

    assert "old" == process.get("22423", overtaken)

    assert "new" == other.get("22423", Source("new"))


def test_a_late_fill_does_not_replace_a_later_one(opened: Opener, memcached: MemcachedProcess) -> None:
    process, other = opened(memcached.address), opened(memcached.address)

    def overtaken() -> str:
        other.forget("22423")
        other.get("22423", Source("new"))
        return "old"

    process.get("22423", overtaken)

    assert "new" == other.get("22423", Source("newer"))


def test_a_lease_of_a_node_that_has_started_anew_fills_nothing(opened: Opener) -> None:
    # A node that starts anew counts from one again, so the number of an old lease comes up again.
    with MemcachedProcess() as memcached:
        process, other = opened(memcached.address), opened(memcached.address)

        def overtaken() -> str:
            memcached.restart()
            with memcached.client() as client:
                assert b"VA 0 c1 W" == client.raw_command(f"mg {process.slot('22423')} v c N30")
            return "old"

        assert "old" == process.get("22423", overtaken)

        with memcached.client() as client:
            assert b"VA 0 c1 Z" == client.raw_command(f"mg {process.slot('22423')} v c N30")
        other.forget("22423")
        assert "new" == other.get("22423", Source("new"))


def start(process: Process, load: object, *, key: str = "22423") -> tuple[threading.Thread, list[str]]:
    found: list[str] = []
    thread = threading.Thread(target=lambda: found.append(process.get(key, load)))
    thread.start()
    return thread, found


def test_a_key_is_loaded_once_in_the_whole_fleet(opened: Opener, memcached: MemcachedProcess) -> None:
    fleet = [opened(memcached.address) for _ in range(4)]
    source, loading, goes_on = Source(), threading.Event(), threading.Event()

    def slow() -> str:
        loading.set()
        assert goes_on.wait(30)
        return source()

    leader = start(fleet[0], slow)
    assert loading.wait(30)
    followers = [start(process, source) for process in fleet for _ in range(4)]
    goes_on.set()
    for thread, _ in (leader, *followers):
        thread.join(30)

    assert [["mug"]] * 17 == [found for _, found in (leader, *followers)]
    # Whoever is kept from its processor for longer than anybody waits loads for itself: few, not sixteen.
    assert source.loads <= 3


def test_a_loader_that_never_comes_back_keeps_nobody_from_an_answer(
    opened: Opener, memcached: MemcachedProcess
) -> None:
    process, source = opened(memcached.address), Source()
    with memcached.client() as client:
        client.raw_command(f"mg {process.slot('22423')} v c N30")

    assert ["mug", "mug"] == [process.get("22423", source) for _ in range(2)]


def test_a_load_that_fails_gives_its_lease_back(opened: Opener, memcached: MemcachedProcess) -> None:
    process, other, source = opened(memcached.address), opened(memcached.address), Source()

    def fails() -> str:
        raise Unavailable

    with pytest.raises(Unavailable):
        process.get("22423", fails)

    assert ["mug", "mug", 1] == [other.get("22423", source), process.get("22423", source), source.loads]


@pytest.mark.parametrize("foreign", [b"x", b"\x80\x04N.", b"z" * 500, b"weft lease"])
def test_a_foreign_value_is_a_miss_is_counted_and_is_overwritten(
    opened: Opener, memcached: MemcachedProcess, foreign: bytes
) -> None:
    process, source, before = opened(memcached.address), Source(), counted("foreign")
    put(memcached, process.slot("22423"), foreign)

    assert ["mug", "mug"] == [process.get("22423", source) for _ in range(2)]
    assert (1, 1) == (source.loads, counted("foreign") - before)


def test_no_single_flipped_bit_is_believed(opened: Opener, memcached: MemcachedProcess) -> None:
    process = opened(memcached.address)
    process.get("22423", Source())
    whole = raw(memcached, process.slot("22423"))

    for byte in range(len(whole)):
        flipped = bytearray(whole)
        flipped[byte] ^= 1 << byte % 8
        assert process.entry._seal.open(process.slot("22423"), "", bytes(flipped)) is None


def test_a_value_is_worth_nothing_under_another_key_method_secret_or_form(
    opened: Opener, memcached: MemcachedProcess
) -> None:
    process = opened(memcached.address)
    process.get("a", Source("stolen"))
    stolen = raw(memcached, process.slot("a"))
    strangers = [
        (process, "b"),
        (opened(memcached.address, kept=said("weft.test.v1.Test.Other")), "a"),
        (opened(memcached.address, key=b"other" * 8), "a"),
        (opened(memcached.address, kept=said(schema=b"2")), "a"),
    ]

    for stranger, key in strangers:
        put(memcached, stranger.slot(key), stolen)
        assert "mug" == stranger.get(key, Source())


def test_a_change_by_an_older_release_is_seen_by_a_newer_one(opened: Opener, memcached: MemcachedProcess) -> None:
    older, newer = opened(memcached.address), opened(memcached.address, kept=said(schema=b"2"))
    newer.get("22423", Source("old"))

    older.forget("22423")

    assert "new" == newer.get("22423", Source("new"))


def test_an_answer_for_one_subject_is_never_given_to_another(opened: Opener, memcached: MemcachedProcess) -> None:
    process = opened(memcached.address, kept=said(shared=False))
    process.get("orders/1", Source("ann's"), subject="ann")

    assert "bob's" == process.get("orders/1", Source("bob's"), subject="bob")
    assert "ann's" == process.get("orders/1", Source("ann's"), subject="ann")
    process.forget("orders/1")
    assert "new" == process.get("orders/1", Source("new"), subject="ann")


def test_an_answer_for_one_subject_is_never_shared_with_another_while_it_is_loaded(
    opened: Opener, memcached: MemcachedProcess
) -> None:
    process = opened(memcached.address, kept=said(shared=False))

    def slow() -> str:
        return f"ann's, while bob got {process.get('orders/1', Source('his own'), subject='bob')}"

    assert "ann's, while bob got his own" == process.get("orders/1", slow, subject="ann")


def test_a_read_that_wants_the_truth_does_not_even_ask(opened: Opener, memcached: MemcachedProcess) -> None:
    process = opened(memcached.address)
    process.get("22423", Source("old"))

    asked = memcached.stat("cmd_get")

    assert ("new", asked) == (process.get("22423", Source("new"), max_age_s=0), memcached.stat("cmd_get"))


def test_an_answer_older_than_the_call_wants_it_is_loaded_anew_and_kept(
    opened: Opener, memcached: MemcachedProcess
) -> None:
    process, before = opened(memcached.address), counted("stale")
    aged = Value(b"old", TTL_S, load_s=0.5)
    put(memcached, process.slot("22423"), process.entry._seal.close(process.slot("22423"), "", aged), expire=TTL_S - 10)

    assert "old" == process.get("22423", Source("new"), max_age_s=60)
    assert "new" == process.get("22423", Source("new"), max_age_s=10)
    assert ("new", 1) == (process.get("22423", Source("newer")), counted("stale") - before)


@given(st.integers(1, 86_400), st.integers(0, 86_400), st.floats(0, 60), st.floats(0, 0.999))
def test_no_answer_is_taken_for_younger_than_it_is(life_s: int, passed_s: int, load_s: float, tick: float) -> None:
    # Memcached counts whole seconds of its own clock: stored at `tick` within one, it says what is left by ticks gone.
    if passed_s < life_s:
        left_s = life_s - int(tick + passed_s)
        value = Seal(Signer(KEY, purpose="t"), b"").open("s", "", sealed(Value(b"", life_s, load_s)))
        assert value is not None
        assert value.age_s(left_s) >= passed_s + load_s


def sealed(value: Value) -> bytes:
    return Seal(Signer(KEY, purpose="t"), b"").close("s", "", value)


def about_to_expire(memcached: MemcachedProcess, process: Process) -> None:
    slot = process.slot("22423")
    put(memcached, slot, process.entry._seal.close(slot, "", Value(b"still good", 600)), expire=30)


def test_what_is_about_to_expire_is_renewed_by_one_while_the_others_are_served(
    opened: Opener, memcached: MemcachedProcess
) -> None:
    process, other = (opened(memcached.address, kept=said(ttl_s=600)) for _ in range(2))
    about_to_expire(memcached, process)
    served: list[str] = []

    def renew() -> str:
        served.extend(each.get("22423", Source("too early")) for each in (process, other, other))
        return "new"

    assert "new" == process.get("22423", renew)
    assert (["still good"] * 3, "new") == (served, other.get("22423", Source("again")))


def test_where_it_cannot_be_renewed_it_is_served_until_it_expires(opened: Opener, memcached: MemcachedProcess) -> None:
    process = opened(memcached.address, kept=said(ttl_s=600))
    about_to_expire(memcached, process)

    def fails() -> str:
        raise Unavailable

    assert ["still good"] * 2 == [process.get("22423", fails) for _ in range(2)]


def test_a_lease_never_looks_like_a_value_about_to_expire(opened: Opener, memcached: MemcachedProcess) -> None:
    process = opened(memcached.address, kept=said(ttl_s=86_400))
    inside: list[str] = []

    def slow() -> str:
        with memcached.client() as client:
            inside.append(client.raw_command(f"mg {process.slot('22423')} v N5 R8640").decode())
        return "mug"

    process.get("22423", slow)

    assert ["VA 0 Z"] == inside


def test_a_value_that_no_longer_decodes_is_a_miss(opened: Opener, memcached: MemcachedProcess) -> None:
    process = opened(memcached.address)
    slot = process.slot("a")
    put(memcached, slot, process.entry._seal.close(slot, "", Value(b"\xff", TTL_S)))

    assert "mug" == process.get("a", Source())
    assert "mug" == process.get("a", Source("cup"))


@given(st.text(), st.text(min_size=1), st.dictionaries(st.text(), st.text()), st.one_of(st.none(), st.just(("a", "b"))))
def test_a_refusal_comes_back_as_it_was(
    message: str, reason: str, metadata: dict[str, str], resource: tuple[str, str] | None
) -> None:
    error = NotFound(message, reason=reason, metadata=metadata, resource=resource)

    kept = not_found(nothing(error))

    assert vars(error) == vars(kept)


SERVERS = st.lists(st.from_regex(r"\A10\.0\.0\.[0-9]{1,3}:11211\Z"), min_size=2, max_size=6, unique=True)


@given(SERVERS, st.text(max_size=40))
def test_without_a_node_only_its_own_keys_move(servers: list[str], key: str) -> None:
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


def test_a_node_rests_longer_with_each_failure_and_is_tried_by_one_at_a_time() -> None:
    health = Health()
    assert not health.failed(0.0)
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

    assert not health.ask(0.9)
    assert health.ask(1.0)
