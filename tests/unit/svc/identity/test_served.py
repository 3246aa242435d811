"""Identity behind the chassis' own server: its tokens open its methods, and refusals name what is wrong."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from svc.chassis.clock import SystemClock
from svc.chassis.config import Address
from svc.chassis.context import Deadline
from svc.chassis.pages import PageTokens
from svc.chassis.server import Limits, Server
from svc.chassis.tokens import TokenVerifier
from svc.contract_tests import records
from svc.contract_tests.records import Record
from svc.contract_tests.replay import States, verify
from svc.identity.bootstrap import ensure_operator
from svc.identity.keys import KeyRing, Seal
from svc.identity.rpc import IdentityHandler
from svc.identity.tokens import TokenSigner
from svc.identity.usecases import NewUser
from tests.fakes.identity import FakeKeys, World, make_world
from weft.identity.v1 import identity_pb2
from weft.identity.v1.identity_pb2_grpc import IdentityServiceStub
from weft_protos import policy

Metadata = tuple[tuple[str, str | bytes], ...]


RECORDS = records.load(Path(__file__).resolve().parents[3] / "contracts", provider="weft.identity.v1.IdentityService")


@pytest.fixture
def channel() -> Iterator[grpc.Channel]:
    clock = SystemClock()
    verifier = TokenVerifier(clock)
    server = Server(
        [(identity_pb2.DESCRIPTOR.services_by_name["IdentityService"], _handler(make_world(), verifier))],
        verifier=verifier,
        limits=Limits(threads=2, streams=0),
    )
    port = server.bind(Address("127.0.0.1", 0))
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as opened:
        yield opened
    server.stop(1.0)


@pytest.fixture
def stub(channel: grpc.Channel) -> IdentityServiceStub:
    return IdentityServiceStub(channel)


def _handler(world: World, verifier: TokenVerifier) -> IdentityHandler:
    clock = SystemClock()
    ring = KeyRing(
        world.transactions, FakeKeys(world.memory), seal=Seal(b"k" * 32), clock=clock, publish=verifier.update
    )
    ring.open(deadline=Deadline.after(10))
    ports = replace(world.ports, clock=clock, tokens=TokenSigner(ring), known_scopes=policy.scopes())
    operator = NewUser(id="operator", email="op@example.com", display_name="", password="operator password")
    ensure_operator(ports, operator, deadline=Deadline.after(10))
    return IdentityHandler(ports, PageTokens(b"k" * 32))


def create(stub: IdentityServiceStub, user_id: str = "ann", *, email: str = "ann@example.com") -> identity_pb2.User:
    return stub.CreateUser(
        identity_pb2.CreateUserRequest(user_id=user_id, email=email, password="correct horse"), timeout=10
    )


def sign_in(stub: IdentityServiceStub, email: str, password: str) -> identity_pb2.Session:
    return stub.CreateSession(identity_pb2.CreateSessionRequest(email=email, password=password), timeout=10)


def bearer(session: identity_pb2.Session) -> Metadata:
    return (("authorization", f"Bearer {session.access_token}"),)


def fields(error: grpc.RpcError) -> list[str]:
    """The fields that a refusal names."""
    assert isinstance(error, grpc.Call)
    status = rpc_status.from_call(error)
    assert status is not None
    violations = error_details_pb2.BadRequest()
    for detail in status.details:
        detail.Unpack(violations)
    return [violation.field for violation in violations.field_violations]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.consumer)
def test_identity_does_what_its_consumers_rely_on(
    record: Record, channel: grpc.Channel, stub: IdentityServiceStub
) -> None:
    states = States()
    states.on("a user")(lambda user_id, email: create(stub, user_id, email=email))
    states.on("no user")(lambda user_id: None)
    operator = sign_in(stub, "op@example.com", "operator password")

    verify(record, channel, states=states, token=operator.access_token)


def test_a_token_of_the_users_opens_the_users_own_methods(stub: IdentityServiceStub) -> None:
    user = create(stub)
    session = sign_in(stub, "ann@example.com", "correct horse")

    read = stub.GetUser(identity_pb2.GetUserRequest(name="users/ann"), metadata=bearer(session), timeout=10)

    assert user == read


def test_the_operator_acts_for_a_user(stub: IdentityServiceStub) -> None:
    create(stub)
    operator = sign_in(stub, "op@example.com", "operator password")

    delegated = stub.DelegateSession(
        identity_pb2.DelegateSessionRequest(name="users/ann"), metadata=bearer(operator), timeout=10
    )

    request = identity_pb2.GetUserRequest(name="users/ann")
    assert "users/ann" == stub.GetUser(request, metadata=bearer(delegated), timeout=10).name
    with pytest.raises(grpc.RpcError) as refusal:
        stub.ListUsers(identity_pb2.ListUsersRequest(), metadata=bearer(delegated), timeout=10)
    assert grpc.StatusCode.PERMISSION_DENIED == refusal.value.code()


@pytest.mark.parametrize("metadata", [(), (("authorization", "Bearer x.y.z"),)])
def test_nobody_reads_a_user_without_a_valid_token(stub: IdentityServiceStub, metadata: Metadata) -> None:
    with pytest.raises(grpc.RpcError) as refusal:
        stub.GetUser(identity_pb2.GetUserRequest(name="users/ann"), metadata=metadata, timeout=10)

    assert grpc.StatusCode.UNAUTHENTICATED == refusal.value.code()


@pytest.mark.parametrize(
    ("user_id", "email", "field"),
    [("ann", "no address", "email"), ("-ann", "ann@example.com", "user_id"), ("operator", "a@b.cc", "user_id")],
)
def test_a_refusal_names_the_field(stub: IdentityServiceStub, user_id: str, email: str, field: str) -> None:
    with pytest.raises(grpc.RpcError) as refusal:
        create(stub, user_id, email=email)

    assert (grpc.StatusCode.INVALID_ARGUMENT, [field]) == (refusal.value.code(), fields(refusal.value))
