"""What becomes of an image, without a database; what a file of anybody may hold."""

import struct
import zlib
from io import BytesIO

import pytest
from PIL import Image

from tests.fakes.worker import event, order_placed
from weft.thumbnails.v1.events_pb2 import ImageCreated
from worker.errors import Permanent
from worker.handlers.thumbnails import handler, picture

RED = (200, 30, 30)
# EXIF: how the camera was held (1: upright, 6: its right side down), and what it was called.
ORIENTATION, MODEL = 0x0112, 0x0110


def drawn(kind: str = "PNG", size: tuple[int, int] = (640, 480), mode: str = "RGB", turned: int = 1) -> bytes:
    """A picture of one colour, from a camera that says who it is."""
    made, exif = BytesIO(), Image.Exif()
    exif[ORIENTATION], exif[MODEL] = turned, "Ann's camera"
    Image.new("RGB", size, RED).convert(mode).save(made, kind, exif=exif)
    return made.getvalue()


def claiming(width: int, height: int) -> bytes:
    """A file of a few bytes that says it holds so many pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header)) + drawn()[33:]


@pytest.mark.parametrize(
    ("kind", "mode"),
    [
        *(("PNG", mode) for mode in ("RGB", "RGBA", "P", "L", "1")),
        *(("JPEG", mode) for mode in ("RGB", "CMYK")),
        ("GIF", "P"),
        *(("WEBP", mode) for mode in ("RGB", "RGBA")),
    ],
)
def test_every_kind_of_image_becomes_a_small_one(kind: str, mode: str) -> None:
    made = picture.thumbnail(drawn(kind, mode=mode))

    with Image.open(BytesIO(made.content)) as small:
        assert ("WEBP", (160, 120)) == (small.format, small.size)
    assert (160, 120) == (made.width, made.height)


@pytest.mark.parametrize(
    ("size", "small"), [((10, 20), (10, 20)), ((400, 100), (160, 40)), ((1, 4000), (1, 160)), ((160, 160), (160, 160))]
)
def test_a_thumbnail_has_the_shape_of_its_image_and_is_never_larger(
    size: tuple[int, int], small: tuple[int, int]
) -> None:
    made = picture.thumbnail(drawn(size=size))

    assert small == (made.width, made.height)


def test_it_is_turned_as_the_camera_was_held_and_does_not_say_whose_that_was() -> None:
    original = drawn("JPEG", turned=6)
    made = picture.thumbnail(original)

    assert (120, 160) == (made.width, made.height)
    assert b"Ann" in original
    assert b"Ann" not in made.content
    with Image.open(BytesIO(made.content)) as small:
        assert {} == dict(small.getexif())


def test_what_was_transparent_still_is() -> None:
    made = BytesIO()
    Image.new("RGBA", (8, 8), (0, 0, 0, 0)).save(made, "PNG")

    with Image.open(BytesIO(picture.thumbnail(made.getvalue()).content)) as small:
        assert "RGBA" == small.mode


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"not an image", "no whole"),
        (drawn()[:-40], "no whole"),
        (drawn("JPEG")[:300], "no whole"),
        (drawn()[:8], "no whole"),
        (drawn()[:11] + b"\x05" + drawn()[12:], "no whole"),
        (drawn("TIFF"), "no whole"),
        (claiming(2001, 2000), "more than 4000000 pixels"),
        (claiming(65_535, 65_535), "more than 4000000 pixels"),
    ],
    ids=["text", "cut", "cut JPEG", "signature", "short header", "another format", "too large", "a bomb"],
)
def test_of_what_is_no_image_or_too_large_none_is_made_and_the_sender_is_told_why(content: bytes, why: str) -> None:
    row = handler.settled("one", content)

    assert ("one", "FAILED", None) == (row["image"], row["state"], row["thumbnail"])
    assert why in str(row["failure"])


def test_an_image_is_settled_with_its_thumbnail() -> None:
    row = handler.settled("one", drawn())

    assert ("READY", "", 160, 120) == (row["state"], row["failure"], row["width"], row["height"])


def test_an_event_of_another_kind_can_never_be_handled() -> None:
    assert "one" == handler.image_id(event(ImageCreated(image="images/one")))
    with pytest.raises(Permanent):
        handler.image_id(event(order_placed()))
