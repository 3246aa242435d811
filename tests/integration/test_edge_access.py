"""Whose data it is: another user's is not there, over every wire and straight at instances.

The column of the matrix (test_edge_matrix.py) that access tokens do not decide. Methods and scopes come from the
descriptors; which kinds of resources have owners, from the tables of edge_requests.py.
"""

import uuid
from dataclasses import dataclass
from typing import Any

import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message_factory import GetMessageClass

from tests.integration import edge_requests
from tests.integration.edge_calls import HTTP, INVALID, METHODS, NOT_FOUND, OK, Answer, Edge, Instances, Target, method
from tests.integration.edge_calls import edge as edge
from tests.integration.edge_calls import instances as instances
from tests.integration.edge_requests import OWNERS_METHODS, Resources
from tests.integration.edge_requests import resources as resources
from tests.integration.effects import Effects, none_of
from tests.integration.effects import effects as effects
from weft.orders.v1 import orders_pb2
from weft_protos import declared

pytestmark = pytest.mark.calls

OWNERS = pytest.mark.parametrize("descriptor", OWNERS_METHODS, ids=lambda one: one.name)


@dataclass(frozen=True)
class Shop:
    """One order of one customer, and another customer who wants it."""

    owner: str
    thief: str
    order: str


@pytest.fixture(scope="module")
def shop(resources: Resources) -> Shop:
    owner, thief = resources.customer().id, resources.customer().id
    return Shop(owner, thief, resources.of("orders", owner))


def get_order(name: str) -> Target:
    return Target.of(method("GetOrder"), orders_pb2.GetOrderRequest(name=name))


def test_an_order_is_its_owners_to_read_over_every_wire(edge: Edge, shop: Shop) -> None:
    answers = edge.everywhere(get_order(shop.order), edge.token(user=shop.owner))

    (order,) = answers["grpc"].answers
    assert isinstance(order, orders_pb2.Order)
    assert (shop.order, f"users/{shop.owner}") == (order.name, order.user)
    assert [2] == [item.quantity for item in order.items]
    assert [(order,)] * 4 == [answer.answers for answer in answers.values()]


def test_an_order_can_be_watched_over_every_wire(edge: Edge, shop: Shop) -> None:
    target = Target.of(method("WatchOrder"), orders_pb2.WatchOrderRequest(name=shop.order))

    answers = edge.everywhere(target, edge.token(user=shop.owner))

    (seen,) = answers["grpc"].answers
    assert isinstance(seen, orders_pb2.WatchOrderResponse)
    assert shop.order == seen.order.name
    assert [(seen,)] * 4 == [answer.answers for answer in answers.values()]


# Nobody is forgotten ------------------------------------------------------------------------------------------------


def test_every_kind_of_resource_that_a_request_names_is_somebodys_or_nobodys() -> None:
    named = {kind for one in METHODS for kind in edge_requests.collections(one).values()}

    assert set() == edge_requests.OWNED.keys() & edge_requests.NOBODYS.keys()
    assert named == edge_requests.OWNED.keys() | edge_requests.NOBODYS.keys()


def test_every_method_of_an_owned_resource_tells_owners_apart_or_is_for_administrators() -> None:
    owned = {one.name for one in METHODS if edge_requests.owned(one)}

    assert owned == {one.name for one in OWNERS_METHODS} | edge_requests.ADMINISTRATION
    assert {"CancelOrder", "CancelReport", "DeleteSession", "GetOrder", "GetReport", "GetUser", "UpdateUser"} <= {
        one.name for one in OWNERS_METHODS
    }
    assert {"WatchOrder"} == {one.name for one in OWNERS_METHODS if one.server_streaming}


def test_every_method_that_names_no_resource_makes_or_lists_ones_own_or_has_nobodys() -> None:
    unnamed = [one.name for one in METHODS if not edge_requests.collections(one)]
    tables = [*edge_requests.LISTS, *edge_requests.MAKERS, *edge_requests.UNNAMED]

    assert sorted(unnamed) == sorted(tables)


# Nobody gets at another's -------------------------------------------------------------------------------------------


def everywhere(edge: Edge, instances: Instances, target: Target, token: str) -> list[Answer]:
    """The answers of all wires and all instances."""
    return [edge.ask(wire, target, token) for wire in edge.wires] + instances.ask(target, token)


@OWNERS
def test_what_is_another_users_is_not_found_exactly_like_what_is_not_there(
    edge: Edge, instances: Instances, resources: Resources, effects: Effects, descriptor: MethodDescriptor
) -> None:
    owner, thief = resources.customer().id, resources.customer().id
    kind = edge_requests.owned(descriptor)
    there = f"users/{owner}" if kind == "users" else resources.of(kind, owner)
    absent = edge_requests.absent(kind)
    reasons = {error.reason for error in declared.errors(descriptor) if error.code == "NOT_FOUND"}
    for scope in edge_requests.owners_scopes(descriptor):
        mine, token, errors = edge.token(scope, user=owner), edge.token(scope, user=thief), list[str]()
        with none_of(effects):
            for name in (there, absent):
                target = Target.of(descriptor, edge_requests.well_formed(descriptor, {kind: name}))
                answer = edge.refused(target, token, http=HTTP[NOT_FOUND])
                for each in (answer, *instances.ask(target, token)):
                    assert NOT_FOUND == each.code
                    assert each.reason in reasons
                    errors.append(repr(each.error).replace(name, "RESOURCE"))

        # Word for word, wherever it is asked.
        assert 1 == len(set(errors))
        # And it was there all the time: its owner is not told that it is not. (A report may be done meanwhile.)
        target = Target.of(descriptor, edge_requests.well_formed(descriptor, {kind: there}))
        answer = edge.ask(edge.wires[0], target, mine)
        assert OK == answer.code or "REPORT_FINISHED" == answer.reason


def names(answer: Answer) -> list[str]:
    """The resources that a page lists."""
    page: Any = answer.answers[0]
    (listed,) = (value for field, value in page.ListFields() if field.is_repeated)
    return [one.name for one in listed]


@pytest.mark.parametrize("name", sorted(edge_requests.LISTS))
def test_a_list_holds_nothing_of_another_and_nobody_goes_on_with_anothers_page(
    edge: Edge, instances: Instances, resources: Resources, effects: Effects, name: str
) -> None:
    descriptor, kind = method(name), edge_requests.LISTS[name]
    owner, thief = resources.customer().id, resources.customer().id
    (scope,) = edge_requests.owners_scopes(descriptor)
    mine, token = edge.token(scope, user=owner), edge.token(scope, user=thief)
    theirs = {resources.of(kind, owner) for _ in range(2)}
    request: Any = edge_requests.well_formed(descriptor, {})
    whole = Target.of(descriptor, request)
    assert 2 == request.page_size
    request.page_size = 1
    page: Any = edge.ask(edge.wires[0], Target.of(descriptor, request), mine).answers[0]
    assert page.next_page_token
    request.page_token = page.next_page_token

    assert theirs == set(names(edge.ask(edge.wires[0], whole, mine)))
    with none_of(effects):
        listed = everywhere(edge, instances, whole, token)
        went_on = everywhere(edge, instances, Target.of(descriptor, request), token)

    empty = GetMessageClass(descriptor.output_type)()
    assert [(OK, (empty,))] * len(listed) == [(answer.code, answer.answers) for answer in listed]
    assert [(INVALID, ["page_token"])] * len(went_on) == [(answer.code, answer.fields) for answer in went_on]


@pytest.mark.parametrize("name", sorted(edge_requests.MAKERS))
def test_a_request_id_of_another_is_as_new_as_any(
    edge: Edge, instances: Instances, resources: Resources, name: str
) -> None:
    descriptor = method(name)
    owner, thief = resources.customer().id, resources.customer().id
    (scope,) = edge_requests.owners_scopes(descriptor)
    target = Target.of(descriptor, resources.asked(descriptor, owner))
    first: Any = edge.ask(edge.wires[0], target, edge.token(scope, user=owner)).answers[0]

    answers = everywhere(edge, instances, target, edge.token(scope, user=thief))

    # One of the other's own, the same for each repetition.
    assert {OK} == {answer.code for answer in answers}
    made: list[Any] = [answer.answers[0] for answer in answers]
    assert 1 == len({one.name for one in made})
    assert first.name != made[0].name


def test_a_thief_leaves_no_trace(edge: Edge, shop: Shop) -> None:
    cancel = orders_pb2.CancelOrderRequest(name=shop.order, request_id=str(uuid.uuid4()))
    edge.everywhere(Target.of(method("CancelOrder"), cancel), edge.token(user=shop.thief))

    order: Any = edge.wires[0].call(get_order(shop.order), edge.token(user=shop.owner)).answers[0]

    assert (1, orders_pb2.Order.STATE_PLACED) == (order.revision, order.state)
