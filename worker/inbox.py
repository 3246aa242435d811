"""The inbox: the record of a message is written in the transaction of its effect, so each takes effect once.

Handlers whose effect lies in their own database wrap it with `once`; the broker may then deliver an event as often as
it likes. `transaction` is the door to the database for all handlers: it says which failures are outages.

Where its contract counts the events of a key (`position`), an event takes effect after the one before it: how far each
key has come is noted in the transaction of the effect, too, and who comes before his turn is Early. He goes back to the
queue for a while, as a failure does, without being one; events of other keys pass him. So order holds whatever is
delivered twice, is tried again, or dies: what counts is what is committed.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Protocol, TypeVar

import structlog
from sqlalchemy.exc import DataError, OperationalError, ProgrammingError

from svc.chassis import crash, durability
from svc.chassis.context import Deadline
from svc.chassis.crash import Point
from svc.chassis.database import Database, Transaction
from svc.chassis.errors import Aborted, DeadlineExceeded, Unavailable
from worker.delivery import Event
from worker.errors import Early, Outage, Overrun, Permanent

T = TypeVar("T")

#: Longest a handler's transaction may take, its repetitions included. Nobody waits for it but the queue.
TRANSACTION_S: Final = 10.0

# Both databases know unnest; the array is sorted, so that two workers lock index entries in one order.
_CLAIM: Final = (
    "INSERT INTO inbox (consumer, message_id) SELECT %s::text, id FROM unnest(%s::uuid[]) AS claimed (id) "
    "ON CONFLICT DO NOTHING RETURNING message_id"
)
# Upserts and no SELECT: looking for a row that is not there marks an index page as read, and workers that have no key
# in common would abort each other. Sorted like the claim.
_HOLD: Final = (
    "INSERT INTO inbox_position (consumer, ordering_key, position) "
    "SELECT %s::text, key, 0 FROM unnest(%s::text[]) AS held (key) "
    "ON CONFLICT (consumer, ordering_key) DO UPDATE SET create_time = excluded.create_time "
    "RETURNING ordering_key, position"
)
_REACH: Final = (
    "INSERT INTO inbox_position (consumer, ordering_key, position) "
    "SELECT %s::text, key, reached FROM unnest(%s::text[], %s::bigint[]) AS come (key, reached) "
    "ON CONFLICT (consumer, ordering_key) DO UPDATE "
    "SET position = greatest(inbox_position.position, excluded.position), create_time = excluded.create_time"
)

log = structlog.get_logger(__name__)


def claim(tx: Transaction, consumer: str, message_ids: Sequence[str]) -> frozenset[str]:
    """Record messages as handled; the ids among them that were not before."""
    ids = sorted({uuid.UUID(one) for one in message_ids})
    claimed = frozenset(str(row.message_id) for row in tx.exec_driver_sql(_CLAIM, (consumer, ids)))
    if len(claimed) < len(ids):
        # Their messages are about to be acknowledged for effects that only a crash may have made visible.
        durability.confirm(tx)
    crash.passed(Point.INBOX_CLAIMED)
    return claimed


def once(
    database: Database,
    consumer: str,
    events: Sequence[Event],
    effect: Callable[[Transaction, Sequence[Event]], None],
    *,
    hot_keys: Sequence[str] = (),
) -> None:
    """Let those events take effect that have not yet, in their order, all in one transaction.

    `hot_keys` names rows that every effect wants, see `Database.serializable`.
    """

    def work(tx: Transaction) -> None:
        unclaimed = {event.id: event for event in events}
        new = claim(tx, consumer, list(unclaimed))
        fresh = [event for event in unclaimed.values() if event.id in new]
        if fresh:
            effect(tx, in_order(tx, consumer, fresh))

    transaction(database, work, hot_keys=hot_keys)


class Counted(Protocol):
    """What has a place in an order."""

    @property
    def id(self) -> str:
        """Id of the event."""
        ...

    @property
    def stream(self) -> str:
        """What it is counted in: the ordering key, and the service whose key that is."""
        ...

    @property
    def position(self) -> int:
        """Which one of that it is, from 1; 0: it is not counted."""
        ...

    @property
    def overdue(self) -> bool:
        """Whether it has waited for long enough."""
        ...


def in_order(tx: Transaction, consumer: str, events: Sequence[Event]) -> Sequence[Event]:
    """Events in an order in which they may take effect, in this transaction, which notes that they have.

    Raises Early of those that have one before them that has not; nothing may be committed then.
    """
    follow(tx, consumer, events)
    reach(tx, consumer, ((event.stream, event.position) for event in events))
    # Those that are not counted keep the queue's order among themselves.
    return sorted(events, key=lambda event: event.position)


def follow(tx: Transaction, consumer: str, counted: Sequence[Counted]) -> None:
    """Raise Early unless all before these have taken effect, or are among them. Holds their streams until the end.

    Who has waited for too long is not held up, nor who is behind: a dead letter that was sent back.
    """
    streams = sorted({each.stream for each in counted if each.position})
    if not streams:
        return
    early: set[str] = set()
    reached = {row.ordering_key: row.position for row in tx.exec_driver_sql(_HOLD, (consumer, streams))}
    for each in sorted(counted, key=lambda one: one.position):
        before = reached.get(each.stream, each.position)
        if each.position > before + 1:
            if not each.overdue:
                early.add(each.id)
                continue
            log.warning("predecessor_not_waited_for", consumer=consumer, position=each.position, reached=before)
        reached[each.stream] = max(before, each.position)
    if early:
        raise Early(frozenset(early))


def reach(tx: Transaction, consumer: str, places: Iterable[tuple[str, int]]) -> None:
    """Note that these, by stream and position, have taken effect or never will: who comes after them need not wait."""
    reached: dict[str, int] = {}
    for stream, position in places:
        if position:
            reached[stream] = max(position, reached.get(stream, 0))
    if reached:
        streams = sorted(reached)
        tx.exec_driver_sql(_REACH, (consumer, streams, [reached[stream] for stream in streams]))


def pass_over(database: Database, consumer: str, event: Event) -> None:
    """Have nobody wait for an event that became a dead letter."""
    if event.position:
        transaction(database, lambda tx: reach(tx, consumer, [(event.stream, event.position)]))


def transaction(database: Database, work: Callable[[Transaction], T], *, hot_keys: Sequence[str] = ()) -> T:
    """Run work in a serializable transaction, and say of a failure whether the event or the database is at fault.

    An unknown outcome of the commit is an outage like the others: the events come again, and the claim tells. So is
    a database without our tables or rights: that is mended from outside, and no event may be put aside for it.
    """
    try:
        return database.serializable(work, deadline=Deadline.after(TRANSACTION_S), hot_keys=hot_keys)
    except DeadlineExceeded as error:
        raise Overrun(f"database: {error.message}") from error
    except (Unavailable, Aborted) as error:
        raise Outage(f"database: {error.message}") from error
    except DataError as error:
        raise Permanent("a value in the event is none that the database can hold") from error
    except (OperationalError, ProgrammingError) as error:
        raise Outage(f"database: {type(error.orig).__name__}") from error
