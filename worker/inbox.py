"""The inbox: the record of a message is written in the transaction of its effect, so each takes effect once.

Handlers whose effect lies in their own database wrap it with `once`; the broker may then deliver an event as often as
it likes. `transaction` is the door to the database for all handlers: it says which failures are outages.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from sqlalchemy.exc import DataError, OperationalError, ProgrammingError

from svc.chassis import crash
from svc.chassis.context import Deadline
from svc.chassis.crash import Point
from svc.chassis.database import Database, Transaction
from svc.chassis.errors import Aborted, DeadlineExceeded, Unavailable
from worker.delivery import Event
from worker.errors import Outage, Overrun, Permanent

T = TypeVar("T")

#: Longest a handler's transaction may take, its repetitions included. Nobody waits for it but the queue.
TRANSACTION_S: Final = 10.0

# Both databases know unnest; the array is sorted, so that two workers lock index entries in one order.
_CLAIM: Final = (
    "INSERT INTO inbox (consumer, message_id) SELECT %s::text, id FROM unnest(%s::uuid[]) AS claimed (id) "
    "ON CONFLICT DO NOTHING RETURNING message_id"
)


def claim(tx: Transaction, consumer: str, message_ids: Sequence[str]) -> frozenset[str]:
    """Record messages as handled; the ids among them that were not before."""
    ids = sorted({uuid.UUID(one) for one in message_ids})
    claimed = frozenset(str(row.message_id) for row in tx.exec_driver_sql(_CLAIM, (consumer, ids)))
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
            effect(tx, fresh)

    transaction(database, work, hot_keys=hot_keys)


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
