"""What identity's use cases need of the world outside, as types: stores, passwords, tokens, time.

`wiring` fills them with the real ones, tests with those of `tests/fakes/identity.py`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, TypeVar

from svc.chassis.clock import Clock
from svc.chassis.consistency import Session
from svc.chassis.context import Deadline
from svc.chassis.database import Transaction
from svc.chassis.outbox import Event
from svc.identity.model import Credentials, RefreshToken, SessionRecord, StoredKey, User
from svc.identity.throttle import Throttle

T = TypeVar("T")


class Transactions(Protocol):
    """Runs work in one SERIALIZABLE transaction, again as a whole where it conflicts; or as a read."""

    def serializable(
        self,
        work: Callable[[Transaction], T],
        *,
        deadline: Deadline,
        hot_keys: Sequence[str] = (),
        session: Session | None = None,
    ) -> T:
        """Run work until it commits."""
        ...

    def read(self, work: Callable[[Transaction], T], *, deadline: Deadline, session: Session | None = None) -> T:
        """Run work on one snapshot, as new as the session asks."""
        ...


class Users(Protocol):
    """Keeps users."""

    def insert(self, tx: Transaction, credentials: Credentials) -> str | None:
        """Insert; the name of the field whose value is taken (`user_id`, `email`), or None where it went in."""
        ...

    def get(self, tx: Transaction, user_id: str) -> User | None:
        """The user with an id."""
        ...

    def get_shared(self, tx: Transaction, user_id: str) -> User | None:
        """The same, and nobody changes it before the transaction has ended. For those who issue tokens."""
        ...

    def get_locked(self, tx: Transaction, user_id: str) -> User | None:
        """The same, and nobody holds it shared. For those who revoke tokens: no later one is issued of what was."""
        ...

    def find_by_email(self, tx: Transaction, key: str) -> Credentials | None:
        """The user with an address in its unique form."""
        ...

    def page(self, tx: Transaction, *, after: str, limit: int) -> Sequence[User]:
        """Users whose id is greater than `after`, in the order of their ids."""
        ...

    def update(self, tx: Transaction, user: User) -> None:
        """Store display name, scopes, update time, state and `tokens_from` of an existing user."""
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

    def issue(self, session: SessionRecord, scopes: Sequence[str], *, at: datetime) -> str:
        """The access token of a session, issued at a time."""
        ...


class SigningKeys(Protocol):
    """The keys that sign, as those who run the mesh handle them; `keys.KeyRing`."""

    def listed(self, *, deadline: Deadline) -> Sequence[StoredKey]:
        """Those that verifiers need, by kid."""
        ...

    def signing(self) -> tuple[str, object]:
        """Id of the one that signs now, and its private half."""
        ...

    def replace(self, kid: str, *, deadline: Deadline, record: Callable[[Transaction, StoredKey], None]) -> StoredKey:
        """The one that follows another; `record` is told of it in the transaction that made it."""
        ...

    def revoke(self, kid: str, *, deadline: Deadline, record: Callable[[Transaction, StoredKey], None]) -> None:
        """Take one back; `record` is told of it in the same transaction."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """Everything outside of the use cases."""

    transactions: Transactions
    users: Users
    sessions: Sessions
    passwords: Passwords
    tokens: Tokens
    keys: SigningKeys
    throttle: Throttle
    append: Callable[[Transaction, Sequence[Event]], None]
    announce: Callable[[], None]
    """Told after something was revoked, so that every instance of the mesh hears of it at once."""
    clock: Clock
    known_scopes: frozenset[str]
    """Every scope that a contract names."""
