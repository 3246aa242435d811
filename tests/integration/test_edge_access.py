"""Who may call what: every method of the contracts, over every wire and straight at instances; and whose data it is."""

import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import protovalidate
import pytest
from google.api import annotations_pb2
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2

from tests.integration.edge_calls import (
    DENIED,
    HTTP,
    INVALID,
    METHODS,
    NOT_FOUND,
    OK,
    UNAUTHENTICATED,
    Answer,
    Edge,
    Native,
    Target,
    method,
)
from tests.integration.edge_calls import edge as edge
from weft.catalog.v1 import catalog_pb2, catalog_pb2_grpc
from weft.identity.v1 import identity_pb2
from weft.orders.v1 import inventory_pb2, inventory_pb2_grpc, orders_pb2, orders_pb2_grpc
from weft_protos import policy

EVERY_METHOD = pytest.mark.parametrize("descriptor", METHODS, ids=lambda one: one.full_name.removeprefix("weft."))
GUARDED = [one for one in METHODS if not policy.effective(one).public]
EVERY_GUARDED = pytest.mark.parametrize("descriptor", GUARDED, ids=lambda one: one.full_name.removeprefix("weft."))


def harmless(descriptor: MethodDescriptor) -> Target:
    """A request that no handler ever sees, because it breaks its contract."""
    request: Any = GetMessageClass(descriptor.input_type)()
    rule = descriptor.GetOptions().Extensions[annotations_pb2.http]
    for name, pattern in re.findall(r"\{([^}=]+)=([^}]*)\}", getattr(rule, str(rule.WhichOneof("pattern")))):
        holder, _, leaf = name.rpartition(".")
        setattr(getattr(request, holder) if holder else request, leaf, pattern.replace("*", "!"))
    if not protovalidate.collect_violations(request):
        if "page_size" in descriptor.input_type.fields_by_name:
            request.page_size = -1
        else:
            request.start_date.year = 1
    assert protovalidate.collect_violations(request), f"{descriptor.full_name} would be called"
    return Target.of(descriptor, request)


def codes(edge: Edge, target: Target, token: str | None) -> dict[str, int]:
    return {wire.name: edge.ask(wire, target, token).code for wire in edge.wires}


def all_wires(edge: Edge, code: int) -> dict[str, int]:
    return {wire.name: code for wire in edge.wires}


def unfitting(edge: Edge, descriptor: MethodDescriptor) -> str:
    """A token with every scope but those that open the method."""
    return edge.token(*sorted(policy.scopes() - set(policy.effective(descriptor).scopes)))


def test_the_contracts_have_public_and_guarded_methods() -> None:
    # What the matrix below is made of must not become empty without a word.
    assert {"CreateUser", "CreateSession", "RefreshSession"} == {one.name for one in METHODS if one not in GUARDED}
    assert len(GUARDED) >= 20


@EVERY_METHOD
def test_without_a_token_only_public_methods_answer(edge: Edge, descriptor: MethodDescriptor) -> None:
    expected = UNAUTHENTICATED if descriptor in GUARDED else INVALID

    assert all_wires(edge, expected) == codes(edge, harmless(descriptor), None)


@EVERY_GUARDED
def test_all_other_scopes_together_open_nothing(edge: Edge, descriptor: MethodDescriptor) -> None:
    assert all_wires(edge, DENIED) == codes(edge, harmless(descriptor), unfitting(edge, descriptor))


@EVERY_GUARDED
def test_each_fitting_scope_alone_opens(edge: Edge, descriptor: MethodDescriptor) -> None:
    for scope in policy.effective(descriptor).scopes:
        assert all_wires(edge, INVALID) == codes(edge, harmless(descriptor), edge.token(scope))


@dataclass(frozen=True)
class Instances:
    """The service instances, called past the gateway."""

    by_service: dict[str, list[Native]]

    def ask(self, target: Target, token: str | None) -> list[Answer]:
        """The answers of every instance of the target's service."""
        service = policy.service_owner(target.path.split("/")[1])
        return [one.call(target, token, {"x-user": "operator", "x-scopes": "*"}) for one in self.by_service[service]]


@pytest.fixture(scope="module")
def instances(edge: Edge) -> Iterator[Instances]:
    found: dict[str, list[Native]] = {}
    for process in edge.mesh.status().processes:
        if process.kind == "service":
            found.setdefault(process.service, []).append(Native(process.address))
    yield Instances(found)
    for wire in (one for wires in found.values() for one in wires):
        wire.close()


@EVERY_GUARDED
def test_an_instance_asks_for_the_same_as_the_gateway(
    edge: Edge, instances: Instances, descriptor: MethodDescriptor
) -> None:
    target, gateway = harmless(descriptor), edge.wires[0]
    for token, code in ((None, UNAUTHENTICATED), (unfitting(edge, descriptor), DENIED)):
        before = gateway.call(target, token)
        answers = instances.ask(target, token)

        assert answers
        assert {(code, before.reason)} == {(answer.code, answer.reason) for answer in answers}
        if code == DENIED:
            for answer in answers:
                said = answer.detail(error_details_pb2.ErrorInfo).metadata
                expected = before.detail(error_details_pb2.ErrorInfo).metadata
                assert set(expected["scopes"].split()) == set(said["scopes"].split())
                for key in ("method", "rule", "contract"):
                    assert expected[key] == said[key]
    scope = policy.effective(descriptor).scopes[0]
    assert {INVALID} == {answer.code for answer in instances.ask(target, edge.token(scope))}


# Whose it is ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Shop:
    """One order of one customer, and another customer who wants it."""

    owner: str
    thief: str
    order: str
    product: str


@pytest.fixture(scope="module")
def shop(edge: Edge) -> Shop:
    product, owner, thief = f"edge-{uuid.uuid4().hex[:16]}", edge.new_user(), edge.new_user()
    operator, channel = edge.operator, edge.operator.channel()
    made = catalog_pb2.Product(display_name="Edge", price={"currency_code": "GBP", "units": 2})
    operator.call(
        catalog_pb2_grpc.CatalogServiceStub(channel).CreateProduct,
        catalog_pb2.CreateProductRequest(product_id=product, product=made),
    )
    operator.call(
        inventory_pb2_grpc.InventoryServiceStub(channel).SetStock,
        inventory_pb2.SetStockRequest(name=f"stock/{product}", quantity=5, request_id=str(uuid.uuid4())),
    )
    order = operator.call(
        orders_pb2_grpc.OrderServiceStub(channel).PlaceOrder,
        orders_pb2.PlaceOrderRequest(
            items=[orders_pb2.ItemQuantity(product_id=product, quantity=2)], request_id=str(uuid.uuid4())
        ),
        user=owner,
    )
    return Shop(owner, thief, order.name, product)


def get_order(name: str) -> Target:
    return Target.of(method("GetOrder"), orders_pb2.GetOrderRequest(name=name))


def test_an_order_is_its_owners_to_read_over_every_wire(edge: Edge, shop: Shop) -> None:
    answers = edge.everywhere(get_order(shop.order), edge.token(user=shop.owner))

    (order,) = answers["grpc"].answers
    assert isinstance(order, orders_pb2.Order)
    assert (f"users/{shop.owner}", 4, shop.product) == (order.user, order.total.units, order.items[0].product_id)
    assert [(order,)] * 4 == [answer.answers for answer in answers.values()]


def test_an_order_can_be_watched_over_every_wire(edge: Edge, shop: Shop) -> None:
    target = Target.of(method("WatchOrder"), orders_pb2.WatchOrderRequest(name=shop.order))

    answers = edge.everywhere(target, edge.token(user=shop.owner))

    (seen,) = answers["grpc"].answers
    assert isinstance(seen, orders_pb2.WatchOrderResponse)
    assert shop.order == seen.order.name
    assert [(seen,)] * 4 == [answer.answers for answer in answers.values()]


def with_name(request: Message, name: str) -> Message:
    made = type(request)()
    made.CopyFrom(request)
    holder: Any = made.user if isinstance(made, identity_pb2.UpdateUserRequest) else made
    holder.name = name
    return made


@pytest.mark.parametrize(
    ("name", "request_message"),
    [
        ("GetOrder", orders_pb2.GetOrderRequest()),
        ("CancelOrder", orders_pb2.CancelOrderRequest(request_id="6f0a52ab-1c9e-4a3e-9d4e-0f2d2c1b7a01")),
        ("WatchOrder", orders_pb2.WatchOrderRequest()),
        ("GetUser", identity_pb2.GetUserRequest()),
        ("UpdateUser", identity_pb2.UpdateUserRequest(user=identity_pb2.User(display_name="Stolen"))),
    ],
)
def test_what_is_another_users_is_not_found_exactly_like_what_is_not_there(
    edge: Edge, shop: Shop, name: str, request_message: Message
) -> None:
    there, absent = shop.order, f"orders/{uuid.uuid4()}"
    if name.endswith("User"):
        there, absent = f"users/{shop.owner}", f"users/edge-{uuid.uuid4().hex[:16]}"
    token = edge.token(user=shop.thief)
    errors = []
    for resource in (there, absent):
        target = Target.of(method(name), with_name(request_message, resource))
        answer = edge.refused(target, token, http=HTTP[NOT_FOUND])
        errors.append(repr(answer.error).replace(resource, "RESOURCE"))
        assert NOT_FOUND == answer.code

    assert errors[0] == errors[1]


def test_a_thief_leaves_no_trace(edge: Edge, shop: Shop) -> None:
    listed = Target.of(method("ListOrders"), orders_pb2.ListOrdersRequest())
    cancel = orders_pb2.CancelOrderRequest(name=shop.order, request_id=str(uuid.uuid4()))
    edge.everywhere(Target.of(method("CancelOrder"), cancel), edge.token(user=shop.thief))

    theirs = edge.everywhere(listed, edge.token(user=shop.thief))
    order: Any = edge.wires[0].call(get_order(shop.order), edge.token(user=shop.owner)).answers[0]

    assert [(OK, (orders_pb2.ListOrdersResponse(),))] * 4 == [(one.code, one.answers) for one in theirs.values()]
    assert (1, orders_pb2.Order.STATE_PLACED) == (order.revision, order.state)
