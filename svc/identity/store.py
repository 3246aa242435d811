"""Identity's rows: users, sessions, refresh tokens and signing keys.

`wiring` gives these to the use cases and to the key ring. Every statement is built once; the ones that change rows
run inside the caller's transaction. There is no foreign key: under SERIALIZABLE its checks read rows that others
write, and would turn a sign-in and a change of name into a conflict.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Row, text

from svc.chassis.database import Transaction
from svc.identity.model import Credentials, RefreshToken, SessionRecord, StoredKey, User, email_key

_USER_COLUMNS: Final = "id, email, display_name, scopes, create_time, update_time"

_INSERT_USER: Final = text(
    f"""
    INSERT INTO users ({_USER_COLUMNS}, email_key, password_hash)
    VALUES (:id, :email, :display_name, :scopes, :create_time, :update_time, :email_key, :password_hash)
    ON CONFLICT DO NOTHING
    RETURNING id
    """
)
_GET_USER: Final = text(f"SELECT {_USER_COLUMNS} FROM users WHERE id = :id")
_FIND_USER: Final = text(f"SELECT {_USER_COLUMNS}, password_hash FROM users WHERE email_key = :email_key")
_PAGE_USERS: Final = text(f"SELECT {_USER_COLUMNS} FROM users WHERE id > :after ORDER BY id LIMIT :limit")
_UPDATE_USER: Final = text(
    "UPDATE users SET display_name = :display_name, scopes = :scopes, update_time = :update_time WHERE id = :id"
)
_REPLACE_USER: Final = text(
    """
    UPDATE users
       SET email = :email, email_key = :email_key, display_name = :display_name, scopes = :scopes,
           update_time = :update_time, password_hash = :password_hash
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

    def find_by_email(self, tx: Transaction, key: str) -> Credentials | None:
        """The user with an address in its unique form."""
        row = tx.execute(_FIND_USER, {"email_key": key}).first()
        return Credentials(_user(row), row.password_hash) if row is not None else None

    def page(self, tx: Transaction, *, after: str, limit: int) -> Sequence[User]:
        """Users whose id is greater than `after`, in the order of their ids."""
        return [_user(row) for row in tx.execute(_PAGE_USERS, {"after": after, "limit": limit})]

    def update(self, tx: Transaction, user: User) -> None:
        """Store display name, scopes and update time."""
        tx.execute(
            _UPDATE_USER,
            {
                "id": user.id,
                "display_name": user.display_name,
                "scopes": list(user.scopes),
                "update_time": user.update_time,
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
    )
