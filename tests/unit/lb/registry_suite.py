"""What must hold of the registry over any etcd: tried over the fake in unit tests and over the real one in integration.

Users of this suite provide two fixtures: `etcd`, the address, and `etcd_process` with `kill`, `stop` and `restart`.
"""

import asyncio
import hashlib
import random
import threading
import zlib
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, TypeVar

import pytest

from lb.config import EtcdSettings
from lb.endpoint import Endpoint
from lb.errors import BundleRefusedError, EtcdRefusedError
from lb.registry import publication
from lb.registry.agent import Agent
from lb.registry.departure import Departure
from lb.registry.directory import Directory
from lb.registry.endpoints import Endpoints, registered
from lb.registry.etcd import TXN_BYTES_MAX, TXN_OPS_MAX, Client, Delete, Dialer, KeyRange, Put, Record
from lb.registry.keys import BLOBS, CURRENT, DOCUMENTS, blob_key, document_key, endpoint_key
from lb.xds.bundle import pieces_of
from tests.unit.lb import sample
from tests.unit.lb.conftest import DEADLINE_S, eventually

T = TypeVar("T")
TTL_S = 2


def settings_of(*addresses: str) -> EtcdSettings:
    return EtcdSettings(endpoints=addresses, lease_ttl_s=TTL_S, timeout_s=1.0)


def ask(address: str, work: Callable[[Client], Awaitable[T]]) -> T:
    async def run() -> T:
        async with Dialer(settings_of(address)).session() as client:
            return await work(client)

    return asyncio.run(run())


def names(address: str) -> list[str]:
    found = ask(address, registered)
    return [f"{each.service}/{each.instance}:{each.port}" for each in found]


class Following:
    """A follower of etcd in a thread of its own."""

    def __init__(self, make: Callable[["Following"], Any]) -> None:
        self.seen: list[Any] = []
        self._loop = asyncio.new_event_loop()
        self._task: Any = None
        self._made = make
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        async def work() -> None:
            self._task = asyncio.ensure_future(self._made(self).run())
            await asyncio.gather(self._task, return_exceptions=True)

        self._loop.run_until_complete(work())
        self._loop.close()

    def until(self, accepted: Callable[[Any], bool]) -> Any:
        eventually(lambda: bool(self.seen) and accepted(self.seen[-1]), lambda: self.seen[-1:])
        return self.seen[-1]

    def close(self) -> None:
        self._loop.call_soon_threadsafe(lambda: self._task.cancel())
        self._thread.join(DEADLINE_S)


@pytest.fixture(autouse=True)
def _empty(etcd: str) -> None:
    """Every test finds an etcd without a key of ours."""

    async def work(client: Client) -> None:
        records = (await client.list(KeyRange.prefix(b"/weft/"), keys_only=True)).records
        for start in range(0, len(records), TXN_OPS_MAX):
            await client.commit([], [Delete(record.key) for record in records[start : start + TXN_OPS_MAX]])

    ask(etcd, work)


@pytest.fixture
def settings(etcd: str) -> EtcdSettings:
    return settings_of(etcd)


@pytest.fixture
def agents(settings: EtcdSettings) -> Iterator[Callable[..., Agent]]:
    started: list[Agent] = []

    def start(**callbacks: Any) -> Agent:
        agent = Agent(callbacks.pop("settings", settings), **callbacks)
        agent.start()
        started.append(agent)
        return agent

    yield start
    for agent in started:
        agent.stop(5.0)


@pytest.fixture
def following() -> Iterator[Callable[[Callable[[Following], Any]], Following]]:
    started: list[Following] = []

    def start(make: Callable[[Following], Any]) -> Following:
        started.append(Following(make))
        return started[-1]

    yield start
    for each in started:
        each.close()


def leaves(agent: Agent, endpoint: Endpoint, *, confirm_s: float = 5.0) -> Departure:
    """It says goodbye, and waits for nobody else."""
    return agent.depart(endpoint, confirm_s=confirm_s, acknowledge_s=confirm_s, hurried=threading.Event())


def endpoints_of(settings: EtcdSettings) -> Callable[[Following], Endpoints]:
    return lambda follow: Endpoints(
        Dialer(settings), on_change=lambda found: follow.seen.append([each.instance for each in found])
    )


def test_an_instance_is_registered_under_a_lease_and_gone_when_it_leaves(
    etcd: str, agents: Callable[..., Agent]
) -> None:
    states: list[bool] = []
    agent = agents(on_registration=states.append)
    agent.register(sample.endpoint("orders-1", 4711))
    eventually(agent.registered)
    assert ["orders/orders-1:4711"] == names(etcd)

    assert leaves(agent, sample.endpoint("orders-1", 4711)).confirmed

    assert [] == names(etcd)
    assert [True, False] == states
    assert not agent.registered()


def test_who_has_left_stays_away(etcd: str, agents: Callable[..., Agent]) -> None:
    agent = agents()
    agent.register(sample.endpoint("orders-1", 4711))
    eventually(agent.registered)
    leaves(agent, sample.endpoint("orders-1", 4711))
    agent.register(sample.endpoint("orders-1", 4711))
    agent.stop(5.0)

    assert [] == names(etcd)


def test_the_lease_is_kept_alive_beyond_its_length(etcd: str, agents: Callable[..., Agent]) -> None:
    outcomes: list[str] = []
    agent = agents(on_renewal=outcomes.append)
    agent.register(sample.endpoint("orders-1", 4711))
    eventually(lambda: outcomes.count("ok") > 4, lambda: outcomes)

    # One renewal may fail where the machine is slow, and is made again in time.
    assert "lost" not in outcomes
    assert ["orders/orders-1:4711"] == names(etcd)


def test_a_key_that_someone_deleted_comes_back(etcd: str, agents: Callable[..., Agent]) -> None:
    agent = agents()
    agent.register(sample.endpoint("orders-1", 4711))
    eventually(agent.registered)
    ask(etcd, lambda client: client.commit([], [Delete(endpoint_key("orders", "orders-1"))]))

    eventually(lambda: ["orders/orders-1:4711"] == names(etcd))


def test_what_lies_on_the_key_without_a_lease_is_replaced(etcd: str, agents: Callable[..., Agent]) -> None:
    agent = agents()
    agent.register(sample.endpoint("orders-1", 4711))
    eventually(agent.registered)
    ask(etcd, lambda client: client.put(Put(endpoint_key("orders", "orders-1"), b"garbage")))

    eventually(lambda: ["orders/orders-1:4711"] == names(etcd))


def test_of_two_with_one_name_the_later_has_it_until_it_leaves(etcd: str, agents: Callable[..., Agent]) -> None:
    first, second = agents(), agents()
    first.register(sample.endpoint("orders-1", 1111))
    eventually(first.registered)
    second.register(sample.endpoint("orders-1", 2222))
    eventually(second.registered)
    eventually(lambda: not first.registered())
    assert ["orders/orders-1:2222"] == names(etcd)

    leaves(second, sample.endpoint("orders-1", 2222))

    eventually(lambda: ["orders/orders-1:1111"] == names(etcd))


def test_an_instance_registers_again_after_etcd_was_killed(
    etcd: str, etcd_process: Any, agents: Callable[..., Agent]
) -> None:
    states: list[bool] = []
    agent = agents(on_registration=states.append)
    agent.register(sample.endpoint("orders-1", 4711))
    eventually(agent.registered)

    etcd_process.kill()
    eventually(lambda: states == [True, False], lambda: states)
    etcd_process.restart()

    eventually(agent.registered)
    assert ["orders/orders-1:4711"] == names(etcd)


def test_a_dead_member_is_passed_over(etcd: str, agents: Callable[..., Agent]) -> None:
    agent = agents(settings=settings_of("127.0.0.1:1", etcd))
    agent.register(sample.endpoint("orders-1", 4711))

    eventually(agent.registered)


def test_an_agent_starts_and_stops_without_etcd() -> None:
    agent = Agent(settings_of("127.0.0.1:1"))
    agent.start()
    agent.register(sample.endpoint("orders-1", 4711))

    agent.stop(5.0)

    assert not agent.registered()


def test_leaving_is_not_confirmed_while_etcd_is_away(etcd_process: Any, agents: Callable[..., Agent]) -> None:
    agent = agents()
    agent.register(sample.endpoint("orders-1", 4711))
    eventually(agent.registered)
    etcd_process.kill()

    left = leaves(agent, sample.endpoint("orders-1", 4711), confirm_s=0.2)
    etcd_process.restart()

    assert not left.confirmed


def test_a_document_reaches_every_watcher_with_each_new_value(agents: Callable[..., Agent]) -> None:
    publisher, reader = agents(), agents()
    early: list[bytes] = []
    reader.watch("jwks", early.append)
    publisher.publish("jwks", b"one")
    eventually(lambda: early == [b"one"], lambda: early)
    publisher.publish("jwks", b"two")
    eventually(lambda: early == [b"one", b"two"], lambda: early)
    late: list[bytes] = []
    reader.watch("jwks", late.append)

    eventually(lambda: late == [b"two"], lambda: late)


def test_of_documents_seen_at_once_the_one_watched_first_is_told_first(etcd: str, agents: Callable[..., Agent]) -> None:
    publisher = agents()
    # Both are there before anybody reads, and etcd lists them in the other order.
    for name in ("jwks", "revocations"):
        publisher.publish(name, b"value")
        eventually(lambda name=name: ask(etcd, lambda client: client.get(document_key(name))) is not None)
    seen: list[str] = []

    reader = agents()
    reader.watch("revocations", lambda _: seen.append("revocations"))
    reader.watch("jwks", lambda _: seen.append("jwks"))

    eventually(lambda: len(seen) == 2, lambda: seen)
    assert ["revocations", "jwks"] == seen


def test_a_lost_document_is_published_again_with_its_latest_value(etcd: str, agents: Callable[..., Agent]) -> None:
    first, second = agents(), agents()
    first.publish("jwks", b"one")
    key = document_key("jwks")
    eventually(lambda: ask(etcd, lambda client: client.get(key)) is not None)
    seen: list[bytes] = []
    first.watch("jwks", seen.append)
    second.publish("jwks", b"two")

    def value() -> bytes | None:
        record = ask(etcd, lambda client: client.get(key))
        return record.value if record else None

    eventually(lambda: b"two" in seen)
    second.stop(5.0)
    ask(etcd, lambda client: client.commit([], [Delete(key)]))

    eventually(lambda: value() is not None)
    assert b"two" == value()


def test_the_directory_follows_what_comes_changes_and_goes(etcd: str, settings: EtcdSettings, following: Any) -> None:
    span = KeyRange.prefix(DOCUMENTS)

    def make(follow: Following) -> Directory:
        def changed(records: Mapping[bytes, Record]) -> None:
            follow.seen.append({key: record.value for key, record in records.items()})

        return Directory(Dialer(settings), span, on_change=changed)

    key = document_key("a")
    follow = following(make)
    follow.until(lambda seen: seen == {})
    ask(etcd, lambda client: client.put(Put(key, b"1")))
    follow.until(lambda seen: seen == {key: b"1"})
    ask(etcd, lambda client: client.put(Put(key, b"2")))
    follow.until(lambda seen: seen == {key: b"2"})
    ask(etcd, lambda client: client.commit([], [Delete(key)]))

    follow.until(lambda seen: seen == {})


def test_endpoints_survive_an_etcd_that_is_killed_and_comes_back(
    settings: EtcdSettings, etcd_process: Any, agents: Callable[..., Agent], following: Any
) -> None:
    one, two = agents(), agents()
    one.register(sample.endpoint("orders-1", 1111))
    two.register(sample.endpoint("orders-2", 2222))
    follow = following(endpoints_of(settings))
    follow.until(lambda seen: seen == ["orders-1", "orders-2"])
    before = len(follow.seen)

    etcd_process.kill()
    eventually(lambda: not one.registered())
    etcd_process.restart()
    eventually(lambda: one.registered() and two.registered())

    assert [] == follow.seen[before:]


def test_an_instance_that_leaves_is_gone_at_once_while_another_serves(
    settings: EtcdSettings, agents: Callable[..., Agent], following: Any
) -> None:
    one, two = agents(), agents()
    one.register(sample.endpoint("orders-1", 1111))
    two.register(sample.endpoint("orders-2", 2222))
    follow = following(endpoints_of(settings))
    follow.until(lambda seen: seen == ["orders-1", "orders-2"])

    leaves(one, sample.endpoint("orders-1", 1111))

    follow.until(lambda seen: seen == ["orders-2"])


def test_what_is_published_is_followed_and_rolled_back(etcd: str, settings: EtcdSettings, following: Any) -> None:
    first, second = sample.compiled(sample.rows()), sample.compiled(sample.rows("catalog"))
    follow = following(follower_of(settings))
    one = ask(etcd, lambda client: publication.publish(client, *first))
    follow.until(lambda seen: seen == first)
    two = ask(etcd, lambda client: publication.publish(client, *second))
    follow.until(lambda seen: seen == second)
    again = ask(etcd, lambda client: publication.publish(client, *second))
    back = ask(etcd, publication.roll_back)
    follow.until(lambda seen: seen == first)

    assert (True, True, False) == (one.changed, two.changed, again.changed)
    assert (one.number + 1, 0) == (two.number, again.blobs_written)
    assert (one.digest, two.digest) == (back.digest, back.undone)


def test_there_is_nothing_before_the_first_bundle(etcd: str) -> None:
    ask(etcd, lambda client: publication.publish(client, *sample.compiled(sample.rows())))

    with pytest.raises(EtcdRefusedError, match="no earlier bundle"):
        ask(etcd, publication.roll_back)


def test_a_bundle_of_many_pieces_is_published_in_several_transactions(etcd: str) -> None:
    manifest, pieces = sample.compiled([("all", sample.cluster(f"cluster-{n}")) for n in range(300)])
    published = ask(etcd, lambda client: publication.publish(client, manifest, pieces))
    read = ask(
        etcd,
        lambda client: publication.load(client, published.digest, lambda _: tuple(pieces), known={}),
    )

    assert (manifest, pieces) == read


def test_a_route_table_larger_than_a_request_of_etcd_is_published(etcd: str) -> None:
    table = "".join(f"/weft.shop.v1.ShopService/Method{number}\n" for number in range(60_000)).encode()
    pieces = {hashlib.sha256(table).hexdigest(): table}
    published = ask(etcd, lambda client: publication.publish(client, b"manifest", pieces))
    read = ask(etcd, lambda client: publication.load(client, published.digest, lambda _: tuple(pieces), known={}))

    assert 2 * TXN_BYTES_MAX < len(table)
    assert (b"manifest", pieces) == read


def test_a_piece_that_does_not_shrink_enough_is_refused_before_anything_moves(etcd: str) -> None:
    noise = random.Random(1).randbytes(2 * TXN_BYTES_MAX)
    pieces = {hashlib.sha256(noise).hexdigest(): noise}

    with pytest.raises(BundleRefusedError, match="larger than"):
        ask(etcd, lambda client: publication.publish(client, b"manifest", pieces))

    assert ask(etcd, lambda client: client.get(CURRENT)) is None


def test_a_piece_stored_as_it_is_by_an_earlier_release_is_read(etcd: str) -> None:
    content = {hashlib.sha256(text).hexdigest(): text for text in (b"manifest", b"piece")}
    names = list(content)
    stored = [Put(blob_key(name), text) for name, text in content.items()]
    ask(etcd, lambda client: client.commit([], stored))

    read = ask(etcd, lambda client: publication.load(client, names[0], lambda _: names[1:], known={}))

    assert (b"manifest", {names[1]: b"piece"}) == read


@pytest.mark.parametrize(
    "value", [b"", b"damaged", zlib.compress(b"something else"), zlib.compress(bytes(1 << 20))[:-9]]
)
def test_a_piece_that_is_not_what_its_name_says_is_refused(value: bytes) -> None:
    with pytest.raises(BundleRefusedError, match="not what its name says"):
        publication.unpacked(value, hashlib.sha256(b"piece").hexdigest())


def blobs_of(etcd: str) -> dict[bytes, int]:
    """The pieces there are, and the lease of each."""
    records = ask(etcd, lambda client: client.list(KeyRange.prefix(BLOBS), keys_only=True)).records
    return {record.key: record.lease for record in records}


def test_pieces_that_only_trimmed_history_named_end_after_a_grace_and_no_other_does(
    etcd: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publication, "HISTORY_MAX", 2)
    shared = sample.rows()
    # More than one transaction takes; the first of them is published again before its grace has ended.
    many = [("all", sample.cluster(f"cluster-{n}")) for n in range(TXN_OPS_MAX + 10)]
    bundles = [sample.compiled([*shared, *rows]) for rows in (many, sample.rows("b"), sample.rows("c"))]

    def publish(manifest: bytes, pieces: dict[str, bytes], grace_s: int) -> publication.Published:
        return ask(
            etcd,
            lambda client: publication.publish(client, manifest, pieces, pieces_of=pieces_of, grace_s=grace_s),
        )

    for each in bundles:
        publish(*each, 1000)
    kept = {blob_key(name) for _, pieces in bundles[1:] for name in pieces}
    kept |= {blob_key(hashlib.sha256(manifest).hexdigest()) for manifest, _ in bundles[1:]}
    found = blobs_of(etcd)
    assert kept == {key for key, lease in found.items() if not lease}
    assert len(many) + 1 == len(found) - len(kept)  # the manifest is one as well; all are there and can be read

    again = publish(*bundles[0], 1)
    assert len(many) + 1 == again.blobs_written
    lasting = {blob_key(name) for name in bundles[0][1]} | {blob_key(again.digest)}
    lasting |= {blob_key(name) for name in bundles[2][1]}
    lasting.add(blob_key(hashlib.sha256(bundles[2][0]).hexdigest()))
    eventually(lambda: lasting == set(blobs_of(etcd)), lambda: len(blobs_of(etcd)))
    assert {0} == set(blobs_of(etcd).values())
    read = ask(etcd, lambda client: publication.load(client, again.digest, pieces_of, known={}))
    assert bundles[0] == read


def test_one_of_two_racing_publishers_wins_and_both_are_in_the_history(etcd: str) -> None:
    bundles = [sample.compiled(sample.rows(name)) for name in ("orders", "catalog", "identity")]

    async def work() -> list[publication.Published]:
        async def one(manifest: bytes, pieces: dict[str, bytes]) -> publication.Published:
            async with Dialer(settings_of(etcd)).session() as client:
                return await publication.publish(client, manifest, pieces)

        return await asyncio.gather(*(one(*each) for each in bundles))

    results = asyncio.run(work())
    current = ask(etcd, lambda client: client.get(CURRENT))
    assert current is not None

    assert len(bundles) == len({result.number for result in results})
    last = max(results, key=lambda result: result.number)
    assert last.digest == current.value.decode()


def follower_of(settings: EtcdSettings) -> Callable[[Following], publication.Follower]:
    return lambda follow: publication.Follower(
        Dialer(settings),
        pieces_of=pieces_of,
        on_bundle=lambda manifest, pieces: follow.seen.append((manifest, dict(pieces))),
    )
