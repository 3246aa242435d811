"""What a page in a browser may do: preflights, readable errors, and gRPC-web as it is framed."""

import base64
import http.client
import struct
from collections.abc import Mapping

import pytest

from tests.integration.edge_calls import (
    HTTP,
    OK,
    TIMEOUT_S,
    UNAUTHENTICATED,
    Edge,
    Target,
    method,
)
from tests.integration.edge_calls import edge as edge
from weft.catalog.v1 import catalog_pb2

pytestmark = pytest.mark.calls

LOCAL = ("http://localhost:3000", "https://localhost", "http://127.0.0.1:8080", "http://[::1]:5173")
EVIL = (
    "http://evil.example",
    "null",
    "http://localhost.evil.example",
    "http://evil.example/?http://localhost",
    "http://localhost:3000.evil.example",
    "http://notlocalhost",
)
LIST = Target.of(method("ListProducts"), catalog_pb2.ListProductsRequest(page_size=1))
PATHS = (("POST", LIST.path), ("GET", LIST.url), ("POST", "/v1/orders"), ("PATCH", "/v1/products/x"), ("GET", "/v1/no"))
#: What a page needs to read an error and to know how long to wait.
READABLE = {"grpc-status", "grpc-message", "grpc-status-details-bin", "grpc-retry-pushback-ms", "retry-after"}


def preflight(edge: Edge, path: str, verb: str, origin: str) -> tuple[int, Mapping[str, str]]:
    headers = {
        "origin": origin,
        "access-control-request-method": verb,
        "access-control-request-headers": "authorization,content-type,x-grpc-web",
    }
    connection = http.client.HTTPConnection(edge.address, timeout=TIMEOUT_S)
    connection.request("OPTIONS", path, headers=headers)
    response = connection.getresponse()
    connection.close()
    return response.status, {key.lower(): value for key, value in response.getheaders()}


@pytest.mark.parametrize("origin", LOCAL)
@pytest.mark.parametrize(("verb", "path"), PATHS)
def test_a_page_of_this_machine_may_ask_without_a_token(edge: Edge, verb: str, path: str, origin: str) -> None:
    status, headers = preflight(edge, path, verb, origin)

    assert (200, origin) == (status, headers["access-control-allow-origin"])
    assert verb in headers["access-control-allow-methods"].split(",")
    assert {"authorization", "content-type", "x-grpc-web"} <= set(headers["access-control-allow-headers"].split(","))
    # Tokens travel in a header that the page sets; a browser must never add cookies by itself.
    assert "access-control-allow-credentials" not in headers


@pytest.mark.parametrize("origin", EVIL)
@pytest.mark.parametrize(("verb", "path"), PATHS)
def test_a_page_from_elsewhere_gets_no_allow_header(edge: Edge, verb: str, path: str, origin: str) -> None:
    _, headers = preflight(edge, path, verb, origin)

    assert [] == [name for name in headers if name.startswith("access-control-")]


def test_a_page_can_read_answers_and_errors_of_every_wire(edge: Edge) -> None:
    origin = {"origin": LOCAL[0]}
    pages = [wire for wire in edge.wires if wire.name != "grpc"]
    asked = [(LIST, edge.token("catalog.read"), OK), (LIST, None, UNAUTHENTICATED)]
    asked.append((Target("/a.B/C", b"", "GET", "/v1/nothing", None), None, 12))
    for wire in pages:
        for target, token, code in asked:
            answer = wire.call(target, token, origin)

            assert (code, LOCAL[0]) == (answer.code, answer.headers.get("access-control-allow-origin")), wire.name
            assert set(answer.headers["access-control-expose-headers"].split(",")) >= READABLE


def test_a_page_from_elsewhere_can_read_nothing(edge: Edge) -> None:
    for wire in edge.wires:
        answer = wire.call(LIST, edge.token("catalog.read"), {"origin": EVIL[0]})

        assert [] == [name for name in answer.headers if name.startswith("access-control-")], wire.name


def raw(edge: Edge, kind: str, body: bytes, token: str | None) -> tuple[http.client.HTTPResponse, bytes]:
    connection = http.client.HTTPConnection(edge.address, timeout=TIMEOUT_S)
    headers = {"content-type": kind, "accept": kind, "x-grpc-web": "1"}
    if token is not None:
        headers["authorization"] = f"Bearer {token}"
    connection.request("POST", LIST.path, body=body, headers=headers)
    response = connection.getresponse()
    content = response.read()
    connection.close()
    return response, content


def test_an_answer_is_a_data_frame_and_a_frame_of_trailers(edge: Edge) -> None:
    frame = struct.pack(">BI", 0, len(LIST.body)) + LIST.body

    response, content = raw(edge, "application/grpc-web+proto", frame, edge.token("catalog.read"))

    flag, size = struct.unpack(">BI", content[:5])
    message, rest = content[5 : 5 + size], content[5 + size :]
    last, length = struct.unpack(">BI", rest[:5])
    assert (200, "application/grpc-web+proto") == (response.status, response.getheader("content-type"))
    assert (0, 0x80, length) == (flag, last, len(rest) - 5)
    assert catalog_pb2.ListProductsResponse.FromString(message).IsInitialized()
    assert b"grpc-status:0\r\n" in rest[5:].replace(b": ", b":")


def test_a_text_answer_is_the_same_in_base64(edge: Edge) -> None:
    frame = struct.pack(">BI", 0, len(LIST.body)) + LIST.body

    response, content = raw(edge, "application/grpc-web-text", base64.b64encode(frame), edge.token("catalog.read"))

    assert 200 == response.status
    assert str(response.getheader("content-type")).startswith("application/grpc-web-text")
    assert 0 == base64.b64decode(content[:8])[0]


def test_text_that_is_no_base64_is_an_invalid_request(edge: Edge) -> None:
    response, _ = raw(edge, "application/grpc-web-text", b"!!!!", edge.token("catalog.read"))

    assert (200, "3") == (response.status, response.getheader("grpc-status"))
    assert HTTP[OK] == response.status
