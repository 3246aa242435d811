"""Who may call what: every method of the contracts by every kind of caller, over every wire and straight at instances.

Nothing is listed here: methods, scopes and rules come from the descriptors. Who is to be refused asks for something
that would happen, of a resource that is there and the caller's own, so that authorisation alone stands between; that it
would happen is tried, too. Who is to be let in breaks the contract, and is told so by the field that is wrong. Who is
let in and asks for another's: test_edge_access.py.
"""

import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import protovalidate
import pytest
from google.api import annotations_pb2
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.descriptor_pb2 import MethodOptions
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2

from svc.chassis.clock import SystemClock
from tests.hostile_tokens import Mint
from tests.integration import signing_keys
from tests.integration.edge_calls import (
    DENIED,
    HTTP,
    INVALID,
    METHODS,
    OK,
    UNAUTHENTICATED,
    Answer,
    Edge,
    Instances,
    Target,
    method,
)
from tests.integration.edge_calls import edge as edge
from tests.integration.edge_calls import instances as instances
from tests.integration.edge_requests import OPERATOR, Resources
from tests.integration.edge_requests import resources as resources
from tests.integration.effects import Effects, none_of
from tests.integration.effects import effects as effects
from tests.waiting import eventually
from weft_protos import grounds, policy
from weft_protos.access_token import LIFETIME_S

pytestmark = pytest.mark.calls

EVERY_METHOD = pytest.mark.parametrize("descriptor", METHODS, ids=lambda one: one.full_name.removeprefix("weft."))
#: Longer ago than a token lives, and clocks may differ.
EXPIRED_S = 900
#: Methods that change something, and are asked here by nobody who is let in.
UNTRIED = {
    "CreateUser": "public: nobody is refused",
    "CreateSession": "public: nobody is refused",
    "RefreshSession": "public: nobody is refused",
    "RotateSigningKey": "a mesh has only so many keys at a time; test_rotation.py",
    "RevokeSigningKey": "the key of this request is nobody's; test_rotation.py",
    "RestartProcess": "others would wait for it; test_operations.py",
    "KillProcess": "others would wait for it; test_operations.py",
    "RollService": "others would wait for it; test_operations.py",
    "ScaleService": "others would wait for it; test_operations.py",
    "ReplayDeadLetters": "the letter of this request is not there; test_operations.py",
    "CancelReport": "a worker may be done with it before; test_reports.py",
}
TRIED = [
    one
    for one in METHODS
    if one.GetOptions().idempotency_level != MethodOptions.NO_SIDE_EFFECTS and one.name not in UNTRIED
]


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


@dataclass(frozen=True)
class Expected:
    """What a caller is answered."""

    code: int
    reason: str = ""
    rule: str = ""


@dataclass(frozen=True)
class Caller:
    """Somebody with a token, or nobody."""

    token: str | None
    expected: Expected
    owner: str = OPERATOR
    """Whose the resources of the request are."""

    @property
    def refused(self) -> bool:
        return bool(self.expected.reason)


class Callers:
    """One of each kind."""

    def __init__(self, edge: Edge, key: Mint, suspended: str) -> None:
        self._edge, self._key, self._suspended = edge, key, suspended

    def of(self, descriptor: MethodDescriptor) -> Mapping[str, Caller]:
        """Each kind of caller of a method."""
        rules, every = policy.effective(descriptor), sorted(policy.scopes())
        unfitting = [scope for scope in every if scope not in rules.scopes]
        expired = self._signed(OPERATOR, *every, age_s=EXPIRED_S)
        suspended = self._signed(self._suspended, *every)
        answers = {
            "anonymous": Caller(None, Expected(UNAUTHENTICATED, "TOKEN_MISSING", grounds.TOKEN)),
            "expired": Caller(expired, Expected(UNAUTHENTICATED, "TOKEN_EXPIRED", grounds.TOKEN)),
            "suspended": Caller(
                suspended, Expected(UNAUTHENTICATED, "USER_SUSPENDED", grounds.TOKEN), owner=self._suspended
            ),
            "all other scopes": Caller(
                self._edge.token(*unfitting), Expected(DENIED, "SCOPE_MISSING", grounds.scopes(rules.scopes))
            ),
        }
        if rules.public:
            # Nobody is asked for a token, so a bad one is nobody's.
            return {name: Caller(one.token, Expected(INVALID)) for name, one in answers.items()}
        fitting = {f"with {scope}": Caller(self._edge.token(scope), Expected(INVALID)) for scope in rules.scopes}
        # Signed as the refused ones are, and let in: it is for their age and their user that those are refused.
        genuine = {"of the same key": Caller(self._signed(f"edge-{uuid.uuid4().hex}", *every), Expected(INVALID))}
        return answers | fitting | genuine

    def _signed(self, subject: str, *scopes: str, age_s: int = 0) -> str:
        issued = int(SystemClock().now().timestamp()) - age_s
        names = {"sub": subject, "jti": uuid.uuid4().hex, "sid": uuid.uuid4().hex}
        return self._key.token(scope=" ".join(scopes), iat=issued, exp=issued + LIFETIME_S, **names)


@pytest.fixture(scope="module")
def callers(edge: Edge, instances: Instances, resources: Resources) -> Callers:
    made = Callers(edge, signing_keys.mint(edge.mesh), resources.suspended())
    samples = [harmless(method(name)) for name in ("GetUser", "GetProduct", "GetOrder", "GetSales", "GetMesh")]
    token = made.of(method("GetUser"))["suspended"].token
    eventually(lambda: {"USER_SUSPENDED"} == {answer.reason for one in samples for answer in instances.ask(one, token)})
    return made


def test_the_matrix_is_not_empty() -> None:
    # What it is made of must not become so without a word.
    public = {one.name for one in METHODS if policy.effective(one).public}

    assert {"CreateUser", "CreateSession", "RefreshSession"} == public
    assert len(METHODS) - len(public) >= 20
    assert len(TRIED) >= 10
    assert UNTRIED.keys() <= {one.name for one in METHODS}


def check(answer: Answer, expected: Expected, descriptor: MethodDescriptor) -> None:
    """Code, details, and nothing that is not the caller's."""
    info = answer.detail(error_details_pb2.ErrorInfo)
    owner = policy.service_owner(descriptor.containing_service.full_name)
    assert (expected.code, "weft") == (answer.code, info.domain)
    assert f"{descriptor.containing_service.full_name}/{descriptor.name}" == info.metadata["method"]
    assert info.metadata["contract"].startswith("weft/")
    assert info.metadata["hop"] in {"gateway", owner}
    assert info.metadata["instance"]
    assert not re.search(r"Traceback|File \"|\.py\b|Error\(", answer.message)
    if expected.reason:
        assert (expected.reason, expected.rule) == (info.reason, info.metadata["rule"])
    else:
        assert answer.detail(error_details_pb2.BadRequest).field_violations
    if expected.code == DENIED:
        assert set(policy.effective(descriptor).scopes) == set(info.metadata["scopes"].split())


@EVERY_METHOD
def test_every_kind_of_caller_is_answered_as_the_contract_says_and_nothing_happens(
    edge: Edge,
    instances: Instances,
    callers: Callers,
    resources: Resources,
    effects: Effects,
    descriptor: MethodDescriptor,
) -> None:
    broken, asked = harmless(descriptor), callers.of(descriptor)
    owners = {one.owner for one in asked.values() if one.refused}
    real = {owner: Target.of(descriptor, resources.asked(descriptor, owner)) for owner in owners}
    with none_of(effects):
        for kind, caller in asked.items():
            target, expected = real[caller.owner] if caller.refused else broken, caller.expected
            through = {wire.name: edge.ask(wire, target, caller.token) for wire in edge.wires}
            straight = instances.ask(target, caller.token)

            for answer in (*through.values(), *straight):
                check(answer, expected, descriptor)
            if caller.refused:
                assert len({repr(answer.error) for answer in through.values()}) == 1, kind
            assert HTTP[expected.code] == through["json"].http
            # The line that decided is the same, whoever refuses.
            contracts = {
                answer.detail(error_details_pb2.ErrorInfo).metadata["contract"]
                for answer in (through["grpc"], *straight)
            }
            assert len(contracts) == 1, kind


@pytest.mark.parametrize("descriptor", TRIED, ids=lambda one: one.name)
def test_what_the_refused_asked_for_happens_where_the_caller_is_let_in(
    edge: Edge, resources: Resources, effects: Effects, descriptor: MethodDescriptor
) -> None:
    target = Target.of(descriptor, resources.asked(descriptor, OPERATOR))
    token = edge.token(*policy.effective(descriptor).scopes)
    before = effects.now()

    answer = edge.ask(edge.wires[0], target, token)

    assert (OK, "") == (answer.code, answer.message)
    assert before != effects.now()
