"""What people are told of a dead letter, and which ones they mean."""

import base64
import json
import socket
import threading
from dataclasses import replace

import pytest

from tests.fakes.worker import TRACEPARENT, delivery, garbage, order_placed, user_created
from tests.waiting import free_port
from weft_protos.redaction import MARK
from worker.amqp.deadletters import DeadLetters
from worker.amqp.topology import work_queue
from worker.deadletter import Choice, Letter, summary, whole
from worker.errors import Outage

PLACED = Letter(
    replace(
        delivery(order_placed()),
        headers={
            "traceparent": TRACEPARENT,
            "x-weft-attempt": 5,
            "x-weft-reason": "failed 5 times, the last time: Mail server",
            "x-weft-parked": 1_767_323_045,
        },
    )
)


def test_a_letter_in_a_line_says_which_event_why_and_since_when() -> None:
    assert {
        "queue": "weft.email",
        "id": PLACED.delivery.message_id,
        "type": "weft.orders.v1.OrderPlaced",
        "reason": "failed 5 times, the last time: Mail server",
        "deliveries": 5,
        "parked": "2026-01-02T03:04:05Z",
        "bytes": len(PLACED.delivery.body),
    } == summary(PLACED)


def test_what_the_broker_put_aside_after_crashes_says_so() -> None:
    crashed = Letter(replace(PLACED.delivery, headers={"x-first-death-reason": "delivery_limit"}))

    assert ("its consumers vanished with it in hand, too often", "") == (crashed.reason, crashed.parked)


def test_a_broker_of_several_nodes_is_looked_for_at_each() -> None:
    with socket.create_server(("127.0.0.1", 0)) as second:
        reached = threading.Event()

        def hang_up() -> None:
            second.accept()[0].close()
            reached.set()

        threading.Thread(target=hang_up, daemon=True).start()
        nodes = (f"amqp://weft:weft@127.0.0.1:{port}/%2F" for port in (free_port(), second.getsockname()[1]))
        with pytest.raises(Outage, match="the broker does not answer"):
            DeadLetters(",".join(nodes), work_queue("email"))

        assert reached.wait(60)


@pytest.mark.parametrize("parked", ["yesterday", True, 10**30, -(10**30), None])
def test_a_forged_moment_is_none(parked: object) -> None:
    assert "" == Letter(replace(PLACED.delivery, headers={"x-weft-parked": parked})).parked


def test_copies_of_a_message_without_an_id_have_one_id() -> None:
    first, second = (Letter(replace(garbage(tag=tag), message_id=None)) for tag in (1, 2))

    assert first.id == second.id
    assert first.id.startswith("sha256:")


def test_a_letter_shows_its_event_without_what_the_contract_marks() -> None:
    told = whole(Letter(delivery(user_created(email="ada@example.org"))), body=False)

    assert "ada@example.org" not in json.dumps(told)
    assert MARK == told["event"]["payload"]["email"]
    assert "users/ada" == told["event"]["payload"]["user"]


def test_garbage_is_shown_as_what_it_is_and_its_bytes_only_when_asked_for() -> None:
    without, with_body = (whole(Letter(garbage()), body=asked) for asked in (False, True))

    assert (None, "body is not an envelope") == (without["event"], without["unreadable"])
    assert "body" not in without
    assert garbage().body == base64.b64decode(str(with_body["body"]))


@pytest.mark.parametrize(
    ("choice", "takes"),
    [
        (Choice(), True),
        (Choice(ids=frozenset({str(PLACED.id), "other"})), True),
        (Choice(ids=frozenset({"other"})), False),
        (Choice(reason="mail SERVER"), True),
        (Choice(reason="database"), False),
        (Choice(type="OrderPlaced"), True),
        (Choice(type="weft.orders.v1.OrderPlaced"), True),
        (Choice(type="Placed"), False),
        (Choice(ids=frozenset({str(PLACED.id)}), reason="database"), False),
    ],
)
def test_a_choice_takes_what_fits_all_it_says(choice: Choice, takes: bool) -> None:
    assert takes == choice.takes(PLACED)
