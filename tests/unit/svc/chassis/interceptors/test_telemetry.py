"""Every call is one span below its caller's and one count under its code."""

import pytest
from google.protobuf.message import Message
from opentelemetry import trace
from opentelemetry.trace import SpanKind, StatusCode
from prometheus_client import REGISTRY

from svc.chassis import telemetry
from svc.chassis.context import CallContext
from svc.chassis.errors import NotFound
from tests.unit.svc.chassis.conftest import Spans
from tests.unit.svc.chassis.instance import GET_STOCK, Failure, Instance
from weft.orders.v1 import inventory_pb2

METHOD = "weft.orders.v1.InventoryService/GetStock"
TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"


def count(code: str) -> float:
    labels = {"service": "orders", "method": METHOD, "code": code}
    return REGISTRY.get_sample_value("weft_rpc_requests_total", labels) or 0.0


def raising(_request: Message, _call: CallContext) -> Message:
    raise NotFound()


def test_calls_are_counted_by_code_and_timed(instance: Instance) -> None:
    ok, missing = count("OK"), count("NOT_FOUND")
    timed = {"service": "orders", "method": METHOD}
    durations = REGISTRY.get_sample_value("weft_rpc_duration_seconds_count", timed) or 0.0

    instance.get_stock()
    instance.behaviour.do = raising
    with pytest.raises(Failure):
        instance.get_stock()

    assert instance.server.stop(1)
    assert (ok + 1, missing + 1) == (count("OK"), count("NOT_FOUND"))
    assert durations + 2 == REGISTRY.get_sample_value("weft_rpc_duration_seconds_count", timed)
    assert 0 == REGISTRY.get_sample_value("weft_rpc_in_flight", {"service": "orders"})


def test_refusals_are_counted_too(instance: Instance) -> None:
    before = count("UNAUTHENTICATED")

    with pytest.raises(Failure):
        instance.get_stock(token="")

    assert instance.server.stop(1)
    assert before + 1 == count("UNAUTHENTICATED")


def refusals() -> dict[tuple[str, str], float]:
    """Refused calls so far, by method and reason."""
    (family,) = (one for one in REGISTRY.collect() if one.name == "weft_rpc_refusals")
    return {
        (sample.labels["method"], sample.labels["reason"]): sample.value
        for sample in family.samples
        if sample.name.endswith("_total")
    }


@pytest.mark.parametrize(
    ("body", "token", "reason"),
    [
        (b"\x0a\x07stock/a", "", "TOKEN_MISSING"),
        (b"\x0a\x07stock/a", "garbage", "TOKEN_INVALID"),
        (b"\xff", None, "MALFORMED_MESSAGE"),
        (b"", None, "INVALID_FIELDS"),
        (b"a" * 2000, None, "REQUEST_TOO_LARGE"),
        (b"\x0a\x07stock/a", None, "NOT_FOUND"),
    ],
)
def test_each_refusal_is_counted_once_under_its_reason(
    instance: Instance, body: bytes, token: str | None, reason: str
) -> None:
    instance.behaviour.do = raising
    before = refusals()

    with pytest.raises(Failure) as caught:
        instance.raw(GET_STOCK, body, token=token)

    assert instance.server.stop(1)
    assert reason == caught.value.reason
    added = {key: value - before.get(key, 0) for key, value in refusals().items() if value != before.get(key, 0)}
    assert {(METHOD, reason): 1} == added


def test_an_answer_is_no_refusal(instance: Instance) -> None:
    before = refusals()

    instance.get_stock()

    assert instance.server.stop(1)
    assert before == refusals()


def test_a_call_is_a_span_below_the_callers(instance: Instance, spans: Spans) -> None:
    instance.get_stock(metadata=(("traceparent", f"00-{TRACE}-{PARENT}-01"),))
    assert instance.server.stop(1)

    span = spans.one(METHOD)
    assert span.context is not None
    assert span.parent is not None
    assert (TRACE, PARENT) == (f"{span.context.trace_id:032x}", f"{span.parent.span_id:016x}")
    assert SpanKind.SERVER == span.kind
    attributes = dict(span.attributes or {})
    expected = {
        "rpc.system": "grpc",
        "rpc.service": "weft.orders.v1.InventoryService",
        "rpc.method": "GetStock",
        "rpc.response.status_code": "OK",
        "enduser.id": "alice",
    }
    assert expected == attributes


def test_a_callers_mistake_is_no_error_of_the_span(instance: Instance, spans: Spans) -> None:
    instance.behaviour.do = raising
    with pytest.raises(Failure):
        instance.get_stock()
    assert instance.server.stop(1)

    span = spans.one(METHOD)
    assert "NOT_FOUND" == (span.attributes or {})["rpc.response.status_code"]
    assert StatusCode.UNSET == span.status.status_code


def test_a_fault_of_ours_is(instance: Instance, spans: Spans) -> None:
    def failing(_request: Message, _call: CallContext) -> Message:
        raise RuntimeError("password=hunter2")

    instance.behaviour.do = failing
    with pytest.raises(Failure):
        instance.get_stock()
    assert instance.server.stop(1)

    span = spans.one(METHOD)
    assert (StatusCode.ERROR, "INTERNAL") == (span.status.status_code, span.status.description)
    assert "hunter2" not in span.to_json()


def test_the_decision_not_to_sample_is_handed_on(instance: Instance, spans: Spans) -> None:
    seen: list[str] = []

    def handler(_request: Message, _call: CallContext) -> Message:
        with telemetry.span("below"):
            seen.append(telemetry.current_traceparent())
        return inventory_pb2.Stock()

    instance.behaviour.do = handler
    instance.get_stock(metadata=(("traceparent", f"00-{TRACE}-{PARENT}-00"),))
    assert instance.server.stop(1)

    assert () == spans.ended()
    assert (TRACE, "00") == (seen[0].split("-")[1], seen[0].split("-")[3])


@pytest.mark.parametrize(
    "header",
    ["", "garbage", f"00-{'0' * 32}-{PARENT}-01", f"00-{TRACE}-{'0' * 16}-01", f"ff-{TRACE}-{PARENT}-01", "00-x-y-01"],
)
def test_a_malformed_parent_begins_a_new_trace(instance: Instance, spans: Spans, header: str) -> None:
    instance.get_stock(metadata=(("traceparent", header),))
    assert instance.server.stop(1)

    assert spans.one(METHOD).parent is None


def test_a_call_leaves_no_span_behind_in_its_thread(instance: Instance, spans: Spans) -> None:
    instance.get_stock()

    assert not trace.get_current_span().get_span_context().is_valid
