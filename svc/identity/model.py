"""Users, sessions and signing keys as values, and the rules that hold for them.

Everybody in this service speaks in these values. Nothing here reads a clock, a row or a message: whoever calls
brings the time along, so every rule can be tried with plain values.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

OPERATOR_ID: Final = "operator"
ADMIN_SCOPE: Final = "identity.admin"
OPERATE_SCOPE: Final = "mesh.operate"

#: Scopes that give power over others. Who acts for a user must hold those of them that the user holds; otherwise
#: acting for an administrator would be a way to become one.
ADMINISTRATIVE_SCOPES: Final = frozenset({ADMIN_SCOPE, OPERATE_SCOPE})

#: What a new user may do.
CUSTOMER_SCOPES: Final = (
    "analytics.read",
    "catalog.read",
    "identity.read",
    "identity.write",
    "inventory.read",
    "orders.read",
    "orders.write",
)

#: Fields of a user that UpdateUser changes.
MUTABLE_FIELDS: Final = ("display_name",)

#: Short, because a token cannot be called back before it expires.
ACCESS_TOKEN_LIFETIME: Final = timedelta(seconds=300)
#: Difference between two clocks that every verifier forgives.
CLOCK_SKEW: Final = timedelta(seconds=5)
#: A session ends after this, however often it is refreshed.
SESSION_LIFETIME: Final = timedelta(days=30)
#: How long a key is published before it signs: longer than a poll of the slowest instance and the way of the set
#: through registry and control plane to the last verifier.
KEY_ACTIVATION_DELAY: Final = timedelta(seconds=15)

USERS_PREFIX: Final = "users/"
SESSIONS_PREFIX: Final = "sessions/"


@dataclass(frozen=True, slots=True)
class User:
    """Somebody who can sign in."""

    id: str
    email: str
    display_name: str
    scopes: tuple[str, ...]
    create_time: datetime
    update_time: datetime

    @property
    def name(self) -> str:
        """Resource name."""
        return USERS_PREFIX + self.id


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user and the argon2id hash of the password."""

    user: User
    password_hash: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """A session as it is kept: whose, asked for what, and until when. No token is in it."""

    id: str
    user_id: str
    actor: str | None
    """Id of the operator who acts for the user; None where the user signed in."""
    requested_scopes: tuple[str, ...]
    """What the caller asked for; empty: all that the user has, at any refresh anew."""
    create_time: datetime
    expire_time: datetime
    revoke_time: datetime | None = None

    @property
    def name(self) -> str:
        """Resource name."""
        return SESSIONS_PREFIX + self.id

    def is_open(self, now: datetime) -> bool:
        """Whether the session may still be refreshed."""
        return self.revoke_time is None and now < self.expire_time


@dataclass(frozen=True, slots=True)
class RefreshToken:
    """What is kept of a refresh token: its hash, its session, and when it was used up."""

    digest: bytes
    session_id: str
    use_time: datetime | None = None


@dataclass(frozen=True, slots=True)
class Session:
    """What a caller gets who signed in: the pair of tokens. Its repr shows neither."""

    record: SessionRecord
    scopes: tuple[str, ...]
    access_token: str = field(repr=False)
    lifetime: timedelta
    refresh_token: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A signing key as it lies in the database: the private half sealed, the public half a JWK in JSON."""

    kid: str
    sealed: bytes = field(repr=False)
    public_jwk: str
    activate_time: datetime


def email_key(address: str) -> str:
    """The form of an address under which it is unique."""
    return address.lower()


def is_reserved(user_id: str) -> bool:
    """Whether an id is kept for the platform itself."""
    folded = user_id.lower()
    return folded == OPERATOR_ID or folded.startswith("weft-")


def granted(held: Sequence[str], requested: Sequence[str]) -> tuple[str, ...]:
    """Scopes of a token: those of the requested that the user holds, or all held where none is requested."""
    if not requested:
        return tuple(sorted(held))
    return tuple(sorted(set(held) & set(requested)))


def not_held(held: Sequence[str], requested: Sequence[str]) -> tuple[str, ...]:
    """Requested scopes that the user does not hold, in the order of the request."""
    return tuple(scope for scope in requested if scope not in held)


def signing_key(keys: Sequence[StoredKey], now: datetime) -> StoredKey | None:
    """The key that signs: of those already active the one activated last; ties go to the greater kid."""
    active = [key for key in keys if key.activate_time <= now]
    return max(active, key=lambda key: (key.activate_time, key.kid), default=None)


def published_keys(keys: Sequence[StoredKey], now: datetime) -> tuple[StoredKey, ...]:
    """The keys that verifiers need, newest first: the signing one, later ones, and each older one until the last
    token that it can have signed has expired.
    """
    newest_first = sorted(keys, key=lambda key: (key.activate_time, key.kid), reverse=True)
    kept: list[StoredKey] = []
    for key in newest_first:
        # The one before in this order replaced the key at its own activation.
        if kept and kept[-1].activate_time + ACCESS_TOKEN_LIFETIME + CLOCK_SKEW + KEY_ACTIVATION_DELAY <= now:
            break
        kept.append(key)
    return tuple(kept)
