"""What one real gateway lets through to one real instance: whole messages of a contract's size, and nothing else."""

import base64
import http.client
import struct
import uuid
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2

from svc.chassis.load import TRAILER
from tests.integration.bad_requests import BAD, MALFORMED
from tests.integration.edge_calls import (
    EXHAUSTED,
    INVALID,
    METHODS,
    OK,
    TIMEOUT_S,
    UNAUTHENTICATED,
    UNIMPLEMENTED,
    Answer,
    Json,
    Native,
    Target,
    Web,
    method,
)
from tests.raw_call import trailers
from tests.waiting import eventually
from weft.orders.v1 import inventory_pb2, orders_pb2
from weft_protos import policy

from .served import Door
from .served import door as door

REQUEST = inventory_pb2.GetStockRequest(name="stock/a")
GET = Target.of(method("GetStock"), REQUEST)
SET = Target.of(method("SetStock"), inventory_pb2.SetStockRequest(name="stock/a", request_id=str(uuid.uuid4())))
FRAME = struct.pack(">BI", 0, len(GET.body)) + GET.body
MOST = 1024
MILLION = 1_000_000
FLOATING = {FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT}

BROKEN = {
    "no message": b"",
    "half a head": FRAME[:3],
    "a head alone": FRAME[:5],
    "a cut message": FRAME[:-2],
    "two messages": FRAME + FRAME,
    "a byte too many": FRAME + b"\0",
    "trailers": FRAME + b"\x80\0\0\0\x05a:b\r\n",
    "compressed, nobody says how": b"\1" + FRAME[1:],
    "unknown flags": b"\2" + FRAME[1:],
    "4 GB announced": struct.pack(">BI", 0, 2**32 - 1) + GET.body,
}


def test_what_an_instance_says_of_its_load_goes_no_further_than_the_gateway(door: Door) -> None:
    token = ("authorization", f"Bearer {door.token()}")
    eventually(lambda: TRAILER in trailers(f"127.0.0.1:{door.instance.port}", GET.path, GET.body, token))

    for body, status in ((GET.body, "0"), (b"\xff", "3")):
        answer = trailers(door.address, GET.path, body, token)

        assert status == answer["grpc-status"]
        assert [] == inner(answer)
    assert {wire: [] for wire in ("grpc", "grpc-web", "grpc-web-text", "json")} == {
        wire: inner(answer.headers) for wire, answer in door.everywhere(GET, door.token()).items()
    }


def inner(headers: Mapping[str, str]) -> list[str]:
    """What of an answer is for the gateway alone."""
    return [name for name in headers if name == TRAILER or name.startswith(("x-envoy-", "x-gw-"))]


def posted(door: Door, body: bytes, media: str, headers: Mapping[str, str] | None = None) -> Answer:
    """POST these bytes to GetStock over HTTP/1.1."""
    wire = Web(door.address)
    own = {"content-type": media, "authorization": f"Bearer {door.token()}"} | dict(headers or {})
    response = wire.send("POST", GET.path, body, own)
    found = {key.lower(): value for key, value in response.getheaders()}
    content = response.read()
    wire.close()
    if found["content-type"] == "application/json":
        return Json.refusal(response.status, content, found)
    return Web.refusal(response.status, found)


def nothing_happened(door: Door, before: int) -> None:
    assert before == door.handled
    # And the gateway goes on with the next one.
    assert OK == door.wires[0].call(GET, door.token()).code


@pytest.mark.parametrize("kind", ["application/grpc-web+proto", "application/grpc-web-text", "application/grpc"])
@pytest.mark.parametrize("broken", BROKEN)
def test_what_is_not_one_whole_message_is_refused(door: Door, broken: str, kind: str) -> None:
    body, calls = BROKEN[broken], door.handled
    sent = base64.b64encode(body) if kind.endswith("text") else body

    answer = posted(door, sent, kind, {"te": "trailers"})

    assert (200, INVALID, "GRPC_FRAME") == (answer.http, answer.code, answer.reason)
    assert [""] == answer.fields
    assert "request: weft.orders.v1.GetStockRequest" == answer.detail(error_details_pb2.ErrorInfo).metadata["rule"]
    nothing_happened(door, calls)


@pytest.mark.parametrize("count", [0, 2, 3])
def test_a_client_that_streams_to_a_unary_method_is_refused(door: Door, count: int) -> None:
    calls = door.handled
    with grpc.insecure_channel(door.address) as channel:
        stub: Any = channel.stream_unary(GET.path, request_serializer=None, response_deserializer=None)
        with pytest.raises(grpc.RpcError) as caught:
            stub(iter([GET.body] * count), metadata=(("authorization", f"Bearer {door.token()}"),), timeout=TIMEOUT_S)
        answer = Native.refusal(caught.value)

    assert (INVALID, "GRPC_FRAME") == (answer.code, answer.reason)
    nothing_happened(door, calls)


@pytest.mark.parametrize("body", [b"!!!!", base64.b64encode(FRAME)[:-1], b"AAAA=AAA"])
def test_bad_base64_is_refused(door: Door, body: bytes) -> None:
    calls = door.handled

    answer = posted(door, body, "application/grpc-web-text")

    assert (200, INVALID) == (answer.http, answer.code)
    nothing_happened(door, calls)


@pytest.mark.parametrize(
    ("headers", "code", "reason"),
    [
        ({"te": ""}, INVALID, "GRPC_TE"),
        ({"te": "gzip"}, INVALID, "GRPC_TE"),
        ({"grpc-timeout": "abc"}, INVALID, "GRPC_TIMEOUT"),
        ({"grpc-timeout": "-1S"}, INVALID, "GRPC_TIMEOUT"),
        ({"grpc-timeout": "123456789S"}, INVALID, "GRPC_TIMEOUT"),
        ({"grpc-timeout": "1"}, INVALID, "GRPC_TIMEOUT"),
        ({"grpc-encoding": "br"}, UNIMPLEMENTED, "GRPC_ENCODING"),
    ],
)
def test_headers_that_no_grpc_server_understands_are_refused_and_not_held_against_an_instance(
    door: Door, headers: dict[str, str], code: int, reason: str
) -> None:
    calls = door.handled

    # More often than an instance may fail before it is taken out.
    answers = [posted(door, FRAME, "application/grpc", {"te": "trailers"} | headers) for _ in range(8)]

    assert {(code, reason)} == {(answer.code, answer.reason) for answer in answers}
    nothing_happened(door, calls)


@pytest.mark.parametrize("timeout", ["0n", "0S"])
def test_a_deadline_of_zero_is_over_before_the_work(door: Door, timeout: str) -> None:
    calls = door.handled

    answer = posted(door, FRAME, "application/grpc", {"te": "trailers", "grpc-timeout": timeout})

    assert 4 == answer.code
    nothing_happened(door, calls)


def test_a_deadline_of_years_is_the_contracts(door: Door) -> None:
    answer = posted(door, FRAME, "application/grpc", {"te": "trailers", "grpc-timeout": "99999999H"})

    assert OK == answer.code
    assert door.instance.behaviour.calls[-1].deadline.remaining() <= 2


@pytest.mark.parametrize("media", ["text/plain", "application/json", ""])
def test_a_methods_own_path_takes_grpc_only(door: Door, media: str) -> None:
    calls = door.handled

    answer = posted(door, FRAME, media)

    assert (415, INVALID, "GRPC_MEDIA_TYPE") == (answer.http, answer.code, answer.reason)
    nothing_happened(door, calls)


def with_size(size: int) -> Target:
    """SetStock with a message, and path and JSON body, of that many bytes, both too long in their `request_id`."""
    message = inventory_pb2.SetStockRequest(request_id="a" * (size - 3 - (size > 1 << 14)))
    body = b'{"requestId":"' + b"a" * (size - 16 - len(SET.url)) + b'"}'
    assert (size, size) == (message.ByteSize(), len(SET.url) + len(body))
    return replace(SET, body=message.SerializeToString(), json=body)


@pytest.mark.parametrize("size", [MOST + 1, 5 * MOST, 64 * MOST, 600 * MOST])
def test_a_request_above_its_methods_size_is_refused_alike_on_every_wire(door: Door, size: int) -> None:
    calls = door.handled

    answers = door.everywhere(with_size(size), door.token())

    assert [(EXHAUSTED, "REQUEST_TOO_LARGE")] * 4 == [(one.code, one.reason) for one in answers.values()]
    assert [answers["grpc"].error] * 4 == [one.error for one in answers.values()]
    assert [None, 200, 200, 413] == [one.http for one in answers.values()]
    for answer in answers.values():
        (violation,) = answer.detail(error_details_pb2.QuotaFailure).violations
        said = answer.detail(error_details_pb2.ErrorInfo).metadata
        assert ("request", f"requests of up to {MOST} bytes") == (violation.subject, violation.description)
        assert f"max_request_bytes: {MOST}" == said["rule"]
        assert said["contract"].startswith("weft/orders/v1/inventory.proto:")
    nothing_happened(door, calls)


def test_a_request_of_its_methods_size_is_read_on_every_wire(door: Door) -> None:
    answers = door.everywhere(with_size(MOST), door.token())

    # Read, and refused for what stands in it.
    assert ["INVALID_FIELDS"] * 4 == [one.reason for one in answers.values()]
    assert all("request_id" in one.fields for one in answers.values())


@pytest.mark.parametrize("url", ["/v1/stock/" + "a" * MOST, "/v1/stock/a?name=" + "a" * MOST])
def test_path_and_query_count_as_the_request(door: Door, url: str) -> None:
    calls = door.handled

    answer = door.wires[-1].call(replace(GET, url=url), door.token())

    assert (413, EXHAUSTED, "REQUEST_TOO_LARGE") == (answer.http, answer.code, answer.reason)
    nothing_happened(door, calls)


def test_a_query_beside_the_body_is_no_field_of_the_request(door: Door) -> None:
    calls, wanted = door.handled, replace(SET, url=f"{SET.url}?quantity=7")

    answer = door.wires[-1].call(wanted, door.token())

    assert (400, INVALID, "JSON_QUERY_UNEXPECTED") == (answer.http, answer.code, answer.reason)
    assert ["quantity"] == answer.fields
    nothing_happened(door, calls)


def test_a_compressed_request_is_counted_unpacked(door: Door) -> None:
    calls = door.handled
    with grpc.insecure_channel(door.address) as channel:
        stub: Any = channel.unary_unary(SET.path, request_serializer=None, response_deserializer=None)
        with pytest.raises(grpc.RpcError) as caught:
            stub(
                with_size(5 * MOST).body,
                metadata=(("authorization", f"Bearer {door.token()}"),),
                timeout=TIMEOUT_S,
                compression=grpc.Compression.Gzip,
            )
    answer = Native.refusal(caught.value)

    assert (EXHAUSTED, "REQUEST_TOO_LARGE") == (answer.code, answer.reason)
    assert "orders" == answer.detail(error_details_pb2.ErrorInfo).metadata["hop"]
    nothing_happened(door, calls)


def test_a_long_list_within_the_size_is_refused_by_its_length(door: Door) -> None:
    place = Target.of(method("PlaceOrder"), orders_pb2.PlaceOrderRequest())
    listed = b"[" + b",".join([b"{}"] * 30_000) + b"]"
    target = replace(place, body=b"\x0a\x00" * 40_000, json=b'{"items":' + listed + b"}")
    calls = door.handled

    answers = door.everywhere(target, door.token())

    assert [(INVALID, ["items"])] * 4 == [(one.code, one.fields) for one in answers.values()]
    nothing_happened(door, calls)


def test_a_list_of_a_million_is_above_the_size_of_every_method(door: Door) -> None:
    most, calls = max(policy.request_bytes(policy.effective(one)) for one in METHODS), door.handled
    place = Target.of(method("PlaceOrder"), orders_pb2.PlaceOrderRequest())
    listed = b"[" + b",".join([b"{}"] * MILLION) + b"]"
    target = replace(place, body=b"\x0a\x00" * MILLION, json=b'{"items":' + listed + b"}")

    answers = door.everywhere(target, door.token())

    # An element takes two bytes or more: nobody counts them, and nothing of them is read.
    assert most < 2 * MILLION
    assert [(EXHAUSTED, "REQUEST_TOO_LARGE")] * 4 == [(one.code, one.reason) for one in answers.values()]
    nothing_happened(door, calls)


def test_too_large_headers_are_refused_alike_on_every_wire(door: Door) -> None:
    calls = door.handled

    for size in (17_000, 50_000):
        answers = [wire.call(GET, door.token(), {"x-large": "a" * size}) for wire in door.wires]
        assert [(EXHAUSTED, "HEADERS_TOO_LARGE")] * len(answers) == [(one.code, one.reason) for one in answers]
        assert {"headers"} == {one.detail(error_details_pb2.QuotaFailure).violations[0].subject for one in answers}
        assert [431] == [one.http for wire, one in zip(door.wires, answers, strict=True) if isinstance(wire, Json)]
    nothing_happened(door, calls)


@pytest.mark.parametrize("headers", [{"x-large": "a" * 70_000}, {f"x-{number}": "a" for number in range(100)}])
def test_headers_that_envoy_does_not_read_are_refused_every_time(door: Door, headers: dict[str, str]) -> None:
    calls = door.handled

    answers = [posted(door, FRAME, "application/grpc-web", headers) for _ in range(5)]

    assert {(431, EXHAUSTED, "HEADERS_TOO_LARGE")} == {(one.http, one.code, one.reason) for one in answers}
    assert all(one.detail(error_details_pb2.QuotaFailure).violations for one in answers)
    nothing_happened(door, calls)


def test_headers_within_the_limit_are_passed_on(door: Door) -> None:
    answers = [wire.call(GET, door.token(), {"x-large": "a" * 15_000}) for wire in door.wires]

    assert {OK} == {one.code for one in answers}


@pytest.mark.parametrize(
    "path",
    ["/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch", "/grpc.channelz.v1.Channelz/GetTopChannels"],
)
def test_what_instances_say_of_themselves_is_not_for_callers(door: Door, path: str) -> None:
    answer = door.wires[0].call(replace(GET, path=path), door.token())

    assert (UNIMPLEMENTED, "METHOD_UNKNOWN") == (answer.code, answer.reason)


def test_every_method_has_a_bad_request() -> None:
    assert {one.name for one in METHODS} == {name for name, _, _ in BAD}


def test_no_request_has_a_field_for_what_is_no_number() -> None:
    # The first one that has needs NaN and the infinities among the bad requests.
    seen, left = set[str](), [one.input_type for one in METHODS]
    while left:
        message = left.pop()
        if message.full_name not in seen:
            seen.add(message.full_name)
            left += [field.message_type for field in message.fields if field.message_type is not None]
            assert [] == [field.full_name for field in message.fields if field.cpp_type in FLOATING]


@pytest.mark.parametrize(("name", "request_message", "field"), BAD)
def test_a_value_out_of_its_rules_is_named_on_every_wire(
    door: Door, name: str, request_message: Message, field: str
) -> None:
    # Somebody else each time: there are more requests of one method than a caller may send at once.
    calls, token = door.handled, door.token(sub=f"caller-{uuid.uuid4().hex}")

    answers = door.everywhere(Target.of(method(name), request_message), token)

    assert [INVALID] * 4 == [answer.code for answer in answers.values()]
    assert [] == [(wire, answer.fields) for wire, answer in answers.items() if field not in answer.fields]
    nothing_happened(door, calls)


@pytest.mark.parametrize("malformed", MALFORMED)
def test_bytes_that_are_no_message_are_no_request_of_any_method(door: Door, malformed: str) -> None:
    calls = door.handled
    for descriptor in METHODS:
        target = replace(Target.of(descriptor, GetMessageClass(descriptor.input_type)()), body=MALFORMED[malformed])

        answer = door.wires[0].call(target, door.token())

        assert (INVALID, "MALFORMED_MESSAGE") == (answer.code, answer.reason), descriptor.full_name
    nothing_happened(door, calls)


# One entry for each refusal --------------------------------------------------------------------------------------

REFUSED = {
    "no token": (GET, None, UNAUTHENTICATED, "TOKEN_MISSING"),
    "a size": (with_size(MOST + 1), "token", EXHAUSTED, "REQUEST_TOO_LARGE"),
}


@pytest.mark.parametrize("refused", REFUSED)
def test_a_refusal_of_the_gateway_is_one_line_of_its_log(door: Door, refused: str) -> None:
    target, token, code, reason = REFUSED[refused]
    for wire in door.wires:
        trace_id = uuid.uuid4().hex
        headers = {"traceparent": f"00-{trace_id}-{uuid.uuid4().hex[:16]}-01"}

        answer = wire.call(target, None if token is None else door.token(), headers)

        assert (code, reason) == (answer.code, answer.reason)
        eventually(lambda trace_id=trace_id: door.logged(trace_id))
        (line,) = door.logged(trace_id)
        assert reason == line["refusal"]
        assert answer.detail(error_details_pb2.ErrorInfo).metadata["rule"] == line["rule"]


def test_a_call_that_went_well_is_one_line_that_says_who_called_and_nothing_of_refusals(door: Door) -> None:
    for wire in door.wires:
        trace_id = uuid.uuid4().hex
        headers = {"traceparent": f"00-{trace_id}-{uuid.uuid4().hex[:16]}-01"}

        assert OK == wire.call(GET, door.token(sub="00000000-0000-4000-8000-00000000ab1e"), headers).code

        eventually(lambda trace_id=trace_id: door.logged(trace_id))
        (line,) = door.logged(trace_id)
        assert "00000000-0000-4000-8000-00000000ab1e" == line["subject"]
        assert [None] * 3 == [line.get(key) for key in ("refusal", "rule", "contract")]
        # What every gRPC call would pay for.
        assert wire is not door.wires[0] or "refusal" not in line


def test_what_an_instance_refused_is_no_refusal_of_the_gateway(door: Door) -> None:
    trace_id = uuid.uuid4().hex
    headers = {"traceparent": f"00-{trace_id}-{uuid.uuid4().hex[:16]}-01"}

    answer = door.wires[0].call(with_size(MOST), door.token(), headers)

    assert "INVALID_FIELDS" == answer.reason
    eventually(lambda: door.logged(trace_id))
    assert [None] == [line["refusal"] for line in door.logged(trace_id)]


def test_the_connection_of_a_refused_request_goes_on(door: Door) -> None:
    connection = http.client.HTTPConnection(door.address, timeout=TIMEOUT_S)
    headers = {"content-type": "application/grpc-web", "authorization": f"Bearer {door.token()}"}
    statuses = []
    for body in (FRAME[:-1], FRAME, FRAME + FRAME, FRAME):
        connection.request("POST", GET.path, body, headers)
        response = connection.getresponse()
        content = response.read()
        statuses.append(response.getheader("grpc-status") or ("0" if b"grpc-status:0" in content else "?"))
    connection.close()

    assert ["3", "0", "3", "0"] == statuses
