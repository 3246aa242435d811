"""Goes along the audit log and names every place where it is not what was written.

Each record is hashed again, over every column, and has to have the hash it states and to lead on from the record before
it; the last has to be the one that the head names. After a break the walk goes on from what the record states, so that
one changed byte is one finding, and everything after it is looked at all the same.

Whoever owns the database can rewrite the chain from some record to its end. Against that a head is noted elsewhere (the
walk ends by naming it) and given to a later walk: it has to be in the log still.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, TypeVar

import sqlalchemy as sa
from google.protobuf.message import DecodeError

from svc.chassis.context import Deadline
from svc.chassis.database import Database, Transaction
from weft.events.v1.envelope_pb2 import Envelope
from worker.delivery import Event
from worker.handlers.audit.log import GENESIS, Head, audit_head, audit_log, record_hash

#: Records of one transaction.
PAGE: Final = 2000
_READ_S: Final = 60.0

_PAGE: Final = (
    sa.select(audit_log)
    .where(audit_log.c.sequence > sa.bindparam("after"), audit_log.c.sequence <= sa.bindparam("last"))
    .order_by(audit_log.c.sequence)
    .limit(PAGE)
)
_HEAD: Final = sa.select(audit_head.c.sequence, audit_head.c.hash).where(audit_head.c.id == 1)
_LAST: Final = sa.select(sa.func.coalesce(sa.func.max(audit_log.c.sequence), 0))

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Finding:
    """One place at which the log is not what was written."""

    sequence: int
    event_id: str
    problem: str


@dataclass(slots=True)
class Verdict:
    """What a walk found."""

    records: int
    head: Head
    findings: list[Finding] = field(default_factory=list)


def verify(
    database: Database, *, noted: Sequence[Head] = (), on_page: Callable[[int, int], None] = lambda _done, _all: None
) -> Verdict:
    """Walk the log as it is now, from its first record; `noted` are heads of earlier walks.

    Memory is bounded by a page. Raises AppError where the database is away.
    """
    head, last = _read(database, lambda tx: (_head(tx), int(tx.execute(_LAST).scalar_one())))
    walk = _Walk({one.sequence: one.hash for one in noted})
    verdict = Verdict(0, head)
    end = max(head.sequence, last)
    while page := _read(database, lambda tx: tx.execute(_PAGE, {"after": walk.sequence, "last": end}).all()):
        for row in page:
            verdict.findings += walk.step(row)
            verdict.records += 1
        on_page(verdict.records, end)
    verdict.findings += walk.end(head)
    return verdict


class _Walk:
    """Where the walk is: what the next record has to lead on from."""

    def __init__(self, noted: dict[int, bytes]) -> None:
        self.sequence = 0
        self._hash = GENESIS
        self._noted = noted

    def step(self, row: Any) -> Iterator[Finding]:
        if row.sequence != self.sequence + 1:
            yield _finding(row, f"the records {self.sequence + 1} to {row.sequence - 1} are missing before it")
        elif bytes(row.previous_hash) != self._hash:
            yield _finding(row, "it does not lead on from the record before it")
        if _recomputed(row) != bytes(row.hash):
            yield _finding(row, _changed(row))
        noted = self._noted.pop(row.sequence, None)
        if noted is not None and noted != bytes(row.hash):
            yield _finding(row, "it is not the record that was noted: the log was rewritten")
        self.sequence, self._hash = row.sequence, bytes(row.hash)

    def end(self, head: Head) -> Iterator[Finding]:
        if self.sequence != head.sequence:
            yield Finding(self.sequence, "", f"the log ends here, and its head names record {head.sequence}")
        elif self._hash != head.hash:
            yield Finding(self.sequence, "", "the head names another last record")
        for sequence in sorted(self._noted):
            yield Finding(sequence, "", "it was noted as the last record, and is not there")


def _finding(row: Any, problem: str) -> Finding:
    return Finding(row.sequence, str(row.event_id), problem)


def _recomputed(row: Any) -> bytes:
    kept = Event(
        id=str(row.event_id),
        type=row.type,
        source=row.source,
        subject=row.subject,
        actor=row.actor,
        occur_time=row.occur_time,
        payload=Envelope(),  # no part of the hash: the envelope's bytes hold it
        envelope=bytes(row.envelope),
    )
    return record_hash(bytes(row.previous_hash), row.sequence, kept)


def _changed(row: Any) -> str:
    """What of a record was changed, as far as its envelope, which says the same once more, can tell."""
    try:
        envelope = Envelope.FromString(bytes(row.envelope))
    except DecodeError:
        return "its envelope was changed: it cannot be read"
    said: dict[str, object] = {
        "event_id": envelope.id,
        "type": envelope.type,
        "source": envelope.source,
        "subject": envelope.subject,
        "actor": envelope.actor,
        "occur_time": _moment(envelope, row.occur_time),
    }
    kept = {name: getattr(row, name) for name in said} | {"event_id": str(row.event_id)}
    differing = [name for name, value in said.items() if value != kept[name]]
    if differing:
        return f"it was changed: {', '.join(differing)} of the record and of its envelope differ"
    return "it was changed: its envelope, its hash or the hash before it"


def _moment(envelope: Envelope, like: datetime) -> datetime | None:
    try:
        return envelope.occur_time.ToDatetime(tzinfo=like.tzinfo)
    except (ValueError, OverflowError):
        return None


def _head(tx: Transaction) -> Head:
    row = tx.execute(_HEAD).one()
    return Head(int(row.sequence), bytes(row.hash))


def _read(database: Database, work: Callable[[Transaction], T]) -> T:
    return database.read(work, deadline=Deadline.after(_READ_S))
