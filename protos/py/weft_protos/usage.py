"""What consumers use: which methods they call, which fields they send and ask for, and when last. Pure.

Each service keeps one document of it in the registry, and so does each kind of worker about the events it consumes.
Two documents are merged by taking the later hour of each entry, so it does not matter who writes when, or how often:
instances that have heard of each other say the same. Only names are kept, never a value. `weft contracts check` and
`weft contracts consumers` read the documents.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal, NamedTuple, get_args

from weft_protos import consumer

#: Name of a service's document in the registry: `consumers.orders`.
DOCUMENT_PREFIX: Final = "consumers."
#: Who has not called for so long does not count any more.
KEPT_HOURS: Final = 90 * 24
#: etcd keeps it in memory; beyond this the entries that were not used for longest are left out.
DOCUMENT_BYTES_MAX: Final = 96_000
#: Path of an answer that nobody cut down with a `read_mask`.
WHOLE: Final = "*"

Kind = Literal["call", "sent", "read", "dropped", "since"]
_KINDS: Final = frozenset(get_args(Kind))
_NAME_CHARS_MAX: Final = 300


class Entry(NamedTuple):
    """One thing that one consumer does."""

    method: str
    """`weft.orders.v1.OrderService/GetOrder`, or an event that a worker consumes: `weft.orders.v1.OrderPlaced`"""
    consumer: str
    """As `str(Consumer)` says it."""
    kind: Kind
    """`call`: it calls the method; `sent`: it sets that field of the request; `read`: it takes that field of the
    answer. Of a whole service, named in place of the method: `since`: its notes begin; `dropped`: for want of room
    something was left out."""
    path: str
    """Field names with dots between; `*`: the whole answer; empty for a call."""


Usage = Mapping[Entry, int]
"""Hours since 1970 of the last time, by entry."""


def taken(event: str, worker: str) -> tuple[Entry, Entry]:
    """What a worker does with an event, `weft.orders.v1.OrderPlaced`, that it consumes: it reads all of it."""
    return Entry(event, worker, "call", ""), Entry(event, worker, "read", WHOLE)


def since(service: str) -> Entry:
    """From when on a service has noted what is used of it; or, of an event, workers that they consume it."""
    return Entry(service, "", "since", "")


def dropped(service: str) -> Entry:
    """When something was last left out of its notes."""
    return Entry(service, "", "dropped", "")


def merge(*usages: Usage) -> dict[Entry, int]:
    """The later hour of each entry; of beginnings the earlier."""
    merged: dict[Entry, int] = {}
    for usage in usages:
        for entry, hour in usage.items():
            pick = min if entry.kind == "since" else max
            merged[entry] = pick(hour, merged.get(entry, hour))
    return merged


def encode(usage: Usage, service: str, *, now_hour: int) -> bytes:
    """The document: what is not too old, the latest first where it is too much. Equal usages give equal bytes."""
    kept = {entry: hour for entry, hour in usage.items() if now_hour - hour <= KEPT_HOURS or entry.kind == "since"}
    content = _document(kept)
    while len(content) > DOCUMENT_BYTES_MAX:
        ranked = sorted(kept, key=lambda entry: (entry.kind != "since", -kept[entry], entry))
        kept = {entry: kept[entry] for entry in ranked[: len(ranked) * 9 // 10]}
        kept[dropped(service)] = now_hour
        content = _document(kept)
    return content


def decode(content: bytes) -> dict[Entry, int]:
    """The usage in a document. Raises ValueError where it is none."""
    try:
        found = json.loads(content)
        return dict(_entry(*each) for each in _flat(found["methods"]))
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
        raise ValueError(f"not a document of consumers: {error!r}"[:300]) from error


def _document(usage: Usage) -> bytes:
    methods: dict[str, dict[str, dict[str, dict[str, int]]]] = {}
    for entry in sorted(usage):
        kinds = methods.setdefault(entry.method, {}).setdefault(entry.consumer, {})
        kinds.setdefault(entry.kind, {})[entry.path] = usage[entry]
    return json.dumps({"methods": methods}, separators=(",", ":")).encode()


def _flat(methods: Any) -> Iterable[tuple[str, str, str, str, Any]]:
    for method, consumers in methods.items():
        for name, kinds in consumers.items():
            for kind, paths in kinds.items():
                yield from ((method, name, kind, path, hour) for path, hour in paths.items())


def _entry(method: str, name: str, kind: Any, path: str, hour: Any) -> tuple[Entry, int]:
    if kind not in _KINDS or type(hour) is not int or hour < 0 or max(len(method), len(path)) > _NAME_CHARS_MAX:
        raise ValueError(f"{method} {kind} {path} {hour}")
    if kind not in ("since", "dropped"):
        consumer.parse(name)
    return Entry(method, name, kind, path), hour
