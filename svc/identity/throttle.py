"""How often one address may try to sign in: the brake on guessing passwords.

`usecases.create_session` asks before it looks at a password. An attempt is counted before its password is checked,
in a transaction of its own: however many are made at once, at all instances, no more than the free ones get through.
Nothing here knows whether the address is anybody's.
"""

import hashlib
from datetime import datetime
from typing import Final, Protocol

from svc.chassis.clock import Clock
from svc.chassis.database import Transaction
from svc.chassis.errors import ResourceExhausted
from svc.identity.model import (
    FAILURES_WINDOW,
    FREE_FAILURES,
    SignInFailures,
    one_failure_less,
    one_more_failure,
)

_LIMIT: Final = (
    f"{FREE_FAILURES} failures to sign in with one address in {FAILURES_WINDOW.total_seconds() / 60:g} minutes"
)


class Failures(Protocol):
    """Keeps failed sign-ins."""

    def get(self, tx: Transaction, digest: bytes) -> SignInFailures | None:
        """Those of an address."""
        ...

    def put(self, tx: Transaction, failures: SignInFailures) -> None:
        """Store those of an address, in place of what was stored."""
        ...

    def delete(self, tx: Transaction, digest: bytes) -> None:
        """Forget those of an address."""
        ...

    def delete_expired(self, tx: Transaction, now: datetime, *, limit: int) -> int:
        """Forget what has expired, the oldest first; how many."""
        ...


class Throttle:
    """Counts attempts and refuses those that come too soon."""

    def __init__(self, failures: Failures, clock: Clock) -> None:
        self._failures = failures
        self._clock = clock

    def admit(self, tx: Transaction, digest: bytes) -> None:
        """Count an attempt; raises ResourceExhausted, and counts nothing, while the address has to wait."""
        now = self._clock.now()
        known = self._failures.get(tx, digest)
        if known is not None and known.pause_until is not None and known.is_paused(now):
            raise ResourceExhausted(
                "Too many attempts to sign in with this address.",
                reason="SIGN_IN_THROTTLED",
                # Not which address: errors are logged, and it tells who somebody is.
                violations=[("email", _LIMIT)],
                metadata={"limit": _LIMIT},
                retry_after=(known.pause_until - now).total_seconds(),
            )
        self._failures.put(tx, one_more_failure(digest, known, now))

    def forgive(self, tx: Transaction, digest: bytes) -> None:
        """Take back one attempt: nobody looked at its password."""
        known = self._failures.get(tx, digest)
        left = one_failure_less(known) if known is not None else None
        if left is not None:
            self._failures.put(tx, left)
        else:
            self._failures.delete(tx, digest)

    def clear(self, tx: Transaction, digest: bytes) -> None:
        """Forget every attempt: the password was right."""
        self._failures.delete(tx, digest)


def address_digest(email_key: str) -> bytes:
    """Under what the attempts of an address are kept."""
    return hashlib.sha256(email_key.encode()).digest()
