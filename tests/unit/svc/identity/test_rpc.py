"""IdentityService in protobuf: names, pages and times are those of the contract."""

from datetime import UTC

import pytest

from svc.chassis.errors import InvalidArgument
from svc.chassis.pages import PageTokens
from svc.chassis.server import Limits, Server
from svc.chassis.tokens import TokenVerifier
from svc.identity.model import CUSTOMER_SCOPES
from svc.identity.rpc import IdentityHandler
from tests.fakes.clock import START, FakeClock
from tests.fakes.identity import World, make_call, make_world
from weft.identity.v1 import identity_pb2

ANONYMOUS = make_call(None)
ADMIN = make_call("root", scopes=["identity.admin", "orders.read"])
ANN = make_call("ann")


@pytest.fixture
def world() -> World:
    return make_world()


@pytest.fixture
def handler(world: World) -> IdentityHandler:
    return IdentityHandler(world.ports, PageTokens(b"k" * 32))


def create(handler: IdentityHandler, user_id: str = "ann") -> identity_pb2.User:
    request = identity_pb2.CreateUserRequest(
        user_id=user_id, email=f"{user_id}@example.com", display_name="Ann", password="correct horse"
    )
    return handler.CreateUser(request, ANONYMOUS)


def sign_in(handler: IdentityHandler) -> identity_pb2.Session:
    request = identity_pb2.CreateSessionRequest(email="ann@example.com", password="correct horse")
    return handler.CreateSession(request, ANONYMOUS)


def test_the_handler_has_every_method_of_the_contract(handler: IdentityHandler) -> None:
    service = identity_pb2.DESCRIPTOR.services_by_name["IdentityService"]

    Server([(service, handler)], verifier=TokenVerifier(FakeClock()), limits=Limits(threads=1, streams=0))


def test_a_created_user_is_answered_whole(handler: IdentityHandler) -> None:
    user = create(handler)

    assert ("users/ann", "ann@example.com", "Ann") == (user.name, user.email, user.display_name)
    assert list(CUSTOMER_SCOPES) == list(user.scopes)
    assert START == user.create_time.ToDatetime(UTC) == user.update_time.ToDatetime(UTC)


def test_a_session_is_answered_whole(handler: IdentityHandler) -> None:
    create(handler)

    session = sign_in(handler)

    assert session.name.startswith("sessions/")
    assert ("users/ann", 300) == (session.user, session.expires_in.seconds)
    assert session.access_token
    assert session.refresh_token
    assert list(CUSTOMER_SCOPES) == list(session.scopes)


def test_a_session_goes_its_way_from_refresh_to_end(handler: IdentityHandler) -> None:
    create(handler)
    session = sign_in(handler)

    again = handler.RefreshSession(identity_pb2.RefreshSessionRequest(refresh_token=session.refresh_token), ANONYMOUS)
    handler.DeleteSession(identity_pb2.DeleteSessionRequest(name=session.name), ANN)

    assert session.name == again.name


def test_a_delegated_session_has_no_refresh_token(handler: IdentityHandler) -> None:
    create(handler)
    request = identity_pb2.DelegateSessionRequest(name="users/ann", scopes=["orders.read"])

    session = handler.DelegateSession(request, make_call("operator", scopes=["mesh.operate"]))

    assert ("", ["orders.read"]) == (session.refresh_token, list(session.scopes))


def test_a_user_is_read_changed_and_granted_scopes(handler: IdentityHandler) -> None:
    created = create(handler)
    update = identity_pb2.UpdateUserRequest(user=identity_pb2.User(name="users/ann", display_name="Anna"))
    update.update_mask.paths.append("display_name")

    assert created == handler.GetUser(identity_pb2.GetUserRequest(name="users/ann"), ANN)
    assert "Anna" == handler.UpdateUser(update, ANN).display_name
    granted = handler.GrantScopes(identity_pb2.GrantScopesRequest(name="users/ann", scopes=["orders.read"]), ADMIN)
    assert ["orders.read"] == list(granted.scopes)


def test_pages_hold_every_user_once(handler: IdentityHandler) -> None:
    for user_id in "edcba":
        create(handler, user_id)

    pages, token = [], ""
    while True:
        page = handler.ListUsers(identity_pb2.ListUsersRequest(page_size=2, page_token=token), ADMIN)
        pages.append([user.name for user in page.users])
        token = page.next_page_token
        if not token:
            break

    assert [["users/a", "users/b"], ["users/c", "users/d"], ["users/e"]] == pages


def test_a_page_has_fifty_users_where_no_size_is_asked_for(handler: IdentityHandler) -> None:
    for number in range(51):
        create(handler, f"u{number}")

    page = handler.ListUsers(identity_pb2.ListUsersRequest(), ADMIN)

    assert 50 == len(page.users)
    assert page.next_page_token


def test_a_forged_page_token_is_refused_by_name(handler: IdentityHandler) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        handler.ListUsers(identity_pb2.ListUsersRequest(page_token="Zm9yZ2Vk"), ADMIN)

    assert ["page_token"] == [field for field, _ in refusal.value.violations]
