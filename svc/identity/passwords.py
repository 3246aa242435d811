"""Passwords: argon2id hashes, and a check that takes as long for an unknown user as for a known one.

The use cases hash and verify through this, outside of any transaction. At most a few hashes are computed at once:
each takes 19 MiB and tens of milliseconds of processor time, and other calls of the instance must go on meanwhile.
"""

import os
from threading import BoundedSemaphore
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from svc.chassis.context import Deadline
from svc.chassis.errors import ResourceExhausted

# OWASP's first choice for argon2id with 19 MiB (Password Storage Cheat Sheet).
MEMORY_KIB: Final = 19456
ITERATIONS: Final = 2
PARALLELISM: Final = 1

#: The longest a call waits for its turn; later it is refused, so that a flood of sign-ins cannot hold every thread.
TURN_WAIT_S_MAX: Final = 1.0


class Passwords:
    """Hashes and verifies passwords. One for each process; safe for threads."""

    def __init__(self, *, concurrent_max: int | None = None) -> None:
        self._hasher = PasswordHasher(time_cost=ITERATIONS, memory_cost=MEMORY_KIB, parallelism=PARALLELISM)
        most = concurrent_max or max(2, os.cpu_count() or 2)
        self._slots = BoundedSemaphore(most)
        self._limit = f"{most} passwords checked at once"
        # Nobody knows a password of this hash: it stands in where there is no user, so that time tells nothing.
        self._dummy = self._hasher.hash(os.urandom(32))

    def hash(self, password: str, *, deadline: Deadline) -> str:
        """Hash a password with a fresh salt."""
        with _Slot(self._slots, deadline, self._limit):
            return self._hasher.hash(password)

    def verify(self, password: str, password_hash: str | None, *, deadline: Deadline) -> bool:
        """Whether the password is the hash's. `password_hash` None (no such user): False, after the same work."""
        with _Slot(self._slots, deadline, self._limit):
            try:
                self._hasher.verify(password_hash or self._dummy, password)
            except (VerificationError, InvalidHashError):
                return False
            return password_hash is not None


class _Slot:
    """One of the places for a hash in progress, waited for no longer than the call's deadline."""

    def __init__(self, slots: BoundedSemaphore, deadline: Deadline, limit: str) -> None:
        self._slots = slots
        self._deadline = deadline
        self._limit = limit

    def __enter__(self) -> None:
        if not self._slots.acquire(timeout=min(TURN_WAIT_S_MAX, max(0.0, self._deadline.remaining()))):
            raise ResourceExhausted(
                "Too many passwords are being checked.",
                reason="BUSY",
                violations=[("instance", self._limit)],
                metadata={"limit": self._limit},
                retry_after=1.0,
            )

    def __exit__(self, *_: object) -> None:
        self._slots.release()
