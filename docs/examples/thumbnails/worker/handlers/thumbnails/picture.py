"""Makes a thumbnail of an image: bytes in, bytes out. Pure.

What comes in was sent by anybody. Only four formats are looked at, the size is known before a pixel is unpacked, and
what cameras and programs wrote beside the pixels stays behind.
"""

from dataclasses import dataclass, field
from io import BytesIO
from typing import Final

from PIL import Image, ImageOps

FORMATS: Final = ("PNG", "JPEG", "GIF", "WEBP")
#: Longest side of a thumbnail, in pixels.
SIDE: Final = 160
#: A file of a few bytes may stand for any number of pixels, and each takes four bytes of memory.
PIXELS_MAX: Final = 4_000_000
_QUALITY: Final = 80
_TOO_LARGE: Final = f"it has more than {PIXELS_MAX} pixels"
_BROKEN: Final = "it is no whole PNG, JPEG, GIF or WebP"


class UnreadableError(ValueError):
    """No thumbnail can be made of it; the message says why, for whoever sent it."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A thumbnail, WebP."""

    content: bytes = field(repr=False)
    width: int
    height: int


def thumbnail(content: bytes) -> Picture:
    """Make a thumbnail of the first frame, turned as its camera was held. Raises UnreadableError."""
    try:
        return _small(content)
    except (UnreadableError, MemoryError):
        raise
    except Image.DecompressionBombError as error:
        raise UnreadableError(_TOO_LARGE) from error
    except Exception as error:
        # Whatever a decoder trips over in bytes of anybody: they are at fault.
        raise UnreadableError(_BROKEN) from error


def _small(content: bytes) -> Picture:
    with Image.open(BytesIO(content), formats=FORMATS) as opened:
        if opened.width * opened.height > PIXELS_MAX:
            raise UnreadableError(_TOO_LARGE)
        small = opened.convert("RGBA" if opened.has_transparency_data else "RGB")
        small.thumbnail((SIDE, SIDE))
        upright = ImageOps.exif_transpose(small)
    made = BytesIO()
    upright.save(made, "WEBP", quality=_QUALITY, exif=b"", xmp=b"", icc_profile=b"")
    return Picture(made.getvalue(), upright.width, upright.height)
