"""Suspension and revocation: who is shut out gets no token, and what was issued before is worth nothing."""

from dataclasses import replace
from datetime import timedelta

import pytest

from svc.chassis.errors import AppError, FailedPrecondition, NotFound, Unauthenticated
from svc.identity import usecases
from svc.identity.bootstrap import ensure_operator
from svc.identity.model import Session, UserState
from svc.identity.usecases import NewUser
from tests.fakes.identity import World, make_call, make_world

ANONYMOUS = make_call(None)
ADMIN = make_call("root", scopes=["identity.admin"])
OPERATOR = make_call("operator", scopes=["mesh.operate", "identity.admin"])
SECOND = timedelta(seconds=1)


@pytest.fixture
def world() -> World:
    world = make_world()
    ann = NewUser(id="ann", email="ann@example.com", display_name="Ann", password="correct horse")
    usecases.create_user(world.ports, ann, call=ANONYMOUS)
    world.memory.events.clear()
    return world


def sign_in(world: World, password: str = "correct horse") -> Session:
    return usecases.create_session(world.ports, "ann@example.com", password, requested_scopes=[], call=ANONYMOUS)


def refused(work: object, *arguments: object, **options: object) -> AppError:
    assert callable(work)
    with pytest.raises(AppError) as refusal:
        work(*arguments, **options)
    return refusal.value


def test_suspending_is_stored_told_and_announced_after_it_is_so(world: World) -> None:
    world.clock.move(SECOND)

    user = usecases.suspend_user(world.ports, "ann", call=ADMIN)

    assert user == world.memory.users["ann"].user
    assert (UserState.SUSPENDED, world.clock.now()) == (user.state, user.update_time)
    (fact,) = world.facts()
    assert ("users/ann", ["state"]) == (fact.user, list(fact.fields))
    assert [1] == world.announced


def test_suspending_twice_is_once(world: World) -> None:
    first = usecases.suspend_user(world.ports, "ann", call=ADMIN)
    world.clock.move(SECOND)

    assert first == usecases.suspend_user(world.ports, "ann", call=ADMIN)
    assert 1 == len(world.memory.events)


def test_resuming_an_active_user_changes_nothing(world: World) -> None:
    before = world.memory.users["ann"].user

    assert before == usecases.resume_user(world.ports, "ann", call=ADMIN)
    assert [] == world.memory.events


@pytest.mark.parametrize("change", [usecases.suspend_user, usecases.resume_user])
def test_nobody_has_no_state(world: World, change: object) -> None:
    assert isinstance(refused(change, world.ports, "nobody", call=ADMIN), NotFound)


@pytest.mark.parametrize("call", [OPERATOR, ADMIN, make_call("boss", scopes=["identity.admin"], actor="operator")])
def test_nobody_suspends_the_operator(world: World, call: object) -> None:
    operator = NewUser(id="operator", email="op@example.com", display_name="", password="operator password")
    ensure_operator(world.ports, operator, deadline=ADMIN.deadline)

    assert isinstance(refused(usecases.suspend_user, world.ports, "operator", call=call), FailedPrecondition)
    assert UserState.ACTIVE is world.memory.users["operator"].user.state


def test_nobody_suspends_themselves(world: World) -> None:
    call = make_call("ann", scopes=["identity.admin"])

    assert "SELF_SUSPENSION" == refused(usecases.suspend_user, world.ports, "ann", call=call).reason


def test_a_suspended_user_who_knows_the_password_is_told_so_and_a_stranger_is_not(world: World) -> None:
    usecases.suspend_user(world.ports, "ann", call=ADMIN)

    owner, stranger = refused(sign_in, world), refused(sign_in, world, "wrong")

    assert (FailedPrecondition, "USER_SUSPENDED") == (type(owner), owner.reason)
    assert (Unauthenticated, "BAD_CREDENTIALS") == (type(stranger), stranger.reason)
    assert {} == world.memory.sessions


def test_a_suspended_user_cannot_be_acted_for(world: World) -> None:
    usecases.suspend_user(world.ports, "ann", call=ADMIN)

    refusal = refused(usecases.delegate_session, world.ports, "ann", requested_scopes=[], call=OPERATOR)

    assert (FailedPrecondition, "USER_SUSPENDED") == (type(refusal), refusal.reason)
    assert {} == world.memory.sessions


def test_sessions_from_before_a_suspension_never_come_back(world: World) -> None:
    session = sign_in(world)
    usecases.suspend_user(world.ports, "ann", call=ADMIN)
    during = refused(usecases.refresh_session, world.ports, session.refresh_token, call=ANONYMOUS)
    usecases.resume_user(world.ports, "ann", call=ADMIN)

    after = refused(usecases.refresh_session, world.ports, session.refresh_token, call=ANONYMOUS)

    assert ["USER_SUSPENDED", "SESSION_ENDED"] == [during.reason, after.reason]


def test_a_token_of_the_second_of_the_resumption_says_that_it_is_of_later(world: World) -> None:
    usecases.suspend_user(world.ports, "ann", call=ADMIN)
    resumed = usecases.resume_user(world.ports, "ann", call=ADMIN)

    session = sign_in(world)
    again = usecases.refresh_session(world.ports, session.refresh_token, call=ANONYMOUS)

    assert session.record == again.record
    assert [resumed.tokens_from, resumed.tokens_from] == world.tokens.issued
    assert resumed.tokens_from is not None
    assert world.clock.now() < resumed.tokens_from <= world.clock.now() + SECOND


def test_who_is_suspended_while_signing_in_gets_nothing(world: World) -> None:
    def meanwhile(password: str, password_hash: str | None, **options: object) -> bool:
        usecases.suspend_user(world.ports, "ann", call=ADMIN)
        usecases.resume_user(world.ports, "ann", call=ADMIN)
        return True

    world.passwords.verify = meanwhile  # type: ignore[method-assign]

    assert "USER_CHANGED" == refused(sign_in, world).reason
    assert {} == world.memory.sessions


def test_signing_out_and_reuse_are_announced_and_nothing_else_is(world: World) -> None:
    session = sign_in(world)
    usecases.refresh_session(world.ports, session.refresh_token, call=ANONYMOUS)
    refused(usecases.refresh_session, world.ports, "unknown", call=ANONYMOUS)
    assert [] == world.announced

    refused(usecases.refresh_session, world.ports, session.refresh_token, call=ANONYMOUS)
    usecases.delete_session(world.ports, sign_in(world).record.id, call=make_call("ann"))

    assert 2 == len(world.announced)


def test_a_new_password_of_the_operator_ends_what_the_old_one_opened(world: World) -> None:
    def start(password: str) -> None:
        operator = NewUser(id="operator", email="op@example.com", display_name="", password=password)
        ensure_operator(world.ports, operator, deadline=ADMIN.deadline)

    start("operator password")
    session = usecases.create_session(
        world.ports, "op@example.com", "operator password", requested_scopes=[], call=ANONYMOUS
    )
    start("operator password")
    still = usecases.refresh_session(world.ports, session.refresh_token, call=ANONYMOUS)

    start("another password")

    refusal = refused(usecases.refresh_session, world.ports, still.refresh_token, call=ANONYMOUS)
    assert "SESSION_ENDED" == refusal.reason


def test_new_scopes_of_the_operator_end_nothing(world: World) -> None:
    operator = NewUser(id="operator", email="op@example.com", display_name="", password="operator password")
    ensure_operator(world.ports, operator, deadline=ADMIN.deadline)
    known = world.memory.users["operator"]
    world.memory.users["operator"] = replace(known, user=replace(known.user, scopes=("orders.read",)))

    user = ensure_operator(world.ports, operator, deadline=ADMIN.deadline)

    assert user.tokens_from is None
