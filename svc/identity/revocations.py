"""Publishes which access tokens are worth nothing any more, so that every instance refuses them within seconds.

`wiring` opens one feed for each instance of identity and adds it as a background; use cases wake it after what they
revoke. Every instance looks at the database each second and publishes what follows from it, so all publish the same:
none has to tell another anything, and a document that an instance overwrote with an older one is put right within a
second, by itself or by any other. The document is published at the start, be it empty.

It is as long as `chassis.revocations` lets it be, whoever signs out how often: of sessions that do not fit, every older
token of their users is refused, and of users that do not fit, every older token of everybody. Either can be refreshed.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Final, Protocol

import structlog

from svc.chassis import metrics
from svc.chassis.clock import Clock
from svc.chassis.context import Deadline
from svc.chassis.database import Transaction
from svc.chassis.errors import AppError
from svc.chassis.revocations import SESSIONS_MAX, SUBJECTS_MAX, Revocations, SubjectRevocation, encode
from svc.identity.model import REVOCATION_WINDOW, EndedSession, User, after_this_second
from svc.identity.ports import Transactions

log = structlog.get_logger(__name__)

#: Seconds between two looks at the database.
EVERY_S: Final = 1.0
#: The least time between two looks, however often the feed is woken: sign-outs come in bursts.
GAP_S: Final = 0.25
#: The longest one look may take.
STEP_S: Final = 2.0
#: The longest `stop` waits for the look in hand.
STOP_S: Final = 3.0
#: Ended sessions of one user that are listed one by one. Of more, the older ones are refused by their time, which also
#: refuses other tokens of that user as old as those: who signs out hundreds of times cannot crowd out others.
SESSIONS_PER_USER: Final = 64


class Revoked(Protocol):
    """Where revocations are read."""

    def sessions(self, tx: Transaction, since: datetime, *, per_user: int, limit: int) -> Sequence[EndedSession]:
        """Sessions revoked after a time, the latest first, at most so many of one user."""
        ...

    def latest(self, tx: Transaction, since: datetime, until: datetime, *, limit: int) -> Mapping[str, datetime]:
        """Users with a session revoked after `since` and up to `until`, and when the last of those was; the latest."""
        ...

    def users(self, tx: Transaction, since: datetime, *, limit: int) -> Sequence[User]:
        """Users with a `tokens_from` after a time, the latest first."""
        ...


def listed(
    ended: Sequence[EndedSession], users: Sequence[User], unlisted: Mapping[str, datetime] | None = None
) -> Revocations:
    """The list of revocations. `ended` has the latest first, and up to one more of each user than are listed.

    `unlisted`: users with sessions for which there is no room, and when the last of those was revoked. Of it and of
    `users`, one more than `SUBJECTS_MAX` stands for all that follow.
    """
    sessions: dict[str, int] = {}
    before = {user_id: _seconds(after_this_second(time)) for user_id, time in (unlisted or {}).items()}
    of_user: dict[str, int] = {}
    for session in ended:
        of_user[session.user_id] = of_user.get(session.user_id, 0) + 1
        if of_user[session.user_id] <= SESSIONS_PER_USER:
            sessions[session.id] = _seconds(session.revoke_time + REVOCATION_WINDOW)
        else:
            rest = _seconds(after_this_second(session.revoke_time))
            before[session.user_id] = max(rest, before.get(session.user_id, 0))
    for user in users:
        if user.tokens_from is not None:
            before[user.id] = max(_seconds(user.tokens_from), before.get(user.id, 0))
    suspended = {user.id for user in users if user.suspended}
    order = sorted(before, key=lambda user_id: (user_id not in suspended, -before[user_id], user_id))
    subjects = {user_id: SubjectRevocation(before[user_id], user_id in suspended) for user_id in order[:SUBJECTS_MAX]}
    return Revocations(sessions, subjects, max((before[user_id] for user_id in order[SUBJECTS_MAX:]), default=0))


def _seconds(time: datetime) -> int:
    return int(time.timestamp())


class RevocationFeed:
    """One thread that keeps the document what the database says. Refreshed, started and stopped once."""

    def __init__(
        self, transactions: Transactions, revoked: Revoked, *, clock: Clock, publish: Callable[[bytes], None]
    ) -> None:
        self._transactions = transactions
        self._revoked = revoked
        self._clock = clock
        self._publish = publish
        self._published = b""
        self._seen: bytes | None = None
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="identity-revocations", daemon=True)

    def start(self) -> None:
        """Begin to follow the database."""
        self._thread.start()

    def stop(self) -> None:
        """Finish the look in hand and end."""
        self._stopping.set()
        self._wake.set()
        self._thread.join(STOP_S)

    def wake(self) -> None:
        """Look now: this instance has just revoked something. Returns at once."""
        self._wake.set()

    def seen(self, document: bytes) -> None:
        """Take note of what the registry holds, whoever published it."""
        self._seen = document

    def refresh(self, *, deadline: Deadline) -> None:
        """Look at the database, and publish unless the registry holds that already."""
        since = self._clock.now() - REVOCATION_WINDOW

        def look(tx: Transaction) -> tuple[Sequence[EndedSession], Sequence[User], Mapping[str, datetime]]:
            ended = self._revoked.sessions(tx, since, per_user=SESSIONS_PER_USER + 1, limit=SESSIONS_MAX + 1)
            unlisted: Mapping[str, datetime] = {}
            if len(ended) > SESSIONS_MAX:
                until = ended[SESSIONS_MAX].revoke_time
                unlisted = self._revoked.latest(tx, since, until, limit=SUBJECTS_MAX + 1)
            return ended[:SESSIONS_MAX], self._revoked.users(tx, since, limit=SUBJECTS_MAX + 1), unlisted

        ended, users, unlisted = self._transactions.read(look, deadline=deadline)
        revocations = listed(ended, users, unlisted)
        if unlisted or revocations.before:
            log.error("revocations_overflow", unlisted_users=len(unlisted), everybody_before=revocations.before)
        document = encode(revocations)
        if document != self._published or document != self._seen:
            self._publish(document)
        if document != self._published:
            self._published = document
            counts = {"sessions": len(revocations.sessions), "subjects": len(revocations.subjects)}
            log.info("revocations_published", **counts)

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._wake.wait(EVERY_S)
            self._wake.clear()
            self._guarded_refresh()
            self._stopping.wait(GAP_S)

    def _guarded_refresh(self) -> None:
        try:
            self.refresh(deadline=Deadline.after(STEP_S))
        except AppError as error:
            log.warning("revocations_not_read", reason=error.reason)
        except Exception:
            # The thread must live to try again: what is revoked meanwhile is published as soon as it can be read.
            metrics.UNEXPECTED_ERRORS.labels(place="identity.revocations").inc()
            log.exception("revocations_broken")
