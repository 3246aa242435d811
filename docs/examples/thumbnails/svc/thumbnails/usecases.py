"""What the service does, one function for each RPC, and the ports it needs for that.

`rpc` calls these with plain values; `wiring` gives the ports. Invariant: what is created, and the event that tells of
it, commit together.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

from svc.chassis.cached_reads import Kept, cached
from svc.chassis.clock import Clock
from svc.chassis.consistency import Session
from svc.chassis.context import CallContext, Deadline
from svc.chassis.database import Transaction
from svc.chassis.errors import AlreadyExists, FailedPrecondition, NotFound
from svc.chassis.ids import new_id
from svc.chassis.outbox import Event
from svc.chassis.watches import Watches
from svc.thumbnails import events
from svc.thumbnails.model import IMAGES_PREFIX, Image, State, Thumbnail

T = TypeVar("T")

# A stream has no deadline of its own; each of its reads has.
_WATCH_READ_S: Final = 2.0
# How soon a stream notices that its client has gone.
_WATCH_LOOK_S: Final = 0.5
# Revisions of an image: it waits, and then it does not. Gone counts as a change too.
_PENDING, _SETTLED = 1, 2


class Transactions(Protocol):
    """Runs work in one SERIALIZABLE transaction, again as a whole where it conflicts; or as a read."""

    def serializable(
        self,
        work: Callable[[Transaction], T],
        *,
        deadline: Deadline,
        hot_keys: Sequence[str] = (),
        session: Session | None = None,
    ) -> T:
        """Run work until it commits."""
        ...

    def read(self, work: Callable[[Transaction], T], *, deadline: Deadline, session: Session | None = None) -> T:
        """Run work on one snapshot, as new as the session asks."""
        ...


class Images(Protocol):
    """Keeps images and their thumbnails."""

    def insert(self, tx: Transaction, image: Image, content: bytes) -> bool:
        """Insert; False where the id is taken."""
        ...

    def get(self, tx: Transaction, image_id: str) -> Image | None:
        """The image with an id."""
        ...

    def page(self, tx: Transaction, after: str, limit: int) -> Sequence[Image]:
        """Images by id, from behind one on."""
        ...

    def thumbnail(self, tx: Transaction, image_id: str) -> Thumbnail | None:
        """The thumbnail of an image, where it is made."""
        ...

    def delete(self, tx: Transaction, image_id: str) -> bool:
        """Delete; False where there is none."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """Everything outside of the use cases."""

    transactions: Transactions
    images: Images
    thumbnails: Kept[Thumbnail]
    watches: Watches
    append: Callable[[Transaction, Sequence[Event]], None]
    clock: Clock


def create_image(ports: Ports, image_id: str, *, display_name: str, content: bytes, call: CallContext) -> Image:
    """Take an image; an empty id asks for a random one."""
    image = Image(image_id or new_id(), display_name, ports.clock.now())

    def work(tx: Transaction) -> bool:
        inserted = ports.images.insert(tx, image, content)
        if inserted:
            ports.append(tx, [events.image_created(image, call=call)])
        return inserted

    if not ports.transactions.serializable(work, deadline=call.deadline, session=call.session):
        raise AlreadyExists(f"{image.name} exists already.", resource=("image", image.name), reason="IMAGE_EXISTS")
    return image


def get_image(ports: Ports, image_id: str, *, call: CallContext) -> Image:
    """Read one image."""
    return ports.transactions.read(
        lambda tx: _existing(ports, tx, image_id), deadline=call.deadline, session=call.session
    )


def list_images(ports: Ports, *, after: str, limit: int, call: CallContext) -> Sequence[Image]:
    """List images by id, at most `limit` behind one of them."""
    return ports.transactions.read(
        lambda tx: ports.images.page(tx, after, limit), deadline=call.deadline, session=call.session
    )


def watch_image(ports: Ports, image_id: str, *, call: CallContext) -> Iterator[Image]:
    """Give an image at once, and once more when it is settled, unless it is already."""

    def read() -> Image:
        deadline = Deadline.after(min(_WATCH_READ_S, call.deadline.remaining()))
        return ports.transactions.read(lambda tx: _existing(ports, tx, image_id), deadline=deadline)

    with ports.watches.open(image_id) as watch:
        image = read()
        yield image
        while image.state is State.PENDING and call.is_active() and not call.deadline.expired():
            if watch.wait(after=_PENDING, timeout_s=min(_WATCH_LOOK_S, call.deadline.remaining())):
                image = read()
                yield image


def revisions(image_ids: Sequence[str], states: Mapping[str, State]) -> Mapping[str, int]:
    """What a watch compares, of images in these states; those without one are gone."""
    return {each: _PENDING if states.get(each) is State.PENDING else _SETTLED for each in image_ids}


def delete_image(ports: Ports, image_id: str, *, call: CallContext) -> None:
    """Delete an image and its thumbnail."""
    deleted = ports.transactions.serializable(
        lambda tx: ports.images.delete(tx, image_id), deadline=call.deadline, session=call.session
    )
    if not deleted:
        raise _no_image(image_id)


def get_thumbnail(ports: Ports, image_id: str, *, call: CallContext) -> Thumbnail:
    """Read a thumbnail: from the cache, or from the database into the cache."""

    def read(deadline: Deadline, session: Session | None) -> Thumbnail:
        return ports.transactions.read(lambda tx: _made(ports, tx, image_id), deadline=deadline, session=session)

    return cached(ports.thumbnails, call, read)


def _made(ports: Ports, tx: Transaction, image_id: str) -> Thumbnail:
    thumbnail = ports.images.thumbnail(tx, image_id)
    if thumbnail is not None:
        return thumbnail
    image = _existing(ports, tx, image_id)
    if image.state is State.FAILED:
        raise FailedPrecondition(
            f"{image.name} has no thumbnail: {image.failure}.",
            reason="THUMBNAIL_FAILED",
            violations=[("STATE", image.name, image.failure)],
        )
    raise FailedPrecondition(
        f"The thumbnail of {image.name} is not made yet.",
        reason="THUMBNAIL_PENDING",
        violations=[("STATE", image.name, "it waits for a worker")],
    )


def _existing(ports: Ports, tx: Transaction, image_id: str) -> Image:
    image = ports.images.get(tx, image_id)
    if image is None:
        raise _no_image(image_id)
    return image


def _no_image(image_id: str) -> NotFound:
    name = IMAGES_PREFIX + image_id
    return NotFound(f"There is no {name}.", resource=("image", name), reason="IMAGE_NOT_FOUND")
