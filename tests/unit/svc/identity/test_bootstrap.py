"""The operator: made once, and kept what its files and the contracts say."""

from datetime import timedelta

import pytest

from svc.chassis.errors import AlreadyExists
from svc.identity import usecases
from svc.identity.bootstrap import ensure_operator
from svc.identity.usecases import NewUser
from tests.fakes.identity import KNOWN_SCOPES, World, make_call, make_world

ADMIN = make_call("root", scopes=["identity.admin"])


@pytest.fixture
def world() -> World:
    return make_world()


def operator(password: str = "operator password", *, email: str = "operator@example.com") -> NewUser:
    return NewUser(id="operator", email=email, display_name="Operator", password=password)


def test_the_operator_is_created_once_with_every_scope(world: World) -> None:
    for _ in range(2):
        user = ensure_operator(world.ports, operator(), deadline=ADMIN.deadline)

    assert tuple(sorted(KNOWN_SCOPES)) == user.scopes
    assert 1 == len(world.memory.events)


def test_the_operator_follows_its_password_file(world: World) -> None:
    ensure_operator(world.ports, operator(), deadline=ADMIN.deadline)

    ensure_operator(world.ports, operator("another password"), deadline=ADMIN.deadline)

    assert "hash of another password" == world.memory.users["operator"].password_hash


def test_an_operator_who_lost_a_scope_gets_it_back(world: World) -> None:
    ensure_operator(world.ports, operator(), deadline=ADMIN.deadline)
    usecases.grant_scopes(world.ports, "operator", scopes=["orders.read"], call=ADMIN)

    user = ensure_operator(world.ports, operator(), deadline=ADMIN.deadline)

    assert tuple(sorted(KNOWN_SCOPES)) == user.scopes


def test_an_operator_whose_address_is_a_users_stops_the_start(world: World) -> None:
    ann = NewUser(id="ann", email="ann@example.com", display_name="Ann", password="correct horse")
    usecases.create_user(world.ports, ann, call=make_call(None))

    with pytest.raises(AlreadyExists):
        ensure_operator(world.ports, operator(email="ann@example.com"), deadline=ADMIN.deadline)


def test_a_new_address_of_the_operator_is_told(world: World) -> None:
    created = ensure_operator(world.ports, operator(), deadline=ADMIN.deadline)
    world.memory.events.clear()
    world.clock.move(timedelta(days=1))

    user = ensure_operator(world.ports, operator(email="ops@example.com"), deadline=ADMIN.deadline)

    assert ("ops@example.com", created.create_time) == (user.email, user.create_time)
    (fact,) = world.facts()
    assert ["email"] == list(fact.fields)


def test_an_instance_that_comes_second_leaves_the_operator_alone(world: World) -> None:
    def other_instance() -> None:
        ensure_operator(world.ports, operator(), deadline=ADMIN.deadline)

    world.transactions.after_read = other_instance
    ensure_operator(world.ports, operator("another password"), deadline=ADMIN.deadline)

    assert "hash of operator password" == world.memory.users["operator"].password_hash
    assert 1 == len(world.memory.events)
