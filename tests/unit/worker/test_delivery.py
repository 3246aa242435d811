"""What is let through as an event, and what is not."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from google.protobuf.any_pb2 import Any

from tests.fakes.worker import NOON, TRACEPARENT, delivery, envelope, order_placed, user_created
from weft.events.v1.envelope_pb2 import Envelope
from worker.delivery import BODY_BYTES_MAX, Delivery, decode, unseal
from worker.errors import Permanent


def changed(change: Callable[[Envelope], object]) -> Delivery:
    sealed = envelope(order_placed())
    change(sealed)
    return delivery(sealed)


def test_a_well_formed_delivery_becomes_its_event() -> None:
    received = delivery(order_placed("orders/7"))

    event = decode(received)

    assert (received.message_id, "weft.orders.v1.OrderPlaced", NOON) == (event.id, event.type, event.occur_time)
    assert order_placed("orders/7") == event.payload
    assert received.body == event.envelope


HOSTILE = {
    "no envelope": (replace(delivery(order_placed()), body=b"\xff\xff"), "body is not an envelope"),
    "nothing": (replace(delivery(order_placed()), body=b""), "envelope id is not a UUID"),
    "too large": (replace(delivery(order_placed()), body=bytes(BODY_BYTES_MAX + 1)), "exceeds"),
    "answer wanted": (replace(delivery(order_placed()), reply_to="amq.rabbitmq.reply-to"), "reply_to"),
    "no message id": (replace(delivery(order_placed()), message_id=None), "message id differs"),
    "other type": (replace(delivery(order_placed()), type="weft.orders.v1.OrderCancelled"), "message type differs"),
    "id no UUID": (changed(lambda one: setattr(one, "id", "7")), "not a UUID"),
    "id in capitals": (changed(lambda one: setattr(one, "id", one.id.upper().replace("0", "A"))), "canonical"),
    "unknown type": (changed(lambda one: setattr(one, "type", "weft.orders.v9.Teleported")), "unknown event type"),
    "not an event": (changed(lambda one: setattr(one, "type", "weft.orders.v1.Order")), "unknown event type"),
    "other payload": (changed(lambda one: one.payload.CopyFrom(Any(type_url="t/x"))), "payload type differs"),
    "broken payload": (changed(lambda one: setattr(one.payload, "value", b"\xff")), "payload is not a"),
    "no time": (changed(lambda one: one.ClearField("occur_time")), "occur_time is not set"),
    "no such time": (changed(lambda one: setattr(one.occur_time, "seconds", 2**62)), "occur_time is not a moment"),
    "NUL": (changed(lambda one: setattr(one, "subject", "a\0b")), "NUL"),
}


@pytest.mark.parametrize(("received", "reason"), HOSTILE.values(), ids=HOSTILE)
def test_what_is_not_an_event_of_ours_is_refused_with_a_reason(received: Delivery, reason: str) -> None:
    with pytest.raises(Permanent, match=reason):
        decode(received)


def test_an_envelope_that_was_kept_is_the_same_event() -> None:
    event = decode(delivery(order_placed()))

    assert event == unseal(event.envelope)


def test_an_unknown_field_of_a_newer_contract_is_no_reason_to_refuse() -> None:
    newer = changed(lambda one: setattr(one.payload, "value", one.payload.value + b"\xfa\x7f\x01x"))

    assert "weft.orders.v1.OrderPlaced" == decode(newer).type


@pytest.mark.parametrize(
    ("header", "attempt"), [(None, 1), (0, 1), (1, 2), (4, 5), (-9, 1), ("4", 1), (True, 1), (2**62, 1_000_001)]
)
def test_only_a_sane_number_counts_as_earlier_attempts(header: object, attempt: int) -> None:
    received = replace(delivery(order_placed()), headers={"x-weft-attempt": header, "x-death": [{"count": 99}]})

    assert attempt == received.attempt


def test_an_event_has_the_place_that_its_contract_counts_and_waits_no_longer_than_a_quarter_of_an_hour() -> None:
    placed = order_placed("orders/7")
    placed.revision = 3
    sealed = envelope(placed)
    sealed.ordering_key = placed.order
    came = delivery(sealed)

    patient = decode(replace(came, headers={"x-weft-waited": 899_999}))

    assert ("orders orders/7", 3, False) == (patient.stream, patient.position, patient.overdue)
    assert decode(replace(came, headers={"x-weft-waited": 900_000})).overdue
    assert 0 == decode(delivery(user_created())).position


def test_a_traceparent_that_is_no_text_is_none() -> None:
    received = delivery(order_placed())

    assert TRACEPARENT == received.traceparent
    assert "" == replace(received, headers={"traceparent": b"\xff"}).traceparent
