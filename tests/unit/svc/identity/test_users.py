"""Users: created once, seen only by those who may, changed with an event each."""

from datetime import timedelta

import pytest

from svc.chassis.errors import AlreadyExists, InvalidArgument, NotFound, PermissionDenied, Unauthenticated
from svc.identity import usecases
from svc.identity.model import CUSTOMER_SCOPES, User, after_this_second
from svc.identity.usecases import NewUser
from tests.fakes.identity import World, make_call, make_world

ANONYMOUS = make_call(None)
ADMIN = make_call("root", scopes=["identity.admin", "catalog.read", "orders.read", "orders.write"])


def new_user(
    user_id: str = "ann", *, email: str = "ann@example.com", password: str = "correct horse", name: str = "Ann"
) -> NewUser:
    return NewUser(id=user_id, email=email, display_name=name, password=password)


@pytest.fixture
def world() -> World:
    return make_world()


@pytest.fixture
def ann(world: World) -> User:
    user = usecases.create_user(world.ports, new_user(), call=ANONYMOUS)
    world.memory.events.clear()
    return user


def test_a_new_user_has_the_scopes_of_a_customer_and_a_hashed_password(world: World) -> None:
    user = usecases.create_user(world.ports, new_user(), call=ANONYMOUS)

    assert CUSTOMER_SCOPES == user.scopes
    assert "hash of correct horse" == world.memory.users["ann"].password_hash


def test_creating_a_user_tells_the_address_to_those_who_write_mail(world: World) -> None:
    usecases.create_user(world.ports, new_user(), call=ANONYMOUS)

    (fact,) = world.facts()
    assert ("users/ann", "Ann", "ann@example.com") == (fact.user, fact.display_name, fact.email)


def test_a_user_without_an_id_gets_a_random_one(world: World) -> None:
    first = usecases.create_user(world.ports, new_user(""), call=ANONYMOUS)
    second = usecases.create_user(world.ports, new_user("", email="b@example.com"), call=ANONYMOUS)

    assert first.id != second.id
    assert {first.id, second.id} == set(world.memory.users)


@pytest.mark.parametrize(
    ("again", "field"),
    [(new_user(email="other@example.com"), "user_id"), (new_user("bob", email="ANN@example.com"), "email")],
)
@pytest.mark.usefixtures("ann")
def test_an_id_or_address_that_is_taken_is_refused_and_nothing_is_written(
    world: World, again: NewUser, field: str
) -> None:
    with pytest.raises(AlreadyExists) as refusal:
        usecases.create_user(world.ports, again, call=ANONYMOUS)

    assert {"field": field} == refusal.value.metadata
    assert ["ann"] == list(world.memory.users)
    assert [] == world.memory.events


@pytest.mark.parametrize("user_id", ["operator", "OPERATOR", "weft-mail"])
def test_ids_of_the_platform_cannot_be_taken(world: World, user_id: str) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        usecases.create_user(world.ports, new_user(user_id), call=ANONYMOUS)

    assert (("user_id", "is reserved"),) == refusal.value.violations


def test_the_repr_of_a_new_user_shows_no_password() -> None:
    assert "correct horse" not in repr(new_user())


def test_users_read_themselves(world: World, ann: User) -> None:
    assert ann == usecases.get_user(world.ports, "ann", call=make_call("ann"))


def test_an_admin_reads_anyone(world: World, ann: User) -> None:
    assert ann == usecases.get_user(world.ports, "ann", call=ADMIN)


@pytest.mark.usefixtures("ann")
def test_anothers_user_looks_like_none_without_a_look_at_the_database(world: World) -> None:
    bob = make_call("bob")

    refusals = []
    for user_id in ("ann", "nobody"):
        with pytest.raises(NotFound) as refusal:
            usecases.get_user(world.ports, user_id, call=bob)
        refusals.append(refusal.value.reason)

    assert ["USER_NOT_FOUND"] * 2 == refusals
    assert 0 == world.transactions.reads


def test_reading_a_user_takes_a_caller(world: World) -> None:
    with pytest.raises(Unauthenticated):
        usecases.get_user(world.ports, "ann", call=ANONYMOUS)


def test_users_are_listed_in_the_order_of_their_ids_behind_one(world: World) -> None:
    for user_id in ("c", "a", "d", "b"):
        usecases.create_user(world.ports, new_user(user_id, email=f"{user_id}@example.com"), call=ANONYMOUS)

    users = usecases.list_users(world.ports, after="a", limit=2, call=ADMIN)

    assert ["b", "c"] == [user.id for user in users]


@pytest.mark.parametrize("fields", [[], ["display_name"], ["*"]])
@pytest.mark.usefixtures("ann")
def test_a_change_of_name_is_stored_and_told(world: World, fields: list[str]) -> None:
    world.clock.move(timedelta(seconds=1))

    user = usecases.update_user(world.ports, "ann", display_name="Anna", fields=fields, call=make_call("ann"))

    assert user == world.memory.users["ann"].user
    assert ("Anna", world.clock.now()) == (user.display_name, user.update_time)
    (fact,) = world.facts()
    assert ("users/ann", ["display_name"]) == (fact.user, list(fact.fields))


def test_a_change_to_the_same_name_is_none(world: World, ann: User) -> None:
    world.clock.move(timedelta(seconds=1))

    assert ann == usecases.update_user(world.ports, "ann", display_name="Ann", fields=[], call=make_call("ann"))
    assert [] == world.memory.events


@pytest.mark.usefixtures("ann")
def test_a_field_that_cannot_be_changed_is_named(world: World) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        usecases.update_user(
            world.ports, "ann", display_name="x", fields=["display_name", "email"], call=make_call("ann")
        )

    ((field, description),) = refusal.value.violations
    assert "update_mask" == field
    assert "`email`" in description


@pytest.mark.usefixtures("ann")
def test_nobody_changes_another_user(world: World) -> None:
    with pytest.raises(NotFound):
        usecases.update_user(world.ports, "ann", display_name="x", fields=[], call=make_call("bob"))


@pytest.mark.usefixtures("ann")
def test_granting_replaces_the_scopes_and_tells_it_once(world: World) -> None:
    for _ in range(2):
        user = usecases.grant_scopes(world.ports, "ann", scopes=["orders.read", "catalog.read"], call=ADMIN)

    assert ("catalog.read", "orders.read") == user.scopes == world.memory.users["ann"].user.scopes
    (fact,) = world.facts()
    assert ["scopes"] == list(fact.fields)


@pytest.mark.usefixtures("ann")
def test_a_scope_that_no_contract_names_is_refused_by_its_place(world: World) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        usecases.grant_scopes(world.ports, "ann", scopes=["orders.read", "orders.fly"], call=ADMIN)

    assert (("scopes[1]", "no contract names `orders.fly`"),) == refusal.value.violations


@pytest.mark.usefixtures("ann")
def test_nobody_gives_a_scope_that_they_do_not_have_not_even_to_themselves(world: World) -> None:
    before = world.memory.users["ann"].user

    for call in (ADMIN, make_call("ann", scopes=["identity.admin"])):
        with pytest.raises(PermissionDenied) as refusal:
            usecases.grant_scopes(
                world.ports, "ann", scopes=["orders.read", "mesh.operate", "catalog.write"], call=call
            )
        assert ("SCOPE_NOT_GRANTABLE", {"scopes": "catalog.write mesh.operate"}) == (
            refusal.value.reason,
            refusal.value.metadata,
        )

    assert (before, []) == (world.memory.users["ann"].user, world.memory.events)


@pytest.mark.usefixtures("ann")
def test_what_a_user_has_already_may_stay_and_be_taken_by_who_does_not_have_it(world: World) -> None:
    held = world.memory.users["ann"].user.scopes
    little = make_call("root", scopes=["identity.admin"])

    usecases.grant_scopes(world.ports, "ann", scopes=[*held, "identity.admin"], call=little)
    user = usecases.grant_scopes(world.ports, "ann", scopes=[], call=little)

    assert () == user.scopes


@pytest.mark.usefixtures("ann")
def test_taking_a_scope_ends_the_tokens_and_sessions_that_have_it_and_giving_one_ends_nothing(world: World) -> None:
    held = world.memory.users["ann"].user.scopes
    session = usecases.create_session(
        world.ports, "ann@example.com", "correct horse", requested_scopes=[], call=make_call(None)
    )

    given = usecases.grant_scopes(world.ports, "ann", scopes=[*held, "identity.admin"], call=ADMIN)
    session = usecases.refresh_session(world.ports, session.refresh_token, call=make_call(None))
    assert given.tokens_from is None

    taken = usecases.grant_scopes(world.ports, "ann", scopes=held, call=ADMIN)
    with pytest.raises(Unauthenticated) as refusal:
        usecases.refresh_session(world.ports, session.refresh_token, call=make_call(None))

    assert after_this_second(world.clock.now()) == taken.tokens_from
    assert "SESSION_ENDED" == refusal.value.reason
    # Told after the commit.
    assert 2 == world.announced[-1]


def test_granting_to_nobody_is_not_found(world: World) -> None:
    with pytest.raises(NotFound):
        usecases.grant_scopes(world.ports, "nobody", scopes=[], call=ADMIN)
