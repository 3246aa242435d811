"""Identity on a real database: one suite for stores and fakes, and what only a database can show."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import pytest

import svc.identity
from svc.chassis import migrate, outbox
from svc.chassis.clock import SystemClock
from svc.chassis.context import Deadline
from svc.chassis.database import Database
from svc.chassis.errors import AlreadyExists, AppError, Unauthenticated
from svc.identity import facts, usecases
from svc.identity.bootstrap import ensure_operator
from svc.identity.keys import KeyRing, Keys, Seal, new_key, rotate
from svc.identity.model import SESSION_LIFETIME, Credentials, RefreshToken, Session, SessionRecord, User, email_key
from svc.identity.ports import Ports, Transactions, Users
from svc.identity.store import KeyStore, SessionStore, UserStore
from svc.identity.usecases import NewUser
from tests.fakes.clock import START
from tests.fakes.identity import (
    KNOWN_SCOPES,
    FakeKeys,
    FakePasswords,
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

    def write(self, work: Callable[..., T]) -> T:
        return self.transactions.serializable(work, deadline=Deadline.after(10))

    def read(self, work: Callable[..., T]) -> T:
        return self.transactions.read(work, deadline=Deadline.after(10))


@pytest.fixture
def database(postgres_url: Callable[[str], str]) -> Iterator[Database]:
    url = postgres_url("identity")
    # Twice: a second run finds nothing to do.
    migrate.upgrade(url, MIGRATIONS)
    migrate.upgrade(url, MIGRATIONS)
    database = Database(url, pool_size=8, name="identity")
    yield database
    database.close()


@pytest.fixture(params=["fake", "postgres"])
def stores(request: pytest.FixtureRequest) -> Stores:
    if request.param == "fake":
        memory = Memory()
        return Stores(FakeTransactions(memory), FakeUsers(memory), FakeSessions(memory), FakeKeys(memory))
    return Stores(request.getfixturevalue("database"), UserStore(), SessionStore(), KeyStore())


@pytest.fixture
def ports(database: Database) -> Ports:
    return Ports(
        transactions=database,
        users=UserStore(),
        sessions=SessionStore(),
        passwords=FakePasswords(),
        tokens=FakeTokens(),
        append=outbox.append,
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
