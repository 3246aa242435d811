"""Where failed deliveries go."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from tests.fakes.clock import FakeClock
from tests.fakes.worker import NOON, TRACEPARENT, FakePublisher, delivery, garbage, order_placed
from worker.amqp.ladder import Ladder
from worker.amqp.topology import work_queue
from worker.delivery import DeadLetter, Outgoing, Retry
from worker.errors import Outage


def moved(*args: object) -> Outgoing:
    publisher = FakePublisher()
    Ladder(publisher, work_queue("email"), clock=FakeClock(NOON)).move(*args)
    [message] = publisher.published
    return message


def test_a_retry_goes_to_the_retry_queue_and_counts() -> None:
    received = replace(delivery(order_placed()), headers={"traceparent": TRACEPARENT, "x-weft-attempt": 2})

    message = moved(received, Retry(2.0))

    assert ("", "weft.email.retry.2s") == (message.exchange, message.routing_key)
    assert (received.body, received.message_id, received.type) == (message.body, message.message_id, message.type)
    assert {"traceparent": TRACEPARENT, "x-weft-attempt": 3} == message.headers


def test_a_dead_letter_keeps_its_bytes_and_says_why() -> None:
    message = moved(garbage(), DeadLetter("body is not an envelope"))

    assert ("", "weft.email.dead", garbage().body) == (message.exchange, message.routing_key, message.body)
    assert "body is not an envelope" == message.headers["x-weft-reason"]
    assert NOON == datetime.fromtimestamp(message.headers["x-weft-parked"], UTC)


def test_only_our_own_headers_travel_on() -> None:
    received = replace(delivery(order_placed()), headers={"x-death": [{}], "cc": "evil", "traceparent": b"\xff"})

    assert {"x-weft-attempt": 1} == moved(received, Retry(2.0)).headers


def test_a_copy_that_was_not_taken_is_an_outage() -> None:
    received = delivery(order_placed())

    with pytest.raises(Outage):
        Ladder(FakePublisher(refused={received.message_id}), work_queue("email")).move(received, Retry(2.0))
