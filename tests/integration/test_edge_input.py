"""Requests that no honest client sends, at the real services: refused by field over every wire, and nothing happens.

What gateway and chassis decide without a service is tested without a mesh, too: tests/unit/gateway/test_requests.py.
"""

import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import timestamp_pb2
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.type import money_pb2

from deploy.cli.gateway_client import GatewayClient
from deploy.supervisor.layout import Layout
from deploy.supervisor.mesh import Mesh
from tests.integration.bad_requests import BAD, FORGED, MALFORMED, VERBATIM
from tests.integration.edge_calls import INVALID, METHODS, OK, Answer, Edge, Instances, Target, method
from tests.integration.edge_calls import edge as edge
from tests.integration.edge_calls import instances as instances
from tests.integration.effects import Effects, none_of
from tests.integration.effects import effects as effects
from tests.integration.shop import Shop, traceparent
from tests.waiting import eventually
from weft.analytics.v1 import analytics_pb2
from weft.catalog.v1 import catalog_pb2
from weft.identity.v1 import identity_pb2
from weft.operations.v1 import contracts_pb2
from weft.orders.v1 import inventory_pb2, orders_pb2

pytestmark = pytest.mark.calls

STOCK = Target.of(method("GetStock"), inventory_pb2.GetStockRequest(name="stock/!"))


def asked(edge: Edge, instances: Instances, target: Target, token: str | None) -> list[Answer]:
    """The answers of all wires and all instances."""
    return [edge.ask(wire, target, token) for wire in edge.wires] + instances.ask(target, token)


@pytest.mark.parametrize(("name", "request_message", "field"), [*BAD, *FORGED])
def test_a_value_out_of_its_rules_is_named_and_nothing_happens(
    edge: Edge, instances: Instances, effects: Effects, name: str, request_message: Message, field: str
) -> None:
    target, token = Target.of(method(name), request_message), edge.token()
    with none_of(effects):
        answers = asked(edge, instances, target, token)

    assert {INVALID} == {answer.code for answer in answers}
    assert [] == [answer.fields for answer in answers if field not in answer.fields]
    assert [] == [answer.message for answer in answers if "Traceback" in answer.message]


@pytest.mark.parametrize("malformed", MALFORMED)
def test_bytes_that_are_no_message_are_no_request_of_any_method(
    edge: Edge, instances: Instances, effects: Effects, malformed: str
) -> None:
    binary, token = [wire for wire in edge.wires if wire.name != "json"], edge.token()
    with none_of(effects):
        for number, descriptor in enumerate(METHODS):
            empty = Target.of(descriptor, GetMessageClass(descriptor.input_type)())
            target = replace(empty, body=MALFORMED[malformed])
            wire = binary[number % len(binary)]
            for answer in (edge.ask(wire, target, token), *instances.ask(target, token)):
                assert (INVALID, "MALFORMED_MESSAGE") == (answer.code, answer.reason), descriptor.full_name


@pytest.mark.parametrize(
    ("name", "request_message", "most"),
    [
        ("ListProducts", catalog_pb2.ListProductsRequest(page_size=10**9), 1000),
        ("ListUsers", identity_pb2.ListUsersRequest(page_size=10**9), 1000),
        ("ListOrders", orders_pb2.ListOrdersRequest(page_size=10**9), 200),
        ("ListReports", analytics_pb2.ListReportsRequest(page_size=10**9), 200),
        ("ListMethods", contracts_pb2.ListMethodsRequest(page_size=10**9), 1000),
    ],
)
def test_a_page_is_never_larger_than_its_contract_says(
    edge: Edge, name: str, request_message: Message, most: int
) -> None:
    answers = edge.everywhere(Target.of(method(name), request_message), edge.token())

    for answer in answers.values():
        assert OK == answer.code, answer.message
        listed = [len(value) for field, value in answer.answers[0].ListFields() if field.is_repeated]
        assert sum(listed) <= most


# What is for the service to say --------------------------------------------------------------------------------


def test_a_new_product_is_what_its_creator_may_say_of_it(edge: Edge) -> None:
    old = timestamp_pb2.Timestamp(seconds=1)
    for wire in edge.wires:
        code = f"edge-{uuid.uuid4().hex[:16]}"
        product = catalog_pb2.Product(
            name="products/another",
            display_name="Thing",
            price=money_pb2.Money(currency_code="GBP", units=1),
            create_time=old,
            update_time=old,
            etag="mine",
        )
        request = catalog_pb2.CreateProductRequest(product_id=code, product=product)

        answer = wire.call(Target.of(method("CreateProduct"), request), edge.token("catalog.write"))

        made: Any = answer.answers[0]
        assert f"products/{code}" == made.name
        assert "mine" != made.etag
        assert old not in (made.create_time, made.update_time)


def test_a_user_who_writes_scopes_or_state_into_a_change_gets_neither(edge: Edge) -> None:
    name = edge.new_user()
    token, read = edge.token(user=name), identity_pb2.GetUserRequest(name=f"users/{name}")
    before: Any = edge.wires[0].call(Target.of(method("GetUser"), read), token).answers[0]
    for wire in edge.wires:
        wanted = identity_pb2.User(
            name=f"users/{name}",
            display_name=f"By {wire.name}",
            email="operator@example.com",
            scopes=["mesh.operate", "identity.admin"],
            state=identity_pb2.User.STATE_SUSPENDED,
            create_time=timestamp_pb2.Timestamp(seconds=1),
        )
        target = Target.of(method("UpdateUser"), identity_pb2.UpdateUserRequest(user=wanted))

        after: Any = wire.call(target, token).answers[0]

        assert f"By {wire.name}" == after.display_name
        for field in ("email", "scopes", "state", "create_time"):
            assert getattr(before, field) == getattr(after, field)


@pytest.mark.parametrize("text", VERBATIM)
def test_text_is_kept_to_the_letter_and_never_interpreted(edge: Edge, text: str) -> None:
    price, token = money_pb2.Money(currency_code="GBP", units=1), edge.token("catalog.read", "catalog.write")
    for wire in edge.wires:
        code = f"edge-{uuid.uuid4().hex[:16]}"
        request = catalog_pb2.CreateProductRequest(
            product_id=code, product=catalog_pb2.Product(display_name=text, price=price)
        )
        assert OK == wire.call(Target.of(method("CreateProduct"), request), token).code

        read = Target.of(method("GetProduct"), catalog_pb2.GetProductRequest(name=f"products/{code}"))
        answers: list[Any] = [answer.answers[0] for answer in edge.everywhere(read, token).values()]

        assert [text] * 4 == [answer.display_name for answer in answers]


def test_a_product_cannot_be_found_by_what_a_database_would_take_for_a_pattern(edge: Edge) -> None:
    word, token = f"edge{uuid.uuid4().hex[:16]}", edge.token("catalog.read")
    for words in (f"{word}%", f"{word[:-1]}_", f"{word}' OR '1'='1", "%" * 10, f"{word}\\"):
        target = Target.of(method("ListProducts"), catalog_pb2.ListProductsRequest(filter=words, page_size=1))

        assert [catalog_pb2.ListProductsResponse()] * 4 == [
            answer.answers[0] for answer in edge.everywhere(target, token).values()
        ]


# One entry for each refusal -------------------------------------------------------------------------------------


def logged(mesh: Mesh, trace_id: str) -> list[str]:
    """The lines of all gateways about a trace that say it was refused here."""
    logs: list[Path] = [
        Layout(mesh.secrets.parent).log_of(process.name)
        for process in mesh.status().processes
        if process.kind == "gateway"
    ]
    lines = [line for log in logs for line in log.read_text(errors="replace").splitlines() if trace_id in line]
    return [line for line in lines if "TOKEN_MISSING" in line]


def test_a_refusal_of_a_gateway_is_one_line_of_its_log(edge: Edge) -> None:
    headers = {wire.name: traceparent() for wire in edge.wires}
    for wire in edge.wires:
        assert "TOKEN_MISSING" == wire.call(STOCK, None, {"traceparent": headers[wire.name]}).reason

    # Envoy writes its log in blocks, so all of them are waited for at once.
    traces = [header.split("-")[1] for header in headers.values()]
    eventually(lambda: all(logged(edge.mesh, trace_id) for trace_id in traces))
    assert {1} == {len(logged(edge.mesh, trace_id)) for trace_id in traces}


def test_a_refusal_of_an_instance_is_counted_once_under_its_reason(
    edge: Edge, operator: GatewayClient, instances: Instances
) -> None:
    shop, name = Shop(edge.mesh, operator), STOCK.path.removeprefix("/")

    def counted(reason: str) -> float:
        return shop.exposed("orders", "weft_rpc_refusals_total", method=name, reason=reason)

    for token, reason in ((None, "TOKEN_MISSING"), (edge.token("inventory.read"), "INVALID_FIELDS")):
        before = counted(reason)

        answers = instances.ask(STOCK, token)

        assert {reason} == {answer.reason for answer in answers}
        wanted = before + len(answers)
        # The answer is sent before the count is made.
        eventually(lambda reason=reason, wanted=wanted: counted(reason) >= wanted)
        assert wanted == counted(reason)
