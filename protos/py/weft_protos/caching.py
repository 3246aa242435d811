"""What the contracts say of the cache: which methods are kept there, under which keys, and what makes entries outdated.

The chassis keeps and forgets by it, the relay forgets by it, the gateway compiler checks it with the same templates.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from operator import attrgetter
from typing import Final

from google.protobuf.descriptor import Descriptor, MethodDescriptor
from google.protobuf.descriptor_pb2 import DescriptorProto
from google.protobuf.message import Message

from weft_protos import policy

_PIECE = re.compile(r"\{([a-z][a-z0-9_]*(?:\.[a-z][a-z0-9_]*)*)\}|([^{}]+)")
_SCHEMA_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class Template:
    """Text with fields of a message in it: `products/{product_id}`."""

    text: str
    pieces: tuple[tuple[str, bool], ...]
    """Literal text, or the path of a field and True."""

    @classmethod
    def of(cls, text: str) -> "Template":
        """Read it. Raises ValueError where braces do not hold the path of a field."""
        pieces, end = [], 0
        for found in _PIECE.finditer(text):
            if found.start() != end:
                break
            pieces.append((found[1], True) if found[1] else (found[2], False))
            end = found.end()
        if end != len(text):
            raise ValueError(f"{text!r} has braces without the path of a field between them")
        return cls(text, tuple(pieces))

    @property
    def fields(self) -> tuple[str, ...]:
        """The paths in it, in their order."""
        return tuple(piece for piece, is_field in self.pieces if is_field)

    def key(self, message: Message) -> str:
        """The text for a message."""
        return "".join(attrgetter(piece)(message) if is_field else piece for piece, is_field in self.pieces)


@dataclass(frozen=True, slots=True)
class Cached:
    """How the answers of one method are kept."""

    method: str
    """`weft.catalog.v1.CatalogService.GetProduct`"""
    ttl_s: float
    """No longer than the method's `consistency` has a use for."""
    negative_ttl_s: float
    """How long NOT_FOUND is kept; 0: it is not."""
    key: Template
    tags: frozenset[str]
    shared: bool
    """Every caller gets the same answer."""
    events: frozenset[str]
    """Full names of events whose ordering key is the key of an outdated entry."""
    schema: bytes
    """Changes with the answer's type, and with every type inside of it."""


@dataclass(frozen=True, slots=True)
class Forgets:
    """What one method makes outdated: entries of those methods, under the key that its request gives."""

    methods: tuple[str, ...]
    key: Template


def cached(method: MethodDescriptor) -> Cached | None:
    """How a method of the linked contracts is cached; None where it is not."""
    rules = policy.effective(method)
    if not rules.HasField("cache"):
        return None
    ttl_s = policy.cache_ttl_s(rules)
    return Cached(
        method=method.full_name,
        ttl_s=ttl_s,
        negative_ttl_s=min(ttl_s, rules.cache.negative_ttl.ToTimedelta().total_seconds()),
        key=Template.of(rules.cache.key),
        tags=frozenset(rules.cache.tags),
        shared=rules.cache.shared,
        events=frozenset(rules.cache.events),
        schema=schema(method.output_type),
    )


@cache
def every() -> Mapping[str, Cached]:
    """Every cached method of the linked contracts, by full name."""
    found = (cached(method) for service in policy.SERVICES for method in service.methods)
    return {each.method: each for each in found if each is not None}


def forgets(method: MethodDescriptor) -> Sequence[Forgets]:
    """What a call of a method makes outdated."""
    return [
        Forgets(
            tuple(each.method for each in every().values() if said.tag in each.tags),
            Template.of(said.key),
        )
        for said in policy.effective(method).invalidates
    ]


@cache
def outdated_by() -> Mapping[str, tuple[str, ...]]:
    """For each event that makes entries outdated, by full name, the methods whose entries these are."""
    names = sorted({event for each in every().values() for event in each.events})
    return {name: tuple(each.method for each in every().values() if name in each.events) for name in names}


def schema(message: Descriptor) -> bytes:
    """A digest of a message type and of all types inside of it."""
    digest = hashlib.blake2b(digest_size=_SCHEMA_BYTES)
    seen: set[str] = set()
    pending = [message]
    while pending:
        here = pending.pop()
        if here.full_name in seen:
            continue
        seen.add(here.full_name)
        said = DescriptorProto()
        here.CopyToProto(said)
        digest.update(here.full_name.encode() + said.SerializeToString(deterministic=True))
        pending += [field.message_type for field in here.fields if field.message_type is not None]
    return digest.digest()
