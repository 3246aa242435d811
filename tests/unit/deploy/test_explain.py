"""`weft explain`: the path of a call from its spans and its gateway's log, and what the contract says of one."""

import json
from pathlib import Path
from typing import Any

import pytest

from deploy.cli import call_path, explain
from deploy.cli.__main__ import run
from deploy.cli.call_path import Refusal
from weft_protos import grounds

TRACE = "0af7651916cd43dd8448eb211c80319c"
PLACE = "weft.orders.v1.OrderService/PlaceOrder"
BATCH = "weft.catalog.v1.CatalogService/BatchGetProducts"


def refusal(reason: str = "OUT_OF_STOCK", instance: str = "orders-1") -> Refusal:
    hop = instance.rpartition("-")[0]
    return Refusal(reason, f"service: {reason}", "weft/orders/v1/orders.proto:26", PLACE, hop, instance)


def span(service: str, name: str, *children: dict[str, Any], why: Refusal | None = None, **attributes: Any) -> Any:
    said = {key.replace("__", "."): value for key, value in attributes.items()}
    if why is not None:
        keys = (grounds.REASON, grounds.RULE, grounds.CONTRACT, grounds.METHOD, grounds.HOP, grounds.INSTANCE)
        said |= {f"{grounds.SPAN_PREFIX}{key}": getattr(why, key) for key in keys}
    status = {"code": "unset", "message": ""}
    return {
        "service": service,
        "name": name,
        "duration_ms": 1.5,
        "status": status,
        "attributes": said,
        "children": list(children),
    }


def served(service: str, code: str, *children: Any, why: Refusal | None = None) -> Any:
    return span(service, PLACE, *children, why=why, rpc__response__status_code=code)


def through_gateway(*attempts: Any, status: str = "0") -> dict[str, Any]:
    egress = span("gateway", "router orders egress", *attempts)
    return {"spans": [span("gateway", PLACE, egress, grpc__status_code=status)]}


def record(**changed: Any) -> dict[str, Any]:
    return {
        "time": "2026-11-22T12:00:00.000Z",
        "trace_id": TRACE,
        "route": PLACE,
        "path": f"/{PLACE}",
        "http_status": 200,
        "grpc_status": "OK",
        "refusal": None,
        "rule": None,
        "contract": None,
        "duration_ms": 12,
    } | changed


def own(**changed: Any) -> dict[str, Any]:
    said = {"refusal": "SCOPE_MISSING", "rule": "scopes: orders.write", "contract": "weft/orders/v1/orders.proto:32"}
    return record(grpc_status="PermissionDenied", **said) | changed


def path_of(trace: dict[str, Any] | None, *records: dict[str, Any]) -> call_path.Path:
    return call_path.path_of(TRACE, trace, [("gateway-1", one) for one in records])


def test_a_call_that_went_well_is_its_hops() -> None:
    trace = through_gateway(served("orders", "OK", span("orders", "db.transaction")))

    path = path_of(trace, record())

    assert [
        (0, "gateway", PLACE, "OK"),
        (1, "gateway", "router orders egress", "-"),
        (2, "orders", PLACE, "OK"),
        (3, "orders", "db.transaction", "-"),
    ] == [(step.depth, step.service, step.span, step.status) for step in path.steps]
    assert (False, None, ()) == (path.refused, path.decided_by, path.refusals)
    assert "allowed" == list(call_path.lines(path))[-1]


def test_what_a_service_refused_is_in_its_span() -> None:
    path = path_of(
        through_gateway(served("orders", "FAILED_PRECONDITION", why=refusal()), status="9"),
        record(grpc_status="FailedPrecondition"),
    )

    assert (True, refusal()) == (path.refused, path.decided_by)
    assert "FAILED_PRECONDITION" == path.steps[0].status == path.calls[0].status


def test_what_a_peer_refused_is_said_once() -> None:
    theirs = refusal("PRODUCT_NOT_FOUND", "catalog-2")
    inner = span("orders", BATCH, served("catalog", "NOT_FOUND", why=theirs), rpc__response__status_code="NOT_FOUND")
    trace = through_gateway(served("orders", "NOT_FOUND", inner, why=theirs))

    path = path_of(trace, record(grpc_status="NotFound"))

    assert (theirs, (theirs,)) == (path.decided_by, path.refusals)


def test_what_a_service_made_of_a_peers_refusal_decides() -> None:
    ours, theirs = refusal("PRODUCT_UNKNOWN"), refusal("PRODUCT_NOT_FOUND", "catalog-2")
    inner = served("catalog", "NOT_FOUND", why=theirs)

    path = path_of(through_gateway(served("orders", "INVALID_ARGUMENT", inner, why=ours)))

    assert (True, ours, (ours, theirs)) == (path.refused, path.decided_by, path.refusals)


def test_a_refusal_that_a_retry_made_good_was_only_on_the_way() -> None:
    first = served("orders", "UNAVAILABLE", why=refusal("DRAINING"))

    path = path_of(through_gateway(first, served("orders", "OK")), record())

    assert (False, None, (refusal("DRAINING"),)) == (path.refused, path.decided_by, path.refusals)
    assert ["on the way", "allowed"] == [line[:10].strip() for line in call_path.lines(path)][-2:]


def test_of_several_attempts_the_last_one_decides() -> None:
    attempts = [served("orders", "UNAVAILABLE", why=refusal("DRAINING", f"orders-{number}")) for number in (1, 2)]

    assert refusal("DRAINING", "orders-2") == path_of(through_gateway(*attempts)).decided_by


def test_what_the_gateway_refused_is_in_its_log_and_needs_no_trace() -> None:
    expected = Refusal(
        "SCOPE_MISSING", "scopes: orders.write", "weft/orders/v1/orders.proto:32", PLACE, "gateway", "gateway-1"
    )

    for trace in (None, through_gateway(status="7")):
        path = path_of(trace, own())
        assert (True, expected, (expected,)) == (path.refused, path.decided_by, path.refusals)
    assert list(call_path.lines(path))[-1] == (
        f"refused by  scopes: orders.write  weft/orders/v1/orders.proto:32  SCOPE_MISSING  {PLACE}  at gateway-1"
    )


def test_a_gateway_that_gave_up_waiting_decides_over_its_services() -> None:
    late = own(refusal="DEADLINE_EXCEEDED", rule="timeout: 5s", grpc_status="DeadlineExceeded")

    path = path_of(through_gateway(served("orders", "UNAVAILABLE", why=refusal("DRAINING"))), late)

    assert path.decided_by is not None
    assert ("timeout: 5s", 2) == (path.decided_by.rule, len(path.refusals))


def test_a_json_call_is_known_by_its_http_status() -> None:
    path = path_of(None, own(route=f"{PLACE} POST /v1/orders", http_status="403", grpc_status="-"))

    assert (PLACE, "403", True) == (path.calls[0].method, path.calls[0].status, path.calls[0].refused)


def test_a_path_without_a_method_is_named_as_it_was_asked_for() -> None:
    path = path_of(None, own(route="nothing", path="/v1/nothing", contract=None))

    assert "/v1/nothing" == path.calls[0].method
    assert path.decided_by is not None
    assert ("", "") == (path.decided_by.method, path.decided_by.contract)


def test_a_refusal_that_nobody_explained_is_still_one() -> None:
    path = path_of(None, record(grpc_status="ResourceExhausted"))

    assert (True, None, "RESOURCE_EXHAUSTED") == (path.refused, path.decided_by, path.calls[0].status)
    assert "refused; nobody recorded a rule" == list(call_path.lines(path))[-1]


def test_the_log_is_read_by_trace_whatever_else_is_in_it(tmp_path: Path) -> None:
    other = json.dumps(record(trace_id="f" * 32, user_agent=TRACE))
    (tmp_path / "gateway-1.log").write_text(f"[warning] {TRACE}\n{other}\n7\n{json.dumps(record())}\n")
    (tmp_path / "gateway-2.log.1").write_text(json.dumps(own()) + "\n")
    (tmp_path / "orders-1.log").write_text(json.dumps(record()) + "\n")

    found = explain.gateway_records(tmp_path, TRACE)

    assert {"gateway-1": "OK", "gateway-2": "PermissionDenied"} == {
        gateway: entry["grpc_status"] for gateway, entry in found
    }


def test_json_is_one_object() -> None:
    said = json.loads(json.dumps(call_path.as_object(path_of(through_gateway(served("orders", "OK")), own()))))

    assert {"trace_id", "calls", "steps", "refusals", "refused", "decided_by"} == set(said)
    assert ("scopes: orders.write", True) == (said["decided_by"]["rule"], said["refused"])


@pytest.mark.parametrize(
    "question",
    [
        ("orders.write", 0, "allowed", "scopes: orders.write"),
        ("orders.read", 1, "refused", "scopes: orders.write"),
        ("", 1, "refused", "access: token"),
    ],
)
def test_the_contract_is_asked_without_a_call(
    question: tuple[str, int, str, str], capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    scopes, code, verdict, rule = question
    assert code == run(["explain", "--as", scopes, "PlaceOrder", "--json"])
    said = json.loads(capsys.readouterr().out)

    shown = list(explain.contract_lines(said))
    assert (rule, verdict == "allowed") == (said["decision"]["rule"], said["decision"]["allowed"])
    assert shown[0].startswith(f"{verdict}  {PLACE} ")
    assert ["rule", rule.split(" ")[0], rule.split(" ")[1], said["decision"]["contract"]] == shown[1].split()
    parts = ["limit", "timeout", "retry", "hedging", "cache", "forgets", "overload"]
    assert parts == [line.split()[0] for line in shown[2:9]]
    assert "cache    -" == shown[6]
    errors = "\n".join(shown[9:])
    assert "error    FAILED_PRECONDITION (400): too little is left; " in errors
    assert (
        "error    PERMISSION_DENIED (403): The token has none of the scopes orders.write.\n         SCOPE_MISSING"
        in errors
    )
    reasons = [reason for refusal in said["refusals"] for reason in refusal["reasons"]]
    assert {"OUT_OF_STOCK", "REQUEST_ID_REUSED", "TOKEN_EXPIRED", "RATE_LIMITED", "REQUEST_TOO_LARGE"} <= set(reasons)
    assert 1 == reasons.count("REQUEST_ID_REUSED")
