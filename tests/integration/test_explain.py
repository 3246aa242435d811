"""Every refusal says by which rule, on which line, where and by whom; `weft explain` says it of any call."""

import json
import subprocess
import uuid
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message
from google.rpc import error_details_pb2

from deploy.cli.gateway_client import GatewayClient
from deploy.supervisor.mesh import Mesh
from tests.integration.edge_calls import EXHAUSTED, HTTP, OK, Answer, Edge, Native, Target, method
from tests.integration.edge_calls import edge as edge
from tests.integration.shop import Shop, refusal_of, send, traceparent
from tests.integration.weft_command import weft_here
from tests.waiting import eventually
from weft.analytics.v1 import analytics_pb2
from weft.catalog.v1 import catalog_pb2
from weft.orders.v1 import orders_pb2
from weft_protos import locations

pytestmark = pytest.mark.calls

GATEWAYS = {"gateway-1", "gateway-2"}
CALLS_MAX = 2000
PLACE = "weft.orders.v1.OrderService/PlaceOrder"
LIST = "weft.catalog.v1.CatalogService/ListProducts"

Explain = Callable[..., "subprocess.CompletedProcess[str]"]


def told(answer: Answer) -> dict[str, str]:
    return dict(answer.detail(error_details_pb2.ErrorInfo).metadata)


def grounds(name: str, rule: str, contract: str, hop: str) -> dict[str, str]:
    descriptor = method(name)
    full = f"{descriptor.containing_service.full_name}/{name}"
    return {"method": full, "rule": rule, "contract": contract, "hop": hop}


def line(name: str, part: locations.Part | None = None) -> str:
    found = locations.method(method(name), part)
    assert found
    return found


def list_products(**fields: Any) -> Target:
    return Target.of(method("ListProducts"), catalog_pb2.ListProductsRequest(**fields))


def test_without_a_token_the_gateway_names_the_line_that_asks_for_one(edge: Edge) -> None:
    said = told(edge.refused(list_products(), http=HTTP[16]))

    assert said.pop("instance") in GATEWAYS
    assert grounds("ListProducts", "access: token", line("ListProducts", "access"), "gateway") == said


def test_the_gateway_and_every_instance_name_the_same_scope_and_line(edge: Edge) -> None:
    token = edge.token("orders.read")
    expected = grounds("ListProducts", "scopes: catalog.read", line("ListProducts", "access"), "gateway")
    expected["scopes"] = "catalog.read"

    at_gateway = told(edge.refused(list_products(), token, http=HTTP[7]))

    assert at_gateway.pop("instance") in GATEWAYS
    assert expected == at_gateway
    for number in (1, 2):
        wire = Native(edge.mesh.status().process(f"catalog-{number}").address)
        answer = told(wire.call(list_products(), token))
        wire.close()
        assert expected | {"hop": "catalog", "instance": f"catalog-{number}"} == answer


def test_both_gateways_name_themselves(edge: Edge) -> None:
    # The kernel spreads connections; each call over gRPC-web makes one of its own.
    (web,) = (wire for wire in edge.wires if wire.name == "grpc-web")
    seen: set[str] = set()

    def both() -> bool:
        seen.add(told(web.call(list_products()))["instance"])
        return seen == GATEWAYS

    eventually(both)


def test_a_bad_field_is_named_with_its_own_line_by_the_service(edge: Edge) -> None:
    answer = edge.refused(list_products(page_size=-1), edge.token("catalog.read"), http=HTTP[3])

    said = told(answer)
    field = catalog_pb2.ListProductsRequest.DESCRIPTOR.fields_by_name["page_size"]
    assert said.pop("instance") in {"catalog-1", "catalog-2"}
    assert grounds("ListProducts", "field: page_size", locations.field(field), "catalog") == said


def test_what_a_service_decides_is_its_own_rule(edge: Edge) -> None:
    request = catalog_pb2.GetProductRequest(name=f"products/{uuid.uuid4().hex}")

    said = told(edge.refused(Target.of(method("GetProduct"), request), edge.token("catalog.read"), http=HTTP[5]))

    assert said.pop("instance") in {"catalog-1", "catalog-2"}
    assert grounds("GetProduct", "service: PRODUCT_NOT_FOUND", line("GetProduct"), "catalog") == said


def test_json_that_is_none_breaks_the_rule_of_the_request(edge: Edge) -> None:
    (json_wire,) = (wire for wire in edge.wires if wire.name == "json")
    target = Target("", b"", "POST", "/v1/orders", b'{"items": 7}')

    said = told(json_wire.call(target, edge.token("orders.write")))

    assert said.pop("instance") in GATEWAYS
    assert grounds("PlaceOrder", "request: weft.orders.v1.PlaceOrderRequest", line("PlaceOrder"), "gateway") == said


def test_an_unknown_method_has_a_rule_and_no_line(edge: Edge) -> None:
    said = told(edge.refused(Target("/a/b", b"", "POST", "/v1/nothing", b"{}"), http=404))

    assert said.pop("instance") in GATEWAYS
    assert {"rule": "gateway: no such method", "hop": "gateway"} == said


def test_a_used_up_limit_names_the_line_of_the_limit(edge: Edge) -> None:
    token = edge.token(user=edge.new_user())
    target = Target.of(method("GetSales"), analytics_pb2.GetSalesRequest())
    answers = (edge.wires[0].call(target, token) for _ in range(CALLS_MAX))

    said = told(next(answer for answer in answers if answer.code == EXHAUSTED))

    assert said["rule"].startswith("rate_limit: ")
    assert (line("GetSales", "rate_limit"), "gateway") == (said["contract"], said["hop"])


# The command ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def weft(mesh: Mesh) -> Explain:
    return lambda *arguments: weft_here(mesh.secrets.parent, "explain", *arguments)


@pytest.fixture(scope="module")
def shop(mesh: Mesh, operator: GatewayClient) -> Shop:
    return Shop(mesh, operator)


def traced(call: Callable[[str], object]) -> str:
    """Make a call under a trace of its own; the trace."""
    trace = traceparent()
    call(trace)
    return trace.split("-")[1]


def refused_under(edge: Edge, target: Target, token: str | None = None) -> str:
    def call(trace: str) -> None:
        assert edge.wires[0].call(target, token, {"traceparent": trace}).code != OK

    return traced(call)


def known(weft: Explain, trace_id: str, ready: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """What the command says of a trace, once its log is written and its spans have been sent."""
    found: list[dict[str, Any]] = []

    def there() -> bool:
        answer = weft(trace_id, "--json")
        if answer.returncode == 2:
            return False
        found.append(json.loads(answer.stdout))
        assert int(found[-1]["refused"]) == answer.returncode
        return ready(found[-1])

    eventually(there)
    return found[-1]


def test_the_path_of_a_good_call_has_every_hop(shop: Shop, weft: Explain) -> None:
    customer, product = shop.customer(), shop.product()
    trace_id = traced(lambda trace: shop.place(customer, {product: 1}, traceparent=trace))
    hops = {"gateway", "orders", "catalog"}

    def whole(said: dict[str, Any]) -> bool:
        return bool(said["calls"]) and hops <= {step["service"] for step in said["steps"]}

    said = known(weft, trace_id, whole)

    assert (False, None) == (said["refused"], said["decided_by"])
    assert [(PLACE, "OK", False)] == [(one["method"], one["status"], one["refused"]) for one in said["calls"]]
    assert "OK" == next(
        step["status"] for step in said["steps"] if (step["service"], step["span"]) == ("orders", PLACE)
    )
    text = weft(trace_id)
    assert (0, "allowed") == (text.returncode, text.stdout.splitlines()[-1])


def test_what_the_gateway_refused_is_explained(edge: Edge, weft: Explain) -> None:
    trace_id = refused_under(edge, list_products(), edge.token("orders.read"))

    said = known(weft, trace_id, lambda one: bool(one["calls"]) and bool(one["steps"]))

    decided = said["decided_by"]
    assert decided["instance"] in GATEWAYS
    assert ("SCOPE_MISSING", "scopes: catalog.read", line("ListProducts", "access"), LIST, "gateway") == tuple(
        decided[key] for key in ("reason", "rule", "contract", "method", "hop")
    )
    assert (True, "PERMISSION_DENIED") == (said["refused"], said["calls"][0]["status"])
    text = weft(trace_id).stdout
    assert f"refused by  scopes: catalog.read  {line('ListProducts', 'access')}" in text


def test_what_a_service_refused_is_explained(edge: Edge, weft: Explain) -> None:
    request: Message = orders_pb2.GetOrderRequest(name="orders/x")
    trace_id = refused_under(edge, Target.of(method("GetOrder"), request), edge.token("orders.read"))

    said = known(weft, trace_id, lambda one: bool(one["calls"]) and one["decided_by"] is not None)

    field = orders_pb2.GetOrderRequest.DESCRIPTOR.fields_by_name["name"]
    decided = said["decided_by"]
    assert ("field: name", locations.field(field), "orders") == (decided["rule"], decided["contract"], decided["hop"])
    assert decided["instance"] in {"orders-1", "orders-2"}


def test_a_refusal_and_its_explanation_agree(shop: Shop, weft: Explain) -> None:
    customer, product = shop.customer(), shop.product(stock=1)
    reasons: list[str] = []

    def call(trace: str) -> None:
        items = [orders_pb2.ItemQuantity(product_id=product, quantity=2)]
        request = orders_pb2.PlaceOrderRequest(items=items, request_id=str(uuid.uuid4()))
        try:
            send(shop.orders.PlaceOrder, request, customer, traceparent=trace)
        except grpc.RpcError as error:
            reasons.append(refusal_of(error).reason)

    trace_id = traced(call)
    said = known(weft, trace_id, lambda one: one["decided_by"] is not None)

    assert ["OUT_OF_STOCK"] == reasons
    assert ("OUT_OF_STOCK", "service: OUT_OF_STOCK") == (said["decided_by"]["reason"], said["decided_by"]["rule"])


def test_a_trace_that_nobody_knows_is_a_wrong_argument(weft: Explain) -> None:
    answer = weft(uuid.uuid4().hex)

    assert (2, "", 1) == (answer.returncode, answer.stdout, answer.stderr.count("\n"))
    assert "no call has the trace" in answer.stderr


@pytest.mark.parametrize(("scopes", "code"), [("catalog.read", OK), ("orders.read", 7), ("", 16)])
def test_the_contract_answers_as_the_gateway_does(edge: Edge, weft: Explain, scopes: str, code: int) -> None:
    answer = weft("--as", scopes, "ListProducts", "--json")
    called = edge.ask(edge.wires[0], list_products(page_size=1), edge.token(*scopes.split()) if scopes else None)

    decision = json.loads(answer.stdout)["decision"]
    assert (code, int(code != OK), code == OK) == (called.code, answer.returncode, decision["allowed"])
    if code != OK:
        said = told(called)
        assert (called.reason, said["rule"], said["contract"]) == tuple(
            decision[key] for key in ("reason", "rule", "contract")
        )
