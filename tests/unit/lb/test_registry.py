"""The registry over the fake etcd: the common suite, and what only a fake can do to it."""

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lb.config import EtcdSettings
from lb.errors import BundleRefusedError, EtcdRefusedError, EtcdUnavailableError, RevisionCompactedError
from lb.lastgood import LastGood
from lb.registry import publication
from lb.registry.agent import Agent
from lb.registry.directory import Directory
from lb.registry.etcd import Client, Dialer, KeyRange, Put
from lb.registry.keys import DOCUMENTS, ENDPOINTS, document_key
from lb.registry.publication import publish
from tests.unit.lb import sample
from tests.unit.lb.conftest import DEADLINE_S, eventually
from tests.unit.lb.fake_etcd import FakeEtcd
from tests.unit.lb.registry_suite import *  # noqa: F403
from tests.unit.lb.registry_suite import (
    Following,
    _empty,  # noqa: F401 - a fixture for every test
    ask,
    blobs_of,
    endpoints_of,
    follower_of,
    names,
)


@pytest.fixture
def etcd_process() -> Iterator[FakeEtcd]:
    running = FakeEtcd()
    yield running
    running.close()


@pytest.fixture
def etcd(etcd_process: FakeEtcd) -> str:
    return etcd_process.address


def test_a_wiped_etcd_is_filled_again_and_no_endpoint_is_missed_meanwhile(
    etcd: str, etcd_process: FakeEtcd, settings: EtcdSettings, agents: Callable[..., Agent], following: Any
) -> None:
    agent = agents()
    agent.register(sample.endpoint("orders-1", 4711))
    agent.publish("jwks", b"keys")
    bundle = sample.compiled(sample.rows())
    ask(etcd, lambda client: publish(client, *bundle))
    endpoints, bundles = following(endpoints_of(settings)), following(follower_of(settings))
    endpoints.until(lambda seen: seen == ["orders-1"])
    bundles.until(lambda seen: seen == bundle)
    eventually(lambda: ask(etcd, lambda client: client.get(document_key("jwks"))) is not None)

    etcd_process.wipe()

    eventually(lambda: ["orders/orders-1:4711"] == names(etcd))
    eventually(lambda: ask(etcd, lambda client: client.get(document_key("jwks"))) is not None)
    eventually(lambda: not ask(etcd, lambda client: publish(client, *bundle)).changed)
    assert [["orders-1"]] == endpoints.seen


def test_a_watch_that_fell_silent_is_found_out_by_the_next_list(
    etcd: str, etcd_process: FakeEtcd, settings: EtcdSettings, following: Any
) -> None:
    follow: Following = following(
        lambda it: Directory(
            Dialer(settings),
            KeyRange.prefix(DOCUMENTS),
            on_change=lambda records: it.seen.append([record.value for record in records.values()]),
            resync_s=0.2,
        )
    )
    follow.until(lambda seen: seen == [])
    eventually(lambda: etcd_process.watches == 1)
    etcd_process.deafen()
    ask(etcd, lambda client: client.put(Put(document_key("a"), b"1")))

    follow.until(lambda seen: seen == [b"1"])
    eventually(lambda: etcd_process.watches > 1)


def test_a_process_that_starts_while_etcd_is_away_knows_the_documents_of_last_time_until_etcd_is_back(
    etcd: str, etcd_process: FakeEtcd, agents: Callable[..., Agent], tmp_path: Path
) -> None:
    first: list[bytes] = []
    before = agents(last_good=LastGood(tmp_path))
    before.watch("jwks", first.append)
    put(etcd, "jwks", b"one")
    eventually(lambda: (tmp_path / "document.jwks").is_file())
    etcd_process.kill()
    seen: list[tuple[str, bytes]] = []
    agent = agents(last_good=LastGood(tmp_path), patience_s=0.2)
    agent.watch("revocations", lambda value: seen.append(("revocations", value)))
    agent.watch("jwks", lambda value: seen.append(("jwks", value)))
    eventually(lambda: seen == [("jwks", b"one")], lambda: seen)
    agent.watch("jwks", lambda value: seen.append(("late", value)))
    eventually(lambda: ("late", b"one") in seen, lambda: seen)
    etcd_process.restart()
    put(etcd, "jwks", b"two")

    eventually(lambda: {("jwks", b"two"), ("late", b"two")} <= set(seen), lambda: seen)
    eventually(lambda: first == [b"one", b"two"], lambda: first)


class Stalled(LastGood):
    """A disk that takes nothing before it is let go on."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.begun: list[bytes] = []
        self.going_on = threading.Event()

    def write(self, name: str, content: bytes) -> None:
        self.begun.append(content)
        self.going_on.wait(DEADLINE_S)
        super().write(name, content)


def test_a_disk_that_hangs_ends_no_lease_and_has_the_last_value_in_the_end(
    etcd: str, agents: Callable[..., Agent], tmp_path: Path
) -> None:
    disk, renewals, seen = Stalled(tmp_path), [], []
    agent = agents(last_good=disk, on_renewal=renewals.append)
    agent.watch("jwks", seen.append)
    agent.register(sample.endpoint("orders-1", 4711))
    eventually(agent.registered)
    try:
        put(etcd, "jwks", b"one")
        eventually(lambda: disk.begun == [b"one"])
        renewed = renewals.count("ok")
        eventually(lambda: renewals.count("ok") > renewed + 4, lambda: renewals)
        for value in (b"two", b"three"):
            put(etcd, "jwks", value)
            eventually(lambda value=value: seen[-1:] == [value], lambda: seen)
    finally:
        disk.going_on.set()

    eventually(lambda: disk.read("document.jwks") == b"three", lambda: disk.begun)
    assert [b"one", b"three"] == disk.begun
    assert "lost" not in renewals


def test_a_manifest_that_cannot_be_read_keeps_every_piece(etcd: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publication, "HISTORY_MAX", 2)

    def unreadable(manifest: bytes) -> tuple[str, ...]:
        raise BundleRefusedError(["a later release wrote it"])

    for name in ("a", "b", "c"):
        each = sample.compiled(sample.rows(name))
        published = ask(etcd, lambda client, each=each: publish(client, *each, pieces_of=unreadable, grace_s=1))
        assert published.changed

    assert [0] * 12 == list(blobs_of(etcd).values())


def documents_of(settings: EtcdSettings) -> Callable[[Following], Directory]:
    return lambda it: Directory(
        Dialer(settings),
        KeyRange.prefix(DOCUMENTS),
        on_change=lambda records: it.seen.append(sorted(record.value for record in records.values())),
    )


def put(etcd: str, name: str, value: bytes) -> None:
    ask(etcd, lambda client: client.put(Put(document_key(name), value)))


def test_a_new_connection_goes_on_after_the_last_revision_without_a_list(
    etcd: str, etcd_process: FakeEtcd, settings: EtcdSettings, following: Any
) -> None:
    follow: Following = following(documents_of(settings))
    follow.until(lambda seen: seen == [])
    put(etcd, "a", b"1")
    follow.until(lambda seen: seen == [b"1"])
    lists = etcd_process.lists
    etcd_process.kill()
    etcd_process.restart()
    put(etcd, "b", b"2")

    follow.until(lambda seen: seen == [b"1", b"2"])
    assert lists == etcd_process.lists


def test_a_new_connection_lists_where_the_revision_after_the_last_was_compacted(
    etcd: str, etcd_process: FakeEtcd, settings: EtcdSettings, following: Any
) -> None:
    follow: Following = following(documents_of(settings))
    put(etcd, "a", b"1")
    follow.until(lambda seen: seen == [b"1"])
    lists = etcd_process.lists
    etcd_process.deafen()
    put(etcd, "b", b"2")
    put(etcd, "c", b"3")
    etcd_process.kill()
    etcd_process.compact()
    etcd_process.hear()
    etcd_process.restart()

    follow.until(lambda seen: seen == [b"1", b"2", b"3"])
    assert lists < etcd_process.lists


def test_a_member_with_another_history_is_noticed_at_once_and_distrusted(
    etcd: str, etcd_process: FakeEtcd, settings: EtcdSettings, following: Any
) -> None:
    troubles: list[None] = []
    follow: Following = following(
        lambda it: Directory(
            Dialer(settings),
            KeyRange.prefix(DOCUMENTS),
            on_change=lambda records: it.seen.append([record.value for record in records.values()]),
            on_trouble=lambda: troubles.append(None),
        )
    )
    put(etcd, "a", b"1")
    follow.until(lambda seen: seen == [b"1"])
    etcd_process.wipe()

    follow.until(lambda seen: seen == [])
    assert len(troubles) > 1  # the connection that ended, and the history


def test_an_instance_whose_lease_ends_as_the_leader_changes_is_not_missed(
    etcd: str, etcd_process: FakeEtcd, settings: EtcdSettings, agents: Callable[..., Agent], following: Any
) -> None:
    for number in (1, 2):
        agents().register(sample.endpoint(f"orders-{number}", 4710 + number))
    endpoints = following(endpoints_of(settings))
    endpoints.until(lambda seen: seen == ["orders-1", "orders-2"])
    before = len(endpoints.seen)

    ended = etcd_process.elect()
    eventually(lambda: len(leases := leases_of(etcd)) == 2 and ended not in leases)
    assert [] == endpoints.seen[before:]


def leases_of(etcd: str) -> set[int]:
    """Whose keys are registered at this moment."""
    return {record.lease for record in ask(etcd, lambda client: client.list(KeyRange.prefix(ENDPOINTS))).records}


def test_a_watch_from_a_compacted_revision_says_so(etcd: str, etcd_process: FakeEtcd) -> None:
    ask(etcd, lambda client: client.put(Put(document_key("a"), b"1")))
    etcd_process.compact()

    async def watch(client: Client) -> None:
        async for _ in client.watch(KeyRange.prefix(DOCUMENTS), start_revision=1):
            pass

    with pytest.raises(RevisionCompactedError):
        ask(etcd, watch)


@pytest.fixture
def guarded() -> Iterator[FakeEtcd]:
    running = FakeEtcd(password="secret")
    yield running
    running.close()


def test_a_signed_in_agent_signs_in_again_after_a_restart(guarded: FakeEtcd, agents: Callable[..., Agent]) -> None:
    settings = EtcdSettings((guarded.address,), user="weft", password="secret", lease_ttl_s=2)
    agent, seen = agents(settings=settings), []
    agent.watch("jwks", seen.append)
    agent.register(sample.endpoint("orders-1", 4711))
    agent.publish("jwks", b"one")
    eventually(lambda: agent.registered() and seen == [b"one"])

    guarded.kill()
    eventually(lambda: not agent.registered())
    guarded.restart()
    agent.publish("jwks", b"two")

    eventually(lambda: agent.registered() and seen == [b"one", b"two"], lambda: seen)


def test_a_wrong_password_is_a_refusal_and_is_not_repeated_in_it(guarded: FakeEtcd) -> None:
    async def sign_in() -> None:
        settings = EtcdSettings((guarded.address,), user="weft", password="hunter2", lease_ttl_s=2)
        async with Dialer(settings).session():
            pass

    with pytest.raises(EtcdRefusedError, match="authentication failed") as caught:
        asyncio.run(sign_in())

    assert "hunter2" not in str(caught.value)


def test_an_etcd_that_hangs_is_given_up_in_time() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        began = time.monotonic()
        with pytest.raises(EtcdUnavailableError):
            ask(f"127.0.0.1:{listener.getsockname()[1]}", lambda client: client.get(b"x"))

    assert time.monotonic() - began < DEADLINE_S / 2
