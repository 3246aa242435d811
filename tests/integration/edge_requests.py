"""Requests that would do what they ask for, made from the descriptors, and whose the resources are that they name.

A contract says which resources a method names, by its path and by the rules of its fields, and which scopes let a
caller in. That a resource belongs to a user it does not say: `OWNED` and its neighbours do, and test_edge_access.py
fails where a kind of resource, or a method that names none, stands in no table.
"""

import re
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import protovalidate
import pytest
from google.api import annotations_pb2
from google.protobuf.descriptor import Descriptor, MethodDescriptor
from google.protobuf.message import Message
from google.type import date_pb2

from svc.identity.model import ADMINISTRATIVE_SCOPES, CUSTOMER_SCOPES
from tests.integration.edge_calls import METHODS, Edge
from tests.integration.effects import WATCHED
from tests.integration.shop import Customer, Shop, place_request, request_id
from weft.analytics.v1 import analytics_pb2
from weft.identity.v1 import identity_pb2
from weft_protos import policy
from weft_protos.fields import rules_of
from weft_protos.sample_requests import Samples

#: Who runs the mesh.
OPERATOR: Final = "operator"
#: Kinds of resources that belong to one user each, and what one is called that is not there.
OWNED: Final[Mapping[str, str]] = {
    "orders": "orders/{uuid}",
    "reports": "reports/{uuid}",
    "sessions": "sessions/{uuid}",
    "users": "users/edge-{uuid}",
}
#: Kinds that belong to nobody, and why everybody who has the scope may name each of them.
NOBODYS: Final[Mapping[str, str]] = {
    "products": "the shop's, for all to see",
    "stock": "the shop's, for all to see",
    "signingKeys": "the mesh's",
    "methods": "the contracts'",
    "schemas": "the contracts'",
    "meshes": "the mesh's",
    "processes": "the mesh's",
    "services": "the mesh's",
    "queues": "the mesh's; letters are shown without what is sensitive",
    "traces": "the mesh's",
    "mails": "the mailbox's; for operators alone",
}
#: Methods of owned resources that only those may call who are there to act on everybody's.
ADMINISTRATION: Final = frozenset({"DelegateSession", "GrantScopes", "ResumeUser", "SuspendUser"})
#: Methods that name no resource and answer with the caller's own, and of which kind.
LISTS: Final[Mapping[str, str]] = {"ListOrders": "orders", "ListReports": "reports"}
#: Methods that make a resource which is the caller's own, and of which kind.
MAKERS: Final[Mapping[str, str]] = {"PlaceOrder": "orders", "CreateReport": "reports"}
#: The others that name no resource, and why there is nobody's to be had.
UNNAMED: Final[Mapping[str, str]] = {
    "CreateUser": "public: nobody calls",
    "CreateSession": "public: the password says whose",
    "RefreshSession": "public: the refresh token says whose",
    "ListUsers": "for administrators, of everybody",
    "CreateProduct": "products are nobody's",
    "ListProducts": "products are nobody's",
    "GetSales": "sums of everybody's",
    "ListSigningKeys": "signing keys are nobody's",
    "ListAlerts": "of the mesh",
    "ListMails": "for operators alone",
    "ListMethods": "of the contracts",
    "ListQueues": "of the mesh",
    "ListTraces": "of the mesh",
}

_VARIABLE: Final = re.compile(r"\{([^}=]+)=([^}]*)\}")
_COLLECTION: Final = re.compile(r"\^([A-Za-z]+)/")
#: Resource names stand in a request, or in the message that it holds.
_DEPTH_MAX: Final = 2


def collections(descriptor: MethodDescriptor) -> dict[str, str]:
    """The fields of a method's request that hold resource names, by path, and the kind of each."""
    template = _template(descriptor)
    paths = {path: pattern.partition("/")[0] for path, pattern in _VARIABLE.findall(template)}
    return dict(_by_rules(descriptor.input_type)) | paths


def _by_rules(message: Descriptor, above: tuple[str, ...] = ()) -> Iterator[tuple[str, str]]:
    for field in message.fields:
        rules, path = rules_of(field), (*above, field.name)
        strings = rules.repeated.items.string if field.is_repeated else rules.string
        if found := _COLLECTION.match(strings.pattern):
            yield ".".join(path), found[1]
        if field.message_type is not None and len(path) < _DEPTH_MAX:
            yield from _by_rules(field.message_type, path)


def _template(descriptor: MethodDescriptor) -> str:
    rule = descriptor.GetOptions().Extensions[annotations_pb2.http]
    return str(getattr(rule, str(rule.WhichOneof("pattern"))))


def owned(descriptor: MethodDescriptor) -> str:
    """The kind of resource that a method names and that is one user's; empty where it names none."""
    return next((kind for kind in collections(descriptor).values() if kind in OWNED), "")


def owners_scopes(descriptor: MethodDescriptor) -> tuple[str, ...]:
    """The scopes that let a caller in and no further than to what is its own."""
    return tuple(scope for scope in policy.effective(descriptor).scopes if scope not in ADMINISTRATIVE_SCOPES)


#: Every method that has to tell an owner from another user.
OWNERS_METHODS: Final = tuple(one for one in METHODS if owned(one) and owners_scopes(one))


@dataclass(frozen=True)
class _Binding:
    template: str


@dataclass(frozen=True)
class _Method:
    request: str
    bindings: tuple[_Binding, ...]


def well_formed(descriptor: MethodDescriptor, names: Mapping[str, str]) -> Message:
    """A request that keeps its contract, new to everybody; `names`: the resource of each kind that it is about."""
    asked = _Method(descriptor.input_type.full_name, (_Binding(_template(descriptor)),))
    request: Any = Samples(descriptor.input_type.file.pool).request(asked)
    assert request is not None, f"{descriptor.full_name} has no example"
    for path, kind in collections(descriptor).items():
        if kind in names:
            _put(request, path, names[kind])
    if "request_id" in request.DESCRIPTOR.fields_by_name:
        request.request_id = request_id()
    if descriptor.name == "PlaceOrder" and "products" in names:
        request.items[0].product_id = names["products"].removeprefix("products/")
    assert not protovalidate.collect_violations(request), f"{descriptor.full_name} would be refused for its fields"
    return request  # type: ignore[no-any-return]


def _put(request: Any, path: str, name: str) -> None:
    *holders, leaf = path.split(".")
    for holder in holders:
        request = getattr(request, holder)
    if request.DESCRIPTOR.fields_by_name[leaf].is_repeated:
        getattr(request, leaf)[:] = [name]
    else:
        setattr(request, leaf, name)


def absent(kind: str) -> str:
    """The name of a resource that was never there."""
    return OWNED[kind].format(uuid=uuid.uuid4())


class Resources:
    """Makes what requests are about: each time anew, so that no other test sees it change or end."""

    def __init__(self, edge: Edge) -> None:
        self._shop = Shop(edge.mesh, edge.operator)
        self._customers: dict[str, Customer] = {}
        self._suspended: dict[str, dict[str, str]] = {}

    def customer(self) -> Customer:
        """Somebody with the scopes of a customer, who may ask for reports, too."""
        customer, scopes = self._shop.customer(), (*CUSTOMER_SCOPES, "analytics.write")
        request = identity_pb2.GrantScopesRequest(name=customer.name, scopes=scopes)
        self._shop.operator.call(self._shop.identity.GrantScopes, request)
        self._customers[customer.id] = customer
        return customer

    def suspended(self) -> str:
        """The id of somebody who has one of everything and is suspended."""
        customer = self.customer()
        mine = {kind: self.of(kind, customer.id) for kind in ("orders", "reports", "sessions")}
        self._suspended[customer.id] = mine
        self._suspend(customer.name)
        return customer.id

    def of(self, kind: str, owner: str) -> str:
        """The name of a resource of a kind; of its owner's own, where the kind has owners."""
        if kind in self._suspended.get(owner, {}):
            return self._suspended[owner][kind]
        operator, user = self._shop.operator, None if owner == OPERATOR else owner
        match kind:
            case "products" | "stock":
                return f"{kind}/{self._shop.product(stock=5)}"
            case "orders":
                placed = place_request({self._shop.product(stock=5): 2})
                return str(operator.call(self._shop.orders.PlaceOrder, placed, user=user).name)
            case "reports":
                asked = analytics_pb2.CreateReportRequest(
                    kind=analytics_pb2.Report.KIND_BASKET_PAIRS,
                    start_date=date_pb2.Date(year=2000, month=1, day=1),
                    end_date=date_pb2.Date(year=2000, month=1, day=1),
                    request_id=request_id(),
                )
                return str(operator.call(self._shop.analytics.CreateReport, asked, user=user).name)
            case "sessions":
                return operator.sign_in().name if owner == OPERATOR else self._customers[owner].session.name
            case "users":
                return self._shop.customer().name
        raise LookupError(kind)

    def asked(self, descriptor: MethodDescriptor, owner: str) -> Message:
        """A request that would have its effect, were its caller the owner and let in."""
        kinds = {*collections(descriptor).values(), *(["products"] if descriptor.name == "PlaceOrder" else [])}
        return well_formed(descriptor, {kind: self._meant(descriptor.name, kind, owner) for kind in kinds - _SAMPLED})

    def _meant(self, method: str, kind: str, owner: str) -> str:
        match method, kind:
            case "RotateSigningKey", _:
                listed = self._shop.operator.call(
                    self._shop.identity.ListSigningKeys, identity_pb2.ListSigningKeysRequest()
                )
                return str(listed.signing_keys[0].name)
            case "RevokeSigningKey", _:
                # The one whose success nobody could mend: every session would be out. Nobody has this key.
                return f"signingKeys/{uuid.uuid4().hex}"
            case "ResumeUser", _:
                user = self.of("users", owner)
                self._suspend(user)
                return user
            case _, "processes":
                # What is done to these is seen and does no harm.
                processes = self._shop.mesh.status().processes
                return next(f"processes/{one.name}" for one in processes if one.service == WATCHED)
            case _, "services":
                return f"services/{WATCHED}"
        return self.of(kind, owner)

    def _suspend(self, user: str) -> None:
        self._shop.operator.call(self._shop.identity.SuspendUser, identity_pb2.SuspendUserRequest(name=user))


#: Kinds that are only read, where the contract's own example does: nothing has to be there for a refusal. Nor is there
#: a dead letter of the name that ReplayDeadLetters gives: what lies in queues is other tests'.
_SAMPLED: Final = frozenset({"mails", "meshes", "methods", "queues", "schemas", "traces"})


@pytest.fixture(scope="module")
def resources(edge: Edge) -> Resources:
    """What requests are about."""
    return Resources(edge)
