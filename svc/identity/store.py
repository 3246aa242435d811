"""Identity's rows: users, sessions, refresh tokens, signing keys and failed sign-ins.

`wiring` gives these to the use cases and to the key ring. Every statement is built once; the ones that change rows
run inside the caller's transaction. There is no foreign key: under SERIALIZABLE its checks read rows that others
write, and would turn a sign-in and a change of name into a conflict.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Row, text

from svc.chassis.database import Transaction
from svc.identity.model import (
    Credentials,
    EndedSession,
    RefreshToken,
    SessionRecord,
    SignInFailures,
    StoredKey,
    User,
    UserState,
    email_key,
)

_USER_COLUMNS: Final = "id, email, display_name, scopes, create_time, update_time, state, tokens_from"

_INSERT_USER: Final = text(
    f"""
    INSERT INTO users ({_USER_COLUMNS}, email_key, password_hash)
    VALUES (:id, :email, :display_name, :scopes, :create_time, :update_time, :state, :tokens_from,
            :email_key, :password_hash)
    ON CONFLICT DO NOTHING
    RETURNING id
    """
)
_GET_USER: Final = text(f"SELECT {_USER_COLUMNS} FROM users WHERE id = :id")
_GET_SHARED: Final = text(f"SELECT {_USER_COLUMNS} FROM users WHERE id = :id FOR SHARE")
_GET_LOCKED: Final = text(f"SELECT {_USER_COLUMNS} FROM users WHERE id = :id FOR UPDATE")
_FIND_USER: Final = text(f"SELECT {_USER_COLUMNS}, password_hash FROM users WHERE email_key = :email_key")
_PAGE_USERS: Final = text(f"SELECT {_USER_COLUMNS} FROM users WHERE id > :after ORDER BY id LIMIT :limit")
_UPDATE_USER: Final = text(
    """
    UPDATE users
       SET display_name = :display_name, scopes = :scopes, update_time = :update_time, state = :state,
           tokens_from = :tokens_from
     WHERE id = :id
    """
)
_REPLACE_USER: Final = text(
    """
    UPDATE users
       SET email = :email, email_key = :email_key, display_name = :display_name, scopes = :scopes,
           update_time = :update_time, state = :state, tokens_from = :tokens_from, password_hash = :password_hash
     WHERE id = :id
    """
)

_SESSION_COLUMNS: Final = "id, user_id, actor, requested_scopes, create_time, expire_time, revoke_time"
_INSERT_SESSION: Final = text(
    f"""
    INSERT INTO sessions ({_SESSION_COLUMNS})
    VALUES (:id, :user_id, :actor, :requested_scopes, :create_time, :expire_time, :revoke_time)
    """
)
_GET_SESSION: Final = text(f"SELECT {_SESSION_COLUMNS} FROM sessions WHERE id = :id")
_REVOKE_SESSION: Final = text("UPDATE sessions SET revoke_time = :revoke_time WHERE id = :id")
_INSERT_TOKEN: Final = text(
    "INSERT INTO refresh_tokens (digest, session_id, use_time) VALUES (:digest, :session_id, :use_time)"
)
_FIND_TOKEN: Final = text("SELECT digest, session_id, use_time FROM refresh_tokens WHERE digest = :digest")
_USE_TOKEN: Final = text("UPDATE refresh_tokens SET use_time = :use_time WHERE digest = :digest")
_EXPIRED_SESSIONS: Final = text("SELECT id FROM sessions WHERE expire_time <= :now ORDER BY expire_time LIMIT :limit")
_DELETE_TOKENS: Final = text("DELETE FROM refresh_tokens WHERE session_id = ANY(:ids)")
_DELETE_SESSIONS: Final = text("DELETE FROM sessions WHERE id = ANY(:ids)")

_ENDED_SESSIONS: Final = text(
    """
    SELECT id, user_id, revoke_time
      FROM (SELECT id, user_id, revoke_time,
                   row_number() OVER (PARTITION BY user_id ORDER BY revoke_time DESC, id) AS place
              FROM sessions
             WHERE revoke_time > :since) AS ended
     WHERE place <= :per_user
     ORDER BY revoke_time DESC, id
     LIMIT :limit
    """
)
_LATEST_ENDED: Final = text(
    """
    SELECT user_id, max(revoke_time) AS revoke_time
      FROM sessions
     WHERE revoke_time > :since AND revoke_time <= :until
     GROUP BY user_id
     ORDER BY max(revoke_time) DESC, user_id
     LIMIT :limit
    """
)
_REVOKED_USERS: Final = text(
    f"SELECT {_USER_COLUMNS} FROM users WHERE tokens_from > :since ORDER BY tokens_from DESC, id LIMIT :limit"
)

_GET_FAILURES: Final = text(
    "SELECT digest, failures, expire_time, pause_until FROM sign_in_failures WHERE digest = :digest"
)
_PUT_FAILURES: Final = text(
    """
    INSERT INTO sign_in_failures (digest, failures, expire_time, pause_until)
    VALUES (:digest, :failures, :expire_time, :pause_until)
    ON CONFLICT (digest) DO UPDATE
       SET failures = excluded.failures, expire_time = excluded.expire_time, pause_until = excluded.pause_until
    """
)
_DELETE_FAILURES: Final = text("DELETE FROM sign_in_failures WHERE digest = :digest")
_DELETE_EXPIRED_FAILURES: Final = text(
    """
    DELETE FROM sign_in_failures
     WHERE digest IN (SELECT digest FROM sign_in_failures WHERE expire_time <= :now ORDER BY expire_time LIMIT :limit)
    """
)

_KEYS: Final = text("SELECT kid, sealed, public_jwk, activate_time FROM signing_keys")
_INSERT_KEY: Final = text(
    """
    INSERT INTO signing_keys (kid, sealed, public_jwk, activate_time)
    VALUES (:kid, :sealed, :public_jwk, :activate_time)
    """
)
_DELETE_KEYS: Final = text("DELETE FROM signing_keys WHERE kid = ANY(:kids)")


class UserStore:
    """Table `users`."""

    def insert(self, tx: Transaction, credentials: Credentials) -> str | None:
        """Insert; the name of the request field whose value is taken, or None where the user went in."""
        if tx.execute(_INSERT_USER, _user_values(credentials)).first() is not None:
            return None
        return "user_id" if self.get(tx, credentials.user.id) is not None else "email"

    def get(self, tx: Transaction, user_id: str) -> User | None:
        """The user with an id."""
        row = tx.execute(_GET_USER, {"id": user_id}).first()
        return _user(row) if row is not None else None

    def get_shared(self, tx: Transaction, user_id: str) -> User | None:
        """The same, and nobody changes it before the transaction has ended."""
        row = tx.execute(_GET_SHARED, {"id": user_id}).first()
        return _user(row) if row is not None else None

    def get_locked(self, tx: Transaction, user_id: str) -> User | None:
        """The same, and nobody holds it shared."""
        row = tx.execute(_GET_LOCKED, {"id": user_id}).first()
        return _user(row) if row is not None else None

    def find_by_email(self, tx: Transaction, key: str) -> Credentials | None:
        """The user with an address in its unique form."""
        row = tx.execute(_FIND_USER, {"email_key": key}).first()
        return Credentials(_user(row), row.password_hash) if row is not None else None

    def page(self, tx: Transaction, *, after: str, limit: int) -> Sequence[User]:
        """Users whose id is greater than `after`, in the order of their ids."""
        return [_user(row) for row in tx.execute(_PAGE_USERS, {"after": after, "limit": limit})]

    def update(self, tx: Transaction, user: User) -> None:
        """Store display name, scopes, update time, state and `tokens_from`."""
        tx.execute(
            _UPDATE_USER,
            {
                "id": user.id,
                "display_name": user.display_name,
                "scopes": list(user.scopes),
                "update_time": user.update_time,
                "state": user.state.value,
                "tokens_from": user.tokens_from,
            },
        )

    def replace(self, tx: Transaction, credentials: Credentials) -> None:
        """Store everything but the create time."""
        tx.execute(_REPLACE_USER, _user_values(credentials))


class SessionStore:
    """Tables `sessions` and `refresh_tokens`."""

    def insert(self, tx: Transaction, session: SessionRecord) -> None:
        """Insert a session."""
        tx.execute(
            _INSERT_SESSION,
            {
                "id": session.id,
                "user_id": session.user_id,
                "actor": session.actor,
                "requested_scopes": list(session.requested_scopes),
                "create_time": session.create_time,
                "expire_time": session.expire_time,
                "revoke_time": session.revoke_time,
            },
        )

    def get(self, tx: Transaction, session_id: str) -> SessionRecord | None:
        """The session with an id."""
        row = tx.execute(_GET_SESSION, {"id": session_id}).first()
        if row is None:
            return None
        return SessionRecord(
            id=row.id,
            user_id=row.user_id,
            actor=row.actor,
            requested_scopes=tuple(row.requested_scopes),
            create_time=row.create_time,
            expire_time=row.expire_time,
            revoke_time=row.revoke_time,
        )

    def revoke(self, tx: Transaction, session: SessionRecord) -> None:
        """Store the revoke time."""
        tx.execute(_REVOKE_SESSION, {"id": session.id, "revoke_time": session.revoke_time})

    def insert_token(self, tx: Transaction, token: RefreshToken) -> None:
        """Insert the hash of a refresh token."""
        tx.execute(_INSERT_TOKEN, _token_values(token))

    def find_token(self, tx: Transaction, digest: bytes) -> RefreshToken | None:
        """The refresh token with a hash."""
        row = tx.execute(_FIND_TOKEN, {"digest": digest}).first()
        return RefreshToken(bytes(row.digest), row.session_id, row.use_time) if row is not None else None

    def use_token(self, tx: Transaction, token: RefreshToken) -> None:
        """Store the use time of a refresh token."""
        tx.execute(_USE_TOKEN, _token_values(token))

    def delete_expired(self, tx: Transaction, now: datetime, *, limit: int) -> int:
        """Delete sessions that have expired, the oldest first, with their tokens; how many."""
        ids = list(tx.execute(_EXPIRED_SESSIONS, {"now": now, "limit": limit}).scalars())
        if ids:
            tx.execute(_DELETE_TOKENS, {"ids": ids})
            tx.execute(_DELETE_SESSIONS, {"ids": ids})
        return len(ids)


class RevocationStore:
    """What of `sessions` and `users` was revoked of late."""

    def sessions(self, tx: Transaction, since: datetime, *, per_user: int, limit: int) -> Sequence[EndedSession]:
        """Sessions revoked after a time, the latest first, at most so many of one user."""
        rows = tx.execute(_ENDED_SESSIONS, {"since": since, "per_user": per_user, "limit": limit})
        return [EndedSession(row.id, row.user_id, row.revoke_time) for row in rows]

    def latest(self, tx: Transaction, since: datetime, until: datetime, *, limit: int) -> Mapping[str, datetime]:
        """Users with a session revoked after `since` and up to `until`, and when the last of those was; the latest."""
        rows = tx.execute(_LATEST_ENDED, {"since": since, "until": until, "limit": limit})
        return {row.user_id: row.revoke_time for row in rows}

    def users(self, tx: Transaction, since: datetime, *, limit: int) -> Sequence[User]:
        """Users with a `tokens_from` after a time, the latest first."""
        return [_user(row) for row in tx.execute(_REVOKED_USERS, {"since": since, "limit": limit})]


class FailureStore:
    """Table `sign_in_failures`."""

    def get(self, tx: Transaction, digest: bytes) -> SignInFailures | None:
        """Those of an address."""
        row = tx.execute(_GET_FAILURES, {"digest": digest}).first()
        if row is None:
            return None
        return SignInFailures(bytes(row.digest), row.failures, row.expire_time, row.pause_until)

    def put(self, tx: Transaction, failures: SignInFailures) -> None:
        """Store those of an address."""
        values = {
            "digest": failures.digest,
            "failures": failures.count,
            "expire_time": failures.expire_time,
            "pause_until": failures.pause_until,
        }
        tx.execute(_PUT_FAILURES, values)

    def delete(self, tx: Transaction, digest: bytes) -> None:
        """Forget those of an address."""
        tx.execute(_DELETE_FAILURES, {"digest": digest})

    def delete_expired(self, tx: Transaction, now: datetime, *, limit: int) -> int:
        """Forget what has expired, the oldest first; how many."""
        return int(tx.execute(_DELETE_EXPIRED_FAILURES, {"now": now, "limit": limit}).rowcount)


class KeyStore:
    """Table `signing_keys`."""

    def all(self, tx: Transaction) -> Sequence[StoredKey]:
        """Every key, in no order."""
        return [StoredKey(row.kid, bytes(row.sealed), row.public_jwk, row.activate_time) for row in tx.execute(_KEYS)]

    def insert(self, tx: Transaction, key: StoredKey) -> None:
        """Insert a key."""
        tx.execute(
            _INSERT_KEY,
            {
                "kid": key.kid,
                "sealed": key.sealed,
                "public_jwk": key.public_jwk,
                "activate_time": key.activate_time,
            },
        )

    def delete(self, tx: Transaction, kids: Sequence[str]) -> None:
        """Delete keys."""
        tx.execute(_DELETE_KEYS, {"kids": list(kids)})


def _user_values(credentials: Credentials) -> dict[str, Any]:
    user = credentials.user
    return {
        "id": user.id,
        "email": user.email,
        "email_key": email_key(user.email),
        "display_name": user.display_name,
        "scopes": list(user.scopes),
        "create_time": user.create_time,
        "update_time": user.update_time,
        "state": user.state.value,
        "tokens_from": user.tokens_from,
        "password_hash": credentials.password_hash,
    }


def _token_values(token: RefreshToken) -> dict[str, Any]:
    return {"digest": token.digest, "session_id": token.session_id, "use_time": token.use_time}


def _user(row: Row[Any]) -> User:
    return User(
        id=row.id,
        email=row.email,
        display_name=row.display_name,
        scopes=tuple(row.scopes),
        create_time=row.create_time,
        update_time=row.update_time,
        state=UserState(row.state),
        tokens_from=row.tokens_from,
    )
