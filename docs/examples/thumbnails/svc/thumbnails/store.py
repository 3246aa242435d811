"""The rows of images. `wiring` gives this to the use cases. Every statement is built once."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Row, text

from svc.chassis.database import Transaction
from svc.thumbnails.model import Image, State, Thumbnail

_COLUMNS: Final = "id, display_name, create_time, state, failure"

_INSERT: Final = text(
    f"""
    INSERT INTO images ({_COLUMNS}, content)
    VALUES (:id, :display_name, :create_time, :state, :failure, :content)
    ON CONFLICT DO NOTHING
    RETURNING id
    """
)
_GET: Final = text(f"SELECT {_COLUMNS} FROM images WHERE id = :id")
_PAGE: Final = text(f"SELECT {_COLUMNS} FROM images WHERE id > :after ORDER BY id LIMIT :limit")
_STATES: Final = text("SELECT id, state FROM images WHERE id = ANY(:ids)")
_THUMBNAIL: Final = text("SELECT id, thumbnail, width, height FROM images WHERE id = :id AND thumbnail IS NOT NULL")
_DELETE: Final = text("DELETE FROM images WHERE id = :id RETURNING id")
_COUNTS: Final = text("SELECT state, count(*) AS n FROM images GROUP BY state")


class ImageStore:
    """Table `images`: the service adds and deletes rows, the worker fills in what becomes of them."""

    def insert(self, tx: Transaction, image: Image, content: bytes) -> bool:
        """Insert; False where the id is taken."""
        values = {
            "id": image.id,
            "display_name": image.display_name,
            "create_time": image.create_time,
            "state": image.state.value,
            "failure": image.failure,
            "content": content,
        }
        return tx.execute(_INSERT, values).first() is not None

    def get(self, tx: Transaction, image_id: str) -> Image | None:
        """The image with an id."""
        row = tx.execute(_GET, {"id": image_id}).first()
        return _image(row) if row is not None else None

    def page(self, tx: Transaction, after: str, limit: int) -> Sequence[Image]:
        """Images by id, from behind one on."""
        return [_image(row) for row in tx.execute(_PAGE, {"after": after, "limit": limit})]

    def states(self, tx: Transaction, image_ids: Sequence[str]) -> Mapping[str, State]:
        """The states of those images that there are."""
        return {row.id: State(row.state) for row in tx.execute(_STATES, {"ids": list(image_ids)})}

    def thumbnail(self, tx: Transaction, image_id: str) -> Thumbnail | None:
        """The thumbnail of an image, where it is made."""
        row = tx.execute(_THUMBNAIL, {"id": image_id}).first()
        return Thumbnail(row.id, bytes(row.thumbnail), row.width, row.height) if row is not None else None

    def delete(self, tx: Transaction, image_id: str) -> bool:
        """Delete; False where there is none."""
        return tx.execute(_DELETE, {"id": image_id}).first() is not None

    def counts(self, tx: Transaction) -> dict[str, object]:
        """How many there are in each state."""
        found = {row.state: int(row.n) for row in tx.execute(_COUNTS)}
        return {state.value.lower(): found.get(state.value, 0) for state in State}


def _image(row: Row[Any]) -> Image:
    return Image(
        id=row.id,
        display_name=row.display_name,
        create_time=row.create_time,
        state=State(row.state),
        failure=row.failure,
    )
