"""Queries and content types of JSON calls on a real Envoy: nothing given twice, nothing that any page could send."""

import http.client
import json
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any

import grpc
import pytest
from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

from gateway.contract import Binding
from gateway.policy import PolicySet, Rpc
from tests.waiting import free_port

from .conftest import JWKS, TESTDATA, settings_in
from .fronted import running

UNEXPECTED, UNKNOWN, REPEATED, INVALID = (
    f"JSON_{end}" for end in ("QUERY_UNEXPECTED", "FIELD_UNKNOWN", "FIELD_REPEATED", "INVALID")
)
FINDS = "GET /v1/finds"

#: A request line, and the message that it stands for.
GOOD: list[tuple[str, dict[str, Any]]] = [
    (FINDS, {}),
    (f"{FINDS}?", {}),
    (f"{FINDS}?&&", {}),
    (f"{FINDS}?&page_size=3&", {"page_size": 3}),
    (f"{FINDS}?pageSize=3&name=a", {"page_size": 3, "name": "a"}),
    # Escapes in names, as in values; a plus is a space in a value.
    (f"{FINDS}?p%61ge%5Fsize=7", {"page_size": 7}),
    (f"{FINDS}?name=a+b%2Bc%26d%3De", {"name": "a b+c&d=e"}),
    # One `=` divides a part, and nothing but `&` divides parts.
    (f"{FINDS}?name=a=b", {"name": "a=b"}),
    (f"{FINDS}?name=a;page_size=3", {"name": "a;page_size=3"}),
    (f"{FINDS}?name=a?page_size=3", {"name": "a?page_size=3"}),
    (f"{FINDS}?name=", {}),
    (f"{FINDS}?names=a&names=b&names=a", {"names": ["a", "b", "a"]}),
    (f"{FINDS}?inner.text=a&inner.countAll=3", {"inner": {"text": "a", "count_all": 3}}),
    (f"{FINDS}?inner.words=a&inner.words=b", {"inner": {"words": ["a", "b"]}}),
    (f"{FINDS}?inner.again.inner.text=a", {"inner": {"again": {"inner": {"text": "a"}}}}),
    (f"{FINDS}?name=a&inner.again.name=b", {"name": "a", "inner": {"again": {"name": "b"}}}),
    (f"{FINDS}?left=a", {"left": "a"}),
    (f"{FINDS}?right_side.text=a&rightSide.count_all=1", {"right_side": {"text": "a", "count_all": 1}}),
    (f"{FINDS}?left=a&inner.again.right_side.text=b", {"left": "a", "inner": {"again": {"right_side": {"text": "b"}}}}),
    (f"{FINDS}?maybe=0", {"maybe": 0}),
    (f"{FINDS}?at_time=2026-01-01T00:00:00Z", {"at_time": "2026-01-01T00:00:00Z"}),
    (f"{FINDS}?lasting=3s", {"lasting": "3s"}),
    (f"{FINDS}?mask=name,pageSize", {"mask": "name,pageSize"}),
    (f"{FINDS}?boxed=5", {"boxed": "5"}),
    (f"{FINDS}?any_value=a", {"any_value": "a"}),
    (f"{FINDS}?day.year=2026&day.month=1&day.day=2", {"day": {"year": 2026, "month": 1, "day": 2}}),
    (f"{FINDS}?colour=COLOUR_GREY&colours=1", {"colour": "COLOUR_GREY", "colours": ["COLOUR_GREY"]}),
    (f"{FINDS}?@odd=a", {"odd_name": "a"}),
    (f"{FINDS}?%40odd=a", {"odd_name": "a"}),
    (f"{FINDS}?raw=YQ==&flag=true&precise=1.5&huge=1", {"raw": "YQ==", "flag": True, "precise": 1.5, "huge": "1"}),
    (
        f"{FINDS}?times=2026-01-01T00:00:00Z&times=2026-01-02T00:00:00Z",
        {"times": ["2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"]},
    ),
    (f"{FINDS}/a?page_size=5", {"name": "finds/a", "page_size": 5}),
    ("GET /v1/inners/a?inner.count_all=3", {"inner": {"text": "inners/a", "count_all": 3}}),
    ('PATCH /v1/inners/a?mask=text {"countAll":3}', {"inner": {"text": "inners/a", "count_all": 3}, "mask": "text"}),
    ('PUT /v1/rights?inner.text=a {"text":"b"}', {"right_side": {"text": "b"}, "inner": {"text": "a"}}),
]

#: A request line, the reason, and the field.
BAD: list[tuple[str, str, list[str]]] = [
    # Twice.
    (f"{FINDS}?page_size=1&page_size=1000", REPEATED, ["page_size"]),
    (f"{FINDS}?page_size=1&page_size=1", REPEATED, ["page_size"]),
    (f"{FINDS}?page_size=1&pageSize=1000", REPEATED, ["page_size"]),
    (f"{FINDS}?page_size=1&p%61ge_size=1000", REPEATED, ["page_size"]),
    (f"{FINDS}?name=&name=a", REPEATED, ["name"]),
    (f"{FINDS}?@odd=a&odd_name=a", REPEATED, ["odd_name"]),
    (f"{FINDS}?inner.countAll=3&name=a&inner.count_all=4", REPEATED, ["inner.count_all"]),
    (f"{FINDS}?mask=name&mask=names", REPEATED, ["mask"]),
    (f"{FINDS}?boxed=1&boxed=2", REPEATED, ["boxed"]),
    (f"{FINDS}?left=a&left=b", REPEATED, ["left"]),
    (f"{FINDS}?left=a&right_side.text=b", REPEATED, ["right_side"]),
    (f"{FINDS}?right_side.text=b&left=a", REPEATED, ["left"]),
    (f"{FINDS}?inner.again.left=b&inner.again.rightSide.text=b", REPEATED, ["inner.again.right_side"]),
    # In the path.
    (f"{FINDS}/a?name=finds/b", UNEXPECTED, ["name"]),
    (f"{FINDS}/a?name=finds/a", UNEXPECTED, ["name"]),
    (f"{FINDS}/a?n%61me=finds/b", UNEXPECTED, ["name"]),
    ("GET /v1/inners/a?inner.text=inners/b", UNEXPECTED, ["inner.text"]),
    ("GET /v1/lefts/a?left=lefts/b", UNEXPECTED, ["left"]),
    ("GET /v1/lefts/a?right_side.text=b", REPEATED, ["right_side"]),
    ("PATCH /v1/inners/a?inner.text=inners/b {}", UNEXPECTED, ["inner.text"]),
    # In the body.
    ("PATCH /v1/inners/a?inner.countAll=4 {}", UNEXPECTED, ["inner.count_all"]),
    ('PATCH /v1/inners/a?inner.words=a {"words":["b"]}', UNEXPECTED, ["inner.words"]),
    ("PATCH /v1/inners/a?inner.again.name=a {}", UNEXPECTED, ["inner.again.name"]),
    ("PATCH /v1/inners/a?inner=a {}", UNEXPECTED, ["inner"]),
    ('PUT /v1/rights?left=a {"text":"b"}', REPEATED, ["left"]),
    ("POST /v1/finds?name=a {}", UNEXPECTED, ["name"]),
    # No value, no name.
    (f"{FINDS}?page_size", UNEXPECTED, ["page_size"]),
    (f"{FINDS}?name=a&pageSize", UNEXPECTED, ["page_size"]),
    (f"{FINDS}?page_size%3D5", UNKNOWN, []),
    (f"{FINDS}?=5", UNEXPECTED, []),
    (f"{FINDS}?=", UNEXPECTED, []),
    # No field.
    (f"{FINDS}?pagesize=1", UNKNOWN, ["pagesize"]),
    (f"{FINDS}?oddName=a", UNKNOWN, ["oddName"]),
    (f"{FINDS}?inner.txt=a", UNKNOWN, ["inner.txt"]),
    (f"{FINDS}?inner.=a", UNKNOWN, ["inner"]),
    (f"{FINDS}?inner..text=a", UNKNOWN, ["inner"]),
    (f"{FINDS}?.name=a", UNKNOWN, []),
    (f"{FINDS}?choice=left", UNKNOWN, ["choice"]),
    (f"{FINDS}?alt=json", UNKNOWN, ["alt"]),
    (f"{FINDS}?$alt=json", UNKNOWN, []),
    (f"{FINDS}?page+size=1", UNKNOWN, []),
    (f"{FINDS}?%2570age_size=1", UNKNOWN, []),
    (f"{FINDS}?page_size%=1", UNKNOWN, []),
    (f"{FINDS}?{'a' * 5000}=1", UNKNOWN, []),
    (f"{FINDS}?__index=1", UNKNOWN, ["__index"]),
    # Not by its fields: each has one form in JSON, which is no object.
    (f"{FINDS}?name.text=a", UNKNOWN, ["name"]),
    (f"{FINDS}?at_time.seconds=5", UNKNOWN, ["at_time"]),
    (f"{FINDS}?mask.paths=name", UNKNOWN, ["mask"]),
    (f"{FINDS}?boxed.value=5", UNKNOWN, ["boxed"]),
    (f"{FINDS}?any_value.string_value=a", UNKNOWN, ["any_value"]),
    (f"{FINDS}?any_list.values=a", UNKNOWN, ["any_list"]),
    (f"{FINDS}?loose.fields=a", UNKNOWN, ["loose"]),
    (f"{FINDS}?packed.type_url=a", UNKNOWN, ["packed"]),
    (f"{FINDS}?inners.text=a", UNKNOWN, ["inners"]),
    (f"{FINDS}?by_name.key=a", UNKNOWN, ["by_name"]),
    # Not in one value.
    (f"{FINDS}?inner=a", UNEXPECTED, ["inner"]),
    (f"{FINDS}?inners=a", UNEXPECTED, ["inners"]),
    (f"{FINDS}?by_name=a", UNEXPECTED, ["by_name"]),
    (f"{FINDS}?loose=a", UNEXPECTED, ["loose"]),
    (f"{FINDS}?any_list=a", UNEXPECTED, ["any_list"]),
    (f"{FINDS}?packed=a", UNEXPECTED, ["packed"]),
    (f"{FINDS}?{'inner.again.' * 17}name=a", "JSON_TOO_DEEP", [("inner.again." * 17).removesuffix(".again.")]),
    # What a value may be is the transcoder's to say.
    (f"{FINDS}?page_size=", INVALID, ["page_size"]),
    (f"{FINDS}?page_size=2147483648", INVALID, ["page_size"]),
]


class Shop:
    """The planted contract's gateway, and what reached the service behind it."""

    def __init__(self, address: str, wanted: type[Any], pool: DescriptorPool, got: list[bytes]) -> None:
        self._address, self._wanted, self._pool, self._got = address, wanted, pool, got

    def ask(
        self, line: str, media: str = "application/json", token: str = ""
    ) -> tuple[int, Any, dict[str, Any] | None]:
        """Status and body of the answer, and the message that the service saw."""
        self._got.clear()
        status, answer = asked(self._address, line, "application/json")
        if not self._got:
            return status, answer, None
        message = self._wanted.FromString(self._got[0])
        return (
            status,
            answer,
            json_format.MessageToDict(message, preserving_proto_field_name=True, descriptor_pool=self._pool),
        )


def asked(address: str, line: str, media: str) -> tuple[int, Any]:
    """The answer to `VERB PATH [BODY]`."""
    verb, path, *body = line.split(" ", 2)
    sent = body[0].encode() if body else None
    connection = http.client.HTTPConnection(address, timeout=30)
    connection.putrequest(verb, path)
    if sent is not None:
        connection.putheader("content-length", str(len(sent)))
        if media:
            connection.putheader("content-type", media)
    connection.endheaders(sent)
    response = connection.getresponse()
    content = response.read()
    connection.close()
    return response.status, json.loads(content)


def refused(answer: Any) -> tuple[str, list[str]]:
    """Reason and fields of a refusal."""
    details = answer["details"]
    violations = [each for detail in details for each in detail.get("fieldViolations", ())]
    return details[0]["reason"], [each["field"] for each in violations if "field" in each]


@pytest.fixture(scope="module")
def shop(planted: Callable[[str], bytes], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    content = planted((TESTDATA / "queries.proto").read_text())
    pool, got = pool_of(content), list[bytes]()

    def keep(message: bytes, _: grpc.ServicerContext) -> bytes:
        got.append(message)
        return b""

    class Service(grpc.GenericRpcHandler):
        def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
            return grpc.unary_unary_rpc_method_handler(keep)

    server = grpc.server(futures.ThreadPoolExecutor(1), handlers=[Service()])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    wanted = GetMessageClass(pool.FindMessageTypeByName("weft.shop.v1.Wanted"))
    with running(content, settings_in(tmp_path_factory.mktemp("shop")), jwks=JWKS.encode(), backend=port) as address:
        yield Shop(address, wanted, pool, got)
    server.stop(None).wait()


def pool_of(descriptors: bytes) -> DescriptorPool:
    pool = DescriptorPool()
    for file in FileDescriptorSet.FromString(descriptors).file:
        pool.Add(file)
    return pool


def test_a_query_gives_each_field_once_in_any_spelling(shop: Shop) -> None:
    found = [(line, shop.ask(line)) for line, _ in GOOD]

    assert GOOD == [(line, seen if seen is not None else answer) for line, (_, answer, seen) in found]


def test_all_else_in_a_query_is_refused_with_the_field_and_a_reason(shop: Shop) -> None:
    found = [(line, shop.ask(line)) for line, *_ in BAD]

    assert [] == [line for line, (*_, seen) in found if seen is not None]
    assert [(line, 400, (reason, fields)) for line, reason, fields in BAD] == [
        (line, status, refused(answer)) for line, (status, answer, _) in found
    ]


# The real contracts ----------------------------------------------------------------------------------------------

_SAMPLES = {
    "google.protobuf.Timestamp": "2026-01-01T00:00:00Z",
    "google.protobuf.Duration": "1s",
    "google.protobuf.FieldMask": "name",
}


def leaves(message: Descriptor, above: tuple[FieldDescriptor, ...] = ()) -> Iterator[tuple[FieldDescriptor, ...]]:
    """The ways to all fields that a query may give."""
    for field in message.fields:
        way, kind = (*above, field), field.message_type
        if kind is None or kind.full_name in _SAMPLES:
            yield way
        elif not field.is_repeated and len(way) < 4:
            yield from leaves(kind, way)


def said(way: tuple[FieldDescriptor, ...], *, camel: bool) -> str:
    return ".".join(field.json_name if camel else field.name for field in way)


def sample(field: FieldDescriptor) -> str:
    if field.message_type is not None:
        return _SAMPLES[field.message_type.full_name]
    if field.enum_type is not None:
        return str(field.enum_type.values[-1].name)
    return {FieldDescriptor.CPPTYPE_STRING: "a", FieldDescriptor.CPPTYPE_BOOL: "true"}.get(field.cpp_type, "1")


def lines(rpc: Rpc, binding: Binding, request: Descriptor) -> Iterator[tuple[str, int]]:
    """Requests with each field that the binding knows in their query, and how each ends without a token."""
    path = binding.template
    for variable, pattern in ((name, path.partition(f"{{{name}=")[2].partition("}")[0]) for name in binding.variables):
        path = path.replace(f"{{{variable}={pattern}}}", pattern.replace("*", "a"))
    body = " {}" if binding.body else ""
    for way in leaves(request):
        name, value = said(way, camel=False), sample(way[-1])
        elsewhere = name in binding.variables or way[0].name == binding.body
        one, other = f"{name}={value}", f"{said(way, camel=True)}={value}"
        yield f"{binding.verb} {path}?{one}{body}", 400 if elsewhere else 401
        yield f"{binding.verb} {path}?{other}{body}", 400 if elsewhere else 401
        yield f"{binding.verb} {path}?{one}&{other}{body}", 401 if way[-1].is_repeated and not elsewhere else 400


@pytest.fixture(scope="module")
def gateway(descriptors: bytes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`host:port` of the real contracts' gateway, with nobody behind it."""
    folder = tmp_path_factory.mktemp("real")
    with running(descriptors, settings_in(folder), jwks=JWKS.encode(), backend=free_port()) as address:
        yield address


def test_every_query_that_the_contracts_allow_is_read_and_no_other(
    gateway: str, descriptors: bytes, policies: PolicySet
) -> None:
    pool, expected = pool_of(descriptors), dict[str, int]()
    for rpc in policies.rpcs:
        for binding in rpc.method.bindings:
            if binding.body != "*" and not rpc.policy.public:
                expected |= lines(rpc, binding, pool.FindMessageTypeByName(rpc.method.request))
    assert {400, 401} == set(expected.values())

    found = {line: asked(gateway, line, "application/json")[0] for line in expected}

    assert expected == found


#: What a page of any origin can have a browser send without asking first (Fetch, "CORS-safelisted request-header").
SIMPLE = ("application/x-www-form-urlencoded", "multipart/form-data", "text/plain", "TEXT/PLAIN;charset=UTF-8", "")


def test_where_no_token_is_needed_no_body_passes_that_any_page_could_send(gateway: str, policies: PolicySet) -> None:
    public = [rpc for rpc in policies.rpcs if rpc.policy.public]
    lines = [f"{each.verb} {each.template} {{}}" for rpc in public for each in rpc.method.bindings if each.body]
    assert "POST /v1/sessions {}" in lines

    answers = [asked(gateway, line, media) for line in lines for media in SIMPLE]
    typed = [asked(gateway, line, "application/json")[0] for line in lines]

    assert {(415, "JSON_MEDIA_TYPE")} == {(status, refused(answer)[0]) for status, answer in answers}
    assert {True} == {"-H 'content-type: application/json'" in answer["message"] for _, answer in answers}
    # Read, and nobody is there to answer.
    assert [503] * len(lines) == typed


def test_where_a_token_is_needed_what_curl_says_of_a_body_counts_as_json(gateway: str) -> None:
    found = [asked(gateway, "POST /v1/orders {}", media) for media in (*SIMPLE, "application/json")]

    assert [401, 415, 415, 415, 415, 401] == [status for status, _ in found]
