"""ThumbnailsService in protobuf: names, pages, streams and what the contract lets in."""

import threading

import protovalidate
import pytest

from svc.chassis.errors import InvalidArgument
from svc.chassis.pages import PageTokens
from svc.chassis.server import Limits, Server
from svc.chassis.tokens import TokenVerifier
from svc.thumbnails.rpc import CODEC, ThumbnailsHandler
from tests.fakes.clock import FakeClock
from tests.fakes.thumbnails import World, make_call, make_world
from weft.thumbnails.v1 import thumbnails_pb2
from weft.thumbnails.v1.thumbnails_pb2 import CreateImageRequest, GetThumbnailRequest, Image, WatchImageRequest
from weft_protos import redaction

CALL = make_call()


@pytest.fixture
def world() -> World:
    return make_world()


@pytest.fixture
def handler(world: World) -> ThumbnailsHandler:
    return ThumbnailsHandler(world.ports, PageTokens(b"k" * 32))


def create(handler: ThumbnailsHandler, image_id: str) -> Image:
    image = Image(display_name=f"The image {image_id}", content=b"large")
    return handler.CreateImage(CreateImageRequest(image_id=image_id, image=image), CALL)


def test_the_handler_has_every_method_of_the_contract(handler: ThumbnailsHandler) -> None:
    service = thumbnails_pb2.DESCRIPTOR.services_by_name["ThumbnailsService"]

    Server([(service, handler)], verifier=TokenVerifier(FakeClock()), limits=Limits(threads=1, streams=1))


def test_what_was_created_is_what_is_read_without_its_bytes(handler: ThumbnailsHandler) -> None:
    created = create(handler, "one")

    assert ("images/one", "The image one", b"") == (created.name, created.display_name, created.content)
    assert Image.STATE_PENDING == created.state
    assert created == handler.GetImage(thumbnails_pb2.GetImageRequest(name="images/one"), CALL)


def test_a_stream_tells_of_the_image_and_of_its_end(world: World, handler: ThumbnailsHandler) -> None:
    create(handler, "one")

    with world.looking():
        stream = handler.WatchImage(WatchImageRequest(name="images/one"), CALL)
        assert Image.STATE_PENDING == next(stream).image.state
        world.memory.settle("one")
        assert [Image.STATE_READY] == [said.image.state for said in stream]


def test_a_stream_ends_when_its_client_has_gone(world: World, handler: ThumbnailsHandler) -> None:
    create(handler, "one")
    active = threading.Event()
    active.set()

    with world.looking():
        stream = handler.WatchImage(WatchImageRequest(name="images/one"), make_call(is_active=active.is_set))
        next(stream)
        active.clear()
        assert [] == list(stream)


def test_a_thumbnail_is_the_same_out_of_the_cache(world: World, handler: ThumbnailsHandler) -> None:
    create(handler, "one")
    world.memory.settle("one")

    said = handler.GetThumbnail(GetThumbnailRequest(name="images/one/thumbnail"), CALL)

    assert ("images/one/thumbnail", b"small", 160, 90) == (said.name, said.content, said.width, said.height)
    kept = world.memory.thumbnails["one"]
    assert kept == CODEC.decode(CODEC.encode(kept))


def test_pages_lead_from_one_to_the_next_and_leave_nothing_out(handler: ThumbnailsHandler) -> None:
    for key in ("c", "a", "b"):
        create(handler, key)

    first = handler.ListImages(thumbnails_pb2.ListImagesRequest(page_size=2), CALL)
    request = thumbnails_pb2.ListImagesRequest(page_size=2, page_token=first.next_page_token)
    second = handler.ListImages(request, CALL)

    names = [[image.name for image in page.images] for page in (first, second)]
    assert [["images/a", "images/b"], ["images/c"]] == names
    assert "" == second.next_page_token


def test_a_page_token_that_is_not_ours_is_refused(handler: ThumbnailsHandler) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        handler.ListImages(thumbnails_pb2.ListImagesRequest(page_token="AAAA"), CALL)

    assert ["page_token"] == [field for field, _ in refusal.value.violations]


@pytest.mark.parametrize(
    ("name", "content"),
    [("", b"x"), ("   ", b"x"), ("two\nlines", b"x"), ("x" * 201, b"x"), ("One", b""), ("One", bytes(131_073))],
)
def test_what_nobody_can_read_or_look_at_is_against_the_contract(name: str, content: bytes) -> None:
    request = CreateImageRequest(image=Image(display_name=name, content=content))

    assert protovalidate.collect_violations(request)


def test_neither_the_image_nor_its_name_is_ever_printed() -> None:
    request = CreateImageRequest(image_id="one", image=Image(display_name="Ann at home.png", content=b"pixels"))

    said = str(redaction.redacted(request))

    assert "one" in said
    assert "Ann" not in said
    assert "pixels" not in said
