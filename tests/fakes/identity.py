"""Fakes of identity's ports, in memory. The same suite tries the stores and their real twins."""

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, TypeVar, cast

from svc.chassis.consistency import Session
from svc.chassis.context import CallContext, Deadline, Principal
from svc.chassis.database import Transaction
from svc.chassis.outbox import Event
from svc.identity.keys import KeyRing, Seal
from svc.identity.model import (
    Credentials,
    EndedSession,
    RefreshToken,
    SessionRecord,
    SignInFailures,
    StoredKey,
    User,
    email_key,
)
from svc.identity.ports import Ports
from svc.identity.throttle import Throttle
from tests.fakes.clock import FakeClock
from weft.events.v1.envelope_pb2 import Envelope
from weft.identity.v1 import events_pb2

T = TypeVar("T")


@dataclass
class Memory:
    """What the fake stores keep."""

    users: dict[str, Credentials] = field(default_factory=dict)
    sessions: dict[str, SessionRecord] = field(default_factory=dict)
    tokens: dict[bytes, RefreshToken] = field(default_factory=dict)
    keys: dict[str, StoredKey] = field(default_factory=dict)
    failures: dict[bytes, SignInFailures] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)

    def copy(self) -> "Memory":
        return Memory(**{name: copy(value) for name, value in vars(self).items()})

    def restore(self, other: "Memory") -> None:
        for name, value in vars(other.copy()).items():
            setattr(self, name, value)


def _nothing() -> None:
    pass


class FakeTransactions:
    """Runs work twice, as after a serialization failure: what the first run did is gone. Errors roll back.

    `after_read` is called once, after the next read: what another instance does meanwhile.
    """

    def __init__(self, memory: Memory) -> None:
        self.memory = memory
        self.reads = 0
        self.after_read: Callable[[], None] = _nothing

    def serializable(
        self,
        work: Callable[[Transaction], T],
        *,
        deadline: Deadline,
        hot_keys: Sequence[str] = (),
        session: Session | None = None,
    ) -> T:
        before = self.memory.copy()
        tx = cast(Transaction, None)
        try:
            work(tx)
            self.memory.restore(before)
            return work(tx)
        except BaseException:
            self.memory.restore(before)
            raise

    def read(self, work: Callable[[Transaction], T], *, deadline: Deadline, session: Session | None = None) -> T:
        self.reads += 1
        result = work(cast(Transaction, None))
        meanwhile, self.after_read = self.after_read, _nothing
        meanwhile()
        return result


class FakeUsers:
    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    def insert(self, tx: Transaction, credentials: Credentials) -> str | None:
        if credentials.user.id in self._memory.users:
            return "user_id"
        if self.find_by_email(tx, email_key(credentials.user.email)) is not None:
            return "email"
        self._memory.users[credentials.user.id] = credentials
        return None

    def get(self, tx: Transaction, user_id: str) -> User | None:
        credentials = self._memory.users.get(user_id)
        return credentials.user if credentials else None

    def get_shared(self, tx: Transaction, user_id: str) -> User | None:
        return self.get(tx, user_id)

    def get_locked(self, tx: Transaction, user_id: str) -> User | None:
        return self.get(tx, user_id)

    def find_by_email(self, tx: Transaction, key: str) -> Credentials | None:
        found = [known for known in self._memory.users.values() if email_key(known.user.email) == key]
        return found[0] if found else None

    def page(self, tx: Transaction, *, after: str, limit: int) -> Sequence[User]:
        ids = sorted(user_id for user_id in self._memory.users if user_id > after)
        return [self._memory.users[user_id].user for user_id in ids[:limit]]

    def update(self, tx: Transaction, user: User) -> None:
        known = self._memory.users[user.id]
        kept = {"email": known.user.email, "create_time": known.user.create_time}
        self._memory.users[user.id] = replace(known, user=replace(user, **kept))

    def replace(self, tx: Transaction, credentials: Credentials) -> None:
        known = self._memory.users[credentials.user.id].user
        self._memory.users[credentials.user.id] = replace(
            credentials, user=replace(credentials.user, create_time=known.create_time)
        )


class FakeSessions:
    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    def insert(self, tx: Transaction, session: SessionRecord) -> None:
        self._memory.sessions[session.id] = session

    def get(self, tx: Transaction, session_id: str) -> SessionRecord | None:
        return self._memory.sessions.get(session_id)

    def revoke(self, tx: Transaction, session: SessionRecord) -> None:
        known = self._memory.sessions[session.id]
        self._memory.sessions[session.id] = replace(known, revoke_time=session.revoke_time)

    def insert_token(self, tx: Transaction, token: RefreshToken) -> None:
        self._memory.tokens[token.digest] = token

    def find_token(self, tx: Transaction, digest: bytes) -> RefreshToken | None:
        return self._memory.tokens.get(digest)

    def use_token(self, tx: Transaction, token: RefreshToken) -> None:
        self._memory.tokens[token.digest] = replace(self._memory.tokens[token.digest], use_time=token.use_time)

    def delete_expired(self, tx: Transaction, now: datetime, *, limit: int) -> int:
        expired = sorted(
            (session.expire_time, session.id)
            for session in self._memory.sessions.values()
            if session.expire_time <= now
        )
        ids = {session_id for _, session_id in expired[:limit]}
        self._memory.sessions = {key: value for key, value in self._memory.sessions.items() if key not in ids}
        self._memory.tokens = {
            digest: token for digest, token in self._memory.tokens.items() if token.session_id not in ids
        }
        return len(ids)


class FakeRevocations:
    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    def sessions(self, tx: Transaction, since: datetime, *, per_user: int, limit: int) -> Sequence[EndedSession]:
        ended = [
            EndedSession(session.id, session.user_id, session.revoke_time)
            for session in sorted(self._memory.sessions.values(), key=lambda session: session.id)
            if session.revoke_time is not None and session.revoke_time > since
        ]
        ended.sort(key=lambda session: session.revoke_time, reverse=True)
        of_user: dict[str, list[EndedSession]] = {}
        for session in ended:
            of_user.setdefault(session.user_id, []).append(session)
        return [session for session in ended if session in of_user[session.user_id][:per_user]][:limit]

    def latest(self, tx: Transaction, since: datetime, until: datetime, *, limit: int) -> Mapping[str, datetime]:
        latest: dict[str, datetime] = {}
        for session in self._memory.sessions.values():
            if session.revoke_time is not None and since < session.revoke_time <= until:
                latest[session.user_id] = max(session.revoke_time, latest.get(session.user_id, since))
        return dict(sorted(sorted(latest.items()), key=lambda entry: entry[1], reverse=True)[:limit])

    def users(self, tx: Transaction, since: datetime, *, limit: int) -> Sequence[User]:
        found = [
            (user.tokens_from, user)
            for user in sorted((known.user for known in self._memory.users.values()), key=lambda user: user.id)
            if user.tokens_from is not None and user.tokens_from > since
        ]
        return [user for _, user in sorted(found, key=lambda pair: pair[0], reverse=True)][:limit]


class FakeFailures:
    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    def get(self, tx: Transaction, digest: bytes) -> SignInFailures | None:
        return self._memory.failures.get(digest)

    def put(self, tx: Transaction, failures: SignInFailures) -> None:
        self._memory.failures[failures.digest] = failures

    def delete(self, tx: Transaction, digest: bytes) -> None:
        self._memory.failures.pop(digest, None)

    def delete_expired(self, tx: Transaction, now: datetime, *, limit: int) -> int:
        expired = [known for known in self._memory.failures.values() if known.expire_time <= now]
        for known in sorted(expired, key=lambda known: known.expire_time)[:limit]:
            del self._memory.failures[known.digest]
        return min(limit, len(expired))


class FakeKeys:
    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    def all(self, tx: Transaction) -> Sequence[StoredKey]:
        return list(self._memory.keys.values())

    def insert(self, tx: Transaction, key: StoredKey) -> None:
        self._memory.keys[key.kid] = key

    def delete(self, tx: Transaction, kids: Sequence[str]) -> None:
        for kid in kids:
            self._memory.keys.pop(kid, None)


class FakePasswords:
    """Fast, and counts: `verified` holds each password that was checked and whether there was a hash.

    `busy` is raised instead, once.
    """

    def __init__(self) -> None:
        self.verified: list[tuple[str, bool]] = []
        self.busy: Exception | None = None

    def hash(self, password: str, *, deadline: Deadline) -> str:
        return f"hash of {password}"

    def verify(self, password: str, password_hash: str | None, *, deadline: Deadline) -> bool:
        busy, self.busy = self.busy, None
        if busy is not None:
            raise busy
        self.verified.append((password, password_hash is not None))
        return password_hash == f"hash of {password}"


class FakeTokens:
    """Tokens that can be read: `sid|sub|act|scopes`. `issued` holds the time of each."""

    def __init__(self) -> None:
        self.issued: list[datetime] = []

    def issue(self, session: SessionRecord, scopes: Sequence[str], *, at: datetime) -> str:
        self.issued.append(at)
        return "|".join((session.id, session.user_id, session.actor or "", " ".join(scopes)))


KNOWN_SCOPES = frozenset(
    {
        "analytics.read",
        "catalog.read",
        "catalog.write",
        "identity.admin",
        "identity.read",
        "identity.write",
        "inventory.read",
        "mesh.operate",
        "orders.read",
        "orders.write",
    }
)


@dataclass
class World:
    """The fakes of one test, and the ports over them."""

    memory: Memory
    clock: FakeClock
    passwords: FakePasswords
    transactions: FakeTransactions
    tokens: FakeTokens
    ports: Ports
    announced: list[int]
    """One entry for each time that the use cases told of a revocation: how many events there were."""

    def facts(self) -> list[Any]:
        """The payloads of the events that were committed."""
        return [_payload(event) for event in self.memory.events]


def make_world() -> World:
    memory = Memory()
    clock = FakeClock()
    passwords = FakePasswords()
    transactions = FakeTransactions(memory)
    tokens = FakeTokens()
    announced: list[int] = []

    ring = KeyRing(transactions, FakeKeys(memory), seal=Seal(b"k" * 32), clock=clock, publish=lambda _document: None)

    def append(tx: Transaction, events: Sequence[Event]) -> None:
        memory.events.extend(events)

    ports = Ports(
        transactions=transactions,
        users=FakeUsers(memory),
        sessions=FakeSessions(memory),
        passwords=passwords,
        tokens=tokens,
        keys=ring,
        throttle=Throttle(FakeFailures(memory), clock),
        append=append,
        announce=lambda: announced.append(len(memory.events)),
        clock=clock,
        known_scopes=KNOWN_SCOPES,
    )
    return World(memory, clock, passwords, transactions, tokens, ports, announced)


def make_call(
    subject: str | None = "ann",
    *,
    scopes: Sequence[str] = ("identity.read", "identity.write"),
    actor: str | None = None,
    method: str = "/weft.identity.v1.IdentityService/Test",
) -> CallContext:
    """A call; `subject` None: nobody is signed in."""
    principal = None
    if subject is not None:
        principal = Principal(subject=subject, scopes=frozenset(scopes), session="s", actor=actor, token="t")
    return CallContext(
        method=method,
        principal=principal,
        deadline=Deadline.after(30),
        body_hash=b"",
        is_active=lambda: True,
    )


def _payload(event: Event) -> Any:
    envelope = Envelope.FromString(event.envelope)
    fact = getattr(events_pb2, envelope.type.rpartition(".")[2])()
    assert envelope.payload.Unpack(fact)
    return fact
