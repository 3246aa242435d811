"""Hostile clients against the real port: each is refused, and good clients on their own connections see no error."""

import http.client
import threading
from collections.abc import Callable, Iterator

import pytest

from tests import edge_attacks
from tests.edge_attacks import Attacker, Ending, good_client
from tests.integration.edge_calls import OK, Edge, Native, Target, method
from tests.integration.edge_calls import edge as edge
from weft.catalog.v1 import catalog_pb2

pytestmark = pytest.mark.calls

Attack = Callable[[Attacker], Ending]
LIST = Target.of(method("ListProducts"), catalog_pb2.ListProductsRequest(page_size=1))
#: Between two calls of a good client: far below the limits of its subject.
PAUSE_S = 0.05


@pytest.fixture
def attacker(edge: Edge) -> Iterator[Attacker]:
    made = Attacker(edge.address)
    yield made
    made.close()


@pytest.fixture
def good(edge: Edge) -> Iterator[None]:
    """Two good clients: one keeps its connection and calls a method, one comes anew each time and meets any gateway.

    And the gateways that were there are there in the end.
    """
    before = gateways(edge)
    token, wire, pause = edge.token("catalog.read"), Native(edge.address), threading.Event()

    def calls() -> None:
        answer = wire.call(LIST, token)
        assert (OK, "") == (answer.code, answer.message)
        pause.wait(PAUSE_S)

    def comes_anew() -> None:
        connection = http.client.HTTPConnection(edge.address, timeout=edge_attacks.PATIENCE_S)
        connection.request("GET", "/")
        answer = connection.getresponse()
        answer.read()
        connection.close()
        assert 200 == answer.status
        pause.wait(PAUSE_S)

    with good_client(calls), good_client(comes_anew):
        yield
    wire.close()
    assert before == gateways(edge)


def gateways(edge: Edge) -> dict[str, int | None]:
    return {one.name: one.pid for one in edge.mesh.status().processes if one.kind == "gateway"}


@pytest.mark.parametrize("attack", edge_attacks.FLOODS, ids=lambda attack: str(attack.__name__))
def test_a_flood_ends_its_own_connection(good: None, attacker: Attacker, attack: Attack) -> None:
    ending = attack(attacker)

    assert ending.closed or ending.goaway


@pytest.mark.parametrize("attack", edge_attacks.ABUSES, ids=lambda attack: str(attack.__name__))
def test_an_abuse_is_refused(good: None, attacker: Attacker, attack: Attack) -> None:
    assert attack(attacker).refused


def test_many_attackers_at_once_change_nothing(good: None, edge: Edge) -> None:
    attackers = [(attack, Attacker(edge.address)) for attack in edge_attacks.FLOODS for _ in range(2)]
    endings: list[Ending] = []
    threads = [threading.Thread(target=lambda a=a, it=it: endings.append(a(it))) for a, it in attackers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for _, attacker in attackers:
        attacker.close()

    assert len(attackers) == len(endings)
    assert all(ending.closed or ending.goaway for ending in endings)


@pytest.mark.parametrize("name", edge_attacks.BROKEN_TEXTS)
def test_a_broken_text_is_answered_with_its_status(edge: Edge, name: str) -> None:
    content, status = edge_attacks.BROKEN_TEXTS[name]

    assert status == edge_attacks.status(edge_attacks.said(edge.address, content))


@pytest.mark.parametrize("name", edge_attacks.BROKEN_REQUESTS)
def test_a_broken_request_ends_its_stream_and_not_the_connection(attacker: Attacker, name: str) -> None:
    assert edge_attacks.broken_request(attacker, name).refused

    attacker.send(attacker.headers(3))
    assert "200" == attacker.read(lambda ending: 3 in ending.statuses).statuses[3]


def test_broken_frames_end_their_connections(good: None, edge: Edge) -> None:
    for name in edge_attacks.BROKEN_FRAMES:
        attacker = Attacker(edge.address)
        ending = edge_attacks.broken_frame(attacker, name)
        attacker.close()

        assert ending.closed or ending.goaway, name


def test_who_is_slow_is_not_waited_for(good: None, edge: Edge) -> None:
    assert {} == edge_attacks.slow_ones_still_there(edge.address)


def test_idle_connections_take_nothing_from_others(good: None, edge: Edge) -> None:
    with edge_attacks.idle_connections(edge.address, 300):
        wire = Native(edge.address)
        assert OK == wire.call(LIST, edge.token("catalog.read")).code
        wire.close()
