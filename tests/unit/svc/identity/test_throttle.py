"""Guessing passwords gets slow, for addresses of users and of nobody alike."""

from datetime import timedelta

import pytest

from svc.chassis.errors import AppError, InvalidArgument, ResourceExhausted, Unauthenticated
from svc.identity import usecases
from svc.identity.model import FAILURES_WINDOW, FREE_FAILURES, PAUSE_MAX
from svc.identity.usecases import NewUser
from tests.fakes.identity import World, make_call, make_world

ANONYMOUS = make_call(None)
ANN, NOBODY, UNPRINTABLE = "ann@example.com", "nobody@example.com", "nobody@example.com\x00"
ADDRESSES = [ANN, NOBODY, UNPRINTABLE]
ALMOST_NOTHING = timedelta(milliseconds=1)


@pytest.fixture
def world() -> World:
    world = make_world()
    ann = NewUser(id="ann", email=ANN, display_name="Ann", password="correct horse")
    usecases.create_user(world.ports, ann, call=ANONYMOUS)
    return world


def sign_in(world: World, email: str = ANN, password: str = "correct horse", *scopes: str) -> None:
    usecases.create_session(world.ports, email, password, requested_scopes=scopes, call=ANONYMOUS)


def refused(world: World, email: str = ANN, password: str = "wrong") -> AppError:
    with pytest.raises(AppError) as refusal:
        sign_in(world, email, password)
    return refusal.value


def fail(world: World, times: int, email: str = ANN) -> None:
    for _ in range(times):
        assert isinstance(refused(world, email), Unauthenticated)


@pytest.mark.parametrize("email", ADDRESSES)
def test_after_five_failures_no_password_is_looked_at(world: World, email: str) -> None:
    fail(world, FREE_FAILURES, email)

    refusal = refused(world, email, "correct horse")

    assert (ResourceExhausted, "SIGN_IN_THROTTLED", 1.0) == (type(refusal), refusal.reason, refusal.retry_after)
    assert isinstance(refusal, ResourceExhausted)
    limit = "5 failures to sign in with one address in 15 minutes"
    assert ((("email", limit),), {"limit": limit}) == (refusal.violations, refusal.metadata)
    assert FREE_FAILURES == len(world.passwords.verified)


@pytest.mark.parametrize("email", ADDRESSES)
def test_each_further_failure_doubles_the_pause_up_to_fifteen_minutes(world: World, email: str) -> None:
    fail(world, FREE_FAILURES, email)
    pauses = []
    for _ in range(12):
        pause = refused(world, email).retry_after
        assert pause is not None
        pauses.append(pause)
        world.clock.move(timedelta(seconds=pause))
        fail(world, 1, email)

    assert [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 900.0, 900.0] == pauses
    assert PAUSE_MAX.total_seconds() == max(pauses)


def test_asking_during_a_pause_does_not_make_it_longer(world: World) -> None:
    fail(world, FREE_FAILURES)
    before = dict(world.memory.failures)

    refused(world)
    refused(world)

    assert before == world.memory.failures


def test_the_case_of_an_address_is_no_way_around(world: World) -> None:
    fail(world, FREE_FAILURES)

    assert "SIGN_IN_THROTTLED" == refused(world, ANN.upper()).reason


def test_one_address_does_not_slow_another(world: World) -> None:
    fail(world, FREE_FAILURES, NOBODY)

    sign_in(world)


def test_the_right_password_after_a_pause_clears_everything(world: World) -> None:
    fail(world, FREE_FAILURES)
    world.clock.move(timedelta(seconds=1))

    sign_in(world)

    assert {} == world.memory.failures
    fail(world, FREE_FAILURES)


def test_the_right_password_clears_even_where_the_session_is_refused(world: World) -> None:
    fail(world, FREE_FAILURES - 1)

    with pytest.raises(InvalidArgument):
        sign_in(world, ANN, "correct horse", "catalog.write")

    assert {} == world.memory.failures


def test_failures_further_apart_than_the_window_are_free(world: World) -> None:
    fail(world, FREE_FAILURES - 1)
    world.clock.move(FAILURES_WINDOW)

    fail(world, FREE_FAILURES)

    assert "SIGN_IN_THROTTLED" == refused(world).reason


def test_a_window_is_not_moved_on_by_failures_in_it(world: World) -> None:
    fail(world, 1)
    world.clock.move(FAILURES_WINDOW - ALMOST_NOTHING)
    fail(world, 1)
    world.clock.move(ALMOST_NOTHING)

    fail(world, FREE_FAILURES - 1)
    fail(world, 1)


def test_patience_through_one_pause_earns_no_free_attempts(world: World) -> None:
    fail(world, FREE_FAILURES)
    world.clock.move(FAILURES_WINDOW)

    fail(world, 1)

    assert 2.0 == refused(world).retry_after


def test_an_attempt_whose_password_nobody_looked_at_does_not_count(world: World) -> None:
    for _ in range(2 * FREE_FAILURES):
        world.passwords.busy = ResourceExhausted("busy", reason="BUSY", retry_after=1.0)
        assert "BUSY" == refused(world).reason

    assert {} == world.memory.failures
    fail(world, 1)
    world.passwords.busy = ResourceExhausted("busy", reason="BUSY", retry_after=1.0)
    assert "BUSY" == refused(world).reason
    assert [1] == [known.count for known in world.memory.failures.values()]


def test_an_attempt_counts_while_its_password_is_being_checked(world: World) -> None:
    def meanwhile(password: str, password_hash: str | None, **options: object) -> bool:
        counts.append(next(iter(world.memory.failures.values())).count)
        if len(counts) < FREE_FAILURES:
            refused(world)
        else:
            last.append(refused(world))
        return False

    counts: list[int] = []
    last: list[AppError] = []
    world.passwords.verify = meanwhile  # type: ignore[method-assign]

    refused(world)

    assert list(range(1, FREE_FAILURES + 1)) == counts
    assert ["SIGN_IN_THROTTLED"] == [refusal.reason for refusal in last]


def test_what_strangers_typed_is_not_kept(world: World) -> None:
    fail(world, 1, NOBODY)

    assert NOBODY not in repr(world.memory.failures)
    assert [32] == [len(digest) for digest in world.memory.failures]
