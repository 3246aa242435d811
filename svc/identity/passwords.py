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
        # New passwords get half of the slots: whoever makes users without end keeps nobody from signing in.
        self._new = BoundedSemaphore(max(1, most // 2))
        self._new_limit = f"{max(1, most // 2)} new passwords hashed at once"
        # Nobody knows a password of this hash: it stands in where there is no user, so that time tells nothing.
        self._dummy = self._hasher.hash(os.urandom(32))

    def hash(self, password: str, *, deadline: Deadline) -> str:
        """Hash a password with a fresh salt."""
        turn = _turn(deadline)
        with _Slot(self._new, turn, self._new_limit), _Slot(self._slots, turn, self._limit):
            return self._hasher.hash(password)

    def verify(self, password: str, password_hash: str | None, *, deadline: Deadline) -> bool:
        """Whether the password is the hash's. `password_hash` None (no such user): False, after the same work."""
        with _Slot(self._slots, _turn(deadline), self._limit):
            try:
                self._hasher.verify(password_hash or self._dummy, password)
            except (VerificationError, InvalidHashError):
                return False
            return password_hash is not None


def _turn(deadline: Deadline) -> Deadline:
    """Until when a call waits for its turn."""
    return Deadline.after(min(TURN_WAIT_S_MAX, deadline.remaining()))


class _Slot:
    """One of the places for a hash in progress."""

    def __init__(self, slots: BoundedSemaphore, turn: Deadline, limit: str) -> None:
        self._slots = slots
        self._turn = turn
        self._limit = limit

    def __enter__(self) -> None:
        if not self._slots.acquire(timeout=self._turn.remaining()):
            raise ResourceExhausted(
                "Too many passwords are being checked.",
                reason="BUSY",
                violations=[("instance", self._limit)],
                metadata={"limit": self._limit},
                retry_after=1.0,
            )

    def __exit__(self, *_: object) -> None:
        self._slots.release()
