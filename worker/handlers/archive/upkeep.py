"""Looks after the archive while the worker runs: merges small files, drops days that are too old, removes garbage.

Every step may be cut off anywhere and is done again: a merge counts from the one transaction in which the new file
takes the place of the old ones, and what is on the disk without counting is removed later. Several workers may look
after one archive: whoever comes second finds that a file counts no more, and gives its own merge up.

A file that cannot be read is named in the log, left alone for a while, and keeps nothing else waiting. It goes on
counting: a report that needs it fails and names it, until somebody has put it back.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, date, timedelta
from typing import Final

import structlog

from svc.chassis import crash, metrics
from svc.chassis.clock import Clock
from svc.chassis.crash import Point
from svc.chassis.database import Database, Transaction
from weft_protos import policy
from worker import inbox, manifest
from worker.errors import Outage, Unreadable
from worker.handlers.archive import columns
from worker.handlers.archive.folder import Folder
from worker.manifest import File

EVERY_S: Final = 30.0
#: How long a file is left alone that does not count: longer than any transaction that may still name it.
GRACE: Final = timedelta(hours=1)
#: How often the disk is looked through for what does not count.
SWEEP_EVERY_S: Final = 600.0
#: So many files of about one size are merged into one; each event is written again once for each such step.
FAN_IN: Final = 8
#: A file of this size is left as it is.
LARGE_BYTES: Final = 64 << 20
#: Files of the size that a quiet second leaves; sizes count as about one up to eight times this, and so on.
_SMALL_BYTES: Final = 64 << 10
#: A loop that has not come by for so long is stuck: merging the largest files takes seconds.
_STUCK_S: Final = 300.0
#: Merges of one turn: the next one looks again.
_MERGES_MAX: Final = 64

_TYPES: Final = {event.full_name: event for event in policy.EVENTS}

log = structlog.get_logger(__name__)


def due(files: Sequence[File], today: date) -> list[list[File]]:
    """Groups of files that are worth merging: `FAN_IN` of about one size, or all small ones of a day that is past."""
    partitions: dict[tuple[date, str], list[File]] = defaultdict(list)
    for file in files:
        if file.bytes < LARGE_BYTES and file.type in _TYPES:
            partitions[file.day, file.type].append(file)
    groups = []
    for (day, _), small in sorted(partitions.items()):
        if day < today - timedelta(days=1) and len(small) > 1:
            groups.append(_up_to(small, LARGE_BYTES))
            continue
        tiers: dict[int, list[File]] = defaultdict(list)
        for file in small:
            tiers[_tier(file.bytes)].append(file)
        groups += [tier for tier in tiers.values() if len(tier) >= FAN_IN]
    return [group for group in groups if len(group) > 1]


class Upkeep:
    """One thread that does it every half minute."""

    def __init__(self, database: Database, folder: Folder, *, keep: timedelta, clock: Clock) -> None:
        """`keep`: the age from which a day's events are dropped."""
        self._database = database
        self._folder = folder
        self._keep = keep
        self._clock = clock
        self._turned = time.monotonic()
        self._swept = float("-inf")
        self._unreadable: set[str] = set()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="archive-upkeep", daemon=True)

    def start(self) -> None:
        """Start looking after it."""
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """End; a merge that is cut off leaves a file that does not count."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout)

    def alive(self) -> bool:
        """Whether the loop runs."""
        return self._thread.is_alive()

    def turns(self) -> bool:
        """Whether it has come by not too long ago."""
        return time.monotonic() - self._turned < _STUCK_S

    def _run(self) -> None:
        while not self._stopping.wait(EVERY_S):
            self._turned = time.monotonic()
            try:
                self.turn()
            except (Outage, OSError) as error:
                log.warning("archive_upkeep_waits", reason=str(error) or type(error).__name__)

    def turn(self) -> None:
        """Expire and merge, once, and remove what does not count where it is time for that."""
        today = self._clock.now().astimezone(UTC).date()
        expired = inbox.transaction(self._database, lambda tx: manifest.expire(tx, today - self._keep))
        if expired:
            log.info("archive_days_expired", files=expired, before=str(today - self._keep))
        files = inbox.transaction(self._database, manifest.crowded)
        sweeps = time.monotonic() - self._swept >= SWEEP_EVERY_S
        if sweeps:
            # They may have been put back, or a disk was away.
            self._unreadable.clear()
        readable = [file for file in files if file.id not in self._unreadable]
        for group in due(readable, today)[:_MERGES_MAX]:
            if self._stopping.is_set():
                return
            self._turned = time.monotonic()
            try:
                self.merge(group)
            except Unreadable as error:
                metrics.UNEXPECTED_ERRORS.labels(place="archive").inc()
                log.exception("archive_file_unreadable", reason=str(error))
                self._unreadable.add(error.file_id)
        if sweeps:
            self._sweep()
            self._swept = time.monotonic()

    def merge(self, group: Sequence[File]) -> bool:
        """Put one file in the place of some; False where one of them counted no more. Raises Outage and Unreadable."""
        new = self._folder.merge(group, columns.schema(_TYPES[group[0].type]))
        crash.passed(Point.FILES_MERGED)

        def swap(tx: Transaction) -> None:
            if not manifest.replace(tx, group, new):
                raise _Superseded
            crash.passed(Point.FILES_SWAPPED)

        try:
            inbox.transaction(self._database, swap)
        except _Superseded:
            self._folder.remove([new.path(self._folder.root)])
            return False
        log.info("archive_merged", type=new.type, day=str(new.day), files=len(group), events=new.events)
        return True

    def _sweep(self) -> None:
        gone = inbox.transaction(self._database, lambda tx: manifest.forget(tx, GRACE))
        crash.passed(Point.FILES_FORGOTTEN)
        self._folder.remove([file.path(self._folder.root) for file in gone])
        # What lies there is listed first: a file that is named after that is younger than the grace.
        age_s = GRACE.total_seconds()
        lying = self._folder.finished(age_s)
        known = inbox.transaction(self._database, lambda tx: manifest.known(tx, list(lying)))
        garbage = [path for file_id, path in lying.items() if file_id not in known]
        self._folder.remove([*garbage, *self._folder.unfinished(age_s)])


class _Superseded(Exception):  # noqa: N818 - says what became of the files
    """One of the files counts no more."""


def _up_to(files: Sequence[File], limit: int) -> list[File]:
    """The smallest of them that fit into one file."""
    chosen, total = [], 0
    for file in sorted(files, key=lambda one: (one.bytes, one.id)):
        total += file.bytes
        if total > limit:
            break
        chosen.append(file)
    return chosen


def _tier(size: int) -> int:
    tier = 0
    while size >= _SMALL_BYTES:
        size, tier = size // FAN_IN, tier + 1
    return tier
