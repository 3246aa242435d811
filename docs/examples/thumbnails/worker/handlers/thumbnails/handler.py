"""Makes the thumbnails of images that were created.

The database belongs to the thumbnails service, which migrates it and reads the same rows; the table
is stated here as this worker uses it, and a test compares it with the migrated one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import sqlalchemy as sa
from sqlalchemy.types import Integer, LargeBinary, Text

from svc.chassis.database import Database, Transaction
from weft.thumbnails.v1.events_pb2 import ImageCreated
from worker import inbox
from worker.delivery import Event
from worker.errors import Permanent
from worker.handlers.thumbnails import picture
from worker.handlers.thumbnails.picture import UnreadableError

CONSUMER: Final = "thumbnails"
_PREFIX: Final = "images/"
_GIVEN_UP: Final = "it could not be worked on"

METADATA: Final = sa.MetaData()

images: Final = sa.Table(
    "images",
    METADATA,
    sa.Column("id", Text, primary_key=True),
    sa.Column("state", Text, nullable=False),
    sa.Column("failure", Text, nullable=False),
    sa.Column("content", LargeBinary, nullable=True),
    sa.Column("thumbnail", LargeBinary, nullable=True),
    sa.Column("width", Integer, nullable=True),
    sa.Column("height", Integer, nullable=True),
)

_WAITING: Final = images.c.state == "PENDING"
_ORIGINALS: Final = sa.select(images.c.id, images.c.content).where(
    _WAITING, images.c.id.in_(sa.bindparam("ids", expanding=True))
)
# The original goes with the same statement: nobody asks for it any more. What else is set, the rows say.
_SETTLE: Final = sa.update(images).where(_WAITING, images.c.id == sa.bindparam("image")).values(content=None)

Row = Mapping[str, object]


def build(database: Database) -> ThumbnailsHandler:
    """The handler over the database it works on."""
    return ThumbnailsHandler(database)


class ThumbnailsHandler:
    """Settles each image once: with a thumbnail, or with the reason why there is none."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def handle(self, events: Sequence[Event]) -> None:
        """Settle the images of a batch.

        They are worked on between two transactions: it takes a while, and would be repeated with each conflict. What
        is not there any more was deleted or settled meanwhile.
        """
        ids = [image_id(event) for event in events]
        originals = inbox.transaction(self._database, lambda tx: _originals(tx, ids))
        rows = [settled(each, originals[each]) for each in sorted(originals)]
        inbox.once(self._database, CONSUMER, events, lambda tx, fresh: _settle(tx, rows))

    def abandon(self, event: Event) -> None:
        """Have nobody wait for an image that became a dead letter."""
        if isinstance(event.payload, ImageCreated):
            row = failed(image_id(event), _GIVEN_UP)
            inbox.transaction(self._database, lambda tx: _settle(tx, [row]))


def image_id(event: Event) -> str:
    """The image that an event tells of. Raises Permanent where it tells of none."""
    if not isinstance(event.payload, ImageCreated):
        raise Permanent(f"{CONSUMER} does not consume {event.type}")
    return event.payload.image.removeprefix(_PREFIX)


def settled(image: str, content: bytes) -> Row:
    """What becomes of an image."""
    try:
        made = picture.thumbnail(content)
    except UnreadableError as error:
        return failed(image, str(error))
    return {
        "image": image,
        "state": "READY",
        "failure": "",
        "thumbnail": made.content,
        "width": made.width,
        "height": made.height,
    }


def failed(image: str, reason: str) -> Row:
    """An image without a thumbnail, and why."""
    return {"image": image, "state": "FAILED", "failure": reason, "thumbnail": None, "width": None, "height": None}


def _originals(tx: Transaction, ids: Sequence[str]) -> Mapping[str, bytes]:
    return {row.id: bytes(row.content) for row in tx.execute(_ORIGINALS, {"ids": list(ids)})}


def _settle(tx: Transaction, rows: Sequence[Row]) -> None:
    # Sorted by id: two workers take the rows' locks in one order.
    if rows:
        tx.execute(_SETTLE, rows)
