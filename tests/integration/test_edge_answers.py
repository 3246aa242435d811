"""The same call gives the same answer and the same error over gRPC, both kinds of gRPC-web, and JSON."""

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf.message import Message
from google.rpc import error_details_pb2

from tests.integration.edge_calls import (
    DENIED,
    EXHAUSTED,
    EXISTS,
    HTTP,
    INVALID,
    NOT_FOUND,
    OK,
    UNAUTHENTICATED,
    UNIMPLEMENTED,
    Answer,
    Edge,
    Target,
    Wire,
    method,
)
from tests.integration.edge_calls import edge as edge
from weft.analytics.v1 import analytics_pb2
from weft.catalog.v1 import catalog_pb2
from weft.identity.v1 import identity_pb2
from weft.orders.v1 import orders_pb2

pytestmark = pytest.mark.calls

#: Far above the largest request that a contract allows.
TOO_LARGE_BYTES = 300 * 1024
#: Far above every declared burst.
CALLS_MAX = 2000


def get_user(user: str) -> Target:
    return Target.of(method("GetUser"), identity_pb2.GetUserRequest(name=f"users/{user}"))


def list_products(**fields: Any) -> Target:
    return Target.of(method("ListProducts"), catalog_pb2.ListProductsRequest(**fields))


def test_one_answer_over_every_wire(edge: Edge) -> None:
    user = edge.new_user()

    answers = edge.everywhere(get_user(user), edge.token(user=user))

    (expected,) = answers["grpc"].answers
    assert isinstance(expected, identity_pb2.User)
    assert (f"users/{user}", f"{user}@example.com") == (expected.name, expected.email)
    assert dict.fromkeys(answers, (OK, (expected,))) == {name: (one.code, one.answers) for name, one in answers.items()}


def test_a_page_and_its_token_mean_the_same_over_every_wire(edge: Edge) -> None:
    token = edge.token("identity.admin")
    first = Target.of(method("ListUsers"), identity_pb2.ListUsersRequest(page_size=1))
    page: Any = edge.wires[0].call(first, token).answers[0]
    assert 1 == len(page.users)
    second = Target.of(method("ListUsers"), identity_pb2.ListUsersRequest(page_size=1, page_token=page.next_page_token))

    for target in (first, second):
        answers = [answer.answers for answer in edge.everywhere(target, token).values()]
        assert [answers[0]] * 4 == answers


def test_no_token_is_unauthenticated(edge: Edge) -> None:
    answer = edge.refused(list_products(), http=HTTP[UNAUTHENTICATED])

    assert (UNAUTHENTICATED, "TOKEN_MISSING") == (answer.code, answer.reason)


def test_a_missing_scope_is_denied_and_named(edge: Edge) -> None:
    answer = edge.refused(list_products(), edge.token("orders.read"), http=HTTP[DENIED])

    info = answer.detail(error_details_pb2.ErrorInfo)
    assert (DENIED, "SCOPE_MISSING") == (answer.code, answer.reason)
    assert "catalog.read" == info.metadata["scopes"]
    assert "weft.catalog.v1.CatalogService/ListProducts" == info.metadata["method"]


@pytest.mark.parametrize(
    ("name", "request_message", "scope", "field"),
    [
        ("ListProducts", catalog_pb2.ListProductsRequest(page_size=-1), "catalog.read", "page_size"),
        ("ListProducts", catalog_pb2.ListProductsRequest(order_by="colour"), "catalog.read", "order_by"),
        ("ListProducts", catalog_pb2.ListProductsRequest(page_token="forged"), "catalog.read", "page_token"),
        ("GetOrder", orders_pb2.GetOrderRequest(name="orders/x"), "orders.read", "name"),
        ("GetProduct", catalog_pb2.GetProductRequest(name="products/é"), "catalog.read", "name"),
        (
            "PlaceOrder",
            orders_pb2.PlaceOrderRequest(
                items=[orders_pb2.ItemQuantity(product_id="a", quantity=1), orders_pb2.ItemQuantity(product_id="b")],
                request_id="00000000-0000-4000-8000-000000000000",
            ),
            "orders.write",
            "items[1].quantity",
        ),
        ("WatchOrder", orders_pb2.WatchOrderRequest(name="orders/x"), "orders.read", "name"),
    ],
)
def test_a_bad_field_is_named(edge: Edge, name: str, request_message: Message, scope: str, field: str) -> None:
    answer = edge.refused(Target.of(method(name), request_message), edge.token(scope), http=HTTP[INVALID])

    assert INVALID == answer.code
    assert [field] == answer.fields


def test_every_bad_field_is_named(edge: Edge) -> None:
    request = orders_pb2.PlaceOrderRequest()

    answer = edge.refused(Target.of(method("PlaceOrder"), request), edge.token("orders.write"), http=HTTP[INVALID])

    assert ["items", "request_id"] == sorted(answer.fields)


def test_what_does_not_exist_is_not_found(edge: Edge) -> None:
    name = f"products/{uuid.uuid4().hex}"
    target = Target.of(method("GetProduct"), catalog_pb2.GetProductRequest(name=name))

    answer = edge.refused(target, edge.token("catalog.read"), http=HTTP[NOT_FOUND])

    assert (NOT_FOUND, "PRODUCT_NOT_FOUND") == (answer.code, answer.reason)
    assert name == answer.detail(error_details_pb2.ResourceInfo).resource_name


@pytest.mark.parametrize("path", ["/weft.catalog.v1.CatalogService/NoSuch", "/weft.nosuch.v1.Service/Get", "/a/b"])
@pytest.mark.parametrize("url", ["/v1/nothing", "/v2/products", "/weft.catalog.v1.CatalogService/NoSuch"])
def test_an_unknown_method_is_unknown_to_everybody(edge: Edge, path: str, url: str) -> None:
    target = Target(path, b"", "POST", url, b"{}")

    signed_in = edge.refused(target, edge.token("catalog.read"), http=404)
    anonymous = edge.refused(target, http=404)

    assert (UNIMPLEMENTED, "METHOD_UNKNOWN") == (signed_in.code, signed_in.reason)
    assert signed_in.error == anonymous.error


def test_a_user_id_that_is_taken_is_a_conflict(edge: Edge) -> None:
    user = edge.new_user()
    request = identity_pb2.CreateUserRequest(user_id=user, email=f"other-{user}@example.com", password="p" * 12)
    target = Target.of(method("CreateUser"), request)

    answers = {wire.name: edge.ask(wire, target) for wire in edge.wires}

    expected = answers["grpc"]
    assert (EXISTS, HTTP[EXISTS]) == (expected.code, answers["json"].http)
    assert [expected.error] * 4 == [answer.error for answer in answers.values()]


@pytest.mark.parametrize("size", [TOO_LARGE_BYTES, 5 * TOO_LARGE_BYTES])
def test_a_body_that_is_too_large_is_refused_with_a_reason(edge: Edge, size: int) -> None:
    request = identity_pb2.CreateSessionRequest(email="a" * size, password="p")

    answer = edge.refused(Target.of(method("CreateSession"), request), http=413)

    assert (EXHAUSTED, "REQUEST_TOO_LARGE") == (answer.code, answer.reason)


def test_the_largest_order_passes(edge: Edge) -> None:
    items = [orders_pb2.ItemQuantity(product_id=f"{number:0>60}", quantity=1_000_000) for number in range(500)]
    items[-1].quantity = 0
    request = orders_pb2.PlaceOrderRequest(items=items, request_id=str(uuid.uuid4()))

    answer = edge.refused(Target.of(method("PlaceOrder"), request), edge.token("orders.write"), http=HTTP[INVALID])

    assert ["items[499].quantity"] == answer.fields


def exhausted(wire: Wire, target: Target, token: str) -> Answer:
    """Call until the declared burst is used up."""
    for _ in range(CALLS_MAX):
        answer = wire.call(target, token)
        if answer.code == EXHAUSTED:
            return answer
        assert OK == answer.code
    raise AssertionError(f"{CALLS_MAX} calls were let through")


def test_too_many_calls_are_told_how_long_to_wait(edge: Edge) -> None:
    user = edge.new_user()
    token = edge.token(user=user)
    target = Target.of(method("GetSales"), analytics_pb2.GetSalesRequest())

    answers = {wire.name: exhausted(wire, target, token) for wire in edge.wires}

    for answer in answers.values():
        info = answer.detail(error_details_pb2.ErrorInfo)
        (violation,) = answer.detail(error_details_pb2.QuotaFailure).violations
        wait_ms = answer.detail(error_details_pb2.RetryInfo).retry_delay.ToMilliseconds()
        assert "RATE_LIMITED" == info.reason
        assert f"subject:{user}" == violation.subject
        assert 0 < wait_ms < 10_000
        assert 3 == len(answer.details)
        # Told twice: to programs in the details, and to the client library or HTTP client in a header.
        if answer.http == HTTP[EXHAUSTED]:
            assert wait_ms <= 1000 * int(answer.headers["retry-after"])
        else:
            assert str(wait_ms) == answer.headers["grpc-retry-pushback-ms"]
    plain: Callable[[Answer], tuple[Any, ...]] = lambda one: one.error[:2] + one.error[2][:2]  # noqa: E731
    assert [plain(answers["grpc"])] * 4 == [plain(answer) for answer in answers.values()]
    assert [None, 200, 200, 429] == [answer.http for answer in answers.values()]


def test_one_callers_limit_leaves_others_alone(edge: Edge) -> None:
    limited, other = edge.new_user(), edge.new_user()
    target = Target.of(method("GetSales"), analytics_pb2.GetSalesRequest())
    exhausted(edge.wires[0], target, edge.token(user=limited))

    answers = edge.everywhere(target, edge.token(user=other))

    assert [OK] * 4 == [answer.code for answer in answers.values()]
