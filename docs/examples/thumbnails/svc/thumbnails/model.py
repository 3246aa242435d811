"""Images and thumbnails as values. Everybody in this service speaks in these."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final

IMAGES_PREFIX: Final = "images/"
THUMBNAIL_SUFFIX: Final = "/thumbnail"


class State(StrEnum):
    """How far an image's thumbnail is. The worker takes it from the first to one of the others."""

    PENDING = "PENDING"
    READY = "READY"
    FAILED = "FAILED"


@dataclass(frozen=True, slots=True)
class Image:
    """An image that was sent in; its bytes go to the store beside it, and come back to nobody."""

    id: str
    display_name: str
    create_time: datetime
    state: State = State.PENDING
    failure: str = ""

    @property
    def name(self) -> str:
        """Resource name."""
        return IMAGES_PREFIX + self.id


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A small image, WebP."""

    image_id: str
    content: bytes = field(repr=False)
    width: int
    height: int

    @property
    def name(self) -> str:
        """Resource name."""
        return IMAGES_PREFIX + self.image_id + THUMBNAIL_SUFFIX
