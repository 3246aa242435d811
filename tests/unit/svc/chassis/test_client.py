"""Calls to peers: deadline, token and trace go along, and a peer's status comes back as an AppError."""

import threading
from dataclasses import replace
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message
from opentelemetry.trace import SpanKind, StatusCode
from structlog.testing import capture_logs

from svc.chassis import errors, telemetry
from svc.chassis.client import RESERVE_S, Peer
from svc.chassis.context import CallContext, Deadline, Principal
from svc.chassis.errors import AppError
from tests.unit.svc.chassis.conftest import Spans
from tests.unit.svc.chassis.instance import GET_STOCK, INVENTORY, Instance
from weft.orders.v1 import inventory_pb2
from weft_protos import lanes

REQUEST = inventory_pb2.GetStockRequest(name="stock/a")


def context(instance: Instance, *, seconds: float = 2.0) -> CallContext:
    principal = Principal("alice", frozenset({"orders.write"}), "session-1", None, instance.issuer.token())
    return CallContext("/weft.orders.v1.OrderService/PlaceOrder", principal, Deadline.after(seconds), b"", lambda: True)


@pytest.fixture
def peer(instance: Instance) -> Peer:
    return Peer(instance.channel, INVENTORY)


def test_a_peer_answers_with_its_message(peer: Peer, instance: Instance) -> None:
    answer = peer.call("GetStock", REQUEST, call=context(instance))

    assert inventory_pb2.Stock(name="stock/a", quantity=7) == answer


def test_a_peer_sees_the_same_caller_and_less_time(peer: Peer, instance: Instance) -> None:
    left: list[float] = []

    def handler(_request: Message, call: CallContext) -> Message:
        left.append(call.deadline.remaining())
        return inventory_pb2.Stock()

    instance.behaviour.do = handler
    peer.call("GetStock", REQUEST, call=context(instance, seconds=1.0))

    assert "alice" == instance.behaviour.calls[0].caller.subject
    # The wire carries whole milliseconds, rounded up: a fast machine finds up to one of them given back.
    assert left[0] <= 1.0 - RESERVE_S + 0.001


def test_without_a_caller_no_token_is_sent(peer: Peer) -> None:
    nobody = CallContext("/x", None, Deadline.after(2), b"", lambda: True)

    with pytest.raises(errors.Unauthenticated) as caught:
        peer.call("GetStock", REQUEST, call=nobody)

    assert "TOKEN_MISSING" == caught.value.reason


def test_no_time_left_calls_nobody(peer: Peer, instance: Instance) -> None:
    with pytest.raises(errors.DeadlineExceeded):
        peer.call("GetStock", REQUEST, call=context(instance, seconds=RESERVE_S / 2))

    assert [] == instance.behaviour.requests


def test_a_slow_peer_ends_with_the_deadline(peer: Peer, instance: Instance) -> None:
    released = threading.Event()

    def handler(_request: Message, _call: CallContext) -> Message:
        assert released.wait(10)
        return inventory_pb2.Stock()

    instance.behaviour.do = handler
    call = context(instance, seconds=0.3)

    with pytest.raises(errors.DeadlineExceeded):
        peer.call("GetStock", REQUEST, call=call)

    assert not call.deadline.expired()
    released.set()


ROUND_TRIP: list[AppError] = [
    errors.InvalidArgument("No.", reason="R", violations=[("items[1]", "bad")], metadata={"a": "b"}),
    errors.Unauthenticated("No.", reason="R"),
    errors.PermissionDenied("No.", reason="R", metadata={"scopes": "x"}),
    errors.NotFound("No.", reason="R", resource=("product", "products/1")),
    errors.NotFound("No.", reason="R"),
    errors.AlreadyExists("No.", reason="R", resource=("user", "users/1")),
    errors.FailedPrecondition("No.", reason="R", violations=[("STOCK", "stock/a", "3 left")]),
    errors.Aborted("No.", reason="R", retry_after=0.5),
    errors.ResourceExhausted("No.", reason="R", retry_after=2.0),
    errors.ResourceExhausted("No.", reason="R", violations=[("request", "requests of up to 9 bytes")]),
    errors.DeadlineExceeded("No.", reason="R"),
]


@pytest.mark.parametrize("error", ROUND_TRIP, ids=lambda error: type(error).__name__)
def test_an_error_of_a_peer_comes_back_whole(peer: Peer, instance: Instance, error: AppError) -> None:
    def handler(_request: Message, _call: CallContext) -> Message:
        raise error

    instance.behaviour.do = handler
    with pytest.raises(type(error)) as caught:
        peer.call("GetStock", REQUEST, call=context(instance))

    # With the peer's grounds beside the error's own metadata: they are what decided.
    metadata = caught.value.metadata
    assert "orders-7" == metadata["instance"]
    assert vars(error) | {"metadata": metadata} == vars(caught.value)
    assert error.metadata.items() <= metadata.items()


def test_a_peer_that_is_not_there_aborts_and_is_not_retried_again(instance: Instance) -> None:
    channel = grpc.insecure_channel("127.0.0.1:1", options=(("grpc.enable_retries", 0),))
    with channel, pytest.raises(errors.Aborted) as caught:
        Peer(channel, INVENTORY).call("GetStock", REQUEST, call=context(instance))

    error = caught.value
    assert ("PEER_UNAVAILABLE", {"service": "orders"}, 1.0) == (error.reason, error.metadata, error.retry_after)


def test_a_peer_that_says_when_to_come_back_is_quoted(peer: Peer, instance: Instance) -> None:
    def handler(_request: Message, _call: CallContext) -> Message:
        raise errors.Unavailable(retry_after=3.0)

    instance.behaviour.do = handler
    with pytest.raises(errors.Aborted) as caught:
        peer.call("GetStock", REQUEST, call=context(instance))

    assert 3.0 == caught.value.retry_after


def test_a_fault_of_a_peer_is_ours_and_its_text_stays_inside(peer: Peer, instance: Instance) -> None:
    def handler(_request: Message, _call: CallContext) -> Message:
        raise RuntimeError("password=hunter2")

    instance.behaviour.do = handler
    # Not printed: a stack with all its variables, drawn for people, takes as long as the call may.
    with capture_logs(), pytest.raises(errors.Internal) as caught:
        peer.call("GetStock", REQUEST, call=context(instance))

    assert ("internal error", "PEER_FAILED") == (caught.value.message, caught.value.reason)


def test_details_that_cannot_be_read_leave_the_code(instance: Instance) -> None:
    def broken(_ignored: Any, call: grpc.ServicerContext) -> bytes:
        call.set_trailing_metadata((("grpc-status-details-bin", b"\xff\xff"),))
        call.abort(grpc.StatusCode.NOT_FOUND, "gone")

    from concurrent.futures import ThreadPoolExecutor

    server = grpc.server(ThreadPoolExecutor(1))
    handlers: dict[str, Any] = {"GetStock": grpc.unary_unary_rpc_method_handler(broken)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(INVENTORY.full_name, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel, pytest.raises(errors.NotFound, match="gone"):
        Peer(channel, INVENTORY).call("GetStock", REQUEST, call=context(instance))
    server.stop(0).wait()


def test_a_peer_call_is_a_span_and_the_peers_span_lies_below(peer: Peer, instance: Instance, spans: Spans) -> None:
    with telemetry.span("place"):
        peer.call("GetStock", REQUEST, call=context(instance))
    assert instance.server.stop(1)

    client, server = sorted(
        (span for span in spans.ended() if span.name == "weft.orders.v1.InventoryService/GetStock"),
        key=lambda span: span.kind is SpanKind.SERVER,
    )
    assert (SpanKind.CLIENT, SpanKind.SERVER) == (client.kind, server.kind)
    assert client.context is not None
    assert server.parent is not None
    assert client.context.span_id == server.parent.span_id
    assert instance.issuer.token() not in client.to_json()


def test_a_failed_peer_call_is_a_failed_span(peer: Peer, instance: Instance, spans: Spans) -> None:
    def handler(_request: Message, _call: CallContext) -> Message:
        raise errors.NotFound()

    instance.behaviour.do = handler
    with pytest.raises(errors.NotFound):
        peer.call("GetStock", REQUEST, call=context(instance))

    client = next(span for span in spans.ended() if span.kind is SpanKind.CLIENT)
    assert (StatusCode.ERROR, "NOT_FOUND") == (
        client.status.status_code,
        (client.attributes or {})["rpc.response.status_code"],
    )


def test_a_peer_is_called_by_the_same_lane(peer: Peer, instance: Instance) -> None:
    for lane in ("canary", ""):
        peer.call("GetStock", REQUEST, call=replace(context(instance), lane=lane))

    assert ["canary", ""] == [call.lane for call in instance.behaviour.calls]


@pytest.mark.parametrize("said", ["Canary", "a b", "x" * 40, ""])
def test_what_cannot_be_a_lane_is_none(instance: Instance, said: str) -> None:
    instance.call(GET_STOCK, REQUEST, metadata=((lanes.HEADER, said),))

    assert [""] == [call.lane for call in instance.behaviour.calls]


def test_the_span_of_a_call_names_its_lane(instance: Instance, spans: Spans) -> None:
    instance.call(GET_STOCK, REQUEST, metadata=((lanes.HEADER, "canary"),))

    span = spans.one(GET_STOCK.removeprefix("/"))
    assert "canary" == (span.attributes or {})[telemetry.LANE]
