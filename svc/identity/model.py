"""Users, sessions and signing keys as values, and the rules that hold for them.

Everybody in this service speaks in these values. Nothing here reads a clock, a row or a message: whoever calls
brings the time along, so every rule can be tried with plain values.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import Enum
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

#: Short, because a gateway cannot know that a token was revoked, nor can an instance that lost the registry.
ACCESS_TOKEN_LIFETIME: Final = timedelta(seconds=300)
#: Difference between two clocks that every verifier forgives.
CLOCK_SKEW: Final = timedelta(seconds=5)
#: How long after its revocation a token could live: the clock that issued it may be ahead, the verifier's behind.
REVOCATION_WINDOW: Final = ACCESS_TOKEN_LIFETIME + 2 * CLOCK_SKEW
#: A session ends after this, however often it is refreshed.
SESSION_LIFETIME: Final = timedelta(days=30)
#: How long a key is published before it signs: longer than a poll of the slowest instance and the way of the set
#: through registry and control plane to the last verifier.
KEY_ACTIVATION_DELAY: Final = timedelta(seconds=15)
#: The same where nothing signs until then, since the key that did was revoked.
KEY_HURRY: Final = timedelta(seconds=3)

#: Wrong passwords for one address that cost nothing, if they are made within the window.
FREE_FAILURES: Final = 5
FAILURES_WINDOW: Final = timedelta(minutes=15)
#: Pause after the last free failure, doubled by each further one.
PAUSE_FIRST: Final = timedelta(seconds=1)
PAUSE_MAX: Final = timedelta(minutes=15)

USERS_PREFIX: Final = "users/"
SESSIONS_PREFIX: Final = "sessions/"
KEYS_PREFIX: Final = "signingKeys/"


class UserState(Enum):
    """Whether a user may sign in. The values are those of the database."""

    ACTIVE = "active"
    SUSPENDED = "suspended"


@dataclass(frozen=True, slots=True)
class User:
    """Somebody who can sign in."""

    id: str
    email: str = field(repr=False)
    display_name: str = field(repr=False)
    scopes: tuple[str, ...]
    create_time: datetime
    update_time: datetime
    state: UserState = UserState.ACTIVE
    tokens_from: datetime | None = None
    """A full second: tokens issued and sessions opened before it are worth nothing. None: all are good."""

    @property
    def name(self) -> str:
        """Resource name."""
        return USERS_PREFIX + self.id

    @property
    def suspended(self) -> bool:
        """Whether the user is shut out."""
        return self.state is UserState.SUSPENDED

    def issue_time(self, now: datetime) -> datetime:
        """When a token that is issued now says it was: not before what was revoked, be it the same second's."""
        return now if self.tokens_from is None else max(now, self.tokens_from)

    def disowns(self, session: "SessionRecord") -> bool:
        """Whether a session is older than what was revoked."""
        return self.tokens_from is not None and session.create_time < self.tokens_from


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
class EndedSession:
    """A session that was revoked, as the list of revocations needs it."""

    id: str
    user_id: str
    revoke_time: datetime


@dataclass(frozen=True, slots=True)
class SignInFailures:
    """Sign-ins with one address that did not succeed. An attempt counts as one until its password proves right."""

    digest: bytes
    """Of the address, so that what strangers typed is nowhere to be read."""
    count: int
    expire_time: datetime
    """From then on they are forgotten."""
    pause_until: datetime | None = None
    """Before then no password is looked at."""

    def is_paused(self, now: datetime) -> bool:
        """Whether the address has to wait."""
        return self.pause_until is not None and now < self.pause_until


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

    @property
    def name(self) -> str:
        """Resource name."""
        return KEYS_PREFIX + self.kid


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


def after_this_second(now: datetime) -> datetime:
    """The first full second that is later: tokens name their time in seconds, and one of this second is too early."""
    return now.replace(microsecond=0) + timedelta(seconds=1)


def one_more_failure(digest: bytes, known: SignInFailures | None, now: datetime) -> SignInFailures:
    """What is kept once an attempt more was made; `known` is not paused."""
    if known is None or known.expire_time <= now:
        return SignInFailures(digest, 1, now + FAILURES_WINDOW)
    count = known.count + 1
    if count < FREE_FAILURES:
        return replace(known, count=count)
    # 2**16 seconds are more than any pause; the bound keeps the number small.
    pause = min(PAUSE_MAX, PAUSE_FIRST * 2 ** min(count - FREE_FAILURES, 16))
    # Kept as long again after the pause: patience alone does not earn five free attempts.
    return SignInFailures(digest, count, now + pause + FAILURES_WINDOW, pause_until=now + pause)


def one_failure_less(known: SignInFailures) -> SignInFailures | None:
    """What is kept where an attempt was given up before its password was looked at."""
    return replace(known, count=known.count - 1, pause_until=None) if known.count > 1 else None


def signing_key(keys: Sequence[StoredKey], now: datetime) -> StoredKey | None:
    """The key that signs: of those already active the one activated last; ties go to the greater kid."""
    active = [key for key in keys if key.activate_time <= now]
    return max(active, key=lambda key: (key.activate_time, key.kid), default=None)


def successor(keys: Sequence[StoredKey], key: StoredKey) -> StoredKey | None:
    """The key that takes the place of another, or has taken it: of the later ones the first."""
    later = [other for other in keys if (other.activate_time, other.kid) > (key.activate_time, key.kid)]
    return min(later, key=lambda other: (other.activate_time, other.kid), default=None)


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
