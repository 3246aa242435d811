"""Turns bytes into a request that obeys its contract, or says which field does not.

Cheap looks come first. The bytes are counted before anything parses them. The length of every list is compared with
its limit before anything goes through the list: 100 kB can be fifty thousand empty messages. Then the contract's
protovalidate rules run, and NUL is refused in strings, because the database can not store it.
"""

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, cast

import protovalidate
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError, Message

from buf.validate import validate_pb2
from svc.chassis.call import Call, Interceptor, Method, Verifier
from svc.chassis.errors import InvalidArgument, ResourceExhausted
from svc.chassis.grounds import TOO_LARGE
from weft_protos import grounds
from weft_protos.violations import path_of

# Limit of a list whose contract names none.
DEFAULT_ITEMS: Final = 1000

# Compiles the rules of each message type once; used by all threads.
_VALIDATOR: Final = protovalidate.Validator()


@dataclass(frozen=True, slots=True)
class _List:
    """A list in a request, and what lists its items hold."""

    name: str
    limit: int
    inside: tuple["_List", ...]


def _limit(field: FieldDescriptor) -> int:
    rules = field.GetOptions().Extensions[validate_pb2.field]
    return rules.repeated.max_items or rules.map.max_pairs or DEFAULT_ITEMS


def _lists(message: Descriptor, above: tuple[str, ...] = ()) -> tuple[_List, ...]:
    """The lists of a message type. A type within itself is not followed: the parser bounds the depth."""
    found = []
    for field in message.fields:
        nested = field.message_type
        inside: tuple[_List, ...] = ()
        if nested is not None and nested.full_name not in above and not nested.GetOptions().map_entry:
            inside = _lists(nested, (*above, message.full_name))
        if field.is_repeated:
            found.append(_List(field.name, _limit(field), inside))
        elif inside:
            found.append(_List(field.name, 0, inside))
    return tuple(found)


def _too_long(message: Message, lists: Iterable[_List]) -> Iterator[tuple[str, str]]:
    for known in lists:
        value: Any = getattr(message, known.name)
        if known.limit == 0:
            if message.HasField(known.name):
                yield from ((f"{known.name}.{path}", why) for path, why in _too_long(value, known.inside))
        elif len(value) > known.limit:
            yield known.name, f"has {len(value)} entries; {known.limit} are allowed"
        elif known.inside:
            for index, item in enumerate(value):
                yield from ((f"{known.name}[{index}].{path}", why) for path, why in _too_long(item, known.inside))


def _with_nul(message: Message, prefix: str = "") -> Iterator[str]:
    """Paths of the strings that hold NUL."""
    for field, value in message.ListFields():
        entries: dict[str, tuple[Any, ...]]
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            entries = {f"{prefix}{field.name}[{key!r}]": (key, item) for key, item in value.items()}
        elif field.is_repeated:
            entries = {f"{prefix}{field.name}[{index}]": (item,) for index, item in enumerate(value)}
        else:
            entries = {f"{prefix}{field.name}": (value,)}
        for path, parts in entries.items():
            for part in parts:
                if isinstance(part, Message):
                    yield from _with_nul(part, f"{path}.")
                elif isinstance(part, str) and "\0" in part:
                    yield path


def _violations(message: Message, body: bytes, lists: tuple[_List, ...]) -> list[tuple[str, str]]:
    found = list(_too_long(message, lists))
    if found:
        return found
    # A body without the byte has no string with it; most have none.
    if b"\0" in body:
        found = [(path, "must not contain the character NUL") for path in _with_nul(message)]
    found += [(path_of(one), one.proto.message) for one in _VALIDATOR.collect_violations(message)]
    return found


def build(method: Method, _verifier: Verifier) -> Interceptor:
    """Compile the rules of the request now: a contract with a broken rule keeps the process from starting."""
    lists = _lists(cast(Descriptor, method.request_type.DESCRIPTOR))
    _VALIDATOR.collect_violations(method.request_type())

    limit = grounds.request_bytes_limit(method.request_bytes)

    @contextmanager
    def validate(call: Call) -> Iterator[None]:
        if len(call.body) > method.request_bytes:
            raise ResourceExhausted(
                "The request is too large",
                reason=TOO_LARGE,
                violations=[("request", limit)],
                metadata={"limit": limit},
            )
        message = method.request_type()
        try:
            message.ParseFromString(call.body)
        except DecodeError:
            raise InvalidArgument(
                f"The request is not a {method.request_type.DESCRIPTOR.full_name}.", reason="MALFORMED_MESSAGE"
            ) from None
        violations = _violations(message, call.body, lists)
        if violations:
            named = ", ".join(sorted({field for field, _ in violations[:5] if field}))
            raise InvalidArgument(f"The request is not valid: {named}." if named else "", violations=violations)
        call.message = message
        call.body_hash = hashlib.sha256(message.SerializeToString(deterministic=True)).digest()
        yield

    return validate
