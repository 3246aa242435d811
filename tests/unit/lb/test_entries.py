"""What of the registry may be used, and how long what is lost is called at its address."""

import asyncio
import contextlib
import ipaddress
import json
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lb.config import EtcdSettings
from lb.endpoint import Endpoint
from lb.registry import metrics
from lb.registry.endpoints import Endpoints
from lb.registry.entries import Entries
from lb.registry.etcd import Client, Dialer, Put, Record
from lb.registry.keys import encode, endpoint_key
from lb.registry.retention import Retention
from tests.unit.lb import sample
from tests.unit.lb.conftest import DEADLINE_S, eventually
from tests.unit.lb.fake_etcd import FakeEtcd
from tests.unit.lb.registry_suite import (
    Following,
    ask,
    following,  # noqa: F401 - a fixture
    settings_of,
)


class Registry:
    """What would lie in etcd, one revision after the other."""

    def __init__(self) -> None:
        self.records: dict[bytes, Record] = {}
        self._revision = 0

    def put(self, service: str, instance: str, *, value: bytes | None = None, lease: int = 1, **fields: Any) -> bytes:
        self._revision += 1
        key = endpoint_key(service, instance)
        row = {"service": service, "instance": instance, "address": "127.0.0.1", "port": 4711} | fields
        content = json.dumps(row).encode() if value is None else value
        self.records[key] = Record(key, content, self._revision, lease)
        return key


class Told:
    """Entries, and what they said."""

    def __init__(self, **how: Any) -> None:
        self.registry = Registry()
        self.refused: list[tuple[str, str]] = []
        self._entries = Entries(on_refused=lambda key, why: self.refused.append((key.decode()[16:], why)), **how)

    def names(self) -> list[str]:
        return sorted(f"{e.service}/{e.instance}:{e.port}" for e in self._entries.take(self.registry.records).values())

    def leaving(self) -> dict[bytes, bytes]:
        self._entries.take(self.registry.records)
        return {endpoint_key(each.service, each.instance): words for each, words in self._entries.leaving.items()}

    def reconsider(self) -> None:
        self._entries.reconsider()

    @property
    def now(self) -> list[str]:
        return sorted(self._entries.refused.values())


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ({"value": b"not JSON"}, "not_an_endpoint"),
        ({"value": b"[]"}, "key_differs"),
        ({"value": b" " * 5000}, "too_large"),
        ({"port": 0}, "bad_value"),
        ({"lease": 0}, "no_lease"),
        ({"address": "8.8.8.8"}, "foreign_host"),
        ({"address": "::ffff:8.8.8.8"}, "foreign_host"),
        ({"address": "2001:db8::1"}, "foreign_host"),
        ({"address": "0.0.0.0"}, "bad_value"),
        ({"service": "catalog", "instance": "orders-2"}, "unknown_service"),
    ],
)
def test_an_entry_that_must_not_be_used_is_refused_once_and_harms_no_other(what: dict[str, Any], reason: str) -> None:
    told = Told(known=lambda service: service == "orders")
    told.registry.put("orders", "orders-1", port=1)
    given = {"service": "orders", "instance": "orders-2"} | what
    told.registry.put(given.pop("service"), given.pop("instance"), **given)

    assert ["orders/orders-1:1"] == told.names() == told.names()
    assert [reason] == [why for _, why in told.refused] == told.now
    told.registry.records.popitem()
    assert ["orders/orders-1:1"] == told.names()
    assert [] == told.now


def test_the_last_good_value_of_a_key_stays_until_the_key_goes() -> None:
    told = Told()
    key = told.registry.put("orders", "orders-1", port=1)
    told.names()
    told.registry.put("orders", "orders-1", value=b"garbage")

    assert ["orders/orders-1:1"] == told.names()
    told.registry.put("orders", "orders-1", value=b"more garbage")
    assert ["orders/orders-1:1"] == told.names()
    assert ["not_an_endpoint"] * 2 == [why for _, why in told.refused]
    del told.registry.records[key]
    assert [] == told.names()


def test_of_two_at_one_address_the_later_one_has_it() -> None:
    told = Told()
    told.registry.put("orders", "orders-1", port=1)
    told.registry.put("catalog", "catalog-1", port=1)
    told.registry.put("orders", "orders-2", port=2)

    assert ["catalog/catalog-1:1", "orders/orders-2:2"] == told.names()
    told.registry.put("orders", "orders-1", port=1)
    assert ["orders/orders-1:1", "orders/orders-2:2"] == told.names()
    assert [("orders/orders-1", "duplicate_address"), ("catalog/catalog-1", "duplicate_address")] == told.refused
    del told.registry.records[endpoint_key("orders", "orders-1")]
    assert ["catalog/catalog-1:1", "orders/orders-2:2"] == told.names()
    assert [] == told.now


CHANGES = st.lists(
    st.tuples(
        st.sampled_from(["orders", "catalog", "edge"]),
        st.integers(1, 3),
        st.sampled_from(["put", "put", "garbage", "foreign", "leave", "delete"]),
        st.integers(1, 4),
    ),
    max_size=30,
)


@given(CHANGES)
def test_one_change_after_the_other_leads_where_all_at_once_do(changes: list[tuple[str, int, str, int]]) -> None:
    told = Told(known=lambda service: service == "orders")
    for service, number, what, port in changes:
        key = endpoint_key(service, f"{service}-{number}")
        how = {"garbage": {"value": b"x"}, "foreign": {"address": "8.8.8.8"}, "leave": {"leaving": True}}.get(what, {})
        # A good value that is damaged later stays, which who comes later cannot know: only new keys are damaged here.
        if what == "delete":
            told.registry.records.pop(key, None)
        elif what in ("put", "leave") or key not in told.registry.records:
            told.registry.put(service, f"{service}-{number}", port=port, **how)
        told.names()
    once = Told(known=lambda service: service == "orders")
    once.registry = told.registry

    assert (once.names(), once.now) == (told.names(), told.now)
    addresses = [name.rpartition(":")[2] for name in told.names() if not name.startswith("edge")]
    assert len(addresses) == len(set(addresses))


def test_an_instance_that_leaves_gives_its_address_away_without_a_word() -> None:
    told = Told()
    told.registry.put("orders", "orders-1", port=1, leaving=True)
    told.registry.put("orders", "orders-2", port=1)

    assert ["orders/orders-2:1"] == told.names()
    assert [] == told.refused


def test_who_leaves_is_told_with_the_words_it_was_said_in_until_it_is_gone_or_back() -> None:
    told = Told(known=lambda service: service == "orders")
    told.registry.put("orders", "orders-1", port=1)
    told.registry.put("orders", "orders-2", port=2)
    told.registry.put("catalog", "catalog-1", port=3)
    assert {} == told.leaving()
    keys = [
        told.registry.put("orders", "orders-1", port=1, leaving=True),
        told.registry.put("orders", "orders-2", port=2, leaving=True),
        told.registry.put("catalog", "catalog-1", port=3, leaving=True),  # published no more, and heard all the same
        told.registry.put("orders", "orders-3", port=4, leaving=True, lease=0),
    ]
    assert {key: told.registry.records[key].value for key in keys[:3]} == told.leaving()

    told.registry.put("orders", "orders-1", port=1)
    del told.registry.records[keys[1]]

    assert {keys[2]: told.registry.records[keys[2]].value} == told.leaving()


def test_gateways_may_share_an_address_and_need_no_contract() -> None:
    told = Told(known=lambda service: False)
    told.registry.put("edge", "gateway-1", port=1)
    told.registry.put("edge", "gateway-2", port=1)

    assert ["edge/gateway-1:1", "edge/gateway-2:1"] == told.names()


def test_a_service_is_used_as_soon_as_it_is_known() -> None:
    known: set[str] = set()
    told = Told(known=lambda service: service in known)
    told.registry.put("orders", "orders-1", port=1)
    assert [] == told.names()
    known.add("orders")
    told.reconsider()

    assert ["orders/orders-1:1"] == told.names()
    assert [] == told.now


def test_the_networks_of_a_deployment_are_its_own_to_say() -> None:
    told = Told(networks=[ipaddress.ip_network("198.51.100.0/24")])
    told.registry.put("orders", "orders-1", address="198.51.100.7")
    told.registry.put("orders", "orders-2", address="127.0.0.1", port=2)

    assert ["orders/orders-1:4711"] == told.names()


@pytest.fixture
def etcd() -> Iterator[FakeEtcd]:
    running = FakeEtcd()
    yield running
    running.close()


@pytest.fixture
def settings(etcd: FakeEtcd) -> EtcdSettings:
    return settings_of(etcd.address)


def register(etcd: FakeEtcd, *endpoints: Endpoint) -> int:
    """All of them under one lease, which nobody renews."""

    async def work(client: Client) -> int:
        lease = await client.grant(1000)
        for each in endpoints:
            await client.put(Put(endpoint_key(each.service, each.instance), encode(each), lease))
        return lease

    return ask(etcd.address, work)


def revoke(etcd: FakeEtcd, lease: int) -> None:
    ask(etcd.address, lambda client: client.revoke(lease))


def test_what_the_registry_lost_is_announced_for_as_long_as_somebody_answers_there(
    etcd: FakeEtcd,
    settings: EtcdSettings,
    following: Callable[..., Following],  # noqa: F811 - the fixture
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        lease = register(etcd, sample.endpoint("orders-1", listener.getsockname()[1]))
        follow = following(
            lambda it: Endpoints(
                Dialer(settings),
                on_change=lambda found: it.seen.append([each.instance for each in found]),
                retention=Retention(hold_s=6.0),
            )
        )
        follow.until(lambda seen: seen == ["orders-1"])
        revoke(etcd, lease)
        held = metrics.ENDPOINTS_HELD.labels("orders")
        eventually(lambda: held._value.get() == 1)
        for _ in range(4):  # called every two seconds, and so held for longer than by itself
            listener.accept()[0].close()
        assert [["orders-1"]] == follow.seen
    follow.until(lambda seen: seen == [])

    assert 0 == held._value.get()


@contextlib.contextmanager
def silent_port() -> Iterator[int]:
    """A port where a connection is neither taken nor refused: the queue of who listens there is full."""
    with contextlib.ExitStack() as sockets:
        listener = sockets.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):
            waiting = sockets.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


def test_who_waits_for_its_turn_to_be_called_is_announced_until_it_has_refused(
    etcd: FakeEtcd,
    settings: EtcdSettings,
    following: Callable[..., Following],  # noqa: F811 - the fixture
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("lb.registry.endpoints._PROBES_AT_ONCE", 1)
    monkeypatch.setattr("lb.registry.endpoints.PROBE_EVERY_S", 0.1)
    with silent_port() as one, silent_port() as two, socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(DEADLINE_S)
        ports = {"orders-1": one, "orders-2": two, "orders-3": listener.getsockname()[1]}
        lease = register(etcd, *(sample.endpoint(name, port) for name, port in ports.items()))
        follow = following(
            lambda it: Endpoints(
                Dialer(settings),
                on_change=lambda found: it.seen.append([each.instance for each in found]),
                retention=Retention(hold_s=0.5, doubt_s=60),
            )
        )
        follow.until(lambda seen: seen == list(ports))
        revoke(etcd, lease)
        # Two are silent for longer than anything is held: only then is it called.
        listener.accept()[0].close()
        assert [list(ports)] == follow.seen
        listener.close()
        follow.until(lambda seen: seen == ["orders-1", "orders-2"])


def test_a_restarted_control_plane_holds_what_it_announced_when_the_registry_is_empty(
    settings: EtcdSettings,
    following: Callable[..., Following],  # noqa: F811 - the fixture
) -> None:
    def make(follow: Following) -> Endpoints:
        endpoints = Endpoints(
            Dialer(settings),
            on_change=lambda found: follow.seen.append([each.instance for each in found]),
            retention=Retention(hold_s=1.0),
        )
        endpoints.remember([sample.endpoint("orders-1", 1)])
        return endpoints

    follow = following(make)
    follow.until(lambda seen: seen == [])

    assert [["orders-1"], []] == follow.seen


def test_a_registry_that_is_away_leaves_what_was_remembered() -> None:
    seen: list[list[str]] = []

    async def work() -> None:
        endpoints = Endpoints(
            Dialer(settings_of("127.0.0.1:1")), on_change=lambda found: seen.append([each.instance for each in found])
        )
        endpoints.remember([sample.endpoint("orders-1", 1), sample.endpoint("orders-2", 2)])
        assert not endpoints.loaded
        endpoints.announce_remembered()
        assert endpoints.loaded

    asyncio.run(work())
    assert [["orders-1", "orders-2"]] == seen
