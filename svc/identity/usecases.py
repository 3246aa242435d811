"""What identity does, one function for each RPC.

`rpc` calls these with plain values; `wiring` gives the ports. Invariants: a state change and its event commit
together; passwords are hashed outside of transactions; nobody learns of a user that is not their own.
"""

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

import structlog

from svc.chassis.context import CallContext
from svc.chassis.database import Transaction
from svc.chassis.errors import (
    Aborted,
    AlreadyExists,
    AppError,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    Unauthenticated,
    Unavailable,
)
from svc.chassis.ids import new_id
from svc.identity import events
from svc.identity.model import (
    ACCESS_TOKEN_LIFETIME,
    ADMIN_SCOPE,
    ADMINISTRATIVE_SCOPES,
    CUSTOMER_SCOPES,
    MUTABLE_FIELDS,
    OPERATOR_ID,
    SESSION_LIFETIME,
    SESSIONS_PREFIX,
    USERS_PREFIX,
    Credentials,
    RefreshToken,
    Session,
    SessionRecord,
    StoredKey,
    User,
    UserState,
    after_this_second,
    email_key,
    granted,
    is_reserved,
    not_held,
)
from svc.identity.ports import Ports
from svc.identity.throttle import address_digest

log = structlog.get_logger(__name__)

REFRESH_TOKEN_BYTES: Final = 32


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

    taken = ports.transactions.serializable(work, deadline=call.deadline, session=call.session)
    if taken is not None:
        raise AlreadyExists(f"A user with this {taken} exists.", reason="USER_EXISTS", metadata={"field": taken})
    return user


def create_session(
    ports: Ports, email: str, password: str, *, requested_scopes: Sequence[str], call: CallContext
) -> Session:
    """Sign in. An unknown address and a wrong password are one answer, after the same work and as seldom."""
    key = email_key(email)
    digest = address_digest(key)
    known = _attempt(ports, key, digest, call=call)
    password_hash = known.password_hash if known else None
    try:
        right = ports.passwords.verify(password, password_hash, deadline=call.deadline)
    except AppError:
        ports.transactions.serializable(lambda tx: ports.throttle.forgive(tx, digest), deadline=call.deadline)
        raise
    if not right or known is None:
        raise Unauthenticated("The e-mail address or the password is wrong.", reason="BAD_CREDENTIALS")
    secret = _new_refresh_token()

    # A refusal is returned, not raised: the password was right, and that is remembered.
    def work(tx: Transaction) -> _Opened | AppError:
        ports.throttle.clear(tx, digest)
        user = ports.users.get_shared(tx, known.user.id)
        if user is None or user.tokens_from != known.user.tokens_from:
            return Aborted("The user was changed meanwhile; sign in again.", reason="USER_CHANGED")
        if user.suspended:
            return _suspended(user)
        if not_held(user.scopes, requested_scopes):
            return _not_held(user, requested_scopes)
        record = _new_session(ports, user, requested_scopes, actor=None)
        ports.sessions.insert(tx, record)
        ports.sessions.insert_token(tx, RefreshToken(_digest(secret), record.id))
        return _Opened(record, granted(user.scopes, requested_scopes), record.create_time)

    outcome = ports.transactions.serializable(work, deadline=call.deadline, session=call.session)
    if isinstance(outcome, AppError):
        raise outcome
    return _issue(ports, outcome, refresh_token=secret)


def _attempt(ports: Ports, key: str, digest: bytes, *, call: CallContext) -> Credentials | None:
    """Count an attempt to sign in, and find whose address it is. Raises ResourceExhausted where it comes too soon."""

    def work(tx: Transaction) -> Credentials | None:
        ports.throttle.admit(tx, digest)
        # An address with control characters is nobody's, and PostgreSQL would refuse to compare NUL.
        return ports.users.find_by_email(tx, key) if key.isprintable() else None

    return ports.transactions.serializable(
        work, deadline=call.deadline, session=call.session, hot_keys=[f"sign-in/{digest.hex()}"]
    )


@dataclass(frozen=True, slots=True)
class _Opened:
    """A session, what its next token may do, and when that token was issued."""

    record: SessionRecord
    scopes: tuple[str, ...]
    at: datetime


def refresh_session(ports: Ports, refresh_token: str, *, call: CallContext) -> Session:
    """Exchange a refresh token for a new pair, once.

    A token that comes a second time was stolen, or its answer was: the session ends with all its access tokens, and
    that is committed although the call is refused.
    """
    digest = _digest(refresh_token)
    secret = _new_refresh_token()

    # A refusal is returned, not raised: raising would roll the revocation back.
    def work(tx: Transaction) -> _Opened | Unauthenticated:
        now = ports.clock.now()
        token = ports.sessions.find_token(tx, digest)
        record = ports.sessions.get(tx, token.session_id) if token else None
        if token is None or record is None:
            return Unauthenticated("The refresh token is not known.", reason="REFRESH_TOKEN_INVALID")
        user = ports.users.get_shared(tx, record.user_id)
        if user is not None and user.suspended:
            return Unauthenticated("The user is suspended.", reason="USER_SUSPENDED")
        if user is None or user.disowns(record) or not record.is_open(now):
            return Unauthenticated("The session has ended.", reason="SESSION_ENDED")
        if token.use_time is not None:
            ports.sessions.revoke(tx, _revoked(record, ports))
            return Unauthenticated(
                "The refresh token was used before; its session has ended.", reason="REFRESH_TOKEN_REUSED"
            )
        ports.sessions.use_token(tx, RefreshToken(digest, record.id, use_time=now))
        ports.sessions.insert_token(tx, RefreshToken(_digest(secret), record.id))
        return _Opened(record, granted(user.scopes, record.requested_scopes), user.issue_time(now))

    outcome = ports.transactions.serializable(work, deadline=call.deadline, session=call.session)
    if isinstance(outcome, Unauthenticated):
        log.warning("refresh_refused", reason=outcome.reason)
        if outcome.reason == "REFRESH_TOKEN_REUSED":
            ports.announce()
        raise outcome
    return _issue(ports, outcome, refresh_token=secret)


def delegate_session(ports: Ports, user_id: str, *, requested_scopes: Sequence[str], call: CallContext) -> Session:
    """Give the calling operator a session that acts for a user: the user's scopes, no refresh token, audited."""
    caller = call.caller
    if caller.actor is not None:
        raise PermissionDenied("A delegated session cannot delegate.", reason="DELEGATION_CHAIN")

    def work(tx: Transaction) -> _Opened:
        user = _found(ports.users.get_shared(tx, user_id), user_id)
        beyond = (ADMINISTRATIVE_SCOPES & set(user.scopes)) - caller.scopes
        if beyond:
            raise PermissionDenied(
                f"Acting for {user.name} takes {', '.join(sorted(beyond))}.", reason="SCOPE_INSUFFICIENT"
            )
        if user.suspended:
            raise _suspended(user)
        if not_held(user.scopes, requested_scopes):
            raise _not_held(user, requested_scopes)
        record = _new_session(ports, user, requested_scopes, actor=caller.subject)
        ports.sessions.insert(tx, record)
        ports.append(tx, [events.session_delegated(record, caller.subject, call=call)])
        return _Opened(record, granted(user.scopes, requested_scopes), record.create_time)

    return _issue(
        ports, ports.transactions.serializable(work, deadline=call.deadline, session=call.session), refresh_token=""
    )


def delete_session(ports: Ports, session_id: str, *, call: CallContext) -> None:
    """End a session of the caller's own, with its access tokens; ending it twice is the same as once."""
    subject = call.caller.subject

    def work(tx: Transaction) -> None:
        record = ports.sessions.get(tx, session_id)
        if record is None or record.user_id != subject:
            name = SESSIONS_PREFIX + session_id
            raise NotFound(f"There is no {name}.", resource=("session", name), reason="SESSION_NOT_FOUND")
        if record.revoke_time is None:
            ports.sessions.revoke(tx, _revoked(record, ports))

    ports.transactions.serializable(work, deadline=call.deadline, session=call.session)
    ports.announce()


def get_user(ports: Ports, user_id: str, *, call: CallContext) -> User:
    """Read oneself, or anyone with `identity.admin`."""
    _refuse_foreign(user_id, call)
    return ports.transactions.read(
        lambda tx: _existing(ports, tx, user_id), deadline=call.deadline, session=call.session
    )


def list_users(ports: Ports, *, after: str, limit: int, call: CallContext) -> Sequence[User]:
    """Users after an id, at most `limit`."""
    return ports.transactions.read(
        lambda tx: ports.users.page(tx, after=after, limit=limit), deadline=call.deadline, session=call.session
    )


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

    return ports.transactions.serializable(work, deadline=call.deadline, session=call.session)


def grant_scopes(ports: Ports, user_id: str, *, scopes: Sequence[str], call: CallContext) -> User:
    """Replace the scopes of a user. A scope that no contract names is refused, and one that the caller would give away
    without having it: otherwise `identity.admin` would be every scope.

    Where one is taken away, what was issued with it is worth nothing any more: tokens and sessions.
    """
    violations = [
        (f"scopes[{index}]", f"no contract names `{scope}`")
        for index, scope in enumerate(scopes)
        if scope not in ports.known_scopes
    ]
    if violations:
        raise InvalidArgument("A scope is unknown.", reason="SCOPE_UNKNOWN", violations=violations)
    wanted = tuple(sorted(set(scopes)))

    def work(tx: Transaction) -> User:
        user = _found(ports.users.get_locked(tx, user_id), user_id)
        if user.scopes == wanted:
            return user
        beyond = sorted(set(wanted) - set(user.scopes) - call.caller.scopes)
        if beyond:
            raise PermissionDenied(
                f"Nobody gives what they do not have: {', '.join(beyond)}.",
                reason="SCOPE_NOT_GRANTABLE",
                metadata={"scopes": " ".join(beyond)},
            )
        changed = replace(user, scopes=wanted)
        if set(user.scopes) - set(wanted):
            changed = replace(changed, tokens_from=after_this_second(ports.clock.now()))
        return _change(ports, tx, changed, field="scopes", call=call)

    user = ports.transactions.serializable(work, deadline=call.deadline, session=call.session)
    ports.announce()
    return user


def suspend_user(ports: Ports, user_id: str, *, call: CallContext) -> User:
    """Shut a user out: no new token, and those already out are worth nothing. Twice is the same as once.

    Nobody shuts out themselves, nor the operator, without whom nobody could be let in again.
    """
    name = USERS_PREFIX + user_id
    if user_id in (call.caller.subject, call.caller.actor):
        raise FailedPrecondition(
            "Nobody can suspend themselves.", reason="SELF_SUSPENSION", violations=[("SELF", name, "is the caller")]
        )
    if user_id == OPERATOR_ID:
        raise FailedPrecondition(
            "The operator cannot be suspended.",
            reason="OPERATOR_NEEDED",
            violations=[("OPERATOR", name, "runs the platform")],
        )
    return _set_state(ports, user_id, UserState.SUSPENDED, call=call)


def resume_user(ports: Ports, user_id: str, *, call: CallContext) -> User:
    """Let a suspended user in again, by a new sign-in. Twice is the same as once."""
    return _set_state(ports, user_id, UserState.ACTIVE, call=call)


def list_signing_keys(
    ports: Ports, *, after: str, limit: int | None, call: CallContext
) -> tuple[Sequence[StoredKey], str]:
    """Keys after an id, at most `limit`; and the id of the one that signs now, empty where none does."""
    listed = [key for key in ports.keys.listed(deadline=call.deadline) if key.kid > after]
    return listed[:limit], _signing(ports)


def _signing(ports: Ports) -> str:
    try:
        return ports.keys.signing()[0]
    except Unavailable:
        return ""


def rotate_signing_key(ports: Ports, kid: str, *, call: CallContext) -> tuple[StoredKey, str]:
    """The successor of a key, made and audited where there is none; and the id of the one that signs now."""

    def record(tx: Transaction, key: StoredKey) -> None:
        ports.append(tx, [events.signing_key_added(key, call.caller.subject, call=call)])

    return ports.keys.replace(kid, deadline=call.deadline, record=record), _signing(ports)


def revoke_signing_key(ports: Ports, kid: str, *, call: CallContext) -> None:
    """Take a key back, audited; every verifier hears of it at once."""

    def record(tx: Transaction, key: StoredKey) -> None:
        ports.append(tx, [events.signing_key_revoked(key, call.caller.subject, call=call)])

    ports.keys.revoke(kid, deadline=call.deadline, record=record)


def _set_state(ports: Ports, user_id: str, state: UserState, *, call: CallContext) -> User:
    def work(tx: Transaction) -> User:
        user = _found(ports.users.get_locked(tx, user_id), user_id)
        if user.state is state:
            return user
        # The end of a suspension counts as well: what a clock that was ahead issued before it stays worthless.
        changed = replace(user, state=state, tokens_from=after_this_second(ports.clock.now()))
        return _change(ports, tx, changed, field="state", call=call)

    user = ports.transactions.serializable(work, deadline=call.deadline, session=call.session)
    ports.announce()
    log.info("user_state", user=user.id, state=user.state.value)
    return user


def _change(ports: Ports, tx: Transaction, user: User, *, field: str, call: CallContext) -> User:
    changed = replace(user, update_time=ports.clock.now())
    ports.users.update(tx, changed)
    ports.append(tx, [events.user_changed(changed, [field], call=call)])
    return changed


def _existing(ports: Ports, tx: Transaction, user_id: str) -> User:
    return _found(ports.users.get(tx, user_id), user_id)


def _found(user: User | None, user_id: str) -> User:
    if user is None:
        raise _no_user(user_id)
    return user


def _suspended(user: User) -> FailedPrecondition:
    return FailedPrecondition(
        "The user is suspended.", reason="USER_SUSPENDED", violations=[("USER_STATE", user.name, "is suspended")]
    )


def _no_user(user_id: str) -> NotFound:
    name = USERS_PREFIX + user_id
    return NotFound(f"There is no {name}.", resource=("user", name), reason="USER_NOT_FOUND")


def _refuse_foreign(user_id: str, call: CallContext) -> None:
    """Another's user is as good as none, without a look at the database: neither answer nor time tells them apart."""
    if user_id != call.caller.subject and ADMIN_SCOPE not in call.caller.scopes:
        raise _no_user(user_id)


def _not_held(user: User, requested: Sequence[str]) -> InvalidArgument:
    return InvalidArgument(
        "A session cannot have more scopes than its user.",
        reason="SCOPE_NOT_HELD",
        violations=[("scopes", f"the user does not have `{scope}`") for scope in not_held(user.scopes, requested)],
    )


def _new_session(ports: Ports, user: User, requested: Sequence[str], *, actor: str | None) -> SessionRecord:
    now = user.issue_time(ports.clock.now())
    # A delegated session has no refresh token, so it lives as long as its one access token.
    lifetime = SESSION_LIFETIME if actor is None else ACCESS_TOKEN_LIFETIME
    return SessionRecord(new_id(), user.id, actor, tuple(requested), now, now + lifetime)


def _revoked(record: SessionRecord, ports: Ports) -> SessionRecord:
    return replace(record, revoke_time=ports.clock.now())


def _issue(ports: Ports, opened: _Opened, *, refresh_token: str) -> Session:
    return Session(
        record=opened.record,
        scopes=opened.scopes,
        access_token=ports.tokens.issue(opened.record, opened.scopes, at=opened.at),
        lifetime=ACCESS_TOKEN_LIFETIME,
        refresh_token=refresh_token,
    )


def _new_refresh_token() -> str:
    return secrets.token_urlsafe(REFRESH_TOKEN_BYTES)


def _digest(refresh_token: str) -> bytes:
    # 256 random bits need no slow hash: nothing can be guessed from the digest.
    return hashlib.sha256(refresh_token.encode()).digest()
