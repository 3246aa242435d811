"""Why a call was refused, as callers and spans are told it: straight at a server in this process."""

from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf.message import Message
from google.rpc import error_details_pb2

from svc.chassis import errors
from svc.chassis.context import CallContext
from svc.chassis.grounds import Grounds, Progress, field_at
from tests.unit.svc.chassis.conftest import Spans
from tests.unit.svc.chassis.instance import CREATE_SESSION, GET_STOCK, INVENTORY, PLACE_ORDER, Failure, Instance
from weft.identity.v1 import identity_pb2
from weft.orders.v1 import inventory_pb2, orders_pb2
from weft_protos import locations

GET = INVENTORY.methods_by_name["GetStock"]
METHOD = GET_STOCK.removeprefix("/")


def told(failed: Failure) -> dict[str, str]:
    return dict(failed.detail(error_details_pb2.ErrorInfo).metadata)


def grounds(rule: str, contract: str, **more: str) -> dict[str, str]:
    assert contract
    return {
        "method": METHOD,
        "rule": rule,
        "contract": contract,
        "hop": "orders",
        "instance": "orders-7",
    } | more


def refused(call: Callable[[], Any]) -> dict[str, str]:
    with pytest.raises(Failure) as caught:
        call()
    return told(caught.value)


def raising(error: Exception) -> Callable[[Message, CallContext], Message]:
    def handler(_request: Message, _call: CallContext) -> Message:
        raise error

    return handler


def test_without_a_token_the_line_that_asks_for_one_is_named(instance: Instance) -> None:
    expected = grounds("access: token", locations.method(GET, "access"))

    assert expected == refused(lambda: instance.get_stock(token=""))
    assert expected == refused(lambda: instance.get_stock(token="garbage"))


def test_without_the_scope_the_line_of_the_scopes_is_named(instance: Instance) -> None:
    token = instance.issuer.token(scope="orders.read")

    expected = grounds("scopes: inventory.read", locations.method(GET, "access"), scopes="inventory.read")
    assert expected == refused(lambda: instance.get_stock(token=token))


def test_a_field_that_breaks_its_rules_is_named_with_its_own_line(instance: Instance) -> None:
    items = [orders_pb2.ItemQuantity(product_id="a", quantity=1), orders_pb2.ItemQuantity(product_id="b")]
    request = orders_pb2.PlaceOrderRequest(items=items, request_id="11111111-1111-4111-8111-111111111111")

    said = refused(lambda: instance.call(PLACE_ORDER, request))

    line = locations.field(orders_pb2.ItemQuantity.DESCRIPTOR.fields_by_name["quantity"])
    assert ("field: items.quantity", line) == (said["rule"], said["contract"])


def test_bytes_that_are_no_request_break_the_rule_of_the_message(instance: Instance) -> None:
    expected = grounds("request: weft.orders.v1.GetStockRequest", locations.method(GET))

    assert expected == refused(lambda: instance.raw(GET_STOCK, b"\xff\xff"))


def test_what_the_service_decides_is_its_own_rule(instance: Instance) -> None:
    instance.behaviour.do = raising(errors.NotFound(reason="STOCK_NOT_FOUND"))

    expected = grounds("service: STOCK_NOT_FOUND", locations.method(GET))
    assert expected == refused(instance.get_stock)


def test_a_scope_that_only_the_service_asks_for_is_not_the_contracts(instance: Instance) -> None:
    instance.behaviour.do = raising(errors.PermissionDenied(reason="SCOPE_NOT_HELD"))

    assert "service: SCOPE_NOT_HELD" == refused(instance.get_stock)["rule"]


def test_a_public_method_that_refuses_a_caller_does_it_by_itself(instance: Instance) -> None:
    instance.behaviour.do = raising(errors.Unauthenticated(reason="BAD_CREDENTIALS"))
    request = identity_pb2.CreateSessionRequest(email="ann@example.com", password="correct horse")

    said = refused(lambda: instance.call(CREATE_SESSION, request, token=""))

    assert ("service: BAD_CREDENTIALS", "identity") == (said["rule"], said["hop"])


def test_what_a_peer_refused_keeps_the_peers_grounds(instance: Instance) -> None:
    theirs = {"method": "a.B/C", "rule": "scopes: x.y", "contract": "a.proto:1", "hop": "b", "instance": "b-1"}
    instance.behaviour.do = raising(errors.PermissionDenied(reason="SCOPE_MISSING", metadata=theirs))

    assert theirs == refused(instance.get_stock)


@pytest.mark.parametrize(
    ("own", "rule", "part"), [(False, "timeout: 2s", "timeout"), (True, "deadline: the caller's own", None)]
)
def test_a_deadline_is_the_contracts_or_the_callers(own: bool, rule: str, part: locations.Part | None) -> None:
    made = Grounds(GET, "orders-7", ("inventory.read",), 2.0, 1024)
    progress = Progress(admitted=True, parsed=True, own_deadline=own)

    assert grounds(rule, locations.method(GET, part)) == made.of(errors.DeadlineExceeded(), progress)


def test_a_process_without_a_name_says_none() -> None:
    made = Grounds(GET, "", (), 2.0, 1024)

    assert "instance" not in made.of_fault("INTERNAL")


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("items[1].quantity", "weft.orders.v1.ItemQuantity.quantity"),
        ("items", "weft.orders.v1.PlaceOrderRequest.items"),
        ("request_id", "weft.orders.v1.PlaceOrderRequest.request_id"),
        ("request_id.x", None),
        ("nothing", None),
        ("", None),
    ],
)
def test_a_path_leads_to_a_field_or_nowhere(path: str, name: str | None) -> None:
    found = field_at(orders_pb2.PlaceOrderRequest.DESCRIPTOR, path)

    assert name == (None if found is None else found.full_name)


def test_a_span_says_why_it_was_refused_and_nothing_else_of_the_request(instance: Instance, spans: Spans) -> None:
    instance.behaviour.do = raising(errors.NotFound(reason="STOCK_NOT_FOUND", metadata={"quoted": "hunter2"}))
    refused(instance.get_stock)
    assert instance.server.stop(1)

    attributes = dict(spans.one(METHOD).attributes or {})
    expected = {
        f"weft.refusal.{key}": value
        for key, value in grounds("service: STOCK_NOT_FOUND", locations.method(GET)).items()
    }
    assert expected | {"weft.refusal.reason": "STOCK_NOT_FOUND"} == {
        key: value for key, value in attributes.items() if key.startswith("weft.refusal.")
    }
    assert "hunter2" not in str(attributes)


def test_a_call_that_goes_well_has_no_grounds(instance: Instance, spans: Spans) -> None:
    assert inventory_pb2.Stock(name="stock/a", quantity=7) == instance.get_stock()
    assert instance.server.stop(1)

    assert [] == [key for key in spans.one(METHOD).attributes or {} if key.startswith("weft.refusal.")]
