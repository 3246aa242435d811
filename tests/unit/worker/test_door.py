"""The door of dead letters: whoever has the token asks, and is told what is wrong with the question or the broker."""

import json
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, cast

import pytest

from svc.chassis.config import Address, Secrets
from tests.waiting import free_port
from worker import door
from worker.amqp import topology
from worker.amqp.depth import Depths
from worker.door import Door
from worker.errors import Outage

TOKEN = "t0ken"


class Broker:
    """Says how deep queues are, or that it is away."""

    def __init__(self) -> None:
        self.depths = {"weft.email": 3, "weft.email.dead": 1}
        #: What it says before that, each once.
        self.first: list[dict[str, int]] = []
        self.away = False
        self.closed = False

    def read(self) -> dict[str, int]:
        if self.away:
            raise Outage("queue depths: gone")
        return self.first.pop(0) if self.first else self.depths

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def broker() -> Broker:
    return Broker()


@pytest.fixture
def opened(tmp_path: Path, broker: Broker) -> Iterator[Door]:
    for name, text in ((door.TOKEN, TOKEN), ("amqp.url", f"amqp://u:p@127.0.0.1:{free_port()}/%2F")):
        (tmp_path / name).touch(mode=0o600)
        (tmp_path / name).write_text(text)
    made = Door(Address("127.0.0.1", 0), Secrets(secrets=tmp_path), depths=cast(Depths, broker))
    made.start()
    yield made
    made.stop(5.0)


def ask(opened: Door, verb: str, target: str, body: bytes = b"", token: str = TOKEN) -> tuple[int, Any]:
    connection = HTTPConnection("127.0.0.1", opened.port, timeout=20)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    connection.request(verb, target, body=body or None, headers=headers)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, json.loads(content) if content else None


def test_depths_are_those_of_the_broker(opened: Door, broker: Broker) -> None:
    assert (200, {"depths": broker.depths}) == ask(opened, "GET", "/depths")
    broker.away = True
    assert (503, {"error": "queue depths: gone"}) == ask(opened, "GET", "/depths")


def test_letters_that_somebody_looks_through_are_still_there(opened: Door, broker: Broker) -> None:
    assert (200, {"depths": broker.depths}) == ask(opened, "GET", "/depths")
    broker.first = [{"weft.email": 3, "weft.email.dead": 0}]
    assert (200, {"depths": broker.depths}) == ask(opened, "GET", "/depths")


def test_fewer_letters_are_told_and_fewer_events_at_once(opened: Door, broker: Broker) -> None:
    told = [{"weft.email": 3, "weft.email.dead": 1}, {"weft.email": 0, "weft.email.dead": 1}]
    broker.first = [*told, *[{"weft.email": 0, "weft.email.dead": 0}] * 2]

    assert [*told, {"weft.email": 0, "weft.email.dead": 0}] == [
        ask(opened, "GET", "/depths")[1]["depths"] for _ in range(3)
    ]
    assert [] == broker.first


@pytest.mark.parametrize("token", ["", "other", f"{TOKEN}x"])
def test_nobody_is_let_in_without_the_token(opened: Door, token: str) -> None:
    for verb, target in (("GET", "/depths"), ("GET", "/letters"), ("GET", "/nothing")):
        assert 401 == ask(opened, verb, target, token=token)[0]
    assert 401 == ask(opened, "POST", "/replay", b"{}", token=token)[0]


@pytest.mark.parametrize(
    ("verb", "target", "body", "status", "says"),
    [
        ("GET", "/nothing", b"", 404, "no such page"),
        ("GET", "/replay", b"", 404, "no such page"),
        ("GET", "/letters?queue=nobody", b"", 400, "queue: there is no 'nobody'"),
        ("GET", "/letters?limit=0", b"", 400, "limit: is no number from 1 to 1000"),
        ("GET", "/letters?limit=many", b"", 400, "limit: is no number from 1 to 1000"),
        ("POST", "/replay", b"[]", 400, "the body is no JSON object"),
        ("POST", "/replay", b'{"ids": "a"}', 400, "ids: is no list"),
    ],
)
def test_a_wrong_question_is_told_what_is_wrong(
    opened: Door, verb: str, target: str, body: bytes, status: int, says: str
) -> None:
    assert (status, {"error": says}) == ask(opened, verb, target, body)


def test_letters_of_a_broker_that_is_away_are_not_taken_for_none(opened: Door) -> None:
    for verb, target, body in (
        ("GET", "/letters?queue=email", b""),
        ("GET", "/letter?id=x", b""),
        ("POST", "/replay", b'{"queue": "email", "ids": ["x"]}'),
    ):
        status, said = ask(opened, verb, target, body)
        assert 503 == status
        assert "the broker does not answer" in said["error"]


def test_it_has_a_word_for_every_queue(opened: Door) -> None:
    # What the operations service calls a queue is what this door knows.
    for queue in topology.work_queues():
        name = queue.name.removeprefix("weft.")
        assert 503 == ask(opened, "GET", f"/letters?queue={name}")[0]


def test_what_it_asks_with_is_closed_at_the_end(opened: Door, broker: Broker) -> None:
    opened.stop(5.0)

    assert broker.closed
