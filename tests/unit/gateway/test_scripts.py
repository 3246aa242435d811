"""What the script about refusals does with an answer."""

import json
from typing import Any

import pytest
from google.protobuf import json_format
from google.rpc import error_details_pb2, status_pb2

from gateway.envoy import cluster, names
from gateway.envoy.filters import refusal
from gateway.policy import PolicySet, find
from weft_protos.locations import Part

from .script_run import Runner
from .script_run import run as run

#: Of envoy.config.core.v3.RoutingPriority.
DEFAULT, HIGH = 0, 1
#: What the connection manager says of a request: its method, the one before the transcoder, its content type.
WIRES = {"grpc": "POST  application/grpc", "json": "POST GET application/grpc", "none": "HEAD  "}


def _local_reply(why: str, status: int, **headers: str) -> dict[str, str]:
    return {":status": "200", names.WHY: why, names.STATUS: str(status), names.WIRE: WIRES["json"]} | headers


def _details(hex_status: str) -> tuple[status_pb2.Status, dict[str, Any]]:
    status = status_pb2.Status.FromString(bytes.fromhex(hex_status))
    found: dict[str, Any] = {}
    for packed in status.details:
        kind = getattr(error_details_pb2, packed.TypeName().rsplit(".", 1)[-1])()
        assert packed.Unpack(kind)
        found[kind.DESCRIPTOR.name] = kind
    return status, found


@pytest.fixture(autouse=True)
def named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The name of the Envoy that runs a script, as the supervisor gives it."""
    monkeypatch.setenv(names.INSTANCE_VARIABLE, "gateway-7")


def test_a_refusal_over_grpc_carries_details_that_grpc_reads(run: Runner, policies: PolicySet) -> None:
    rpc = find(policies, "PlaceOrder")
    token = {names.JWT: {names.JWT_PAYLOAD: {"sub": "ann"}}}
    grpc = {names.WIRE: WIRES["grpc"]}
    route = refusal.for_route(rpc)
    limited = _local_reply("local_rate_limited", 429, **{names.REASON: names.SUBJECT_LIMIT, "grpc-status": "8"})
    cases: list[dict[str, Any]] = [
        {
            "name": "scope",
            "headers": _local_reply("rbac_access_denied_matched_policy[none]", 403, **{"grpc-status": "7"}),
        },
        {"name": "limit", "headers": limited, "dynamic": token},
        {
            "name": "token",
            "headers": _local_reply(
                "jwt_authn_access_denied{Jwks_doesn't_have_key}", 401, **{"grpc-message": "a%25 \x01"}
            ),
        },
        {"name": "size", "headers": _local_reply("request_payload_too_large", 413, **{"grpc-status": "2"})},
        {"name": "down", "headers": _local_reply("no_healthy_upstream", 503)},
        {"name": "late", "headers": _local_reply("response_timeout", 504)},
        {
            "name": "unmarked",
            "headers": {":status": "200", "grpc-status": "14", names.WHY: "no_healthy_upstream", names.STATUS: "-"},
        },
    ]

    told = [{"route": route} | case | {"headers": case["headers"] | grpc} for case in cases]
    report = run(refusal, "envoy_on_response", told)

    status, found = _details(report["scope"]["header grpc-status-details-bin"])
    assert ("7", 7) == (report["scope"]["header grpc-status"], status.code)
    assert "orders.write" == found["ErrorInfo"].metadata["scopes"]
    assert {
        "method": rpc.name,
        "scopes": "orders.write",
        "rule": "scopes: orders.write",
        "contract": rpc.places["access"].contract,
        "hop": "gateway",
        "instance": "gateway-7",
    } == dict(found["ErrorInfo"].metadata)
    assert ("scopes: orders.write", rpc.places["access"].contract) == (
        report["scope"]["noted rule"],
        report["scope"]["noted contract"],
    )

    status, found = _details(report["limit"]["header grpc-status-details-bin"])
    wait_ms = found["RetryInfo"].retry_delay.ToMilliseconds()
    assert (8, "RATE_LIMITED", "weft") == (status.code, found["ErrorInfo"].reason, found["ErrorInfo"].domain)
    assert "subject:ann" == found["QuotaFailure"].violations[0].subject
    assert str(rpc.policy.rate_limit) == found["QuotaFailure"].violations[0].description
    assert 100 <= wait_ms <= 200
    assert str(wait_ms) == report["limit"]["header grpc-retry-pushback-ms"]

    status, found = _details(report["token"]["header grpc-status-details-bin"])
    assert (16, "a% ?", "TOKEN_INVALID") == (status.code, status.message, found["ErrorInfo"].reason)
    assert "a%25 ?" == report["token"]["header grpc-message"]

    codes = {name: found["header grpc-status"] for name, found in report.items()}
    assert {
        "scope": "7",
        "limit": "8",
        "token": "16",
        "size": "8",
        "down": "14",
        "late": "4",
        "unmarked": "14",
    } == codes
    assert {"200"} == {found["header :status"] for found in report.values()}
    assert "RATE_LIMITED" == report["limit"]["noted reason"]


def test_an_open_circuit_breaker_is_overload_and_says_when_to_come_back(run: Runner, policies: PolicySet) -> None:
    rpc, other = find(policies, "PlaceOrder"), find(policies, "ListOrders")
    why = "upstream_reset_before_response_started{overflow}"
    cases = [
        {"name": wire, "headers": _local_reply(why, 503, **{names.WIRE: WIRES[wire]}), "route": refusal.for_route(rpc)}
        for wire in ("grpc", "json")
    ]
    uncritical = {"headers": _local_reply(why, 503), "route": refusal.for_route(other)}
    guarded = {"headers": _local_reply("lua_response", 429, **{names.REASON: "OVERLOADED"}), "body": "Too much to do"}
    cases += [{"name": "uncritical"} | uncritical, {"name": "guard"} | guarded | {"route": refusal.for_route(other)}]

    report = run(refusal, "envoy_on_response", cases)

    status, found = _details(report["grpc"]["header grpc-status-details-bin"])
    info = found["ErrorInfo"]
    assert (8, "OVERLOADED", rpc.method.place.at().contract) == (status.code, info.reason, info.metadata["contract"])
    assert str(found["RetryInfo"].retry_delay.ToMilliseconds()) == report["grpc"]["header grpc-retry-pushback-ms"]
    said = json.loads(report["json"]["body"])
    assert ("429", 8, "OVERLOADED") == (report["json"]["header :status"], said["code"], said["details"][0]["reason"])
    assert report["json"]["header retry-after"] in {"1", "2"}
    waits = {
        each.priority: each.max_pending_requests.value for each in cluster.build("orders").circuit_breakers.thresholds
    }
    assert f"gateway: up to {waits[HIGH]} calls waiting for orders" == info.metadata["rule"]
    assert f"gateway: up to {waits[DEFAULT]} calls waiting for orders" == report["uncritical"]["noted rule"]
    assert "gateway: calls that their service says it has no time for" == report["guard"]["noted rule"]


def test_a_refusal_over_json_says_the_same_in_its_body(run: Runner, policies: PolicySet) -> None:
    route = refusal.for_route(find(policies, "CreateSession"))
    cases: list[dict[str, Any]] = [
        {"name": "missing", "headers": _local_reply("jwt_authn_access_denied{Jwt_is_missing}", 401)},
        {"name": "audience", "headers": _local_reply("jwt_authn_access_denied{Audiences}", 403), "body": "Audiences"},
        {"name": "limit", "headers": _local_reply("local_rate_limited", 429, **{names.REASON: names.ADDRESS_LIMIT})},
        {
            "name": "syntax",
            "headers": _local_reply("grpc_json_transcode_failure{INVALID_ARGUMENT}", 400),
            "body": 'Unexpected "token" \n\xff in items[0]',
        },
        {"name": "unknown", "headers": _local_reply("cluster_not_found", 404)},
        {
            "name": "claims",
            "headers": _local_reply("lua_response", 401, **{names.REASON: "TOKEN_INVALID"}),
            "body": "typ",
        },
    ]

    report = run(refusal, "envoy_on_response", [{"route": route} | case for case in cases])

    answers = {name: json.loads(found["body"]) for name, found in report.items()}
    for answer in answers.values():
        json_format.ParseDict(answer, status_pb2.Status())
    assert {"application/json"} == {found["header content-type"] for found in report.values()}
    assert {
        "missing": ("401", 16, "TOKEN_MISSING"),
        "audience": ("401", 16, "TOKEN_INVALID"),
        "limit": ("429", 8, "RATE_LIMITED"),
        "syntax": ("400", 3, "JSON_INVALID"),
        "unknown": ("404", 12, "METHOD_UNKNOWN"),
        "claims": ("401", 16, "TOKEN_INVALID"),
    } == {
        name: (report[name]["header :status"], answer["code"], answer["details"][0]["reason"])
        for name, answer in answers.items()
    }
    assert "20 per 1 s for each address, bursts of 60" == answers["limit"]["details"][0]["metadata"]["limit"]
    assert "1" == report["limit"]["header retry-after"]
    assert 'Unexpected "token" ?? in items[0]' == answers["syntax"]["message"]
    assert "typ" == answers["claims"]["message"]


#: Everything that the gateway refuses by itself: a name, Envoy's word and status, the mark of a filter, and the rule,
#: with the part of the policy or the method itself that states it.
GROUNDS: list[tuple[str, str, int, str, str, Part | None]] = [
    ("missing", "jwt_authn_access_denied{Jwt_is_missing}", 401, "", "access: token", "access"),
    ("claims", "lua_response", 401, "TOKEN_INVALID", "access: token", "access"),
    ("scope", "rbac_access_denied_matched_policy[none]", 403, "", "scopes: orders.write", "access"),
    ("limit", "local_rate_limited", 429, names.SUBJECT_LIMIT, "rate_limit: 50 per 1s", "rate_limit"),
    ("guard", "local_rate_limited", 429, names.ADDRESS_LIMIT, "gateway: calls from one address", None),
    ("size", "request_payload_too_large", 413, "", "max_request_bytes: 98304", "max_request_bytes"),
    ("json", "grpc_json_transcode_failure{X}", 400, "", "request: weft.orders.v1.PlaceOrderRequest", None),
    ("path", "cluster_not_found", 404, "", "gateway: no such method", None),
    ("down", "no_healthy_upstream", 503, "", "gateway: no instance of orders", None),
    ("late", "response_timeout", 504, "", "timeout: 5s", "timeout"),
    ("slow", "request_overall_timeout", 408, "", "gateway: DEADLINE_EXCEEDED", None),
    ("other", "http1.codec_error", 400, "", "gateway: REQUEST_INVALID", None),
]


def test_every_refusal_names_rule_line_hop_and_instance(run: Runner, policies: PolicySet) -> None:
    rpc = find(policies, "PlaceOrder")
    cases = [
        {
            "name": f"{name}/{wire}",
            "headers": _local_reply(why, status, **{names.REASON: mark, names.WIRE: WIRES[wire]}),
            "route": refusal.for_route(rpc),
        }
        for name, why, status, mark, _, _ in GROUNDS
        for wire in ("grpc", "json")
    ]

    report = run(refusal, "envoy_on_response", cases)

    for name, _, _, _, rule, part in GROUNDS:
        place = rpc.method.place.at() if part is None else rpc.places[part]
        _, found = _details(report[f"{name}/grpc"]["header grpc-status-details-bin"])
        said = dict(found["ErrorInfo"].metadata)
        assert (rule, place.contract, "gateway", "gateway-7", rpc.name) == tuple(
            said[key] for key in ("rule", "contract", "hop", "instance", "method")
        ), name
        assert said == json.loads(report[f"{name}/json"]["body"])["details"][0]["metadata"], name


def test_a_request_that_is_too_large_is_told_the_limit_on_every_wire(run: Runner, policies: PolicySet) -> None:
    route, why = refusal.for_route(find(policies, "GetOrder")), "request_payload_too_large"
    cases = [
        {"name": wire, "headers": _local_reply(why, 413, **{names.WIRE: WIRES[wire]}), "route": route}
        for wire in ("grpc", "json")
    ]

    report = run(refusal, "envoy_on_response", cases)

    status, found = _details(report["grpc"]["header grpc-status-details-bin"])
    answer = json.loads(report["json"]["body"])
    (violation,) = found["QuotaFailure"].violations
    assert (8, 8, "413") == (status.code, answer["code"], report["json"]["header :status"])
    assert ("request", "requests of up to 1024 bytes") == (violation.subject, violation.description)
    assert "requests of up to 1024 bytes" == found["ErrorInfo"].metadata["limit"]
    assert [{"subject": "request", "description": violation.description}] == answer["details"][1]["violations"]


def test_where_no_method_is_known_no_line_is_named(run: Runner) -> None:
    report = run(refusal, "envoy_on_response", [{"name": "it", "headers": _local_reply("cluster_not_found", 404)}])

    said = json.loads(report["it"]["body"])["details"][0]["metadata"]
    assert {"rule": "gateway: no such method", "hop": "gateway", "instance": "gateway-7"} == said


def test_a_gateway_without_a_name_says_none(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(names.INSTANCE_VARIABLE)

    report = run(refusal, "envoy_on_response", [{"name": "it", "headers": _local_reply("cluster_not_found", 404)}])

    assert "instance" not in json.loads(report["it"]["body"])["details"][0]["metadata"]


@pytest.mark.parametrize(
    ("said", "field", "description"),
    [
        ("items[0].quantity: invalid value 1.5 for type TYPE_INT64", "items[0].quantity", "invalid value 1.5 for"),
        ('Could not find field "nonsense" in the type "T".', "nonsense", 'Could not find field "nonsense"'),
        (": Root element must be a message.", "", "Root element must be a message."),
        ('Unexpected end: "of" string', "", 'Unexpected end: "of" string'),
    ],
)
def test_a_refused_json_body_names_the_field(run: Runner, said: str, field: str, description: str) -> None:
    why = "grpc_json_transcode_failure{INVALID_ARGUMENT}"

    report = run(refusal, "envoy_on_response", [{"name": "it", "headers": _local_reply(why, 400), "body": said}])

    status = json_format.Parse(report["it"]["body"], status_pb2.Status())
    found = error_details_pb2.BadRequest()
    assert status.details[1].Unpack(found)
    assert said == status.message
    assert field == found.field_violations[0].field
    assert found.field_violations[0].description.startswith(description)


@pytest.mark.parametrize(
    ("reason", "http", "said", "field"),
    [
        ("JSON_FIELD_UNKNOWN", 400, "items[1].quantty: no such field; did you mean quantity?", "items[1].quantty"),
        ("JSON_FIELD_REPEATED", 400, "labels[a].x: the field is given twice", "labels[a].x"),
        ("JSON_INVALID", 400, "expected a key in double quotes, not ':' (byte 2)", ""),
        ("JSON_MEDIA_TYPE", 415, "The body must be sent as application/json", ""),
    ],
)
def test_a_body_that_breaks_the_contract_is_a_bad_request(
    run: Runner, policies: PolicySet, reason: str, http: int, said: str, field: str
) -> None:
    rpc = find(policies, "PlaceOrder")
    headers = _local_reply("lua_response", http, **{names.REASON: reason})
    wrapped = headers | {"grpc-status": "13", "grpc-message": said, names.WIRE: WIRES["grpc"]}
    cases: list[dict[str, Any]] = [
        {"name": "json", "headers": headers, "body": said},
        # Called gRPC by a content-type that is not gRPC's.
        {"name": "grpc", "headers": wrapped},
    ]

    report = run(refusal, "envoy_on_response", [{"route": refusal.for_route(rpc)} | case for case in cases])

    status = json_format.Parse(report["json"]["body"], status_pb2.Status())
    answered, _ = _details(report["grpc"]["header grpc-status-details-bin"])
    info, found = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    assert [True, True] == [status.details[0].Unpack(info), status.details[1].Unpack(found)]
    # As JSON, because the order of a map's entries in the bytes is nobody's promise.
    assert json_format.MessageToDict(status) == json_format.MessageToDict(answered)
    assert (3, said, str(http)) == (status.code, status.message, report["json"]["header :status"])
    assert (reason, rpc.name) == (info.reason, info.metadata["method"])
    assert [field] == [violation.field for violation in found.field_violations]
    assert reason == report["json"]["noted reason"]


def test_what_is_no_refusal_passes_untouched(run: Runner) -> None:
    answer = {":status": "200", "content-type": "application/grpc"}
    cases: list[dict[str, Any]] = [
        {"name": "service", "headers": dict(answer), "body": "bytes"},
        {"name": "welcome", "headers": _local_reply("direct_response", 200), "body": "hello"},
        {"name": "head", "headers": _local_reply("direct_response", 404, **{names.WIRE: WIRES["none"]})},
    ]

    report = run(refusal, "envoy_on_response", cases)

    assert {"header :status": "200", "header content-type": "application/grpc", "body": "bytes"} == report["service"]
    assert "hello" == report["welcome"]["body"]
    assert "" == report["head"]["body"]


@pytest.mark.parametrize(
    ("mark", "content_type", "wire"),
    [
        ("POST  application/grpc+proto", "application/grpc", "grpc"),
        ("POST  application/grpc-web+proto", "application/grpc-web+proto", "grpc"),
        ("POST  application/json; charset=utf-8", "text/plain", "json"),
        ("POST PATCH application/grpc", "application/grpc", "json"),
        ("GET  ", "text/plain", "json"),
        ("HEAD  ", "text/plain", "none"),
        ("HEAD", "text/plain", "none"),
        ("  ", "application/grpc", "grpc"),
        ("", "application/grpc", "grpc"),
        ("", "text/plain", "json"),
    ],
)
def test_a_refusal_goes_out_on_the_wire_the_request_came_in_by(
    run: Runner, mark: str, content_type: str, wire: str
) -> None:
    headers = _local_reply("cluster_not_found", 404, **{names.WIRE: mark, "content-type": content_type})

    answer = run(refusal, "envoy_on_response", [{"name": "it", "headers": headers}])["it"]

    grpc, json_ = "header grpc-status-details-bin" in answer, answer["body"].startswith("{")
    assert wire == {(True, False): "grpc", (False, True): "json", (False, False): "none"}[grpc, json_]


def test_marks_end_with_the_refusal_and_other_answers_are_left_as_they_are(run: Runner) -> None:
    refused = _local_reply("cluster_not_found", 404, **{names.REASON: "JSON_TYPE"})
    served = {":status": "200", "grpc-status": "5", "content-type": "application/grpc"}
    cases: list[dict[str, Any]] = [{"name": "refused", "headers": refused}, {"name": "served", "headers": served}]

    report = run(refusal, "envoy_on_response", cases)

    assert [] == [mark for mark in names.MARKS if f"header {mark}" in report["refused"]]
    assert {f"header {key}": value for key, value in served.items()} | {"body": ""} == report["served"]


def test_an_error_of_the_script_costs_the_details_and_is_counted(run: Runner) -> None:
    broken: dict[str, Any] = {names.WHY: {}, names.STATUS: "503", ":status": "503"}
    report = run(refusal, "envoy_on_response", [{"name": "broken", "headers": broken}])["broken"]

    assert ("503", "GATEWAY_SCRIPT") == (report["header :status"], report["noted reason"])
    assert report["log"].startswith("refusal: ")
