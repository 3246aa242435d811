"""Sessions: opened with a password or by an operator, refreshed once per token, ended for good."""

from datetime import timedelta

import pytest

from svc.chassis.errors import InvalidArgument, NotFound, PermissionDenied, Unauthenticated
from svc.identity import usecases
from svc.identity.model import CUSTOMER_SCOPES, SESSION_LIFETIME, Session
from svc.identity.usecases import NewUser
from tests.fakes.identity import World, make_call, make_world

ANONYMOUS = make_call(None)
ADMIN = make_call("root", scopes=["identity.admin"])
OPERATOR = make_call("operator", scopes=["mesh.operate"])


@pytest.fixture
def world() -> World:
    world = make_world()
    ann = NewUser(id="ann", email="Ann@example.com", display_name="Ann", password="correct horse")
    usecases.create_user(world.ports, ann, call=ANONYMOUS)
    world.memory.events.clear()
    return world


def sign_in(
    world: World, password: str = "correct horse", *, email: str = "ann@example.com", **scopes: list[str]
) -> Session:
    return usecases.create_session(
        world.ports, email, password, requested_scopes=scopes.get("scopes", []), call=ANONYMOUS
    )


def refresh(world: World, token: str) -> Session:
    return usecases.refresh_session(world.ports, token, call=ANONYMOUS)


def delegate(world: World, *scopes: str, user_id: str = "ann") -> Session:
    return usecases.delegate_session(world.ports, user_id, requested_scopes=scopes, call=OPERATOR)


def test_signing_in_gives_a_session_with_the_users_scopes(world: World) -> None:
    session = sign_in(world)

    assert CUSTOMER_SCOPES == session.scopes
    assert f"{session.record.id}|ann||{' '.join(CUSTOMER_SCOPES)}" == session.access_token
    assert session.record == world.memory.sessions[session.record.id]


def test_the_address_is_compared_without_regard_to_case(world: World) -> None:
    assert "ann" == sign_in(world, email="ANN@Example.COM").record.user_id


def test_a_refresh_token_is_long_random_and_kept_only_as_a_hash(world: World) -> None:
    first, second = sign_in(world), sign_in(world)

    assert first.refresh_token != second.refresh_token
    assert 43 == len(first.refresh_token)
    assert {32} == {len(digest) for digest in world.memory.tokens}
    assert first.refresh_token.encode() not in world.memory.tokens


def test_a_session_can_ask_for_fewer_scopes(world: World) -> None:
    assert ("orders.read",) == sign_in(world, scopes=["orders.read"]).scopes


def test_a_session_cannot_have_more_scopes_than_its_user(world: World) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        sign_in(world, scopes=["orders.read", "catalog.write"])

    assert (("scopes", "the user does not have `catalog.write`"),) == refusal.value.violations
    assert {} == world.memory.sessions


@pytest.mark.parametrize(
    ("email", "password", "known"),
    [
        ("ann@example.com", "wrong", True),
        ("nobody@example.com", "correct horse", False),
        ("ann@example.com\x00", "correct horse", False),
    ],
)
def test_wrong_password_and_unknown_user_are_one_answer_after_one_check(
    world: World, email: str, password: str, known: bool
) -> None:
    with pytest.raises(Unauthenticated) as refusal:
        sign_in(world, password, email=email)

    assert "BAD_CREDENTIALS" == refusal.value.reason
    assert [(password, known)] == world.passwords.verified


def test_refreshing_gives_another_token_of_the_same_session(world: World) -> None:
    first = sign_in(world)

    second = refresh(world, first.refresh_token)
    third = refresh(world, second.refresh_token)

    assert first.record == second.record == third.record
    assert 3 == len({first.refresh_token, second.refresh_token, third.refresh_token})


def test_a_refresh_token_used_twice_ends_its_session_for_every_token(world: World) -> None:
    first = sign_in(world)
    second = refresh(world, first.refresh_token)

    with pytest.raises(Unauthenticated) as reuse:
        refresh(world, first.refresh_token)
    with pytest.raises(Unauthenticated) as after:
        refresh(world, second.refresh_token)

    assert ["REFRESH_TOKEN_REUSED", "SESSION_ENDED"] == [reuse.value.reason, after.value.reason]
    assert world.clock.now() == world.memory.sessions[first.record.id].revoke_time


def test_reuse_in_one_session_leaves_others_alone(world: World) -> None:
    stolen, other = sign_in(world), sign_in(world)
    refresh(world, stolen.refresh_token)
    with pytest.raises(Unauthenticated):
        refresh(world, stolen.refresh_token)

    assert other.record == refresh(world, other.refresh_token).record


def test_an_unknown_refresh_token_is_refused(world: World) -> None:
    with pytest.raises(Unauthenticated) as refusal:
        refresh(world, "x" * 43)

    assert "REFRESH_TOKEN_INVALID" == refusal.value.reason


def test_a_session_ends_however_often_it_was_refreshed(world: World) -> None:
    session = sign_in(world)
    world.clock.move(SESSION_LIFETIME - timedelta(seconds=1))
    session = refresh(world, session.refresh_token)
    world.clock.move(timedelta(seconds=1))

    with pytest.raises(Unauthenticated) as refusal:
        refresh(world, session.refresh_token)

    assert "SESSION_ENDED" == refusal.value.reason


def test_a_refreshed_token_has_the_scopes_of_today(world: World) -> None:
    everything, little = sign_in(world), sign_in(world, scopes=["orders.read", "catalog.read"])
    usecases.grant_scopes(world.ports, "ann", scopes=[*CUSTOMER_SCOPES, "identity.admin"], call=ADMIN)

    assert {*CUSTOMER_SCOPES, "identity.admin"} == set(refresh(world, everything.refresh_token).scopes)
    assert ("catalog.read", "orders.read") == refresh(world, little.refresh_token).scopes


def test_an_operator_acts_for_a_user_without_a_refresh_token_and_it_is_told(world: World) -> None:
    session = delegate(world, "orders.read")

    assert ("", "operator", "ann") == (session.refresh_token, session.record.actor, session.record.user_id)
    assert f"{session.record.id}|ann|operator|orders.read" == session.access_token
    (fact,) = world.facts()
    assert ("users/ann", "users/operator", session.record.name) == (fact.user, fact.operator, fact.session)


def test_an_operator_cannot_get_more_than_the_user_has(world: World) -> None:
    with pytest.raises(InvalidArgument):
        delegate(world, "mesh.operate")

    assert ({}, []) == (world.memory.sessions, world.memory.events)


def test_nobody_can_be_acted_for_who_does_not_exist(world: World) -> None:
    with pytest.raises(NotFound):
        delegate(world, user_id="nobody")


def test_acting_for_an_administrator_takes_the_same_power(world: World) -> None:
    usecases.grant_scopes(world.ports, "ann", scopes=["identity.admin"], call=ADMIN)
    equal = make_call("operator", scopes=["mesh.operate", "identity.admin"])

    with pytest.raises(PermissionDenied) as refusal:
        delegate(world)
    session = usecases.delegate_session(world.ports, "ann", requested_scopes=[], call=equal)

    assert "SCOPE_INSUFFICIENT" == refusal.value.reason
    assert ("identity.admin",) == session.scopes


def test_a_delegated_session_cannot_delegate(world: World) -> None:
    call = make_call("boss", scopes=["mesh.operate"], actor="operator")

    with pytest.raises(PermissionDenied) as refusal:
        usecases.delegate_session(world.ports, "ann", requested_scopes=[], call=call)

    assert "DELEGATION_CHAIN" == refusal.value.reason


def test_signing_out_ends_the_session_and_again_changes_nothing(world: World) -> None:
    session = sign_in(world)
    usecases.delete_session(world.ports, session.record.id, call=make_call("ann"))
    ended = world.clock.now()
    world.clock.move(timedelta(seconds=1))
    usecases.delete_session(world.ports, session.record.id, call=make_call("ann"))

    assert ended == world.memory.sessions[session.record.id].revoke_time
    with pytest.raises(Unauthenticated):
        refresh(world, session.refresh_token)


def test_anothers_session_looks_like_none(world: World) -> None:
    session = sign_in(world)

    for session_id in (session.record.id, "none"):
        with pytest.raises(NotFound):
            usecases.delete_session(world.ports, session_id, call=make_call("bob"))

    assert world.memory.sessions[session.record.id].revoke_time is None
