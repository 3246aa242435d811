"""Notes which consumer uses which fields, from a sample of the calls, and keeps it in the registry for whoever asks.

`Recorder.saw` is told of every call that is valid; it looks at the first of each consumer and method in an hour, and at
one in so many of the others. Workers tell `Recorder.took` of the events that have taken effect. What it knows is
bounded, holds names and never values, and is published as the service's or the worker's document every few seconds
while it changes (weft_protos/usage.py says how instances share one document).
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from typing import Any, Final

import structlog
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import Descriptor
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message

from svc.chassis import metrics
from svc.chassis.call import Call
from svc.chassis.clock import Clock
from svc.chassis.read_mask import ALL, leads
from weft_protos import consumer, usage
from weft_protos.usage import Entry

FLUSH_S: Final = 5.0
#: Consumers that an instance keeps apart within an hour; who comes after them is counted among the others.
CONSUMERS_MAX: Final = 200
#: How deep and how far a request is looked into.
DEPTH_MAX: Final = 5
PATHS_MAX: Final = 64
ITEMS_MAX: Final = 8

_HOUR_S: Final = 3600
_READ_MASK: Final = "read_mask"

log = structlog.get_logger(__name__)


def document(service: str) -> str:
    """Name of a service's document."""
    return f"{usage.DOCUMENT_PREFIX}{service}"


class Recorder:
    """What one instance knows of its service's consumers. Thread-safe."""

    def __init__(self, service: str, *, one_in: int, clock: Clock, since: Sequence[str] = ()) -> None:
        """`one_in`: looks at one call in so many; 0: at none. `since`: what is noted from now on; else the service."""
        self._service = service
        self._one_in = one_in
        self._clock = clock
        self._lock = threading.Lock()
        self._hour = 0
        self._calls: dict[tuple[str, str], int] = {}
        self._consumers: set[str] = set()
        begun = () if one_in == 0 else tuple(since) or (service,)
        self._known: dict[Entry, int] = {usage.since(name): self._now() for name in begun}
        self._stored = b""
        self._changed = one_in > 0

    def saw(self, call: Call) -> None:
        """A valid call has come in."""
        if self._one_in == 0 or call.message is None:
            return
        who = str(consumer.read(call.header(consumer.HEADER), call.header("user-agent")))
        method, hour = call.method.name.removeprefix("/"), self._now()
        with self._lock:
            if hour != self._hour:
                self._hour = hour
                self._calls.clear()
                self._consumers.clear()
            if who not in self._consumers:
                if len(self._consumers) >= CONSUMERS_MAX:
                    who = consumer.OTHER
                self._consumers.add(who)
            count = self._calls.get((method, who), 0)
            self._calls[method, who] = count + 1
        if count % self._one_in == 0:
            self._note(method, who, call.message, hour)

    def took(self, events: Iterable[str], who: str) -> None:
        """Events of these types have taken effect at a worker, which is taken to read the whole of each."""
        if self._one_in == 0:
            return
        hour = self._now()
        entries = [entry for event in set(events) for entry in usage.taken(event, who)]
        with self._lock:
            for entry in entries:
                self._changed |= self._known.get(entry) != hour
                self._known[entry] = hour

    def learn(self, content: bytes) -> None:
        """The document was seen in the registry."""
        try:
            found = usage.decode(content)
        except ValueError as error:
            log.warning("consumers_refused", reason=str(error))
            return
        with self._lock:
            self._stored = content
            self._known = usage.merge(self._known, found)
            self._changed = True

    def unsaid(self) -> bytes | None:
        """The document as it should be; None where it is so already."""
        with self._lock:
            if not self._changed:
                return None
            content = usage.encode(self._known, self._service, now_hour=self._now())
            # What no longer fits or counts is forgotten here as well.
            self._known = usage.decode(content)
            self._changed = content != self._stored
            return content if self._changed and self._known else None

    def _now(self) -> int:
        return int(self._clock.now().timestamp()) // _HOUR_S

    def _note(self, method: str, who: str, message: Message, hour: int) -> None:
        entries = [Entry(method, who, "call", "")]
        entries += [Entry(method, who, "sent", path) for path in sent_paths(message)]
        entries += [Entry(method, who, "read", path) for path in read_paths(message, _answers(method))]
        with self._lock:
            for entry in entries:
                self._changed |= self._known.get(entry) != hour
                self._known[entry] = hour


def sent_paths(message: Message) -> tuple[str, ...]:
    """Paths of the fields that are set: names with dots between, an item of a list by the list's name."""
    found: dict[str, None] = {}
    for path in _paths(message, "", DEPTH_MAX):
        found[path] = None
        if len(found) == PATHS_MAX:
            break
    return tuple(found)


def read_paths(message: Any, answers: Sequence[Descriptor]) -> tuple[str, ...]:
    """Paths that the request's `read_mask` asks for; without one the consumer is taken to read the whole answer.

    What leads to no field of any of `answers` is left out: the handler refuses it, and it is the caller's own text.
    """
    mask = getattr(message, _READ_MASK, None)
    asked = mask.paths if isinstance(mask, FieldMask) else ()
    if not asked or ALL in asked:
        return (usage.WHOLE,)
    known = (path for path in asked[:PATHS_MAX] if any(leads(path, answer) for answer in answers))
    return tuple(dict.fromkeys(known))


@cache
def _answers(method: str) -> tuple[Descriptor, ...]:
    """What a mask's paths may begin at: the method's answer, or an item of a list in it."""
    found: Any = descriptor_pool.Default().FindMethodByName(method.replace("/", "."))
    items = (field.message_type for field in found.output_type.fields if field.is_repeated)
    return (found.output_type, *(item for item in items if item is not None))


def _paths(message: Message, above: str, depth: int) -> Iterator[str]:
    for field, value in message.ListFields():
        path = f"{above}{field.name}"
        yield path
        kind = field.message_type
        if kind is None or depth == 1 or kind.GetOptions().map_entry or kind.full_name.startswith("google.protobuf."):
            continue
        items: Any = value[:ITEMS_MAX] if field.is_repeated else (value,)
        for item in items:
            yield from _paths(item, f"{path}.", depth - 1)


class Flushing:
    """Publishes what a recorder has to say, every few seconds, from `start` until `stop`."""

    def __init__(self, recorder: Recorder, publish: Callable[[bytes], None], *, every_s: float = FLUSH_S) -> None:
        self._recorder = recorder
        self._publish = publish
        self._every_s = every_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="consumers", daemon=True)

    def start(self) -> None:
        """Begin. Only once what the registry holds has been seen: what is published takes its place."""
        self._thread.start()

    def stop(self) -> None:
        """Publish what is left, and end."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(self._every_s)

    def _run(self) -> None:
        while not self._stopping.wait(self._every_s):
            self._flush()
        self._flush()

    def _flush(self) -> None:
        try:
            content = self._recorder.unsaid()
            if content is not None:
                self._publish(content)
        except Exception:  # a note that is not kept must not end the notes to come
            metrics.UNEXPECTED_ERRORS.labels(place="consumers").inc()
            log.exception("consumers_not_published")
