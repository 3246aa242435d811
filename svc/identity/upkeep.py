"""What an instance does beside its calls: follow the keys, and forget ended sessions and old failures to sign in.

`wiring` adds it as a background. Every round is complete in itself and looks at the database alone, so a round that
fails costs time and nothing else: the instance signs on with the keys it knows.
"""

import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from typing import Final, Protocol

import structlog

from svc.chassis import metrics
from svc.chassis.clock import Clock
from svc.chassis.context import Deadline
from svc.chassis.database import Transaction
from svc.chassis.errors import AppError
from svc.identity.model import REVOCATION_WINDOW
from svc.identity.ports import Transactions

log = structlog.get_logger(__name__)

#: Seconds between two looks at the keys: well below model.KEY_ACTIVATION_DELAY and KEY_HURRY. An instance that has not
#: looked since a key was revoked signs with it, for nobody to accept.
KEYS_EVERY_S: Final = 1.0
#: Seconds between two rounds of forgetting.
SWEEP_EVERY_S: Final = 60.0
#: Rows deleted in one transaction, and transactions in one round for each kind.
BATCH: Final = 200
BATCHES_MAX: Final = 50
#: The longest one step may take.
STEP_S: Final = 4.0
#: The longest `stop` waits for the step in hand.
STOP_S: Final = 5.0


class Refreshable(Protocol):
    """The key ring."""

    def refresh(self, *, deadline: Deadline) -> None:
        """Look at the database again."""
        ...


class Expiring(Protocol):
    """Where things that expire are deleted: sessions, failures to sign in."""

    def delete_expired(self, tx: Transaction, now: datetime, *, limit: int) -> int:
        """Delete what has expired, the oldest first; how many."""
        ...


class Upkeep:
    """One thread that does all in turn. Started and stopped once."""

    def __init__(
        self,
        ring: Refreshable,
        *,
        sessions: Expiring,
        failures: Expiring,
        transactions: Transactions,
        clock: Clock,
    ) -> None:
        self._ring = ring
        self._sessions = sessions
        self._failures = failures
        self._transactions = transactions
        self._clock = clock
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="identity-upkeep", daemon=True)

    def start(self) -> None:
        """Begin; the first look comes after one interval, since the start itself has looked."""
        self._thread.start()

    def stop(self) -> None:
        """Finish the step in hand and end."""
        self._stopping.set()
        self._thread.join(STOP_S)

    def refresh_keys(self) -> None:
        """Look at the keys once."""
        self._guarded("keys", lambda: self._ring.refresh(deadline=Deadline.after(STEP_S)))

    def delete_sessions(self) -> None:
        """Delete sessions that have ended, as many as one round may."""
        # As long as a token of theirs could live, the list of revocations needs them.
        self._guarded("sessions", lambda: self._sweep("sessions", self._sessions, older_by=REVOCATION_WINDOW))

    def delete_failures(self) -> None:
        """Delete failures to sign in that no longer count, as many as one round may."""
        self._guarded("failures", lambda: self._sweep("failures", self._failures, older_by=timedelta(0)))

    def _run(self) -> None:
        sweep_due = time.monotonic() + SWEEP_EVERY_S
        while not self._stopping.wait(KEYS_EVERY_S):
            self.refresh_keys()
            if time.monotonic() >= sweep_due:
                self.delete_sessions()
                self.delete_failures()
                sweep_due = time.monotonic() + SWEEP_EVERY_S

    def _sweep(self, kind: str, kept: Expiring, *, older_by: timedelta) -> None:
        for _ in range(BATCHES_MAX):
            now = self._clock.now() - older_by
            deleted = self._transactions.serializable(
                partial(kept.delete_expired, now=now, limit=BATCH), deadline=Deadline.after(STEP_S)
            )
            if deleted:
                log.info("expired_deleted", kind=kind, count=deleted)
            if deleted < BATCH or self._stopping.is_set():
                return

    def _guarded(self, step: str, work: Callable[[], None]) -> None:
        try:
            work()
        except AppError as error:
            log.warning("upkeep_failed", step=step, reason=error.reason)
        except Exception:
            # The thread must live to try again; a key that cannot be unsealed, for instance, is somebody's to mend.
            metrics.UNEXPECTED_ERRORS.labels(place=f"identity.{step}").inc()
            log.exception("upkeep_broken", step=step)
