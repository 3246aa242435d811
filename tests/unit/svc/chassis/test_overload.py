"""A server with more to do than it can: who overtakes whom, and what those hear who are refused."""

import threading
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message
from google.rpc import error_details_pb2

from svc.chassis.context import CallContext
from svc.chassis.criticality import HEADER, Courier, Criticality
from svc.chassis.server import QUEUE_PER_THREAD, Limits
from tests.unit.svc.chassis.instance import (
    GET_STOCK,
    INVENTORY,
    ORDER_NAME,
    PLACE_ORDER,
    REQUEST_ID,
    Failure,
    Gate,
    Instance,
    eventually,
)
from weft.orders.v1 import inventory_pb2, orders_pb2
from weft_protos import grounds, locations

KEY = b"k" * 32
STOCK = inventory_pb2.GetStockRequest(name="stock/a").SerializeToString()
ORDER = orders_pb2.PlaceOrderRequest(
    items=[orders_pb2.ItemQuantity(product_id="a", quantity=1)], request_id=REQUEST_ID
).SerializeToString()


class Busy:
    """An instance whose only thread is held until the test lets it go; `order` is who came to the handler, in turn."""

    def __init__(self) -> None:
        self.instance = Instance(limits=Limits(threads=1, streams=0), courier=Courier(KEY))
        self.order: list[tuple[str, Criticality]] = []
        self.gate = Gate()
        self.instance.behaviour.do = self._handle
        self.calls = [self.call(GET_STOCK, STOCK)]
        assert self.gate.entered.wait(5)

    def _handle(self, _request: Message, call: CallContext) -> Message:
        self.order.append((call.method, call.criticality))
        self.gate.pass_through()
        return orders_pb2.Order(name=ORDER_NAME) if call.method == PLACE_ORDER else inventory_pb2.Stock()

    def call(self, method: str, body: bytes, *more: tuple[str, str], timeout: float = 30.0) -> Any:
        token = ("authorization", f"Bearer {self.instance.issuer.token()}")
        return self.instance.channel.unary_unary(method).future(body, timeout=timeout, metadata=(token, *more))

    def wait_for(self, calls: int) -> None:
        """Until that many calls wait for the thread."""
        assert eventually(lambda: self.instance.server.waiting == calls)

    def end(self) -> list[tuple[str, Criticality]]:
        self.gate.open.set()
        assert eventually(lambda: self.instance.server.waiting == 0)
        for call in self.calls:
            call.exception(timeout=10)
        self.instance.close()
        return self.order[1:]


def test_a_critical_call_overtakes_those_that_wait() -> None:
    busy = Busy()
    busy.call(GET_STOCK, STOCK, (HEADER, "sheddable"))
    busy.wait_for(1)
    default = busy.call(GET_STOCK, STOCK)
    busy.wait_for(2)
    critical = busy.call(PLACE_ORDER, ORDER)
    busy.wait_for(3)

    busy.gate.open.set()
    # The others may have lost patience on a slow machine; whoever is served is served in this order.
    assert critical.exception(timeout=10) is None
    default.exception(timeout=10)

    assert (PLACE_ORDER, Criticality.CRITICAL) == busy.end()[0]


def test_who_is_refused_hears_why_for_how_long_and_by_which_line() -> None:
    busy = Busy()
    busy.calls += [busy.call(PLACE_ORDER, ORDER) for _ in range(QUEUE_PER_THREAD)]
    busy.wait_for(QUEUE_PER_THREAD)

    with pytest.raises(grpc.RpcError) as caught:
        busy.call(GET_STOCK, STOCK).result(timeout=10)

    failed = Failure(caught.value)  # type: ignore[arg-type]
    info = failed.detail(error_details_pb2.ErrorInfo)
    assert ("RESOURCE_EXHAUSTED", "OVERLOADED") == (failed.code, info.reason)
    method = INVENTORY.methods_by_name["GetStock"]
    assert {
        "method": GET_STOCK.removeprefix("/"),
        "rule": "criticality: default",
        "contract": locations.method(method, "criticality"),
        "criticality": "default",
        "hop": "orders",
        "instance": "orders-7",
    } == dict(info.metadata)
    wait_ms = failed.detail(error_details_pb2.RetryInfo).retry_delay.ToMilliseconds()
    assert 1000 <= wait_ms <= 2000
    assert int(failed.trailers["grpc-retry-pushback-ms"]) in {wait_ms, wait_ms + 1}
    busy.end()


@pytest.mark.parametrize(("service_s", "mark"), [(1.9, None), (2.1, "1")], ids=["its own", "everybody's"])
def test_a_deadline_that_only_its_caller_finds_too_short_is_refused_without_the_mark_of_overload(
    service_s: float, mark: str | None
) -> None:
    busy = Busy()
    busy.instance.server._workers._admission.served(service_s)
    busy.calls.append(busy.call(PLACE_ORDER, ORDER))
    busy.wait_for(1)

    with pytest.raises(grpc.RpcError) as caught:
        busy.call(PLACE_ORDER, ORDER, timeout=1.8).result(timeout=10)

    failed = Failure(caught.value)  # type: ignore[arg-type]
    assert "OVERLOADED" == failed.reason
    assert mark == failed.trailers.get(grounds.OVERLOADED_MARK)
    busy.end()


def test_a_call_without_a_good_token_is_refused_for_want_of_time_before_anybody_looks_at_it() -> None:
    busy = Busy()
    busy.calls += [busy.call(PLACE_ORDER, ORDER) for _ in range(QUEUE_PER_THREAD)]
    busy.wait_for(QUEUE_PER_THREAD)

    with pytest.raises(Failure) as caught:
        busy.instance.raw(GET_STOCK, b"\xff\xff", token="garbage")

    assert "OVERLOADED" == caught.value.reason
    busy.end()


def test_a_full_queue_makes_room_for_who_matters_more() -> None:
    busy = Busy()
    lesser = [busy.call(GET_STOCK, STOCK) for _ in range(QUEUE_PER_THREAD)]
    assert eventually(lambda: busy.instance.server.waiting + sum(call.done() for call in lesser) == QUEUE_PER_THREAD)

    critical = busy.call(PLACE_ORDER, ORDER)

    everybody = QUEUE_PER_THREAD + 1
    assert eventually(lambda: busy.instance.server.waiting + sum(call.done() for call in lesser) == everybody)
    assert any(call.done() for call in lesser)
    assert not critical.done()
    busy.gate.open.set()
    assert critical.exception(timeout=10) is None
    busy.end()


@pytest.mark.parametrize(
    ("key", "expected"), [(KEY, Criticality.CRITICAL), (b"x" * 32, Criticality.DEFAULT)], ids=["ours", "a stranger's"]
)
def test_a_peer_is_believed_that_a_call_matters_more_and_a_stranger_is_not(key: bytes, expected: Criticality) -> None:
    busy = Busy()
    busy.gate.open.set()
    authorization = f"Bearer {busy.instance.issuer.token()}"
    metadata = Courier(key).send(
        Criticality.CRITICAL, method=GET_STOCK, own=Criticality.DEFAULT, authorization=authorization
    )
    call = busy.instance.channel.unary_unary(GET_STOCK)

    call(STOCK, timeout=10, metadata=(("authorization", authorization), *metadata))

    assert [(GET_STOCK, expected)] == busy.end()


def test_a_deadline_that_passed_in_the_queue_is_not_served() -> None:
    busy = Busy()
    late = busy.call(PLACE_ORDER, ORDER, timeout=0.2)
    busy.wait_for(1)
    assert late.exception(timeout=10) is not None

    assert [] == busy.end()


def test_a_server_that_stops_leaves_nobody_waiting() -> None:
    busy = Busy()
    waiting = [busy.call(PLACE_ORDER, ORDER) for _ in range(3)]
    busy.wait_for(3)

    stopping = threading.Thread(target=busy.instance.server.stop, args=(0.2,))
    stopping.start()
    assert all(call.exception(timeout=10) is not None for call in waiting)
    busy.gate.open.set()
    stopping.join(10)
    busy.instance.channel.close()

    assert 0 == busy.instance.server.waiting
    assert 1 == len(busy.order)
