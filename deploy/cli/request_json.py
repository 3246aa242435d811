"""A request from the JSON that somebody has typed, held against its contract before it is sent. Pure.

The parser of protobuf takes what the gateway does not, a key given twice, and says of a mistake deep inside only which
fields lead there. Here every mistake has its path, as the gateway and the services write it: `items[1].quantity`.
"""

import difflib
import json
from collections.abc import Iterator, Mapping
from typing import Any, Final, cast

import protovalidate
from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from weft_protos.violations import path_of

_WHOLE: Final = "the request"
#: Types whose JSON is not an object of their fields.
_OWN_JSON: Final = "google.protobuf."
_KINDS: Final[Mapping[int, str]] = {
    FieldDescriptor.CPPTYPE_INT32: "whole number of 32 bits",
    FieldDescriptor.CPPTYPE_INT64: "whole number of 64 bits",
    FieldDescriptor.CPPTYPE_UINT32: "whole number of 32 bits from 0",
    FieldDescriptor.CPPTYPE_UINT64: "whole number of 64 bits from 0",
    FieldDescriptor.CPPTYPE_DOUBLE: "number",
    FieldDescriptor.CPPTYPE_FLOAT: "number",
    FieldDescriptor.CPPTYPE_BOOL: "true or false",
    FieldDescriptor.CPPTYPE_STRING: "string",
}


class RequestRefusedError(Exception):
    """The text is no request of the contract; `faults` has every field with what is wrong with it."""

    def __init__(self, faults: list[tuple[str, str]]) -> None:
        super().__init__("; ".join(f"{field}: {why}" for field, why in faults))
        self.faults = tuple(faults)


def parse(text: str, descriptor: Descriptor, *, check: bool = True) -> Message:
    """The message. Raises RequestRefusedError; without `check` only where the text cannot be sent at all."""
    try:
        return _parsed(text, descriptor, check=check)
    except RecursionError:
        raise RequestRefusedError([(_WHOLE, "is nested deeper than any request may be")]) from None


def _parsed(text: str, descriptor: Descriptor, *, check: bool) -> Message:
    try:
        given = json.loads(text, object_pairs_hook=_Pairs)
    except ValueError as error:
        raise RequestRefusedError([(_WHOLE, f"is not JSON: {error}")]) from error
    if faults := list(_faults(given, descriptor, "")):
        raise RequestRefusedError(faults)
    message: Message = GetMessageClass(descriptor)()
    try:
        json_format.ParseDict(_plain(given), message)
    except json_format.ParseError as error:
        raise RequestRefusedError([(_WHOLE, str(error))]) from error
    if check and (broken := protovalidate.collect_violations(message)):
        raise RequestRefusedError([(path_of(one) or _WHOLE, one.proto.message) for one in broken])
    return message


class _Pairs(list[tuple[str, Any]]):
    """A JSON object as it was written, keys given twice included."""


def _plain(value: Any) -> Any:
    if isinstance(value, _Pairs):
        return {key: _plain(inner) for key, inner in value}
    return [_plain(item) for item in value] if isinstance(value, list) else value


def _faults(value: Any, descriptor: Descriptor, path: str) -> Iterator[tuple[str, str]]:
    """What is wrong with a JSON value as a message."""
    if not isinstance(value, _Pairs):
        yield path or _WHOLE, f"{_shown(value)} is no object of {descriptor.full_name}"
        return
    known = {name: field for field in descriptor.fields for name in (field.json_name, field.name)}
    given: set[str] = set()
    for key, inner in value:
        here = f"{path}.{key}" if path else key
        field = known.get(key)
        if field is None:
            yield here, f"no such field; {_hint(key, descriptor)}"
        elif field.name in given:
            yield here, "is given twice"
        elif inner is not None:
            yield from _field_faults(inner, field, here)
        given.add(key if field is None else field.name)


def _field_faults(value: Any, field: FieldDescriptor, path: str) -> Iterator[tuple[str, str]]:
    entry = field.message_type if field.message_type and field.message_type.GetOptions().map_entry else None
    if entry is not None:
        if not isinstance(value, _Pairs):
            yield path, f"{_shown(value)} is no object"
            return
        for key, inner in value:
            yield from _value_faults(inner, entry.fields_by_name["value"], f"{path}[{key!r}]")
    elif field.is_repeated:
        if not isinstance(value, list) or isinstance(value, _Pairs):
            yield path, f"{_shown(value)} is no list"
            return
        for index, inner in enumerate(value):
            yield from _value_faults(inner, field, f"{path}[{index}]")
    else:
        yield from _value_faults(value, field, path)


def _value_faults(value: Any, field: FieldDescriptor, path: str) -> Iterator[tuple[str, str]]:
    """Of one value: a message is looked into, anything else is given to protobuf's own parser alone."""
    inside = field.message_type
    if inside is not None and not inside.full_name.startswith(_OWN_JSON):
        yield from _faults(value, inside, path)
        return
    owner = cast(Descriptor, field.containing_type)
    alone = GetMessageClass(owner)()
    plain = _plain(value)
    try:
        if owner.GetOptions().map_entry:
            json_format.ParseDict({"key": "0", "value": plain}, alone)
        else:
            json_format.ParseDict({field.name: [plain] if field.is_repeated else plain}, alone)
    except (json_format.ParseError, TypeError) as error:
        yield path, _wrong(value, field, error)


def _wrong(value: Any, field: FieldDescriptor, error: Exception) -> str:
    if field.enum_type is not None:
        names = [each.name for each in field.enum_type.values]
        close = difflib.get_close_matches(str(value), names, n=1)
        return f"{_shown(value)} is none of {', '.join(names)}" + (f"; did you mean {close[0]}?" if close else "")
    if field.message_type is not None:
        kind = field.message_type.full_name
        return f"{_shown(value)} is no {kind}: {str(error).rpartition(': ')[2].rstrip('.')}"
    kind = "base64 text" if field.type == FieldDescriptor.TYPE_BYTES else _KINDS[field.cpp_type]
    return f"{_shown(value)} is no {kind}" if kind != "true or false" else f"{_shown(value)} is neither {kind}"


def _hint(key: str, descriptor: Descriptor) -> str:
    names = [field.name for field in descriptor.fields]
    close = difflib.get_close_matches(key, names, n=1, cutoff=0.5)
    if close:
        return f"did you mean {close[0]}?"
    return f"{descriptor.name} has {', '.join(names)}" if names else f"{descriptor.name} has none"


def _shown(value: Any) -> str:
    text = json.dumps(_plain(value))
    return text if len(text) <= 40 else f"{text[:40]}..."
