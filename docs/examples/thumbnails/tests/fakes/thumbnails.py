"""Fakes of the thumbnails service's ports, in memory. The same suite tries the store and its real twin."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar, cast

from svc.chassis.consistency import Consistency, Level, Session
from svc.chassis.context import CallContext, Deadline, Principal
from svc.chassis.database import Transaction
from svc.chassis.outbox import Event
from svc.chassis.watches import Watches
from svc.thumbnails import usecases
from svc.thumbnails.model import Image, State, Thumbnail
from svc.thumbnails.usecases import Ports
from tests.fakes.clock import FakeClock
from weft.events.v1.envelope_pb2 import Envelope
from weft.thumbnails.v1 import events_pb2

T = TypeVar("T")


@dataclass
class Memory:
    """What the fakes keep."""

    images: dict[str, Image] = field(default_factory=dict)
    contents: dict[str, bytes] = field(default_factory=dict)
    thumbnails: dict[str, Thumbnail] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)

    def settle(self, image_id: str, *, failure: str = "") -> None:
        """What the worker does to a row: it leaves a thumbnail, or the reason why there is none."""
        state = State.FAILED if failure else State.READY
        if not failure:
            self.thumbnails[image_id] = Thumbnail(image_id, b"small", 160, 90)
        self.images[image_id] = replace(self.images[image_id], state=state, failure=failure)


class FakeTransactions:
    """Runs work twice, as after a serialization failure: what the first run did is gone. Errors roll back."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self.reads = 0

    def serializable(
        self,
        work: Callable[[Transaction], T],
        *,
        deadline: Deadline,
        hot_keys: Sequence[str] = (),
        session: Session | None = None,
    ) -> T:
        before = vars(self._memory).copy()
        tx = cast(Transaction, None)
        try:
            self._restore(before)
            work(tx)
            self._restore(before)
            return work(tx)
        except BaseException:
            self._restore(before)
            raise

    def read(self, work: Callable[[Transaction], T], *, deadline: Deadline, session: Session | None = None) -> T:
        self.reads += 1
        return work(cast(Transaction, None))

    def _restore(self, before: dict[str, Any]) -> None:
        vars(self._memory).update({name: kept.copy() for name, kept in before.items()})


class FakeImages:
    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    def insert(self, tx: Transaction, image: Image, content: bytes) -> bool:
        if image.id in self._memory.images:
            return False
        self._memory.images[image.id] = image
        self._memory.contents[image.id] = content
        return True

    def get(self, tx: Transaction, image_id: str) -> Image | None:
        return self._memory.images.get(image_id)

    def page(self, tx: Transaction, after: str, limit: int) -> Sequence[Image]:
        return [self._memory.images[key] for key in sorted(self._memory.images) if key > after][:limit]

    def states(self, tx: Transaction, image_ids: Sequence[str]) -> Mapping[str, State]:
        return {key: self._memory.images[key].state for key in image_ids if key in self._memory.images}

    def thumbnail(self, tx: Transaction, image_id: str) -> Thumbnail | None:
        return self._memory.thumbnails.get(image_id)

    def delete(self, tx: Transaction, image_id: str) -> bool:
        self._memory.thumbnails.pop(image_id, None)
        return self._memory.images.pop(image_id, None) is not None


class FakeCache:
    """Keeps everything for ever."""

    def __init__(self) -> None:
        self._kept: dict[str, Thumbnail] = {}

    def get_or_load(self, call: CallContext, load: Callable[[], Thumbnail], *, max_age_s: float) -> Thumbnail:
        if call.cache_key not in self._kept:
            self._kept[call.cache_key] = load()
        return self._kept[call.cache_key]


@dataclass
class World:
    """The fakes of one test, and the ports over them."""

    memory: Memory
    transactions: FakeTransactions
    ports: Ports

    def facts(self) -> list[Any]:
        """The payloads of the events that were committed."""
        facts = []
        for event in self.memory.events:
            fact = events_pb2.ImageCreated()
            assert Envelope.FromString(event.envelope).payload.Unpack(fact)
            facts.append(fact)
        return facts

    @contextmanager
    def looking(self) -> Iterator[None]:
        """Watches are served meanwhile."""
        self.ports.watches.start()
        try:
            yield
        finally:
            self.ports.watches.stop()


def make_world() -> World:
    memory = Memory()
    transactions, images = FakeTransactions(memory), FakeImages(memory)

    def append(tx: Transaction, events: Sequence[Event]) -> None:
        memory.events.extend(events)

    def revisions(ids: Sequence[str]) -> Mapping[str, int]:
        return usecases.revisions(ids, images.states(cast(Transaction, None), ids))

    ports = Ports(
        transactions=transactions,
        images=images,
        thumbnails=FakeCache(),
        watches=Watches(revisions, kind="images", poll_s=0.001),
        append=append,
        clock=FakeClock(),
    )
    return World(memory, transactions, ports)


def make_call(*, is_active: Callable[[], bool] = lambda: True, cache_key: str = "") -> CallContext:
    """A call; one with a key may be answered from the cache."""
    scopes = frozenset({"thumbnails.read", "thumbnails.write"})
    principal = Principal(subject="ann", scopes=scopes, session="s", actor=None, token="t")
    promise = Consistency(Level.BOUNDED, 300.0) if cache_key else Consistency()
    return CallContext(
        method="/weft.thumbnails.v1.ThumbnailsService/Test",
        principal=principal,
        deadline=Deadline.after(30),
        body_hash=b"",
        is_active=is_active,
        cache_key=cache_key,
        session=Session(promise, home="thumbnails"),
    )
