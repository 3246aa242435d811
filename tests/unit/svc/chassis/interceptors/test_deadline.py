"""A call has a deadline of its own, and work nobody waits for is not begun."""

import threading

import pytest
from google.protobuf.message import Message

from svc.chassis.call import STREAM_TIMEOUT_S
from svc.chassis.context import CallContext
from svc.chassis.server import Limits
from tests.unit.svc.chassis.instance import GET_STOCK, Failure, Gate, Instance, eventually
from weft.orders.v1 import inventory_pb2


def left(instance: Instance, timeout: float | None) -> float:
    seen: list[float] = []

    def handler(_request: Message, call: CallContext) -> Message:
        seen.append(call.deadline.remaining())
        return inventory_pb2.Stock()

    instance.behaviour.do = handler
    instance.get_stock(timeout=timeout)
    return seen[0]


def test_the_clients_shorter_deadline_holds(instance: Instance) -> None:
    assert 0 < left(instance, 1.0) < 1.5  # on the wire gRPC rounds a timeout up


def test_the_contracts_timeout_bounds_a_longer_one(instance: Instance) -> None:
    assert 1.0 < left(instance, 3600) <= 2.0


def test_the_contracts_timeout_holds_without_a_deadline(instance: Instance) -> None:
    assert 1.0 < left(instance, None) <= 2.0


def test_a_stream_without_timeout_may_stay_open_for_long(instance: Instance) -> None:
    list(instance.watch(timeout=None))

    remaining = instance.behaviour.calls[0].deadline.remaining()
    assert STREAM_TIMEOUT_S - 60 < remaining <= STREAM_TIMEOUT_S


def test_a_call_whose_deadline_passed_in_the_queue_reaches_no_handler() -> None:
    instance = Instance(limits=Limits(threads=1, streams=0))
    gate = Gate()

    def handler(_request: Message, _call: CallContext) -> Message:
        gate.pass_through()
        return inventory_pb2.Stock()

    instance.behaviour.do = handler
    first = threading.Thread(target=instance.get_stock)
    first.start()
    assert gate.entered.wait(5)

    with pytest.raises(Failure) as caught:
        instance.get_stock(timeout=0.1)

    assert "DEADLINE_EXCEEDED" == caught.value.code
    gate.open.set()
    first.join(5)
    instance.get_stock()
    assert 2 == len(instance.behaviour.calls)
    instance.close()


def test_a_handler_sees_that_the_client_has_gone(instance: Instance) -> None:
    gate, seen = Gate(), threading.Event()

    def handler(_request: Message, call: CallContext) -> Message:
        gate.pass_through()
        if not call.is_active():
            seen.set()
        return inventory_pb2.Stock()

    instance.behaviour.do = handler
    body = inventory_pb2.GetStockRequest(name="stock/a").SerializeToString()
    token = (("authorization", f"Bearer {instance.issuer.token()}"),)
    future = instance.channel.unary_unary(GET_STOCK).future(body, metadata=token)
    assert gate.entered.wait(5)
    future.cancel()
    assert eventually(lambda: not instance.behaviour.calls[0].is_active())

    gate.open.set()

    assert seen.wait(5)
