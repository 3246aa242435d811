"""ThumbnailsService: protobuf in, use case, protobuf out. Decides nothing.

The chassis calls these with requests that are valid by the contract's rules; every method returns its answer or
raises an `AppError`. The same conversions give `wiring` the form of a thumbnail in the cache.
"""

from collections.abc import Iterator
from typing import Final

from google.protobuf.empty_pb2 import Empty

from svc.chassis.cache.entry import Codec
from svc.chassis.context import CallContext
from svc.chassis.pages import PageTokens
from svc.thumbnails import usecases
from svc.thumbnails.model import IMAGES_PREFIX, THUMBNAIL_SUFFIX, Image, Thumbnail
from svc.thumbnails.usecases import Ports
from weft.thumbnails.v1 import thumbnails_pb2

PAGE_SIZE_DEFAULT: Final = 50
PAGE_SIZE_MAX: Final = 1000


class ThumbnailsHandler:
    """Serves `weft.thumbnails.v1.ThumbnailsService`."""

    def __init__(self, ports: Ports, pages: PageTokens) -> None:
        self._ports = ports
        self._pages = pages

    def CreateImage(self, request: thumbnails_pb2.CreateImageRequest, call: CallContext) -> thumbnails_pb2.Image:
        """Take an image."""
        said = request.image
        image = usecases.create_image(
            self._ports, request.image_id, display_name=said.display_name, content=said.content, call=call
        )
        return to_message(image)

    def GetImage(self, request: thumbnails_pb2.GetImageRequest, call: CallContext) -> thumbnails_pb2.Image:
        """Read one image."""
        return to_message(usecases.get_image(self._ports, _id(request.name), call=call))

    def ListImages(
        self, request: thumbnails_pb2.ListImagesRequest, call: CallContext
    ) -> thumbnails_pb2.ListImagesResponse:
        """List images."""
        size = min(request.page_size or PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX)
        (after,) = self._pages.decode(request.page_token, scope=call.method) or ("",)
        # One more than the page tells whether there is a next one.
        found = usecases.list_images(self._ports, after=after, limit=size + 1, call=call)
        page, token = found[:size], ""
        if len(found) > size:
            token = self._pages.encode((page[-1].id,), scope=call.method)
        return thumbnails_pb2.ListImagesResponse(images=[to_message(image) for image in page], next_page_token=token)

    def WatchImage(
        self, request: thumbnails_pb2.WatchImageRequest, call: CallContext
    ) -> Iterator[thumbnails_pb2.WatchImageResponse]:
        """Send an image now and when it is settled."""
        for image in usecases.watch_image(self._ports, _id(request.name), call=call):
            yield thumbnails_pb2.WatchImageResponse(image=to_message(image))

    def DeleteImage(self, request: thumbnails_pb2.DeleteImageRequest, call: CallContext) -> Empty:
        """Delete an image."""
        usecases.delete_image(self._ports, _id(request.name), call=call)
        return Empty()

    def GetThumbnail(self, request: thumbnails_pb2.GetThumbnailRequest, call: CallContext) -> thumbnails_pb2.Thumbnail:
        """Read a thumbnail."""
        return _thumbnail(usecases.get_thumbnail(self._ports, _id(request.name), call=call))


def to_message(image: Image) -> thumbnails_pb2.Image:
    """An image on the wire."""
    message = thumbnails_pb2.Image(
        name=image.name,
        display_name=image.display_name,
        state=thumbnails_pb2.Image.State.Value(f"STATE_{image.state}"),
        failure=image.failure,
    )
    message.create_time.FromDatetime(image.create_time)
    return message


def _thumbnail(thumbnail: Thumbnail) -> thumbnails_pb2.Thumbnail:
    return thumbnails_pb2.Thumbnail(
        name=thumbnail.name, content=thumbnail.content, width=thumbnail.width, height=thumbnail.height
    )


def _encode(thumbnail: Thumbnail) -> bytes:
    return _thumbnail(thumbnail).SerializeToString(deterministic=True)


def _decode(data: bytes) -> Thumbnail:
    said = thumbnails_pb2.Thumbnail.FromString(data)
    return Thumbnail(_id(said.name), said.content, said.width, said.height)


#: A thumbnail in the cache.
CODEC: Final = Codec(_encode, _decode)


def _id(name: str) -> str:
    return name.removeprefix(IMAGES_PREFIX).removesuffix(THUMBNAIL_SUFFIX)
