"""The list of revocations: what the database says, published by every instance, bounded, and put right."""

import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from svc.chassis.context import Deadline, Principal
from svc.chassis.database import Transaction
from svc.chassis.errors import Unauthenticated, Unavailable
from svc.chassis.revocations import Revocations, SubjectRevocation, parse
from svc.identity import revocations, usecases
from svc.identity.model import REVOCATION_WINDOW, EndedSession, SessionRecord, User, UserState
from svc.identity.revocations import SESSIONS_PER_USER, RevocationFeed, listed
from svc.identity.usecases import NewUser
from tests.fakes.clock import START
from tests.fakes.identity import FakeRevocations, FakeTransactions, World, make_call, make_world

ANONYMOUS = make_call(None)
ADMIN = make_call("root", scopes=["identity.admin"])
NOW_S = int(START.timestamp())
WINDOW_S = int(REVOCATION_WINDOW.total_seconds())
EMPTY = b'{"sessions":{},"subjects":{}}'


@pytest.fixture
def world() -> World:
    world = make_world()
    ann = NewUser(id="ann", email="ann@example.com", display_name="Ann", password="correct horse")
    usecases.create_user(world.ports, ann, call=ANONYMOUS)
    return world


def make_feed(world: World, publish: Callable[[bytes], None]) -> RevocationFeed:
    return RevocationFeed(world.transactions, FakeRevocations(world.memory), clock=world.clock, publish=publish)


def refreshed(feed: RevocationFeed) -> None:
    feed.refresh(deadline=Deadline.after(10))


def test_at_the_start_there_is_an_empty_list(world: World) -> None:
    published: list[bytes] = []

    refreshed(make_feed(world, published.append))

    assert [EMPTY] == published
    assert Revocations() == parse(EMPTY)


def test_an_ended_session_is_listed_until_none_of_its_tokens_can_live(world: World) -> None:
    published: list[bytes] = []
    feed = make_feed(world, published.append)
    session = usecases.create_session(
        world.ports, "ann@example.com", "correct horse", requested_scopes=[], call=ANONYMOUS
    )
    usecases.delete_session(world.ports, session.record.id, call=make_call("ann"))

    refreshed(feed)
    world.clock.move(REVOCATION_WINDOW - timedelta(seconds=1))
    refreshed(feed)
    world.clock.move(timedelta(seconds=1))
    refreshed(feed)

    assert Revocations(sessions={session.record.id: NOW_S + WINDOW_S}) == parse(published[0])
    assert EMPTY == published[-1]


def test_a_suspended_user_is_listed_and_a_resumed_one_by_time_alone(world: World) -> None:
    published: list[bytes] = []
    feed = make_feed(world, published.append)

    usecases.suspend_user(world.ports, "ann", call=ADMIN)
    refreshed(feed)
    usecases.resume_user(world.ports, "ann", call=ADMIN)
    refreshed(feed)
    world.clock.move(REVOCATION_WINDOW + timedelta(seconds=1))
    refreshed(feed)

    suspended, resumed, after = (parse(document) for document in published)
    assert {"ann": SubjectRevocation(NOW_S + 1, suspended=True)} == suspended.subjects
    assert {"ann": SubjectRevocation(NOW_S + 1)} == resumed.subjects
    assert Revocations() == after


def test_two_instances_publish_the_same(world: World) -> None:
    published: list[bytes] = []
    feeds = [make_feed(world, published.append) for _ in range(2)]
    usecases.suspend_user(world.ports, "ann", call=ADMIN)

    for feed in feeds:
        refreshed(feed)

    assert 1 == len(set(published))


def test_a_list_that_the_registry_holds_is_not_published_again(world: World) -> None:
    published: list[bytes] = []
    feed = make_feed(world, published.append)
    refreshed(feed)
    feed.seen(EMPTY)

    refreshed(feed)

    assert [EMPTY] == published


def test_an_older_list_that_another_instance_published_is_put_right(world: World) -> None:
    published: list[bytes] = []
    feed = make_feed(world, published.append)
    usecases.suspend_user(world.ports, "ann", call=ADMIN)
    refreshed(feed)
    feed.seen(EMPTY)

    refreshed(feed)

    assert 2 == len(published)
    assert published[0] == published[1] != EMPTY


def test_who_signs_out_without_end_crowds_out_nobody() -> None:
    ended = [
        EndedSession(f"s{number}", "ann", START - timedelta(seconds=number)) for number in range(SESSIONS_PER_USER + 1)
    ]
    ended.append(EndedSession("other", "bob", START - timedelta(seconds=SESSIONS_PER_USER + 2)))

    revoked = listed(ended, [])

    assert {"other", *(f"s{number}" for number in range(SESSIONS_PER_USER))} == set(revoked.sessions)
    assert {"ann": SubjectRevocation(NOW_S - SESSIONS_PER_USER + 1)} == revoked.subjects


def test_of_two_times_of_one_user_the_later_counts() -> None:
    ended = [EndedSession(f"s{number}", "ann", START) for number in range(SESSIONS_PER_USER + 1)]
    ann = User("ann", "a@b.cc", "", (), START, START, UserState.SUSPENDED, START - timedelta(seconds=9))

    assert {"ann": SubjectRevocation(NOW_S + 1, suspended=True)} == listed(ended, [ann]).subjects
    later = replace(ann, tokens_from=START + timedelta(seconds=9))
    assert {"ann": SubjectRevocation(NOW_S + 9, suspended=True)} == listed(ended, [later]).subjects


def refuses(listed: Revocations, subject: str, session: str, *, issued: int) -> bool:
    try:
        listed.refuse(Principal(subject, frozenset(), session, None, "", issued))
    except Unauthenticated:
        return True
    return False


def sign_out(world: World, number: int, subject: str) -> None:
    """A session of `subject` that ended `number` seconds ago."""
    ended = world.clock.now() - timedelta(seconds=number)
    opened = ended - timedelta(seconds=60)
    record = SessionRecord(f"{subject}-{number}", subject, None, (), opened, opened + timedelta(days=30), ended)
    world.memory.sessions[record.id] = record


@pytest.fixture
def short_list(monkeypatch: pytest.MonkeyPatch) -> None:
    """At most four sessions and three subjects."""
    monkeypatch.setattr(revocations, "SESSIONS_MAX", 4)
    monkeypatch.setattr(revocations, "SUBJECTS_MAX", 3)


@pytest.mark.usefixtures("short_list")
def test_sessions_beyond_the_longest_list_are_refused_by_their_subjects_times(world: World) -> None:
    published: list[bytes] = []
    sign_out(world, 9, "victim")
    sign_out(world, 8, "victim")
    for number in range(4):
        sign_out(world, number, f"attacker-{number}")

    refreshed(make_feed(world, published.append))

    listed = parse(published[-1])
    assert {f"attacker-{number}-{number}" for number in range(4)} == set(listed.sessions)
    assert {"victim": SubjectRevocation(NOW_S - 7)} == listed.subjects
    assert refuses(listed, "victim", "victim-9", issued=NOW_S - 60)
    assert not refuses(listed, "victim", "another", issued=NOW_S - 7)
    assert not refuses(listed, "bystander", "another", issued=NOW_S - 60)


@pytest.mark.usefixtures("short_list")
def test_subjects_beyond_the_longest_list_are_refused_with_everybody_of_their_time(world: World) -> None:
    published: list[bytes] = []
    for number in range(12):
        sign_out(world, number, f"user-{number}")

    refreshed(make_feed(world, published.append))

    listed = parse(published[-1])
    assert (4, {"user-4", "user-5", "user-6"}) == (len(listed.sessions), set(listed.subjects))
    assert NOW_S - 6 == listed.before
    assert all(
        refuses(listed, f"user-{number}", f"user-{number}-{number}", issued=NOW_S - number) for number in range(12)
    )
    assert not refuses(listed, "bystander", "another", issued=NOW_S - 6)


@pytest.mark.usefixtures("short_list")
def test_a_suspension_is_not_crowded_out_by_later_sign_outs(world: World) -> None:
    published: list[bytes] = []
    usecases.suspend_user(world.ports, "ann", call=ADMIN)
    world.clock.move(timedelta(seconds=60))
    for number in range(12):
        sign_out(world, number, f"user-{number}")

    refreshed(make_feed(world, published.append))

    assert parse(published[-1]).subjects["ann"].suspended


class Flaky(FakeTransactions):
    """Fails at first, once in each way."""

    failures: list[Exception]

    def read(self, work: Callable[[Transaction], object], *, deadline: Deadline) -> object:  # type: ignore[override]
        if self.failures:
            raise self.failures.pop(0)
        return super().read(work, deadline=deadline)


def test_the_feed_goes_on_after_failures_and_ends_when_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(revocations, "EVERY_S", 0.001)
    monkeypatch.setattr(revocations, "GAP_S", 0.001)
    transactions = Flaky(world.memory)
    transactions.failures = [Unavailable("no database"), RuntimeError("a defect")]
    published = threading.Event()
    feed = RevocationFeed(
        transactions, FakeRevocations(world.memory), clock=world.clock, publish=lambda _: published.set()
    )

    feed.start()
    reached = published.wait(10)
    feed.stop()

    assert reached
    assert not feed._thread.is_alive()


def test_the_feed_looks_at_once_when_it_is_woken(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(revocations, "EVERY_S", 3600.0)
    published = threading.Event()
    feed = make_feed(world, lambda _: published.set())
    feed.start()

    feed.wake()

    assert published.wait(10)
    feed.stop()
    assert not feed._thread.is_alive()
