"""What identity does, one function for each RPC, and the ports it needs for that.

`rpc` calls these with plain values; `wiring` gives the ports. Invariants: a state change and its event commit
together; passwords are hashed outside of transactions; nobody learns of a user that is not their own.
"""

import hashlib
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol, TypeVar

import structlog

from svc.chassis.clock import Clock
from svc.chassis.context import CallContext, Deadline
from svc.chassis.database import Transaction
from svc.chassis.errors import (
    AlreadyExists,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    Unauthenticated,
)
from svc.chassis.ids import new_id
from svc.chassis.outbox import Event
from svc.identity import events
from svc.identity.model import (
    ACCESS_TOKEN_LIFETIME,
    ADMIN_SCOPE,
    ADMINISTRATIVE_SCOPES,
    CUSTOMER_SCOPES,
    MUTABLE_FIELDS,
    SESSION_LIFETIME,
    SESSIONS_PREFIX,
    USERS_PREFIX,
    Credentials,
    RefreshToken,
    Session,
    SessionRecord,
    User,
    email_key,
    granted,
    is_reserved,
    not_held,
)

log = structlog.get_logger(__name__)
T = TypeVar("T")

REFRESH_TOKEN_BYTES: Final = 32


class Transactions(Protocol):
    """Runs work in one SERIALIZABLE transaction, again as a whole where it conflicts; or as a read."""

    def serializable(self, work: Callable[[Transaction], T], *, deadline: Deadline, hot_keys: Sequence[str] = ()) -> T:
        """Run work until it commits."""
        ...

    def read(self, work: Callable[[Transaction], T], *, deadline: Deadline) -> T:
        """Run work on one snapshot."""
        ...


class Users(Protocol):
    """Keeps users."""

    def insert(self, tx: Transaction, credentials: Credentials) -> str | None:
        """Insert; the name of the field whose value is taken (`user_id`, `email`), or None where it went in."""
        ...

    def get(self, tx: Transaction, user_id: str) -> User | None:
        """The user with an id."""
        ...

    def find_by_email(self, tx: Transaction, key: str) -> Credentials | None:
        """The user with an address in its unique form."""
        ...

    def page(self, tx: Transaction, *, after: str, limit: int) -> Sequence[User]:
        """Users whose id is greater than `after`, in the order of their ids."""
        ...

    def update(self, tx: Transaction, user: User) -> None:
        """Store display name, scopes and update time of an existing user."""
        ...

    def replace(self, tx: Transaction, credentials: Credentials) -> None:
        """Store everything of an existing user but the create time."""
        ...


class Sessions(Protocol):
    """Keeps sessions and the hashes of their refresh tokens."""

    def insert(self, tx: Transaction, session: SessionRecord) -> None:
        """Insert a session."""
        ...

    def get(self, tx: Transaction, session_id: str) -> SessionRecord | None:
        """The session with an id."""
        ...

    def revoke(self, tx: Transaction, session: SessionRecord) -> None:
        """Store the revoke time of a session."""
        ...

    def insert_token(self, tx: Transaction, token: RefreshToken) -> None:
        """Insert the hash of a refresh token."""
        ...

    def find_token(self, tx: Transaction, digest: bytes) -> RefreshToken | None:
        """The refresh token with a hash."""
        ...

    def use_token(self, tx: Transaction, token: RefreshToken) -> None:
        """Store the use time of a token."""
        ...


class Passwords(Protocol):
    """Hashes and verifies passwords."""

    def hash(self, password: str, *, deadline: Deadline) -> str:
        """Hash a password with a fresh salt."""
        ...

    def verify(self, password: str, password_hash: str | None, *, deadline: Deadline) -> bool:
        """Whether the password is the hash's; False after the same work where there is no hash."""
        ...


class Tokens(Protocol):
    """Signs access tokens."""

    def issue(self, session: SessionRecord, scopes: Sequence[str]) -> str:
        """The access token of a session."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """Everything outside of the use cases."""

    transactions: Transactions
    users: Users
    sessions: Sessions
    passwords: Passwords
    tokens: Tokens
    append: Callable[[Transaction, Sequence[Event]], None]
    clock: Clock
    known_scopes: frozenset[str]
    """Every scope that a contract names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewUser:
    """Who is to be created. An empty id asks for a random one."""

    id: str
    email: str
    display_name: str
    password: str

    def __repr__(self) -> str:
        return f"NewUser(id={self.id!r})"


def create_user(ports: Ports, new: NewUser, *, call: CallContext) -> User:
    """Create a user with the scopes of a customer.

    The call carries no request id: a repeat after a lost answer finds its own id or address taken.
    """
    if is_reserved(new.id):
        raise InvalidArgument(
            "The user id is reserved.", reason="USER_ID_RESERVED", violations=[("user_id", "is reserved")]
        )
    now = ports.clock.now()
    user = User(new.id or new_id(), new.email, new.display_name, CUSTOMER_SCOPES, now, now)
    credentials = Credentials(user, ports.passwords.hash(new.password, deadline=call.deadline))

    def work(tx: Transaction) -> str | None:
        taken = ports.users.insert(tx, credentials)
        if taken is None:
            ports.append(tx, [events.user_created(user, call=call)])
        return taken

    taken = ports.transactions.serializable(work, deadline=call.deadline)
    if taken is not None:
        raise AlreadyExists(f"A user with this {taken} exists.", reason="USER_EXISTS", metadata={"field": taken})
    return user


def create_session(
    ports: Ports, email: str, password: str, *, requested_scopes: Sequence[str], call: CallContext
) -> Session:
    """Sign in. An unknown address and a wrong password are one answer, after the same work."""
    key = email_key(email)
    # An address with control characters is nobody's, and PostgreSQL would refuse to compare NUL.
    credentials = (
        ports.transactions.read(lambda tx: ports.users.find_by_email(tx, key), deadline=call.deadline)
        if key.isprintable()
        else None
    )
    password_hash = credentials.password_hash if credentials else None
    if not ports.passwords.verify(password, password_hash, deadline=call.deadline) or credentials is None:
        raise Unauthenticated("The e-mail address or the password is wrong.", reason="BAD_CREDENTIALS")
    user = credentials.user
    _refuse_not_held(user, requested_scopes)
    record = _new_session(ports, user, requested_scopes, actor=None)
    secret = _new_refresh_token()

    def work(tx: Transaction) -> None:
        ports.sessions.insert(tx, record)
        ports.sessions.insert_token(tx, RefreshToken(_digest(secret), record.id))

    ports.transactions.serializable(work, deadline=call.deadline)
    return _issue(ports, record, granted(user.scopes, requested_scopes), refresh_token=secret)


@dataclass(frozen=True, slots=True)
class _Refreshed:
    record: SessionRecord
    scopes: tuple[str, ...]


def refresh_session(ports: Ports, refresh_token: str, *, call: CallContext) -> Session:
    """Exchange a refresh token for a new pair, once.

    A token that comes a second time was stolen, or its answer was: the session ends, and that is committed although
    the call is refused.
    """
    digest = _digest(refresh_token)
    secret = _new_refresh_token()

    # A refusal is returned, not raised: raising would roll the revocation back.
    def work(tx: Transaction) -> _Refreshed | Unauthenticated:
        now = ports.clock.now()
        token = ports.sessions.find_token(tx, digest)
        record = ports.sessions.get(tx, token.session_id) if token else None
        if token is None or record is None:
            return Unauthenticated("The refresh token is not known.", reason="REFRESH_TOKEN_INVALID")
        if not record.is_open(now):
            return Unauthenticated("The session has ended.", reason="SESSION_ENDED")
        if token.use_time is not None:
            ports.sessions.revoke(tx, _revoked(record, ports))
            return Unauthenticated(
                "The refresh token was used before; its session has ended.", reason="REFRESH_TOKEN_REUSED"
            )
        user = ports.users.get(tx, record.user_id)
        if user is None:
            return Unauthenticated("The session has ended.", reason="SESSION_ENDED")
        ports.sessions.use_token(tx, RefreshToken(digest, record.id, use_time=now))
        ports.sessions.insert_token(tx, RefreshToken(_digest(secret), record.id))
        return _Refreshed(record, granted(user.scopes, record.requested_scopes))

    outcome = ports.transactions.serializable(work, deadline=call.deadline)
    if isinstance(outcome, Unauthenticated):
        log.warning("refresh_refused", reason=outcome.reason)
        raise outcome
    return _issue(ports, outcome.record, outcome.scopes, refresh_token=secret)


def delegate_session(ports: Ports, user_id: str, *, requested_scopes: Sequence[str], call: CallContext) -> Session:
    """Give the calling operator a session that acts for a user: the user's scopes, no refresh token, audited."""
    caller = call.caller
    if caller.actor is not None:
        raise PermissionDenied("A delegated session cannot delegate.", reason="DELEGATION_CHAIN")

    def work(tx: Transaction) -> tuple[User, SessionRecord]:
        user = _existing(ports, tx, user_id)
        beyond = (ADMINISTRATIVE_SCOPES & set(user.scopes)) - caller.scopes
        if beyond:
            raise PermissionDenied(
                f"Acting for {user.name} takes {', '.join(sorted(beyond))}.", reason="SCOPE_INSUFFICIENT"
            )
        _refuse_not_held(user, requested_scopes)
        record = _new_session(ports, user, requested_scopes, actor=caller.subject)
        ports.sessions.insert(tx, record)
        ports.append(tx, [events.session_delegated(record, caller.subject, call=call)])
        return user, record

    user, record = ports.transactions.serializable(work, deadline=call.deadline)
    return _issue(ports, record, granted(user.scopes, requested_scopes), refresh_token="")


def delete_session(ports: Ports, session_id: str, *, call: CallContext) -> None:
    """End a session of the caller's own; ending it twice is the same as once."""
    subject = call.caller.subject

    def work(tx: Transaction) -> None:
        record = ports.sessions.get(tx, session_id)
        if record is None or record.user_id != subject:
            name = SESSIONS_PREFIX + session_id
            raise NotFound(f"There is no {name}.", resource=("session", name), reason="SESSION_NOT_FOUND")
        if record.revoke_time is None:
            ports.sessions.revoke(tx, _revoked(record, ports))

    ports.transactions.serializable(work, deadline=call.deadline)


def get_user(ports: Ports, user_id: str, *, call: CallContext) -> User:
    """Read oneself, or anyone with `identity.admin`."""
    _refuse_foreign(user_id, call)
    return ports.transactions.read(lambda tx: _existing(ports, tx, user_id), deadline=call.deadline)


def list_users(ports: Ports, *, after: str, limit: int, call: CallContext) -> Sequence[User]:
    """Users after an id, at most `limit`."""
    return ports.transactions.read(lambda tx: ports.users.page(tx, after=after, limit=limit), deadline=call.deadline)


def update_user(ports: Ports, user_id: str, *, display_name: str, fields: Sequence[str], call: CallContext) -> User:
    """Change the named fields of a user, every mutable one where none is named."""
    for path in fields:
        if path not in (*MUTABLE_FIELDS, "*"):
            raise InvalidArgument(
                f"`{path}` cannot be changed.",
                reason="FIELD_IMMUTABLE",
                violations=[("update_mask", f"`{path}` is not one of: {', '.join(MUTABLE_FIELDS)}")],
            )
    _refuse_foreign(user_id, call)

    def work(tx: Transaction) -> User:
        user = _existing(ports, tx, user_id)
        if user.display_name == display_name:
            return user
        return _change(ports, tx, replace(user, display_name=display_name), field="display_name", call=call)

    return ports.transactions.serializable(work, deadline=call.deadline)


def grant_scopes(ports: Ports, user_id: str, *, scopes: Sequence[str], call: CallContext) -> User:
    """Replace the scopes of a user. A scope that no contract names is refused."""
    violations = [
        (f"scopes[{index}]", f"no contract names `{scope}`")
        for index, scope in enumerate(scopes)
        if scope not in ports.known_scopes
    ]
    if violations:
        raise InvalidArgument("A scope is unknown.", reason="SCOPE_UNKNOWN", violations=violations)
    wanted = tuple(sorted(set(scopes)))

    def work(tx: Transaction) -> User:
        user = _existing(ports, tx, user_id)
        if user.scopes == wanted:
            return user
        return _change(ports, tx, replace(user, scopes=wanted), field="scopes", call=call)

    return ports.transactions.serializable(work, deadline=call.deadline)


def _change(ports: Ports, tx: Transaction, user: User, *, field: str, call: CallContext) -> User:
    changed = replace(user, update_time=ports.clock.now())
    ports.users.update(tx, changed)
    ports.append(tx, [events.user_changed(changed, [field], call=call)])
    return changed


def _existing(ports: Ports, tx: Transaction, user_id: str) -> User:
    user = ports.users.get(tx, user_id)
    if user is None:
        raise _no_user(user_id)
    return user


def _no_user(user_id: str) -> NotFound:
    name = USERS_PREFIX + user_id
    return NotFound(f"There is no {name}.", resource=("user", name), reason="USER_NOT_FOUND")


def _refuse_foreign(user_id: str, call: CallContext) -> None:
    """Another's user is as good as none, without a look at the database: neither answer nor time tells them apart."""
    if user_id != call.caller.subject and ADMIN_SCOPE not in call.caller.scopes:
        raise _no_user(user_id)


def _refuse_not_held(user: User, requested: Sequence[str]) -> None:
    missing = not_held(user.scopes, requested)
    if missing:
        raise InvalidArgument(
            "A session cannot have more scopes than its user.",
            reason="SCOPE_NOT_HELD",
            violations=[("scopes", f"the user does not have `{scope}`") for scope in missing],
        )


def _new_session(ports: Ports, user: User, requested: Sequence[str], *, actor: str | None) -> SessionRecord:
    now = ports.clock.now()
    # A delegated session has no refresh token, so it lives as long as its one access token.
    lifetime = SESSION_LIFETIME if actor is None else ACCESS_TOKEN_LIFETIME
    return SessionRecord(new_id(), user.id, actor, tuple(requested), now, now + lifetime)


def _revoked(record: SessionRecord, ports: Ports) -> SessionRecord:
    return replace(record, revoke_time=ports.clock.now())


def _issue(ports: Ports, record: SessionRecord, scopes: tuple[str, ...], *, refresh_token: str) -> Session:
    return Session(
        record=record,
        scopes=scopes,
        access_token=ports.tokens.issue(record, scopes),
        lifetime=ACCESS_TOKEN_LIFETIME,
        refresh_token=refresh_token,
    )


def _new_refresh_token() -> str:
    return secrets.token_urlsafe(REFRESH_TOKEN_BYTES)


def _digest(refresh_token: str) -> bytes:
    # 256 random bits need no slow hash: nothing can be guessed from the digest.
    return hashlib.sha256(refresh_token.encode()).digest()
