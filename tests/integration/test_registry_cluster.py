"""The registry over three real members of etcd, which die, freeze and forget: nobody who asks it notices."""

import asyncio
import contextlib
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from deploy.supervisor.account import server_account
from deploy.supervisor.servers import etcd as etcd_server
from deploy.supervisor.servers import etcd_cluster
from deploy.supervisor.workspace import temporary
from lb.config import EtcdSettings
from lb.errors import EtcdUnavailableError
from lb.registry.agent import Agent
from lb.registry.directory import Directory
from lb.registry.endpoints import registered
from lb.registry.etcd import Client, Dialer, KeyRange, Put
from lb.registry.keys import DOCUMENTS, document_key
from tests.integration.etcd_server import EtcdCluster, EtcdMember, EtcdServer, layout_of
from tests.unit.lb import sample
from tests.unit.lb.conftest import eventually
from tests.unit.lb.registry_suite import (
    Following,
    agents,  # noqa: F401 - a fixture
    ask,
    endpoints_of,
    following,  # noqa: F401 - a fixture
    settings_of,
)
from tests.waiting import free_port

Agents = Callable[..., Agent]
Follow = Callable[..., Following]


@pytest.fixture(scope="module")
def running() -> Iterator[EtcdCluster]:
    with temporary() as folder:
        started = EtcdCluster(folder, server_account())
        yield started
        started.restart()
        started.kill()


@pytest.fixture
def cluster(running: EtcdCluster) -> Iterator[EtcdCluster]:
    """All members well, before and after."""
    running.restart()
    yield running
    running.restart()


@pytest.fixture
def settings(cluster: EtcdCluster) -> EtcdSettings:
    return settings_of(*cluster.addresses)


class SmallMesh:
    """Two instances that are registered, and who follows them and the documents."""

    def __init__(self, settings: EtcdSettings, start: Agents, follow: Follow) -> None:
        self.instances = [start(), start()]
        for number, agent in enumerate(self.instances, 1):
            agent.register(sample.endpoint(f"orders-{number}", 1000 + number))
        self.endpoints = follow(endpoints_of(settings))
        self.endpoints.until(lambda seen: seen == ["orders-1", "orders-2"])
        self.before = len(self.endpoints.seen)
        self.documents = follow(
            lambda it: Directory(
                Dialer(settings),
                KeyRange.prefix(DOCUMENTS),
                on_change=lambda records: it.seen.append([record.value for record in records.values()]),
            )
        )
        self._writer = start()
        self._written = 0

    def works(self) -> None:
        """A new value gets from one process to another, and every instance is registered."""
        self._written += 1
        value = b"%d" % self._written
        self._writer.publish("trial", value)
        self.documents.until(lambda seen: value in seen)
        eventually(lambda: all(agent.registered() for agent in self.instances))

    def undisturbed(self) -> bool:
        """No endpoint was missed."""
        return self.endpoints.seen[self.before :] == []


@pytest.fixture
def small_mesh(settings: EtcdSettings, agents: Agents, following: Follow) -> SmallMesh:  # noqa: F811 - fixtures
    started = SmallMesh(settings, agents, following)
    started.works()
    return started


def members_by_role(cluster: EtcdCluster) -> list[EtcdMember]:
    """The leader first, so that the one after it leads for a while only."""
    leader = cluster.leader()
    return [leader, *(member for member in cluster.members if member is not leader)]


def test_each_member_may_be_killed(cluster: EtcdCluster, small_mesh: SmallMesh) -> None:
    for member in members_by_role(cluster):
        member.kill()
        small_mesh.works()
        member.restart()

    assert small_mesh.undisturbed()


def test_each_member_may_hang(cluster: EtcdCluster, small_mesh: SmallMesh) -> None:
    for member in members_by_role(cluster):
        member.freeze()
        small_mesh.works()
        member.thaw()
        eventually(member.healthy)

    small_mesh.works()
    assert small_mesh.undisturbed()


def test_without_a_quorum_everything_stays_as_it_was(cluster: EtcdCluster, small_mesh: SmallMesh) -> None:
    gone = members_by_role(cluster)[:2]
    for member in gone:
        member.kill()
    eventually(lambda: not any(agent.registered() for agent in small_mesh.instances))
    for member in gone:
        member.start()

    small_mesh.works()
    assert small_mesh.undisturbed()


def test_a_member_that_lost_the_others_ends_its_watches(cluster: EtcdCluster) -> None:
    left, *others = cluster.members

    async def watch() -> None:
        async with Dialer(settings_of(left.address)).session() as client:
            known = (await client.list(KeyRange.prefix(DOCUMENTS))).revision
            for member in others:
                member.kill()
            async for _ in client.watch(KeyRange.prefix(DOCUMENTS), start_revision=known + 1):
                pass

    with pytest.raises(EtcdUnavailableError):
        asyncio.run(asyncio.wait_for(watch(), 60))


def test_lists_looks_and_watches_tell_of_an_election(cluster: EtcdCluster) -> None:
    leader, other, _ = members_by_role(cluster)

    async def terms(client: Client) -> set[int]:
        span = KeyRange.prefix(DOCUMENTS)
        listing = await client.list(span)
        await client.put(Put(document_key("trial"), b"1"))
        async with contextlib.aclosing(client.watch(span, start_revision=listing.revision + 1)) as changes:
            change, *_ = await anext(changes)
        return {listing.term, change.term, (await client.news(span, since=0)).term}

    (before,) = ask(other.address, terms)
    leader.kill()
    cluster.leader()
    eventually(other.healthy)
    (after,) = ask(other.address, terms)
    assert before < after


def test_all_members_may_be_killed_at_once_and_come_back(cluster: EtcdCluster, small_mesh: SmallMesh) -> None:
    cluster.kill()
    eventually(lambda: not any(agent.registered() for agent in small_mesh.instances))
    cluster.restart()

    small_mesh.works()
    assert small_mesh.undisturbed()


def test_members_that_lost_all_data_are_filled_again(
    cluster: EtcdCluster, settings: EtcdSettings, small_mesh: SmallMesh
) -> None:
    for number in range(30):  # so that the new history is still behind the old one when it is met
        ask(cluster.addresses[0], lambda client, n=number: client.put(Put(document_key("other"), b"x%d" % n)))
    cluster.wipe()

    small_mesh.works()
    eventually(lambda: len(ask(cluster.addresses[0], registered)) == 2)
    assert small_mesh.undisturbed()


def test_what_is_followed_is_what_is_there_while_history_is_compacted_all_the_time(
    cluster: EtcdCluster, small_mesh: SmallMesh
) -> None:
    done = threading.Event()

    def compact() -> None:
        while not done.wait(0.02):
            for address in cluster.addresses:
                compact_all(address)

    compacting = threading.Thread(target=compact)
    compacting.start()
    try:
        for member in cluster.members:
            small_mesh.works()
            member.kill()
            small_mesh.works()
            member.restart()
    finally:
        done.set()
        compacting.join()

    assert small_mesh.undisturbed()


def compact_all(address: str) -> None:
    """Have a member forget everything up to now; whether it does is not asked."""
    try:
        revision = json.loads(post(address, "kv/range", {"key": "Lw=="}))["header"]["revision"]
        post(address, "kv/compaction", {"revision": revision, "physical": True})
    except OSError:
        return


def post(address: str, method: str, body: dict[str, object]) -> bytes:
    request = urllib.request.Request(f"http://{address}/v3/{method}", json.dumps(body).encode())
    with urllib.request.urlopen(request, timeout=1) as answer:
        return bytes(answer.read())


def test_an_instance_that_lost_its_lease_to_a_long_pause_is_back_at_once(
    cluster: EtcdCluster, settings: EtcdSettings, small_mesh: SmallMesh
) -> None:
    leases = json.loads(post(cluster.addresses[0], "lease/leases", {}))["leases"]
    for lease in leases:
        post(cluster.addresses[0], "lease/revoke", {"ID": lease["ID"]})

    small_mesh.works()
    eventually(lambda: len(ask(cluster.addresses[0], registered)) == 2)
    assert small_mesh.undisturbed()


def test_a_cluster_of_one_becomes_one_of_three_and_moves_to_other_ports_with_all_it_knows(tmp_path: Path) -> None:
    account, passwords = (
        server_account(),
        etcd_server.Passwords("root-password", (etcd_server.User(etcd_server.USER, "password", etcd_server.PREFIX),)),
    )
    with temporary() as folder:
        alone = EtcdServer(folder, account)
        port = int(alone.address.rpartition(":")[2])
        asyncio.run(etcd_server.enable_authentication([port], passwords))
        asyncio.run(put_as_user(alone.address, b"one"))
        alone.stop()
        layout = layout_of(folder, account)
        for value in (b"two", b"three"):
            members = [etcd_server.Member(f"etcd-{number}", free_port(), free_port()) for number in (1, 2, 3)]
            asyncio.run(etcd_cluster.form(members, layout, account))
            asyncio.run(etcd_cluster.form(members, layout, account))  # the same again changes nothing
            processes = [
                EtcdMember(etcd_server.server(member, layout, account, cluster=members), account) for member in members
            ]
            try:
                for process in processes:
                    process.start()
                for process in processes:
                    eventually(process.healthy)
                asyncio.run(etcd_server.enable_authentication([each.client_port for each in members], passwords))

                before = asyncio.run(put_as_user(processes[2].address, value))
                assert {b"two": b"one", b"three": b"two"}[value] == before
            finally:
                for process in processes:
                    process.stop()


async def put_as_user(address: str, value: bytes) -> bytes | None:
    """Replace a document's value; returns the one before."""
    settings = EtcdSettings((address,), user=etcd_server.USER, password="password")
    async with Dialer(settings).session() as client:
        before = await client.get(document_key("trial"))
        await client.put(Put(document_key("trial"), value))
    return before.value if before else None
