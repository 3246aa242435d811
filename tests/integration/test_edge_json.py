"""JSON bodies at the real gateway: what the contract allows arrives whole, all else is refused and does nothing."""

import http.client
import json
import socket
import uuid
from dataclasses import replace
from typing import Any

import pytest
from google.rpc import error_details_pb2

from tests.integration.edge_calls import (
    EXHAUSTED,
    HTTP,
    INVALID,
    OK,
    TIMEOUT_S,
    UNIMPLEMENTED,
    Answer,
    Edge,
    Json,
    Target,
    method,
)
from tests.integration.edge_calls import edge as edge
from weft.identity.v1 import identity_pb2
from weft.orders.v1 import orders_pb2

pytestmark = pytest.mark.calls

#: Above the limit of a request, below what a connection buffers.
TOO_LARGE_BYTES = 300 * 1024


def order(body: str | bytes) -> Target:
    """PlaceOrder with a body of its own."""
    target = Target.of(method("PlaceOrder"), orders_pb2.PlaceOrderRequest())
    return replace(target, json=body.encode() if isinstance(body, str) else body)


def update(user: str, body: str) -> Target:
    """UpdateUser, whose body is one field of the request."""
    request = identity_pb2.UpdateUserRequest(user=identity_pb2.User(name=f"users/{user}"))
    return replace(Target.of(method("UpdateUser"), request), json=body.encode())


def sent(edge: Edge, target: Target, token: str | None = None, media: str = "application/json") -> Answer:
    wire = Json(edge.address)
    try:
        return wire.call(target, token, {"content-type": media})
    finally:
        wire.close()


REFUSED: list[tuple[str | bytes, str, str]] = [
    ('{"itmes":[]}', "JSON_FIELD_UNKNOWN", "itmes"),
    ('{"items":[{"productId":"a"},{"quantty":1}]}', "JSON_FIELD_UNKNOWN", "items[1].quantty"),
    ('{"requestId":"a","requestId":"b"}', "JSON_FIELD_REPEATED", "request_id"),
    ('{"requestId":"a","request_id":"b"}', "JSON_FIELD_REPEATED", "request_id"),
    (r'{"requestId":"a","request\u0049d":"b"}', "JSON_FIELD_REPEATED", "request_id"),
    ("[]", "JSON_TYPE", ""),
    ("null", "JSON_TYPE", ""),
    ('{"items":{}}', "JSON_TYPE", "items"),
    ('{"items":[{"quantity":"Infinity"}]}', "JSON_TYPE", "items[0].quantity"),
    ('{"items":[{"quantity":1.5}]}', "JSON_TYPE", "items[0].quantity"),
    ('{"items":[{"quantity":9223372036854775808}]}', "JSON_NUMBER", "items[0].quantity"),
    ('{"items":[{"quantity":%s}]}' % ("9" * 5000), "JSON_NUMBER", "items[0].quantity"),
    (b"\xef\xbb\xbf{}", "JSON_INVALID", ""),
    ("{'requestId':'a'}", "JSON_INVALID", ""),
    ('{requestId:"a"}', "JSON_INVALID", ""),
    ('{"requestId":"a",}', "JSON_INVALID", ""),
    ('{"requestId":"a"} {}', "JSON_INVALID", ""),
    ('{"requestId":"a"/**/}', "JSON_INVALID", "request_id"),
    ('{"requestId":"a\tb"}', "JSON_INVALID", "request_id"),
    (b'{"requestId":"\xff"}', "JSON_INVALID", "request_id"),
    (r'{"requestId":"\ud800"}', "JSON_INVALID", "request_id"),
    (r'{"requestId":"\q"}', "JSON_INVALID", "request_id"),
    ('{"requestId":', "JSON_INVALID", "request_id"),
    ("{" * 20_000, "JSON_INVALID", ""),
    ("\x00\x00\x00\x00\x00", "JSON_INVALID", ""),
    ("", "JSON_BODY_MISSING", ""),
]


@pytest.mark.parametrize(("body", "reason", "field"), REFUSED)
def test_a_body_that_breaks_the_contract_is_refused_by_field(
    edge: Edge, body: str | bytes, reason: str, field: str
) -> None:
    answer = sent(edge, order(body), edge.token("orders.write"))

    assert (HTTP[INVALID], INVALID, reason) == (answer.http, answer.code, answer.reason)
    assert [field] == answer.fields
    info = answer.detail(error_details_pb2.ErrorInfo)
    assert ("weft", "weft.orders.v1.OrderService/PlaceOrder") == (info.domain, info.metadata["method"])


def test_a_misspelt_key_is_told_what_was_meant(edge: Edge) -> None:
    answer = sent(edge, order('{"items":[{"quantty":1}]}'), edge.token("orders.write"))

    assert "items[0].quantty: no such field; did you mean quantity?" == answer.message


def test_a_refused_change_changes_nothing_and_the_next_request_is_fine(edge: Edge) -> None:
    user = edge.new_user()
    token = edge.token(user=user)
    read = Target.of(method("GetUser"), identity_pb2.GetUserRequest(name=f"users/{user}"))
    before = edge.wires[0].call(read, token).answers
    bad = update(user, '{"displayName":"first","displayName":"second"}')
    good = update(user, '{"displayName":"third"}')
    connection = http.client.HTTPConnection(edge.address, timeout=TIMEOUT_S)
    headers = {"content-type": "application/json", "authorization": f"Bearer {token}"}

    connection.request(bad.verb, bad.url, bad.json, headers)
    refused = connection.getresponse()
    said: Any = json.loads(refused.read())
    unchanged = edge.wires[0].call(read, token).answers
    connection.request(good.verb, good.url, good.json, headers)
    taken = connection.getresponse()
    changed: Any = json.loads(taken.read())
    connection.close()

    assert (400, INVALID, "JSON_FIELD_REPEATED") == (refused.status, said["code"], said["details"][0]["reason"])
    assert "user.display_name" == said["details"][1]["fieldViolations"][0]["field"]
    assert before == unchanged
    assert (200, "third") == (taken.status, changed["displayName"])


@pytest.mark.parametrize("style", ["displayName", "display_name", r"display\u004eame"])
@pytest.mark.parametrize(
    "media", ["application/json", "application/json; charset=utf-8", "application/x-www-form-urlencoded"]
)
def test_what_the_contract_allows_arrives_whole(edge: Edge, style: str, media: str) -> None:
    user = edge.new_user()
    wanted = 'Zoë "Z" \U0001f600 \u20ac'
    body = f' {{"{style}" :\n{json.dumps(wanted)}, "email": null }} '

    answer = sent(edge, update(user, body), edge.token(user=user), media)

    assert OK == answer.code, answer.message
    changed: Any = answer.answers[0]
    assert wanted == changed.display_name


@pytest.mark.parametrize("media", ["text/plain", "multipart/form-data", "application/jsonp", ""])
def test_a_body_that_does_not_say_it_is_json_is_refused(edge: Edge, media: str) -> None:
    answer = sent(edge, order('{"items":[]}'), edge.token("orders.write"), media)

    assert (415, INVALID, "JSON_MEDIA_TYPE") == (answer.http, answer.code, answer.reason)


@pytest.mark.parametrize("media", ["application/grpc-web", "application/grpcjson"])
def test_no_content_type_leads_past_the_check(edge: Edge, media: str) -> None:
    # The transcoder takes everything that is not gRPC to the letter; an answer may be in gRPC's form, but no success.
    target = order(f'{{"itmes":[],"requestId":"{uuid.uuid4()}"}}')
    connection = http.client.HTTPConnection(edge.address, timeout=TIMEOUT_S)
    headers = {"content-type": media, "authorization": f"Bearer {edge.token('orders.write')}"}
    connection.request(target.verb, target.url, target.json, headers)
    answer = connection.getresponse()
    status = answer.getheader("grpc-status") or answer.read().decode("latin-1")
    connection.close()

    assert status in {str(INVALID), str(UNIMPLEMENTED)} or answer.status in {400, 404, 415}


def test_a_method_without_a_body_takes_none(edge: Edge) -> None:
    user = edge.new_user()
    read = Target.of(method("GetUser"), identity_pb2.GetUserRequest(name=f"users/{user}"))

    answer = sent(edge, replace(read, json=b'{"name":"users/operator"}'), edge.token(user=user))

    assert (HTTP[INVALID], "JSON_BODY_UNEXPECTED") == (answer.http, answer.reason)


def test_a_query_beside_the_body_is_refused(edge: Edge) -> None:
    wanted = order('{"items":[{"productId":"a","quantity":"1"}]}')

    answer = sent(edge, replace(wanted, url=f"{wanted.url}?request_id={uuid.uuid4()}"), edge.token("orders.write"))

    assert (HTTP[INVALID], "JSON_QUERY_UNEXPECTED") == (answer.http, answer.reason)
    assert ["request_id"] == answer.fields


@pytest.mark.parametrize(
    ("query", "reason", "field"),
    [
        ("user.name=users/operator", "JSON_QUERY_UNEXPECTED", "user.name"),
        ("user.displayName=x", "JSON_QUERY_UNEXPECTED", "user.display_name"),
        ("updateMask=displayName&update_mask=email", "JSON_FIELD_REPEATED", "update_mask"),
        ("updateMask=displayName&update_m%61sk=email", "JSON_FIELD_REPEATED", "update_mask"),
        ("updateMask", "JSON_QUERY_UNEXPECTED", "update_mask"),
        ("updatemask=email", "JSON_FIELD_UNKNOWN", "updatemask"),
    ],
)
def test_a_query_gives_nothing_that_path_or_body_give_and_nothing_twice(
    edge: Edge, query: str, reason: str, field: str
) -> None:
    user = edge.new_user()
    target = update(user, '{"displayName":"changed"}')

    answer = sent(edge, replace(target, url=f"{target.url}?{query}"), edge.token(user=user))

    assert (HTTP[INVALID], reason, [field]) == (answer.http, answer.reason, answer.fields)


def test_a_query_does_not_read_another_resource_than_its_path(edge: Edge) -> None:
    user = edge.new_user()
    read = Target.of(method("GetUser"), identity_pb2.GetUserRequest(name=f"users/{user}"))

    answer = sent(edge, replace(read, url=f"{read.url}?name=users/operator"), edge.token(user=user))

    assert (HTTP[INVALID], "JSON_QUERY_UNEXPECTED", ["name"]) == (answer.http, answer.reason, answer.fields)


@pytest.mark.parametrize("media", ["application/x-www-form-urlencoded", "text/plain", ""])
def test_a_public_method_takes_no_body_that_any_page_could_send(edge: Edge, media: str) -> None:
    target = Target.of(method("CreateSession"), identity_pb2.CreateSessionRequest(email="nobody@example.com"))

    answer = sent(edge, target, media=media)

    assert (415, INVALID, "JSON_MEDIA_TYPE") == (answer.http, answer.code, answer.reason)


def test_a_body_is_bounded_before_it_is_checked(edge: Edge) -> None:
    answer = sent(edge, order("[" * TOO_LARGE_BYTES), edge.token("orders.write"))

    assert (413, EXHAUSTED, "REQUEST_TOO_LARGE") == (answer.http, answer.code, answer.reason)


def test_the_largest_order_is_not_too_much_for_the_check(edge: Edge) -> None:
    items = [{"productId": f"{number:0>60}", "quantity": "1000000"} for number in range(499)]
    body = json.dumps(
        {"items": [*items, {"productId": "last", "quantty": 1}], "requestId": str(uuid.uuid4())}, indent=4
    )

    answer = sent(edge, order(body), edge.token("orders.write"))

    assert ["items[499].quantty"] == answer.fields


def test_a_body_in_pieces_is_checked_as_one(edge: Edge) -> None:
    # In chunks, so that neither length nor end is known when the headers arrive.
    host, _, port = edge.address.rpartition(":")
    body = b'{"items":[{"quantty":1}]}'
    token = edge.token("orders.write")
    head = (
        f"POST /v1/orders HTTP/1.1\r\nhost: {edge.address}\r\ncontent-type: application/json\r\n"
        f"authorization: Bearer {token}\r\ntransfer-encoding: chunked\r\n\r\n"
    )
    with socket.create_connection((host, int(port)), timeout=TIMEOUT_S) as plain:
        plain.sendall(head.encode())
        for piece in (body[:9], body[9:]):
            plain.sendall(b"%x\r\n%s\r\n" % (len(piece), piece))
        plain.sendall(b"0\r\n\r\n")
        response = http.client.HTTPResponse(plain)
        response.begin()
        said: Any = json.loads(response.read())

    assert (400, "items[0].quantty") == (response.status, said["details"][1]["fieldViolations"][0]["field"])


def test_other_wires_know_nothing_of_it(edge: Edge) -> None:
    user = edge.new_user()
    request = identity_pb2.UpdateUserRequest(user=identity_pb2.User(name=f"users/{user}", display_name="A"))

    answers = edge.everywhere(Target.of(method("UpdateUser"), request), edge.token(user=user))

    assert [OK] * 4 == [answer.code for answer in answers.values()]
