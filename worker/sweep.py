"""Deletes published events from an outbox when the retention of their contract is over.

They go on being counted, in the transaction that deletes them: what a balance compares never shrinks. An event that is
not published is never touched, however old it is, and one whose contract states no retention stays for good.
"""

from collections.abc import Mapping
from typing import Final

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.types import Float, Integer

from svc.chassis.database import Transaction
from svc.chassis.tables import outbox, outbox_swept
from weft_protos import policy

#: Rows of one transaction: short enough to be in nobody's way.
BATCH_MAX: Final = 1000

#: By event type, seconds after its publication.
RETENTIONS: Final[Mapping[str, float]] = {
    event.full_name: kept
    for event in policy.EVENTS
    if (said := policy.event_policy(event)) is not None and (kept := policy.retention_s(said)) is not None
}

_OVER: Final = (
    sa.select(outbox.c.id)
    .where(outbox.c.type == sa.bindparam("type_"))
    .where(outbox.c.publish_time < sa.func.now() - sa.bindparam("kept_s", type_=Float) * sa.text("interval '1 second'"))
    .order_by(outbox.c.publish_time)
    .limit(sa.bindparam("most", type_=Integer))
    .with_for_update(skip_locked=True)
)
_DELETE: Final = sa.delete(outbox).where(outbox.c.id.in_(_OVER)).returning(outbox.c.id)
_NEW: Final = insert(outbox_swept)
_COUNT: Final = _NEW.on_conflict_do_update(
    index_elements=[outbox_swept.c.type], set_={"events": outbox_swept.c.events + _NEW.excluded.events}
)


def sweep(tx: Transaction, retentions: Mapping[str, float] = RETENTIONS) -> dict[str, int]:
    """Delete up to `BATCH_MAX` events of each type whose time is over; how many, by type."""
    swept = {}
    for event_type, kept_s in sorted(retentions.items()):
        gone = len(tx.execute(_DELETE, {"type_": event_type, "kept_s": kept_s, "most": BATCH_MAX}).all())
        if gone:
            tx.execute(_COUNT, {"type": event_type, "events": gone})
            swept[event_type] = gone
    return swept
