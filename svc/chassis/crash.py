"""Crash points: places between two steps of the request and of the event path, at which a test may have a process end.

Where a step is over and the next has not begun, the code says `crash.passed(Point.…)`. That does nothing, and costs a
comparison, unless the process was armed: then the first to come by a point that a test has set ends as by SIGKILL,
with nothing cleaned up. Only tests arm: the supervisor hands the setting on to processes of a mesh that a test made,
refuses it in production, takes it from nobody's environment, and an armed process says so in its log.
"""

import enum
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog


class Point(enum.StrEnum):
    """Every crash point. The text is the name of the file that sets it."""

    # The request path, in a service.
    CALL_ENTERED = "call-entered"
    """The interceptors let the call in; its handler has not begun."""
    TRANSACTION_DUE = "transaction-due"
    """Peers were asked, everything is computed; BEGIN is not sent. This and the next four in workers as well."""
    TRANSACTION_BEGUN = "transaction-begun"
    """The transaction holds its locks; its work has not begun."""
    EFFECT_WRITTEN = "effect-written"
    """The effect is written in the transaction; its events are not."""
    EVENTS_WRITTEN = "events-written"
    """So are its events; the answer is not kept yet."""
    WORK_DONE = "work-done"
    """All is written; COMMIT is not sent."""
    COMMITTED = "committed"
    """COMMIT was answered; nobody else knows."""
    FORGOTTEN = "forgotten"
    """The cache has forgotten what the commit made outdated; also in the relay, before it publishes."""
    CALL_ANSWERED = "call-answered"
    """The answer is made, and not sent."""

    # Reading through the cache.
    LEASE_TAKEN = "lease-taken"
    """Nobody else fills the entry; nothing was read yet."""
    ENTRY_LOADED = "entry-loaded"
    """The value was read, and is not in the cache."""
    ENTRY_FILLED = "entry-filled"
    """It is in the cache, and was not answered."""

    # From the outbox to the broker, in the relay.
    ROWS_CLAIMED = "rows-claimed"
    """Rows are locked; nothing is published."""
    CONFIRM_RECEIVED = "confirm-received"
    """The broker has a message and says so; the publisher has not noted it."""
    ROWS_CONFIRMED = "rows-confirmed"
    """The broker has them all; no row is marked."""
    ROWS_MARKED = "rows-marked"
    """They are marked in the transaction, which is not committed."""
    ROWS_PUBLISHED = "rows-published"
    """They are marked for good."""

    # From the broker to the effect, in a worker.
    BATCH_TAKEN = "batch-taken"
    """Deliveries are in hand; nothing was looked at."""
    INBOX_CLAIMED = "inbox-claimed"
    """Events are claimed in the transaction; they have had no effect."""
    BATCH_HANDLED = "batch-handled"
    """All have taken effect; nothing is acknowledged."""
    BATCH_ACKNOWLEDGED = "batch-acknowledged"
    """The acknowledgement is on its way."""
    COPY_CONFIRMED = "copy-confirmed"
    """The broker has a copy among the retries or the dead letters; the original is not acknowledged."""

    # The e-mail worker.
    MAIL_RESERVED = "mail-reserved"
    """The database says that a mail is about to go out; it has not."""
    MAIL_SENT = "mail-sent"
    """It is out; nobody has noted that."""

    # The archive worker.
    FILE_WRITTEN = "file-written"
    """All rows are in a temporary file, which may be lost with the power."""
    FILE_SYNCED = "file-synced"
    """It is on the disk, under its temporary name."""
    FILE_RENAMED = "file-renamed"
    """It has its name; no manifest does."""
    FILES_WRITTEN = "files-written"
    """All files of a batch are there; the manifest has none of them."""
    FILES_NAMED = "files-named"
    """The manifest names them in a transaction that is not committed."""
    FILES_MERGED = "files-merged"
    """One file has what several have; the manifest has those."""
    FILES_SWAPPED = "files-swapped"
    """The manifest has the one, in a transaction that is not committed."""
    FILES_FORGOTTEN = "files-forgotten"
    """The manifest has forgotten files that still lie there."""

    # The reports worker.
    REPORT_TAKEN = "report-taken"
    """The report is this worker's."""
    REPORT_PLANNED = "report-planned"
    """Its parts are stored; none is computed."""
    PART_COMPUTED = "part-computed"
    """What came out of a part is in a file; the database does not know."""
    PART_STORED = "part-stored"
    """Now it does."""
    REPORT_COMPUTED = "report-computed"
    """The rows are there, in memory."""
    REPORT_STORED = "report-stored"
    """The report is done; what was left of its parts lies there."""


Strike = Callable[[Point], None]
"""Is told each point that is passed, in the thread that passes it; what it does is the test's affair."""

_log: Final = structlog.get_logger(__name__)


class _Current:
    strike: Strike | None = None


def passed(point: Point) -> None:
    """Say that a step is over and the next has not begun."""
    strike = _Current.strike
    if strike is not None:
        strike(point)


def arm(strike: Strike | None) -> None:
    """Have each point of this process told from now on; None: none any more. For tests, and for `arm_by_files`."""
    _Current.strike = strike


def arm_by_files(folder: Path, name: str) -> None:
    """End this process by SIGKILL where it comes by a point that a file of the folder sets: `audit.inbox-claimed`.

    `name`: what the process is, as in its traces. Of several that come by, one ends: it gives the file its pid as a
    second ending, so that a test can tell that the point was reached, and by whom.
    """
    _log.warning("crash_points_armed", folder=str(folder), process=name)

    def strike(point: Point) -> None:
        file = folder / f"{name}.{point}"
        try:
            file.rename(f"{file}.{os.getpid()}")
        except FileNotFoundError:
            return
        os.kill(os.getpid(), signal.SIGKILL)

    arm(strike)
