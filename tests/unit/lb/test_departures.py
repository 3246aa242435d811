"""An instance that leaves is told when no client has it any more: not earlier, and no later than it cares to wait."""

import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message

from lb.config import EtcdSettings
from lb.registry import publication
from lb.registry.agent import Agent
from lb.registry.departure import Departure
from lb.registry.etcd import KeyRange, Put
from lb.registry.keys import LEFT, encode, endpoint_key, left_key, status_key
from lb.xds.types import CDS, EDS
from tests.unit.lb import sample
from tests.unit.lb.ads import STREAM, answer_of
from tests.unit.lb.conftest import DEADLINE_S, Client, ControlPlane, eventually
from tests.unit.lb.fake_etcd import FakeEtcd
from tests.unit.lb.registry_suite import ask, names
from tests.waiting import free_port
from weft_protos.xds import envoy

ROOT = Path(__file__).resolve().parents[3]

ONE, TWO = sample.endpoint("orders-1", 4711), sample.endpoint("orders-2", 4712)
GOODBYE = encode(replace(ONE, leaving=True))


class Gateway:
    """A client that acknowledges what the test lets it."""

    def __init__(self, control_plane: ControlPlane, node: str = "gateway-1", zone: str = "") -> None:
        self._node, self._zone = node, zone
        self._requests: queue.Queue[Message | None] = queue.Queue()
        self._channel = grpc.insecure_channel(control_plane.address)
        sent: Iterator[bytes] = (each.SerializeToString() for each in iter(self._requests.get, None))
        self._answers = self._channel.stream_stream(STREAM)(sent, timeout=DEADLINE_S)

    def ask(self, type_url: str, *names: str, version: str = "", nonce: str = "", refuse: str = "") -> None:
        node = {"id": self._node, "cluster": "test", "metadata": {"kind": "envoy"}, "locality": {"zone": self._zone}}
        fields: dict[str, Any] = {"error_detail": {"code": 3, "message": refuse}} if refuse else {}
        self._requests.put(
            envoy(
                "service.discovery.v3.DiscoveryRequest",
                type_url=type_url,
                resource_names=list(names),
                version_info=version,
                response_nonce=nonce,
                node=node,
                **fields,
            )
        )

    def answered(self) -> Any:
        return answer_of(next(self._answers))

    def subscribe(self, cluster: str = "orders") -> None:
        """Ask for the endpoints of a cluster and accept them."""
        self.ask(EDS, cluster)
        self.accept(self.answered(), cluster)

    def accept(self, answer: Any, cluster: str = "orders") -> None:
        self.ask(EDS, cluster, version=answer.version_info, nonce=answer.nonce)

    def close(self) -> None:
        self._requests.put(None)
        self._answers.cancel()
        self._channel.close()


@pytest.fixture
def gateway(control_plane: ControlPlane) -> Iterator[Callable[..., Gateway]]:
    opened: list[Gateway] = []

    def start(node: str = "gateway-1", zone: str = "") -> Gateway:
        opened.append(Gateway(control_plane, node, zone))
        return opened[-1]

    control_plane.feeding(lambda feed: feed.set_endpoints([ONE, TWO]))
    control_plane.feeding(lambda feed: feed.set_bundle(sample.bundle()))
    yield start
    for each in opened:
        each.close()


def leaves(control_plane: ControlPlane) -> None:
    """Orders-1 asks to be told."""
    control_plane.feeding(lambda _: control_plane.departures.follow({ONE: b"asked"}))


def looked(control_plane: ControlPlane) -> None:
    """Let the control plane look at its clients some more times: were it to answer, it would have."""
    for _ in range(5):
        control_plane.feeding(lambda _: control_plane.departures._look())


def test_nobody_is_told_before_every_client_has_accepted_the_endpoints_without_it(
    control_plane: ControlPlane, gateway: Callable[..., Gateway]
) -> None:
    first, second = gateway("gateway-1"), gateway("gateway-2")
    first.subscribe()
    second.subscribe()
    leaves(control_plane)
    looked(control_plane)
    assert {} == control_plane.answers  # still announced

    control_plane.feeding(lambda feed: feed.set_endpoints([TWO]))
    first.accept(first.answered())
    late = second.answered()
    looked(control_plane)
    assert {} == control_plane.answers

    second.accept(late)
    eventually(lambda: {ONE: b"asked"} == control_plane.answers)


def test_a_client_that_refuses_the_endpoints_or_never_asked_for_them_is_told_apart(
    control_plane: ControlPlane, gateway: Callable[..., Gateway]
) -> None:
    other, refusing = gateway("gateway-1"), gateway("gateway-2")
    other.ask(CDS)
    other.answered()
    refusing.subscribe()
    control_plane.feeding(lambda feed: feed.set_endpoints([TWO]))
    answer = refusing.answered()
    refusing.ask(EDS, "orders", version="", nonce=answer.nonce, refuse="no")
    eventually(lambda: any(client.refusals for client in control_plane.clients.status().clients))
    leaves(control_plane)
    looked(control_plane)

    assert {} == control_plane.answers
    refusing.close()  # whoever is gone has no endpoints
    eventually(lambda: [ONE] == list(control_plane.answers))


def test_a_client_that_is_told_of_its_own_zone_first_goes_by_that(
    control_plane: ControlPlane, gateway: Callable[..., Gateway]
) -> None:
    leaver, near, far = replace(ONE, zone="a"), sample.endpoint("orders-3", 4713, zone="a"), replace(TWO, zone="b")
    control_plane.feeding(lambda feed: feed.set_endpoints([leaver, near, far]))
    client = gateway(zone="a")
    client.subscribe()
    control_plane.feeding(lambda feed: feed.set_endpoints([near, far]))
    answer = client.answered()
    leaves(control_plane)
    looked(control_plane)
    assert {} == control_plane.answers

    client.accept(answer)

    eventually(lambda: {ONE: b"asked"} == control_plane.answers)


def test_the_answer_goes_when_the_instance_is_gone(
    control_plane: ControlPlane, gateway: Callable[..., Gateway]
) -> None:
    gateway().ask(EDS, "another")
    control_plane.feeding(lambda feed: feed.set_endpoints([TWO]))
    leaves(control_plane)
    eventually(lambda: [ONE] == list(control_plane.answers))

    control_plane.feeding(lambda _: control_plane.departures.follow({}))

    assert {} == control_plane.answers


@pytest.fixture
def etcd_process() -> Iterator[FakeEtcd]:
    running = FakeEtcd()
    yield running
    running.close()


@pytest.fixture
def agents(etcd_process: FakeEtcd) -> Iterator[Callable[..., Agent]]:
    started: list[Agent] = []

    def start(*, timeout_s: float = 1.0) -> Agent:
        settings = EtcdSettings(endpoints=(etcd_process.address,), lease_ttl_s=2, timeout_s=timeout_s)
        agent = Agent(settings)
        agent.start()
        started.append(agent)
        return agent

    yield start
    for agent in started:
        agent.stop(5.0)


def departing(agent: Agent, *, acknowledge_s: float, hurried: threading.Event | None = None) -> "Waiting":
    return Waiting(
        lambda: agent.depart(
            ONE, confirm_s=DEADLINE_S, acknowledge_s=acknowledge_s, hurried=hurried or threading.Event()
        )
    )


class Waiting(threading.Thread):
    """An instance that waits for its clients."""

    def __init__(self, wait: Callable[[], Departure]) -> None:
        super().__init__(daemon=True)
        self._wait = wait
        self.outcome: list[Departure] = []
        self.start()

    def run(self) -> None:
        self.outcome.append(self._wait())

    def ended(self) -> Departure:
        self.join(DEADLINE_S)
        return self.outcome[0]


def put(address: str, key: bytes, value: bytes) -> None:
    ask(address, lambda client: client.put(Put(key, value)))


def registered(agents: Callable[..., Agent], *endpoints: Any) -> Agent:
    started = []
    for endpoint in endpoints:
        started.append(agents())
        started[-1].register(endpoint)
        assert started[-1].wait_registered(DEADLINE_S)
    return started[0]


def test_an_instance_has_left_when_every_living_control_plane_says_so(
    etcd_process: FakeEtcd, agents: Callable[..., Agent]
) -> None:
    etcd = etcd_process.address
    leaver = registered(agents, ONE, TWO)
    for number in (1, 2):
        put(etcd, status_key(f"control-plane-{number}"), b"{}")

    waiting = departing(leaver, acknowledge_s=DEADLINE_S)
    eventually(lambda: ["orders/orders-2:4712"] == names(etcd))
    assert not leaver.registered()
    put(etcd, left_key("orders", "orders-1", "control-plane-1"), GOODBYE)
    put(etcd, left_key("orders", "orders-1", "control-plane-2"), b"said to an earlier process of that name")
    assert [] == waiting.outcome
    put(etcd, left_key("orders", "orders-1", "control-plane-2"), GOODBYE)

    assert Departure(confirmed=True) == waiting.ended()
    leaver.stop(5.0)
    assert None is ask(etcd, lambda client: client.get(endpoint_key("orders", "orders-1")))


def test_a_control_plane_that_never_answers_is_named_when_the_time_is_up(
    etcd_process: FakeEtcd, agents: Callable[..., Agent]
) -> None:
    leaver = registered(agents, ONE, TWO)
    put(etcd_process.address, status_key("control-plane-1"), b"{}")

    assert Departure(confirmed=True, unanswered=("control-plane-1",)) == departing(leaver, acknowledge_s=0.3).ended()


def test_who_hurries_waits_for_nobody(etcd_process: FakeEtcd, agents: Callable[..., Agent]) -> None:
    leaver = registered(agents, ONE, TWO)
    put(etcd_process.address, status_key("control-plane-1"), b"{}")
    hurried = threading.Event()
    waiting = departing(leaver, acknowledge_s=DEADLINE_S, hurried=hurried)
    eventually(lambda: ["orders/orders-2:4712"] == names(etcd_process.address))

    hurried.set()

    assert Departure(confirmed=False) == waiting.ended()


def test_the_last_instance_of_a_service_waits_for_nobody(etcd_process: FakeEtcd, agents: Callable[..., Agent]) -> None:
    leaver = registered(agents, ONE)
    put(etcd_process.address, status_key("control-plane-1"), b"{}")

    assert Departure(confirmed=True, alone=True) == departing(leaver, acknowledge_s=DEADLINE_S).ended()


def test_without_etcd_the_way_out_is_as_long_as_its_confirmation_may_take(
    etcd_process: FakeEtcd, agents: Callable[..., Agent]
) -> None:
    leaver = registered(agents, ONE, TWO)
    etcd_process.stop()

    gone = leaver.depart(ONE, confirm_s=0.2, acknowledge_s=DEADLINE_S, hurried=threading.Event())

    etcd_process.restart()
    assert Departure(confirmed=False) == gone


def test_once_an_instance_has_left_no_call_reaches_it(
    etcd_process: FakeEtcd, agents: Callable[..., Agent], backend: Callable[[str], int]
) -> None:
    etcd = etcd_process.address
    one, two = sample.endpoint("orders-1", backend("one")), sample.endpoint("orders-2", backend("two"))
    ask(etcd, lambda client: publication.publish(client, *sample.compiled(sample.rows())))
    leaver = registered(agents, one, two)
    environ = {"WEFT_ETCD": etcd, "WEFT_LOG_LEVEL": "error", "PATH": "/usr/bin:/bin"}
    addresses = [f"127.0.0.1:{free_port()}" for _ in range(2)]
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "lb", "control-plane"],
            env={**environ, "WEFT_INSTANCE": f"control-plane-{number}", "WEFT_LISTEN": address},
            cwd=ROOT,
        )
        for number, address in enumerate(addresses, 1)
    ]
    clients: list[Client] = []
    try:
        for number in (1, 2):
            key = status_key(f"control-plane-{number}")
            eventually(lambda key=key: ask(etcd, lambda client: client.get(key)) is not None)
        # Each on a control plane of its own.
        clients += [Client(address) for address in addresses]
        for client in clients:
            for name in ("one", "two"):
                client.until(lambda answer, name=name: answer.get("answer") == name)

        gone = leaver.depart(one, confirm_s=DEADLINE_S, acknowledge_s=DEADLINE_S, hurried=threading.Event())

        assert Departure(confirmed=True) == gone
        assert {"two"} == {client.ask("call").get("answer") for client in clients for _ in range(20)}
        leaver.stop(5.0)
        eventually(lambda: [] == [*ask(etcd, lambda client: client.list(KeyRange.prefix(LEFT))).records])
    finally:
        for client in clients:
            client.close()
        for each in running:
            each.terminate()
            assert 0 == each.wait(DEADLINE_S)
