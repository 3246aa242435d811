"""Identity on a real database: one suite for stores and fakes, and what only a database can show."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TypeVar

import pytest

import svc.identity
from svc.chassis import outbox
from svc.chassis.clock import SystemClock
from svc.chassis.context import Deadline
from svc.chassis.database import Database
from svc.chassis.errors import AlreadyExists, AppError, ResourceExhausted, Unauthenticated
from svc.chassis.revocations import parse
from svc.identity import facts, usecases
from svc.identity.bootstrap import ensure_operator
from svc.identity.keys import KeyRing, Keys, Seal, new_key, rotate
from svc.identity.model import (
    FREE_FAILURES,
    SESSION_LIFETIME,
    Credentials,
    EndedSession,
    RefreshToken,
    Session,
    SessionRecord,
    SignInFailures,
    User,
    UserState,
    email_key,
)
from svc.identity.ports import Ports, Transactions, Users
from svc.identity.revocations import RevocationFeed, Revoked
from svc.identity.store import FailureStore, KeyStore, RevocationStore, SessionStore, UserStore
from svc.identity.throttle import Failures, Throttle
from svc.identity.usecases import NewUser
from tests.fakes.clock import START
from tests.fakes.identity import (
    KNOWN_SCOPES,
    FakeFailures,
    FakeKeys,
    FakePasswords,
    FakeRevocations,
    FakeSessions,
    FakeTokens,
    FakeTransactions,
    FakeUsers,
    Memory,
    make_call,
)

MIGRATIONS = str(Path(svc.identity.__file__).parent / "migrations")
SEAL = Seal(b"k" * 32)
T = TypeVar("T")


@dataclass(frozen=True)
class Stores:
    """Stores of one kind over one place."""

    transactions: Transactions
    users: Users
    sessions: FakeSessions | SessionStore
    keys: Keys
    revocations: Revoked
    failures: Failures

    def write(self, work: Callable[..., T]) -> T:
        return self.transactions.serializable(work, deadline=Deadline.after(10))

    def read(self, work: Callable[..., T]) -> T:
        return self.transactions.read(work, deadline=Deadline.after(10))


@pytest.fixture
def database(migrated_url: Callable[[str, str], str]) -> Iterator[Database]:
    database = Database(migrated_url("identity", MIGRATIONS), pool_size=8, name="identity")
    yield database
    database.close()


@pytest.fixture(params=["fake", "postgres"])
def stores(request: pytest.FixtureRequest) -> Stores:
    if request.param == "fake":
        memory = Memory()
        return Stores(
            FakeTransactions(memory),
            FakeUsers(memory),
            FakeSessions(memory),
            FakeKeys(memory),
            FakeRevocations(memory),
            FakeFailures(memory),
        )
    database = request.getfixturevalue("database")
    return Stores(database, UserStore(), SessionStore(), KeyStore(), RevocationStore(), FailureStore())


@pytest.fixture
def ports(database: Database) -> Ports:
    return Ports(
        transactions=database,
        users=UserStore(),
        sessions=SessionStore(),
        passwords=FakePasswords(),
        tokens=FakeTokens(),
        keys=KeyRing(database, KeyStore(), seal=SEAL, clock=SystemClock(), publish=lambda _document: None),
        throttle=Throttle(FailureStore(), SystemClock()),
        append=outbox.append,
        announce=lambda: None,
        clock=SystemClock(),
        known_scopes=KNOWN_SCOPES,
    )


def credentials(user_id: str = "ann", *, email: str = "Ann@Example.com") -> Credentials:
    user = User(user_id, email, "Ann ✓ O'Hara", ("orders.read", "orders.write"), START, START)
    return Credentials(user, "a hash")


def session(session_id: str, *, after_s: int = 0) -> SessionRecord:
    begin = START + timedelta(seconds=after_s)
    return SessionRecord(session_id, "ann", None, (), begin, begin + SESSION_LIFETIME)


def new_user(user_id: str = "ann", *, email: str = "ann@example.com") -> NewUser:
    return NewUser(id=user_id, email=email, display_name="Ann", password="correct horse")


def at_once(*work: Callable[[], T]) -> list[T | AppError]:
    """Do everything at the same time; the results, or the refusals, in order."""
    start = threading.Barrier(len(work))

    def one(each: Callable[[], T]) -> T | AppError:
        start.wait(10)
        try:
            return each()
        except AppError as error:
            return error

    with ThreadPoolExecutor(len(work)) as pool:
        return list(pool.map(one, work))


def test_a_user_is_found_as_it_was_inserted(stores: Stores) -> None:
    ann = credentials()
    assert stores.write(lambda tx: stores.users.insert(tx, ann)) is None

    assert ann.user == stores.read(lambda tx: stores.users.get(tx, "ann"))
    assert ann == stores.read(lambda tx: stores.users.find_by_email(tx, email_key("ANN@example.com")))
    assert stores.read(lambda tx: stores.users.get(tx, "bob")) is None
    assert stores.read(lambda tx: stores.users.find_by_email(tx, "bob@example.com")) is None


@pytest.mark.parametrize(
    ("again", "taken"),
    [(credentials(email="b@example.com"), "user_id"), (credentials("bob", email="ann@EXAMPLE.com"), "email")],
)
def test_what_is_taken_is_named(stores: Stores, again: Credentials, taken: str) -> None:
    stores.write(lambda tx: stores.users.insert(tx, credentials()))

    assert taken == stores.write(lambda tx: stores.users.insert(tx, again))


def test_users_come_in_the_order_of_their_ids(stores: Stores) -> None:
    for user_id in ("u3", "u1", "u4", "u2"):
        each = credentials(user_id, email=f"{user_id}@example.com")
        stores.write(lambda tx, each=each: stores.users.insert(tx, each))

    def page(after: str) -> Sequence[str]:
        return [user.id for user in stores.read(lambda tx: stores.users.page(tx, after=after, limit=2))]

    assert [["u1", "u2"], ["u3", "u4"], []] == [page(""), page("u2"), page("u4")]


def test_a_change_keeps_what_it_does_not_name(stores: Stores) -> None:
    ann = credentials()
    stores.write(lambda tx: stores.users.insert(tx, ann))
    later = START + timedelta(hours=1)
    changed = replace(ann.user, display_name="Anna", scopes=(), update_time=later)
    stores.write(lambda tx: stores.users.update(tx, replace(changed, email="ignored@example.com")))

    assert replace(ann, user=changed) == stores.read(lambda tx: stores.users.find_by_email(tx, "ann@example.com"))

    other = Credentials(replace(changed, email="new@example.com", create_time=later), "another hash")
    stores.write(lambda tx: stores.users.replace(tx, other))

    kept = replace(other, user=replace(other.user, create_time=START))
    assert kept == stores.read(lambda tx: stores.users.find_by_email(tx, "new@example.com"))


def test_sessions_and_their_tokens_are_found_as_they_were_changed(stores: Stores) -> None:
    record = replace(session("s1"), actor="operator", requested_scopes=("orders.read",))
    token = RefreshToken(b"\x00digest\xff", "s1")
    stores.write(lambda tx: stores.sessions.insert(tx, record))
    stores.write(lambda tx: stores.sessions.insert_token(tx, token))

    assert record == stores.read(lambda tx: stores.sessions.get(tx, "s1"))
    assert token == stores.read(lambda tx: stores.sessions.find_token(tx, token.digest))
    assert stores.read(lambda tx: stores.sessions.get(tx, "s2")) is None
    assert stores.read(lambda tx: stores.sessions.find_token(tx, b"other")) is None

    revoked, used = replace(record, revoke_time=START), replace(token, use_time=START)
    stores.write(lambda tx: stores.sessions.revoke(tx, revoked))
    stores.write(lambda tx: stores.sessions.use_token(tx, used))

    assert revoked == stores.read(lambda tx: stores.sessions.get(tx, "s1"))
    assert used == stores.read(lambda tx: stores.sessions.find_token(tx, token.digest))


def test_expired_sessions_are_deleted_with_their_tokens_the_oldest_first(stores: Stores) -> None:
    for number in (3, 1, 2):
        record, token = session(f"s{number}", after_s=number), RefreshToken(b"%d" % number, f"s{number}")
        stores.write(lambda tx, record=record: stores.sessions.insert(tx, record))
        stores.write(lambda tx, token=token: stores.sessions.insert_token(tx, token))
    end = START + SESSION_LIFETIME + timedelta(seconds=3)

    deleted = stores.write(lambda tx: stores.sessions.delete_expired(tx, end, limit=2))
    nothing = stores.write(lambda tx: stores.sessions.delete_expired(tx, START, limit=2))

    assert (2, 0) == (deleted, nothing)
    left = [stores.read(lambda tx, n=n: stores.sessions.get(tx, f"s{n}")) is not None for n in (1, 2, 3)]
    tokens = [stores.read(lambda tx, n=n: stores.sessions.find_token(tx, b"%d" % n)) is not None for n in (1, 2, 3)]
    assert [False, False, True] == left == tokens


def test_a_suspension_is_stored_and_read_back_however_the_user_is_read(stores: Stores) -> None:
    ann = credentials()
    stores.write(lambda tx: stores.users.insert(tx, ann))
    suspended = replace(ann.user, state=UserState.SUSPENDED, tokens_from=START)

    stores.write(lambda tx: stores.users.update(tx, suspended))

    assert suspended == stores.read(lambda tx: stores.users.get(tx, "ann"))
    assert [suspended] * 2 == [stores.write(lambda tx: stores.users.get_shared(tx, "ann")) for _ in range(2)]
    assert suspended == stores.write(lambda tx: stores.users.get_locked(tx, "ann"))
    assert stores.write(lambda tx: stores.users.get_shared(tx, "bob")) is None
    assert stores.write(lambda tx: stores.users.get_locked(tx, "bob")) is None


def test_ended_sessions_come_the_latest_first_and_not_too_many_of_one_user(stores: Stores) -> None:
    def end(session_id: str, user_id: str, after_s: int) -> EndedSession:
        time = START + timedelta(seconds=after_s)
        record = replace(session(session_id), user_id=user_id, revoke_time=time)
        stores.write(lambda tx: stores.sessions.insert(tx, record))
        return EndedSession(session_id, user_id, time)

    end("a0", "ann", 0)
    a1, a2, a3, b1 = end("a1", "ann", 1), end("a2", "ann", 2), end("a3", "ann", 3), end("b1", "bob", 1)
    stores.write(lambda tx: stores.sessions.insert(tx, session("open")))

    def ended(per_user: int, limit: int) -> Sequence[EndedSession]:
        return stores.read(lambda tx: stores.revocations.sessions(tx, START, per_user=per_user, limit=limit))

    assert [a3, a2, a1, b1] == list(ended(9, 9))
    assert [a3, a2, b1] == list(ended(2, 9))
    assert [a3, a2] == list(ended(9, 2))

    def latest(until_s: int, limit: int) -> list[tuple[str, datetime]]:
        until = START + timedelta(seconds=until_s)
        found = stores.read(lambda tx: stores.revocations.latest(tx, START, until, limit=limit))
        return list(found.items())

    assert [("ann", a3.revoke_time), ("bob", b1.revoke_time)] == latest(3, 9)
    assert [("ann", a2.revoke_time)] == latest(2, 1)
    assert [] == latest(0, 9)


def test_users_whose_tokens_were_revoked_come_the_latest_first(stores: Stores) -> None:
    users = {}
    for user_id, after_s in (("ann", 1), ("bob", 2), ("old", 0), ("new", None)):
        made = credentials(user_id, email=f"{user_id}@example.com")
        tokens_from = None if after_s is None else START + timedelta(seconds=after_s)
        users[user_id] = replace(made.user, tokens_from=tokens_from)
        stores.write(lambda tx, made=made: stores.users.insert(tx, replace(made, user=users[made.user.id])))

    assert [users["bob"], users["ann"]] == list(stores.read(lambda tx: stores.revocations.users(tx, START, limit=9)))
    assert [users["bob"]] == list(stores.read(lambda tx: stores.revocations.users(tx, START, limit=1)))


def test_failures_to_sign_in_are_stored_replaced_and_forgotten(stores: Stores) -> None:
    first = SignInFailures(b"\x00\xff", 1, START + timedelta(seconds=1))
    second = SignInFailures(b"\x00\xff", 5, START + timedelta(seconds=3), pause_until=START)
    other = SignInFailures(b"other", 1, START + timedelta(seconds=2))
    for each in (first, second, other):
        stores.write(lambda tx, each=each: stores.failures.put(tx, each))

    def kept() -> list[SignInFailures | None]:
        return [stores.read(lambda tx, d=d: stores.failures.get(tx, d)) for d in (b"\x00\xff", b"other", b"none")]

    assert [second, other, None] == kept()
    assert 0 == stores.write(lambda tx: stores.failures.delete_expired(tx, START, limit=9))
    assert 1 == stores.write(lambda tx: stores.failures.delete_expired(tx, START + timedelta(hours=1), limit=1))
    assert [second, None, None] == kept()
    stores.write(lambda tx: stores.failures.delete(tx, b"\x00\xff"))
    assert [None, None, None] == kept()


def test_of_guesses_made_at_once_no_more_than_the_free_ones_are_looked_at(ports: Ports) -> None:
    def guess() -> Session:
        return usecases.create_session(ports, "ann@example.com", "wrong", requested_scopes=[], call=make_call(None))

    results = at_once(*(guess for _ in range(3 * FREE_FAILURES)))

    # The pause after the fifth lasts a second; a machine that takes longer than that lets one more through.
    looked_at = [result for result in results if isinstance(result, Unauthenticated)]
    paused = [result for result in results if isinstance(result, ResourceExhausted)]
    assert 3 * FREE_FAILURES == len(looked_at) + len(paused)
    assert FREE_FAILURES <= len(looked_at) <= FREE_FAILURES + 2


def test_no_session_survives_a_suspension_that_is_made_at_the_same_time(database: Database, ports: Ports) -> None:
    usecases.create_user(ports, new_user(), call=make_call(None))
    admin = make_call("root", scopes=["identity.admin"])

    def sign_in() -> Session:
        return usecases.create_session(
            ports, "ann@example.com", "correct horse", requested_scopes=[], call=make_call(None)
        )

    def suspend() -> User:
        return usecases.suspend_user(ports, "ann", call=admin)

    results = at_once(sign_in, suspend, sign_in, sign_in)
    usecases.resume_user(ports, "ann", call=admin)

    for result in results:
        if isinstance(result, Session):
            with pytest.raises(Unauthenticated):
                usecases.refresh_session(ports, result.refresh_token, call=make_call(None))


def test_two_instances_publish_one_list_from_the_database(database: Database, ports: Ports) -> None:
    usecases.create_user(ports, new_user(), call=make_call(None))
    usecases.suspend_user(ports, "ann", call=make_call("root", scopes=["identity.admin"]))
    published: list[bytes] = []

    for _ in range(2):
        feed = RevocationFeed(database, RevocationStore(), clock=SystemClock(), publish=published.append)
        feed.refresh(deadline=Deadline.after(10))

    assert published[0] == published[1]
    assert parse(published[0]).subjects["ann"].suspended


def test_keys_are_kept_as_they_were_made(stores: Stores) -> None:
    first, second = new_key(SEAL, START), new_key(SEAL, START + timedelta(seconds=15))
    for key in (first, second):
        stores.write(lambda tx, key=key: stores.keys.insert(tx, key))

    assert {first.kid: first, second.kid: second} == {key.kid: key for key in stores.read(stores.keys.all)}

    stores.write(lambda tx: stores.keys.delete(tx, [first.kid]))
    assert [second] == list(stores.read(stores.keys.all))


def test_instances_that_start_at_once_agree_on_one_key(database: Database) -> None:
    published: list[bytes] = []
    rings = [KeyRing(database, KeyStore(), seal=SEAL, clock=SystemClock(), publish=published.append) for _ in range(4)]

    at_once(*(lambda ring=ring: ring.open(deadline=Deadline.after(20)) for ring in rings))

    assert 1 == len({ring.signing()[0] for ring in rings})
    assert 1 == len(set(published))


def test_a_rotated_key_reaches_every_instance(database: Database) -> None:
    published: list[bytes] = []
    ring = KeyRing(database, KeyStore(), seal=SEAL, clock=SystemClock(), publish=published.append)
    ring.open(deadline=Deadline.after(20))

    key = rotate(database, KeyStore(), seal=SEAL, clock=SystemClock(), deadline=Deadline.after(10))
    ring.refresh(deadline=Deadline.after(10))

    assert key.kid in published[-1].decode()
    assert key.kid != ring.signing()[0]


def test_operators_who_rotate_one_key_at_once_get_one_successor(database: Database, ports: Ports) -> None:
    published: list[bytes] = []
    rings = [KeyRing(database, KeyStore(), seal=SEAL, clock=SystemClock(), publish=published.append) for _ in range(4)]
    rings[0].open(deadline=Deadline.after(20))
    old = rings[0].signing()[0]
    operator = make_call("operator", scopes=("mesh.operate",))

    made = at_once(
        *(
            lambda ring=ring: usecases.rotate_signing_key(replace(ports, keys=ring), old, call=operator)
            for ring in rings
        )
    )

    assert 1 == len({key.kid for key, _ in made})
    assert 2 == len(rings[0].listed(deadline=Deadline.after(10)))
    assert 1 == database.read(outbox.unpublished, deadline=Deadline.after(10))


def test_instances_that_start_at_once_make_one_operator(database: Database, ports: Ports) -> None:
    operator = new_user("operator", email="operator@example.com")

    at_once(*(lambda: ensure_operator(ports, operator, deadline=Deadline.after(20)) for _ in range(4)))

    counted = database.read(facts.collect, deadline=Deadline.after(10))
    assert {"service": "identity", "outbox": {"weft.identity.v1.UserCreated": 1}, "unpublished": 1} == counted


def test_of_users_who_want_one_address_at_once_one_gets_it(database: Database, ports: Ports) -> None:
    results = at_once(
        *(
            lambda user_id=user_id: usecases.create_user(ports, new_user(user_id), call=make_call(None))
            for user_id in ("a", "b", "c", "d")
        )
    )

    assert 1 == len([result for result in results if isinstance(result, User)])
    assert {"email"} == {result.metadata["field"] for result in results if isinstance(result, AlreadyExists)}
    assert 1 == database.read(outbox.unpublished, deadline=Deadline.after(10))


def test_a_refresh_token_used_twice_at_once_ends_its_session(database: Database, ports: Ports) -> None:
    usecases.create_user(ports, new_user(), call=make_call(None))
    first = usecases.create_session(
        ports, "ann@example.com", "correct horse", requested_scopes=[], call=make_call(None)
    )

    def refresh(token: str) -> Session:
        return usecases.refresh_session(ports, token, call=make_call(None))

    results = at_once(*(lambda: refresh(first.refresh_token) for _ in range(2)))

    winners = [result for result in results if isinstance(result, Session)]
    losers = [result.reason for result in results if isinstance(result, Unauthenticated)]
    assert (1, ["REFRESH_TOKEN_REUSED"]) == (len(winners), losers)
    with pytest.raises(Unauthenticated) as refusal:
        refresh(winners[0].refresh_token)
    assert "SESSION_ENDED" == refusal.value.reason
    record = database.read(lambda tx: SessionStore().get(tx, first.record.id), deadline=Deadline.after(10))
    assert record is not None
    assert record.revoke_time is not None
