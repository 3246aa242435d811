"""Whose data it is: another user's is not there, over every wire and straight at instances."""

import uuid
from dataclasses import dataclass
from typing import Any

import pytest
from google.protobuf.message import Message

from tests.integration.edge_calls import HTTP, NOT_FOUND, OK, Edge, Instances, Target, method
from tests.integration.edge_calls import edge as edge
from tests.integration.edge_calls import instances as instances
from tests.integration.effects import Effects, none_of
from tests.integration.effects import effects as effects
from weft.catalog.v1 import catalog_pb2, catalog_pb2_grpc
from weft.identity.v1 import identity_pb2
from weft.orders.v1 import inventory_pb2, inventory_pb2_grpc, orders_pb2, orders_pb2_grpc

pytestmark = pytest.mark.calls


@dataclass(frozen=True)
class Shop:
    """One order of one customer, and another customer who wants it."""

    owner: str
    thief: str
    order: str
    session: str
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
    return Shop(owner, thief, order.name, operator.delegate(owner).name, product)


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
        ("DeleteSession", identity_pb2.DeleteSessionRequest()),
    ],
)
def test_what_is_another_users_is_not_found_exactly_like_what_is_not_there(
    edge: Edge, instances: Instances, shop: Shop, effects: Effects, name: str, request_message: Message
) -> None:
    there, absent = shop.order, f"orders/{uuid.uuid4()}"
    if name.endswith("User"):
        there, absent = f"users/{shop.owner}", f"users/edge-{uuid.uuid4().hex[:16]}"
    elif name.endswith("Session"):
        there, absent = shop.session, f"sessions/{uuid.uuid4()}"
    token, errors = edge.token(user=shop.thief), list[str]()
    with none_of(effects):
        for resource in (there, absent):
            target = Target.of(method(name), with_name(request_message, resource))
            answer = edge.refused(target, token, http=HTTP[NOT_FOUND])
            for each in (answer, *instances.ask(target, token)):
                assert NOT_FOUND == each.code
                errors.append(repr(each.error).replace(resource, "RESOURCE"))

    # Word for word, wherever it is asked.
    assert 1 == len(set(errors))


def test_a_thief_leaves_no_trace(edge: Edge, shop: Shop) -> None:
    listed = Target.of(method("ListOrders"), orders_pb2.ListOrdersRequest())
    cancel = orders_pb2.CancelOrderRequest(name=shop.order, request_id=str(uuid.uuid4()))
    edge.everywhere(Target.of(method("CancelOrder"), cancel), edge.token(user=shop.thief))

    theirs = edge.everywhere(listed, edge.token(user=shop.thief))
    order: Any = edge.wires[0].call(get_order(shop.order), edge.token(user=shop.owner)).answers[0]

    assert [(OK, (orders_pb2.ListOrdersResponse(),))] * 4 == [(one.code, one.answers) for one in theirs.values()]
    assert (1, orders_pb2.Order.STATE_PLACED) == (order.revision, order.state)
