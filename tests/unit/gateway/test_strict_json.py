"""The strict check of JSON bodies: what it takes, what it refuses and how it says so, in Envoy's own LuaJIT."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from gateway.envoy import json_schema, names
from gateway.envoy.filters import strict_json
from gateway.policy import PolicySet

from .conftest import TESTDATA
from .script_run import EnvoySays, Report, run_script

ORDER = "weft.orders.v1.OrderService/PlaceOrder POST /v1/orders"
UPDATE = "weft.catalog.v1.CatalogService/UpdateProduct PATCH /v1/{product.name=products/*}"
READ = "weft.orders.v1.OrderService/GetOrder GET /v1/{name=orders/*}"
SHOP = "weft.shop.v1.ShopService"
WHOLE = f"{SHOP}/Whole POST /v1/{{text=shops/*}}:whole"

Check = Callable[..., list[tuple[str, str, str] | None]]

INVALID, TYPE, NUMBER, UNKNOWN, REPEATED, DEEP = (
    f"JSON_{end}" for end in ("INVALID", "TYPE", "NUMBER", "FIELD_UNKNOWN", "FIELD_REPEATED", "TOO_DEEP")
)

#: What the contract of PlaceOrder allows.
GOOD: list[str | bytes] = [
    '{"items":[{"productId":"a","quantity":"1"}],"requestId":"u"}',
    '{"items":[{"product_id":"a","quantity":1}],"request_id":"u"}',
    ' \t\r\n{ "items" : [ ] , "request_id" : "u" } \n',
    "{}",
    '{"items":null,"request_id":null}',
    '{"items":[{}]}',
    '{"items":[{"quantity":9223372036854775807},{"quantity":"-9223372036854775808"}]}',
    '{"items":[{"quantity":-0},{"quantity":0},{"quantity":1.0},{"quantity":1e3},{"quantity":"12.50e1"}]}',
    '{"items":[{"quantity":922337203685477580.7e1},{"quantity":0.0e99},{"quantity":100e-2}]}',
    r'{"request_id":"\u00e9\ud83d\ude00\"\\\/\b\f\n\r\t\u0000"}',
    '{"request_id":"\u00e9\u20ac\U0001f600\ud7ff\ue000\uffff\U0010ffff\x7f"}'.encode(),
    r'{"request_\u0069d":"u"}',
]

#: What it does not: a name, the body, the reason, the field, and a part of the sentence.
BAD: list[tuple[str, str | bytes, str, str, str]] = [
    # Keys.
    ("unknown", '{"itmes":[]}', UNKNOWN, "itmes", "did you mean items?"),
    ("unknown-inside", '{"items":[{},{"quantty":1}]}', UNKNOWN, "items[1].quantty", "did you mean quantity?"),
    ("unknown-far", '{"discount":1}', UNKNOWN, "discount", "no such field"),
    ("unknown-null", '{"discount":null}', UNKNOWN, "discount", "no such field"),
    ("unknown-case", '{"RequestId":"u"}', UNKNOWN, "RequestId", "did you mean requestId?"),
    ("unknown-empty", '{"":1}', UNKNOWN, "", "no such field"),
    ("unknown-odd", '{"a b: c":1}', UNKNOWN, "", "no such field"),
    ("unknown-crlf", r'{"items":[{"a\r\nx: y":1}]}', UNKNOWN, "items[0]", "no such field"),
    ("unknown-long", '{"%s":1}' % ("k" * 5000), UNKNOWN, "", "no such field"),
    ("unknown-extension", '{"[weft.orders.v1.extra]":1}', UNKNOWN, "", "no such field"),
    ("unknown-type", '{"@type":"type.googleapis.com/weft.orders.v1.PlaceOrderRequest"}', UNKNOWN, "", "no such"),
    ("prototype", '{"__index":1}', UNKNOWN, "__index", "no such field"),
    ("twice", '{"request_id":"a","request_id":"b"}', REPEATED, "request_id", "given twice"),
    ("twice-equal", '{"items":[],"items":[]}', REPEATED, "items", "given twice"),
    ("twice-styles", '{"request_id":"a","requestId":"a"}', REPEATED, "request_id", "given twice"),
    ("twice-null", '{"request_id":null,"requestId":"a"}', REPEATED, "request_id", "given twice"),
    ("twice-escaped", r'{"items":[{"quantity":1,"\u0071uantity":2}]}', REPEATED, "items[0].quantity", "given twice"),
    # The root.
    ("root-list", "[]", TYPE, "", "must be an object, not a list"),
    ("root-filled-list", '[{"request_id":"u"}]', TYPE, "", "not a list"),
    ("root-string", '"{}"', TYPE, "", "not a string"),
    ("root-number", "1", TYPE, "", "not a number"),
    ("root-null", "null", TYPE, "", "not null"),
    ("root-true", "true", TYPE, "", "not true"),
    ("space", "  \n", INVALID, "", "not the end"),
    ("bom", b"\xef\xbb\xbf{}", INVALID, "", "byte order mark"),
    ("utf-16", '{"items":[]}'.encode("utf-16"), INVALID, "", "byte 0xff"),
    ("utf-16-le", "{}".encode("utf-16-le"), INVALID, "", "byte 0x00"),
    ("garbage", b"\x1f\x8b\x08", INVALID, "", "byte 0x1f"),
    ("protobuf", b"\x0a\x03\x0a\x01a", INVALID, "", "expected an object"),
    ("form", "items=1&request_id=2", INVALID, "", "'i'"),
    # What is behind, and what is missing.
    ("trailing", "{} {}", INVALID, "", "expected the end, not '{'"),
    ("trailing-comma-root", "{},", INVALID, "", "expected the end"),
    ("trailing-nul", b"{}\x00", INVALID, "", "byte 0x00"),
    ("trailing-brace", "{}}", INVALID, "", "expected the end"),
    ("open", '{"items":[', INVALID, "items[0]", "the end"),
    ("open-object", '{"items":[{}]', INVALID, "items", "expected ',' or '}', not the end"),
    ("open-string", '{"request_id":"u', INVALID, "request_id", "a string without an end"),
    ("open-escape", '{"request_id":"u\\', INVALID, "request_id", "not an escape"),
    ("open-key", '{"request', INVALID, "", "a string without an end"),
    ("no-colon", '{"request_id" "u"}', INVALID, "request_id", "expected ':'"),
    ("no-value", '{"request_id":}', INVALID, "request_id", "expected a string"),
    ("no-comma", '{"items":[] "request_id":"u"}', INVALID, "items", "expected ','"),
    ("no-comma-list", '{"items":[{} {}]}', INVALID, "items[0]", "expected ','"),
    ("mixed-brackets", '{"items":[}]', INVALID, "items[0]", "'}'"),
    # Near misses of JSON.
    ("trailing-comma", '{"request_id":"u",}', INVALID, "", "expected a key"),
    ("trailing-comma-list", '{"items":[{},]}', INVALID, "items[1]", "']'"),
    ("leading-comma", '{,"request_id":"u"}', INVALID, "", "expected a key"),
    ("double-comma", '{"items":[{},,{}]}', INVALID, "items[1]", "','"),
    ("single-quotes", "{'request_id':'u'}", INVALID, "", "expected a key in double quotes"),
    ("single-quoted-value", "{\"request_id\":'u'}", INVALID, "request_id", "expected a string"),
    ("bare-key", '{request_id:"u"}', INVALID, "", "expected a key in double quotes"),
    ("number-key", '{1:"u"}', INVALID, "", "expected a key in double quotes"),
    ("comment", '/* hi */{"request_id":"u"}', INVALID, "", "'/'"),
    ("comment-inside", '{"request_id":"u" // hi\n}', INVALID, "request_id", "'/'"),
    ("comment-hash", '# hi\n{"request_id":"u"}', INVALID, "", "'#'"),
    ("python", '{"items":None}', INVALID, "items", "expected a list, not 'N'"),
    ("javascript", '{"items":undefined}', INVALID, "items", "'u'"),
    ("literal-cut", '{"items":nul}', INVALID, "items", "expected a value"),
    ("literal-long", '{"items":nulll}', INVALID, "items", "expected ','"),
    ("literal-case", '{"items":NULL}', INVALID, "items", "'N'"),
    ("form-feed", '{\x0c"items":[]}', INVALID, "", "byte 0x0c"),
    ("no-break-space", '{\u00a0"items":[]}'.encode(), INVALID, "", "byte 0xc2"),
    # Strings.
    ("newline", '{"request_id":"a\nb"}', INVALID, "request_id", "control character"),
    ("tab", '{"request_id":"a\tb"}', INVALID, "request_id", "control character"),
    ("nul", '{"request_id":"a\x00b"}', INVALID, "request_id", "control character"),
    ("control-key", '{"a\x01b":1}', INVALID, "", "control character"),
    ("utf8-lone", b'{"request_id":"\x80"}', INVALID, "request_id", "not UTF-8"),
    ("utf8-cut", b'{"request_id":"\xe2\x82"}', INVALID, "request_id", "not UTF-8"),
    ("utf8-overlong", b'{"request_id":"\xc0\xaf"}', INVALID, "request_id", "not UTF-8"),
    ("utf8-overlong-3", b'{"request_id":"\xe0\x80\xaf"}', INVALID, "request_id", "not UTF-8"),
    ("utf8-overlong-4", b'{"request_id":"\xf0\x80\x80\xaf"}', INVALID, "request_id", "not UTF-8"),
    ("utf8-surrogate", b'{"request_id":"\xed\xa0\x80"}', INVALID, "request_id", "not UTF-8"),
    ("utf8-beyond", b'{"request_id":"\xf4\x90\x80\x80"}', INVALID, "request_id", "not UTF-8"),
    ("utf8-key", b'{"\xff":1}', INVALID, "", "not UTF-8"),
    ("latin-1", '{"request_id":"caf\u00e9"}'.encode("latin-1"), INVALID, "request_id", "not UTF-8"),
    ("escape", r'{"request_id":"\x41"}', INVALID, "request_id", "not an escape"),
    ("escape-quote", r'{"request_id":"\'"}', INVALID, "request_id", "not an escape"),
    ("escape-cut", r'{"request_id":"\u12"}', INVALID, "request_id", "not an escape"),
    ("escape-hex", r'{"request_id":"\u12g4"}', INVALID, "request_id", "not an escape"),
    ("surrogate-high", r'{"request_id":"\ud800"}', INVALID, "request_id", "surrogate"),
    ("surrogate-low", r'{"request_id":"\udc00"}', INVALID, "request_id", "surrogate"),
    ("surrogate-swapped", r'{"request_id":"\udc00\ud800"}', INVALID, "request_id", "surrogate"),
    ("surrogate-two", r'{"request_id":"\ud800\ud800"}', INVALID, "request_id", "surrogate"),
    ("surrogate-key", r'{"\ud800":1}', INVALID, "", "surrogate"),
    # Numbers.
    ("int-over", '{"items":[{"quantity":9223372036854775808}]}', NUMBER, "items[0].quantity", "out of range of int64"),
    ("int-under", '{"items":[{"quantity":"-9223372036854775809"}]}', NUMBER, "items[0].quantity", "out of range"),
    ("int-20", '{"items":[{"quantity":"10000000000000000000"}]}', NUMBER, "items[0].quantity", "out of range"),
    ("int-exponent", '{"items":[{"quantity":1e19}]}', NUMBER, "items[0].quantity", "out of range"),
    ("int-exponent-far", '{"items":[{"quantity":1e999999999}]}', NUMBER, "items[0].quantity", "out of range"),
    ("int-26", '{"items":[{"quantity":%s}]}' % ("1" * 26), NUMBER, "items[0].quantity", "more than 25 digits"),
    ("int-5000", '{"items":[{"quantity":%s}]}' % ("1" * 5000), NUMBER, "items[0].quantity", "more than 25 digits"),
    ("int-5000-text", '{"items":[{"quantity":"%s"}]}' % ("1" * 5000), NUMBER, "items[0].quantity", "25 digits"),
    ("int-fraction", '{"items":[{"quantity":1.5}]}', TYPE, "items[0].quantity", "must be a whole number"),
    ("int-small", '{"items":[{"quantity":1e-1}]}', TYPE, "items[0].quantity", "must be a whole number"),
    ("int-empty", '{"items":[{"quantity":""}]}', TYPE, "items[0].quantity", "must be a whole number"),
    ("int-space", '{"items":[{"quantity":" 1"}]}', TYPE, "items[0].quantity", "must be a whole number"),
    ("int-word", '{"items":[{"quantity":"one"}]}', TYPE, "items[0].quantity", "must be a whole number"),
    ("int-infinity", '{"items":[{"quantity":"Infinity"}]}', TYPE, "items[0].quantity", "must be a whole number"),
    ("int-bool", '{"items":[{"quantity":true}]}', TYPE, "items[0].quantity", "must be a whole number, not true"),
    ("int-list", '{"items":[{"quantity":[1]}]}', TYPE, "items[0].quantity", "must be a whole number, not a list"),
    ("int-quoted-zero", '{"items":[{"quantity":"007"}]}', TYPE, "items[0].quantity", "must be a whole number"),
    ("int-quoted-plus", '{"items":[{"quantity":"+1"}]}', TYPE, "items[0].quantity", "must be a whole number"),
    ("int-quoted-hex", '{"items":[{"quantity":"0x1"}]}', TYPE, "items[0].quantity", "must be a whole number"),
    ("zero", '{"items":[{"quantity":007}]}', INVALID, "items[0].quantity", "expected ','"),
    ("plus", '{"items":[{"quantity":+1}]}', INVALID, "items[0].quantity", "'+'"),
    ("hex", '{"items":[{"quantity":0x1}]}', INVALID, "items[0].quantity", "expected ','"),
    ("minus", '{"items":[{"quantity":-}]}', INVALID, "items[0].quantity", "expected a number"),
    ("point", '{"items":[{"quantity":1.}]}', INVALID, "items[0].quantity", "expected a number"),
    ("point-first", '{"items":[{"quantity":.5}]}', INVALID, "items[0].quantity", "'.'"),
    ("exponent", '{"items":[{"quantity":1e}]}', INVALID, "items[0].quantity", "expected a number"),
    ("nan", '{"items":[{"quantity":NaN}]}', INVALID, "items[0].quantity", "'N'"),
    ("minus-infinity", '{"items":[{"quantity":-Infinity}]}', INVALID, "items[0].quantity", "expected a number"),
    # Types.
    ("object-for-list", '{"items":{}}', TYPE, "items", "must be a list, not an object"),
    ("list-for-object", '{"items":[[]]}', TYPE, "items[0]", "must be an object, not a list"),
    ("null-in-list", '{"items":[null]}', TYPE, "items[0]", "must be an object, not null"),
    ("number-for-string", '{"request_id":1}', TYPE, "request_id", "must be a string, not a number"),
    ("object-for-string", '{"request_id":{}}', TYPE, "request_id", "must be a string, not an object"),
    ("string-for-object", '{"items":["a"]}', TYPE, "items[0]", "must be an object, not a string"),
]


@pytest.fixture(scope="module")
def bodies(plant: Callable[[str], PolicySet]) -> PolicySet:
    """A contract whose bodies hold every type there is."""
    return plant((TESTDATA / "bodies.proto").read_text())


@pytest.fixture
def check(envoy_says: EnvoySays) -> Check:
    """Sends bodies to one binding; returns reason, field and sentence of each refusal, or None."""

    def send(policies: PolicySet, binding: str, *sent: str | bytes) -> list[tuple[str, str, str] | None]:
        report = _send(envoy_says, policies, *({"body": body, "route": {"json_body": binding}} for body in sent))
        return [_verdict(found) for found in report.values()]

    return send


def _send(envoy_says: EnvoySays, policies: PolicySet, *cases: dict[str, Any]) -> Report:
    listed = []
    for number, case in enumerate(cases):
        body = case.get("body", "")
        text = body.encode() if isinstance(body, str) else body
        headers = {"content-type": "application/json"} | case.get("headers", {})
        listed.append({**case, "name": str(number), "headers": headers, "body": text.decode("latin-1")})
    return run_script(envoy_says, strict_json.build(policies), "envoy_on_request", listed)


def _verdict(found: dict[str, str]) -> tuple[str, str, str] | None:
    assert "log" not in found, found
    if f"respond {names.REASON}" not in found:
        return None
    field, separator, sentence = found["respond body"].partition(": ")
    # Sentences about a field name it first; others may hold a colon too, but never right after a path.
    if not separator or " " in field:
        field, sentence = "", found["respond body"]
    return found[f"respond {names.REASON}"], field, sentence


def test_json_to_the_letter_of_the_contract_passes(check: Check, policies: PolicySet) -> None:
    assert [None] * len(GOOD) == check(policies, ORDER, *GOOD)


def test_all_else_is_refused_with_the_field_and_a_reason(check: Check, policies: PolicySet) -> None:
    found = check(policies, ORDER, *(body for _, body, *_ in BAD))

    expected = [(name, reason, field) for name, _, reason, field, _ in BAD]
    assert expected == [(bad[0], *(verdict or ("passed", ""))[:2]) for bad, verdict in zip(BAD, found, strict=True)]
    assert [] == [
        (bad[0], bad[4], verdict)
        for bad, verdict in zip(BAD, found, strict=True)
        if verdict is None or bad[4] not in verdict[2]
    ]


def test_every_control_character_must_be_escaped(check: Check, policies: PolicySet) -> None:
    raw = check(policies, ORDER, *(f'{{"request_id":"{chr(code)}"}}' for code in range(32)))
    escaped = check(policies, ORDER, *(f'{{"request_id":"\\u{code:04x}"}}' for code in range(32)))

    assert [(INVALID, "request_id")] * 32 == [(verdict or ("passed", ""))[:2] for verdict in raw]
    assert [None] * 32 == escaped


def test_the_paths_of_a_body_field_begin_with_the_field(check: Check, policies: PolicySet) -> None:
    good = '{"name":"products/a","displayName":"A","price":{"currencyCode":"GBP","units":"1","nanos":500000000},'
    good += '"createTime":"2026-01-01T00:00:00Z"}'

    assert [
        None,
        (UNKNOWN, "product.colour", "no such field"),
        (UNKNOWN, "product.price.currency", "no such field"),
        (NUMBER, "product.price.nanos", "out of range of int32"),
        (TYPE, "product", "must be an object, not a list"),
        (TYPE, "product", "must be an object, not null"),
        (TYPE, "product.create_time", "must be a string, not a number"),
    ] == check(
        policies,
        UPDATE,
        good,
        '{"colour":1}',
        '{"price":{"currency":"GBP"}}',
        '{"price":{"nanos":2147483648}}',
        "[]",
        "null",
        '{"createTime":0}',
    )


@pytest.mark.parametrize(
    ("deepest", "deeper"),
    [
        ('{"anyValue":' + "[" * 31 + "]" * 31 + "}", '{"anyValue":' + "[" * 32),
        ('{"loose":' + '{"a":' * 30 + "{}" + "}" * 31, '{"loose":' + '{"a":' * 31 + "{}"),
        ('{"inner":{"again":' * 15 + '{"inner":{}}' + "}}" * 15, '{"inner":{"again":' * 16 + "{}"),
        ('{"anyList":' + '[{"":' * 15 + "[]" + "}]" * 15 + "}", '{"anyList":' + '[{"":' * 5000),
    ],
)
def test_depth_is_bounded(check: Check, bodies: PolicySet, deepest: str, deeper: str) -> None:
    passed, refused = check(bodies, WHOLE, deepest, deeper)

    assert passed is None
    assert refused is not None
    assert DEEP == refused[0]


EVERYTHING_GOOD = [
    '{"raw":"AAE=","flag":true,"small":-2147483648,"large":"-1","tiny":4294967295,"huge":"18446744073709551615"}',
    '{"real":3.4028235e38,"precise":-1.7976931348623157e308}',
    '{"real":"NaN","precise":"-Infinity"}',
    '{"real":"1.5","precise":"Infinity"}',
    '{"colour":"COLOUR_GRAY"}',
    '{"colour":"COLOUR_GREY"}',
    '{"colour":7}',
    '{"colours":["COLOUR_GREY",0]}',
    '{"colourByName":{"a":"COLOUR_GREY"}}',
    '{"byName":{"a":{"count":1},"a b":{},"":{}}}',
    '{"byNumber":{"1":"a","-2147483648":"b"}}',
    '{"byFlag":{"true":1,"false":"NaN"}}',
    '{"left":"a"}',
    '{"left":null,"rightSide":{}}',
    '{"maybe":0}',
    '{"atTime":"2026-01-01T00:00:00.123456789Z","lasting":"-1.5s","mask":"text,byName"}',
    '{"boxedLarge":"1","boxedText":"","boxedFlag":false,"boxedReal":1.5,"boxedRaw":""}',
    '{"boxedLarge":null,"boxedText":null}',
    '{"loose":{"a":[1,"b",null,true,{"c":{}}]},"anyValue":null,"anyList":[null,[]],"nothing":null}',
    '{"anyValue":"text"}',
    '{"packed":{"@type":"type.googleapis.com/google.protobuf.Duration","value":"1s"}}',
    '{"void":{}}',
    '{"@odd":"a"}',
    '{"odd_name":"a"}',
]
EVERYTHING_BAD = [
    ('{"small":2147483648}', NUMBER, "small"),
    ('{"small":-2147483649}', NUMBER, "small"),
    ('{"tiny":-1}', NUMBER, "tiny"),
    ('{"tiny":4294967296}', NUMBER, "tiny"),
    ('{"huge":18446744073709551616}', NUMBER, "huge"),
    ('{"large":9223372036854775808}', NUMBER, "large"),
    ('{"real":3.5e38}', NUMBER, "real"),
    ('{"precise":1e309}', NUMBER, "precise"),
    ('{"precise":"1e309"}', NUMBER, "precise"),
    ('{"precise":"nan"}', TYPE, "precise"),
    ('{"precise":""}', TYPE, "precise"),
    ('{"precise":Infinity}', INVALID, "precise"),
    ('{"flag":"true"}', TYPE, "flag"),
    ('{"flag":1}', TYPE, "flag"),
    ('{"colour":"GREY"}', TYPE, "colour"),
    ('{"colour":"colour_grey"}', TYPE, "colour"),
    ('{"colour":"1"}', TYPE, "colour"),
    ('{"colour":2147483648}', NUMBER, "colour"),
    ('{"colours":[null]}', TYPE, "colours[0]"),
    ('{"byName":[]}', TYPE, "by_name"),
    ('{"byName":{"a":null}}', TYPE, "by_name[a]"),
    ('{"byName":{"a":{},"a":{}}}', REPEATED, "by_name[a]"),
    (r'{"byName":{"a":{},"\u0061":{}}}', REPEATED, "by_name[a]"),
    ('{"byName":{"a":{"cuont":1}}}', UNKNOWN, "by_name[a].cuont"),
    ('{"byName":{"x y":{"cuont":1}}}', UNKNOWN, "by_name.cuont"),
    ('{"byNumber":{"one":"a"}}', TYPE, "by_number[one]"),
    ('{"byNumber":{"1.0":"a"}}', TYPE, "by_number"),
    ('{"byNumber":{"2147483648":"a"}}', NUMBER, "by_number[2147483648]"),
    ('{"byFlag":{"True":1}}', TYPE, "by_flag[True]"),
    ('{"left":"a","rightSide":{}}', REPEATED, "right_side"),
    ('{"atTime":{"seconds":1}}', TYPE, "at_time"),
    ('{"lasting":1}', TYPE, "lasting"),
    ('{"mask":{"paths":["text"]}}', TYPE, "mask"),
    ('{"mask":["text"]}', TYPE, "mask"),
    ('{"price":{"amount":1}}', UNKNOWN, "price.amount"),
    ('{"boxedLarge":{"value":1}}', TYPE, "boxed_large"),
    ('{"boxedText":1}', TYPE, "boxed_text"),
    ('{"loose":[]}', TYPE, "loose"),
    ('{"loose":{"a":1,"a":2}}', REPEATED, "loose[a]"),
    ('{"loose":{"a":[{"b":1,"b":2}]}}', REPEATED, "loose[a][0][b]"),
    ('{"loose":{"a":01}}', INVALID, "loose[a]"),
    ('{"anyValue":1e999}', NUMBER, "any_value"),
    ('{"anyValue":[1,]}', INVALID, "any_value[1]"),
    ('{"anyList":{}}', TYPE, "any_list"),
    ('{"nothing":0.5}', TYPE, "nothing"),
    ('{"packed":[]}', TYPE, "packed"),
    ('{"void":{"a":1}}', UNKNOWN, "void.a"),
    ('{"oddName":"a"}', UNKNOWN, "oddName"),
    ('{"choice":"left"}', UNKNOWN, "choice"),
]


def test_every_type_has_its_json_form(check: Check, bodies: PolicySet) -> None:
    assert [None] * len(EVERYTHING_GOOD) == check(bodies, WHOLE, *EVERYTHING_GOOD)


def test_no_type_takes_another_form(check: Check, bodies: PolicySet) -> None:
    found = check(bodies, WHOLE, *(body for body, _, _ in EVERYTHING_BAD))

    assert EVERYTHING_BAD == [
        (bad[0], *(verdict or ("passed", ""))[:2]) for bad, verdict in zip(EVERYTHING_BAD, found, strict=True)
    ]


@pytest.mark.parametrize(
    ("binding", "good", "bad", "field"),
    [
        ("Listed POST /v1/listed", '[{"count":1},{}]', '[{"count":1},{"cuont":1}]', "inners[1].cuont"),
        ("Mapped POST /v1/mapped", '{"a":{}}', '{"a":{"cuont":1}}', "by_name[a].cuont"),
        ("Masked POST /v1/masked", '"text,byName"', '{"paths":[]}', "mask"),
        ("Nothing POST /v1/nothing", "{}", '{"a":1}', "a"),
    ],
)
def test_a_body_is_what_its_binding_says(
    check: Check, bodies: PolicySet, binding: str, good: str, bad: str, field: str
) -> None:
    passed, refused = check(bodies, f"{SHOP}/{binding}", good, bad)

    assert passed is None
    assert refused is not None
    assert field == refused[1]


def test_what_is_no_json_call_is_left_alone(envoy_says: EnvoySays, policies: PolicySet) -> None:
    route = {"json_body": ORDER}
    grpc = [{"headers": {"content-type": kind}} for kind in ("application/grpc", "application/grpc+proto")]
    cases = [case | {"route": route, "body": b"\x00\x00\x00\x00\x00"} for case in grpc]
    cases += [{"body": "no JSON at all"}, {"route": {"json_body": READ}}]

    found = _send(envoy_says, policies, *cases).values()

    assert [None] * 4 == [_verdict(one) for one in found]


@pytest.mark.parametrize(
    ("media", "status"),
    [
        ("application/json", None),
        ("Application/JSON", None),
        ("application/json; charset=utf-8", None),
        ("application/json;charset=UTF-8", None),
        # What curl says of a body that it was given with -d.
        ("application/x-www-form-urlencoded", None),
        ("text/plain", "415"),
        ("text/json", "415"),
        ("application/jsonp", "415"),
        # No gRPC to the transcoder, which takes it: so it must not pass by that name.
        ("application/grpcjson", "415"),
        ("application/grpc-web", "415"),
        ("APPLICATION/GRPC", "415"),
        ("", "415"),
    ],
)
def test_a_body_must_say_that_it_is_json(
    envoy_says: EnvoySays, policies: PolicySet, media: str, status: str | None
) -> None:
    case = {"route": {"json_body": ORDER}, "body": '{"items":[]}', "headers": {"content-type": media}}

    (found,) = _send(envoy_says, policies, case).values()

    assert (status, "JSON_MEDIA_TYPE" if status else None) == (
        found.get("respond :status"),
        found.get(f"respond {names.REASON}"),
    )


def test_a_body_that_is_missing_or_not_asked_for_is_refused(envoy_says: EnvoySays, policies: PolicySet) -> None:
    cases: list[dict[str, Any]] = [
        {"route": {"json_body": ORDER}, "body": ""},
        {"route": {"json_body": READ}, "body": "{}"},
        {"route": {"json_body": READ}, "body": '{"name":"orders/x"}', "headers": {"content-type": "text/plain"}},
    ]

    found = _send(envoy_says, policies, *cases).values()

    assert [("400", "JSON_BODY_MISSING"), ("400", "JSON_BODY_UNEXPECTED"), ("400", "JSON_BODY_UNEXPECTED")] == [
        (one["respond :status"], one[f"respond {names.REASON}"]) for one in found
    ]


def test_a_query_beside_a_body_that_is_the_whole_message_is_refused(envoy_says: EnvoySays, policies: PolicySet) -> None:
    whole, part = {"route": {"json_body": ORDER}, "body": "{}"}, {"route": {"json_body": UPDATE}, "body": "{}"}
    queries = ("requestId=u", "items.quantity=1&a=b", "%69tems=1", "=", "", None)
    asked = ["/v1/orders" if query is None else f"/v1/orders?{query}" for query in queries]

    found = _send(envoy_says, policies, *({**whole, "headers": {":path": path}} for path in asked))
    other = _send(envoy_says, policies, {**part, "headers": {":path": "/v1/products/a?update_mask=price"}})

    why = ("JSON_QUERY_UNEXPECTED", "the method takes no query: its fields go in the body")
    fields = {"0": "requestId", "1": "items.quantity", "2": "", "3": ""}
    said = {name: _verdict(answer) for name, answer in found.items()}
    assert {name: (why[0], field, why[1]) for name, field in fields.items()} | {"4": None, "5": None} == said
    assert [None] == [_verdict(answer) for answer in other.values()]


def test_a_check_that_cannot_be_made_is_a_refusal(envoy_says: EnvoySays, policies: PolicySet) -> None:
    cases: list[dict[str, Any]] = [
        {"route": {"json_body": "weft.orders.v1.OrderService/New POST /v1/new"}, "body": "{}"},
        {"route": {"json_body": ORDER}, "body": "{}", "headers": {"content-type": {}}},
    ]

    pending, broken = _send(envoy_says, policies, *cases).values()

    assert ("503", "CONTRACT_PENDING") == (pending["respond :status"], pending[f"respond {names.REASON}"])
    assert ("500", "GATEWAY_SCRIPT") == (broken["respond :status"], broken[f"respond {names.REASON}"])
    assert broken["log"].startswith("strict_json: ")


def test_one_check_leaves_nothing_behind_for_the_next(check: Check, policies: PolicySet) -> None:
    broken, good = '{"items":[{"quantity":"x"}]}', '{"items":[{"quantity":"1"}]}'

    found = check(policies, ORDER, *([broken, good] * 50), *(["{" * 100, good] * 50))

    assert [None] * 100 == found[1::2]
    assert all(found[::2])


def test_what_bodies_may_hold_is_as_agreed(bodies: PolicySet, golden: Callable[[str, str], None]) -> None:
    golden("bodies.lua", json_schema.program(bodies))


def test_every_binding_of_the_contracts_has_a_body_to_check_against(policies: PolicySet) -> None:
    program = json_schema.program(policies)
    keys = [json_schema.key(rpc, binding) for rpc in policies.rpcs for binding in rpc.method.bindings]

    assert len(keys) == len(set(keys))
    assert [] == [key for key in keys if f"body({json.dumps(key)}, " not in program]
