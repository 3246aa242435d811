"""What may be shown of a message: everything but the fields that its contract marks sensitive.

Whatever prints messages, or keeps them for people to read, goes through here: logs by `clean`, the audit log by
`redacted`. What becomes of a field is found out once for each field. Pure, and bounded by `DEPTH_MAX`, because the
parts inside `google.protobuf.Any` are not bounded by any parser.
"""

import base64
import math
import re
from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence
from enum import Enum, auto
from functools import cache
from typing import Any, Final, TypeVar, cast

from google.protobuf import descriptor_pool, json_format, message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError, Message

from weft.options.v1 import policy_pb2
from weft.options.v1.policy_pb2 import Sensitivity

#: What stands in the place of a value.
MARK: Final = "[redacted]"
#: What stands in the place of whatever is nested deeper than anything of ours.
CUT: Final = "[too deep]"
#: What stands in the place of a moment, a duration or the like that is out of its range.
INVALID: Final = "[invalid]"
DEPTH_MAX: Final = 32
#: Shorter values are not looked for in texts: they are parts of ordinary words.
_SOUGHT_MIN: Final = 3
#: Name of a log entry that holds values, for instance from `values`, which are cut out of the rest of its line.
WITHOUT: Final = "without"

#: Marks that a value is printed under.
_HARMLESS: Final = (policy_pb2.SENSITIVITY_UNSPECIFIED, policy_pb2.SENSITIVITY_NONE)
_ANY: Final = "google.protobuf.Any"
#: Types whose values are told in a word or as they are, not field by field.
_PLAIN: Final = frozenset(
    f"google.protobuf.{name}"
    for name in (
        *("Timestamp", "Duration", "FieldMask", "Struct", "Value", "ListValue", "BoolValue", "BytesValue"),
        *("StringValue", "DoubleValue", "FloatValue", "Int32Value", "Int64Value", "UInt32Value", "UInt64Value"),
    )
)

# The end of a name says what it is: `user_password`, `refresh_token`; a `token_type` is none.
_TELLING: Final = re.compile(
    r"(?:.*_)?(?:pass(?:word|wd|phrase|code)s?|password_hash|secrets?|secret_key|private_keys?|api_keys?|tokens?"
    r"|credentials?|authorization|cookies?|otp|e?_?mails?|e?_?mail_address(?:es)?|phones?|phone_numbers?"
    r"|(?:given|family|first|last|full|maiden)_name|birth(?:day|_date)|date_of_birth|iban|card_number|cvv|ssn|tax_id"
    r"|(?:postal|street|home)_address)"
)
# Where a list goes on (AIP-158); tells nothing and opens nothing.
_CURSORS: Final = frozenset({"page_token", "next_page_token"})

M = TypeVar("M", bound=Message)


class _Fate(Enum):
    KEEP = auto()
    HIDE = auto()
    ENTER = auto()


def tells(name: str) -> bool:
    """Whether a name says that its value is a secret, or tells who somebody is."""
    return name not in _CURSORS and _TELLING.fullmatch(name) is not None


def sensitivity(field: FieldDescriptor) -> Sensitivity.ValueType:
    """The mark of a field."""
    mark: Sensitivity.ValueType = field.GetOptions().Extensions[policy_pb2.sensitive]
    return mark


def redacted(message: M) -> M:
    """A copy that may be shown: marked strings are `MARK`, other marked values and unknown fields are not there.

    What lies in an Any of an unknown type, or does not parse as its type, is cleared down to the type's name.
    """
    copy = type(message)()
    copy.CopyFrom(message)
    copy.DiscardUnknownFields()
    _hide(copy, 0)
    return copy


def shown(message: Message) -> object:
    """The message in plain values for printing, by the contract's names; `MARK` wherever a marked field is set."""
    return _shown(message, 0)


class Values(frozenset[str]):
    """Texts to be cut out of others. They show themselves to nobody."""

    def __repr__(self) -> str:
        return MARK


def values(message: Message | None) -> Values:
    """The texts in a message's marked fields, as they may appear in a text that quotes them."""
    found = {text for text in _marked(message, 0) if len(text) >= _SOUGHT_MIN} if message is not None else set()
    return Values(found | {repr(text)[1:-1] for text in found})


def clean(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Make a log record fit to be written; a structlog processor, to stand after the one that renders exceptions.

    Messages are shown redacted, entries whose name tells of a secret or a person are `MARK`, and what `WITHOUT` holds
    is cut out of every text.
    """
    # The longest first: one may hold another.
    sought = sorted(event.pop(WITHOUT, ()), key=len, reverse=True)
    for name, value in event.items():
        event[name] = _cleaned_entry(name, value, sought, 0)
    return event


def _cleaned_entry(name: object, value: object, sought: Sequence[str], depth: int) -> object:
    return MARK if isinstance(name, str) and tells(name) and value else _cleaned(value, sought, depth)


def _cleaned(value: object, sought: Sequence[str], depth: int) -> object:
    if depth == DEPTH_MAX:
        return CUT
    match value:
        case None | bool() | int() | float():
            return value
        case Message():
            return _cleaned(shown(value), sought, depth + 1)
        case Mapping():
            return {name: _cleaned_entry(name, item, sought, depth + 1) for name, item in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_cleaned(item, sought, depth + 1) for item in value]
        case _:
            text = value if isinstance(value, str) else repr(value)
            for one in sought:
                text = text.replace(one, MARK)
            return text


@cache
def _fate(field: FieldDescriptor) -> _Fate:
    if sensitivity(field) not in _HARMLESS:
        return _Fate.HIDE
    return _Fate.ENTER if field.message_type is not None and _leads(field.message_type) else _Fate.KEEP


def _leads(message: Descriptor) -> bool:
    """Whether a message of this type can hold a marked value."""
    pending, seen = [message], {message.full_name}
    while pending:
        one = pending.pop()
        if one.full_name == _ANY or any(sensitivity(field) not in _HARMLESS for field in one.fields):
            return True
        inner = [field.message_type for field in one.fields if field.message_type is not None]
        pending += [found for found in inner if found.full_name not in seen]
        seen |= {found.full_name for found in inner}
    return False


def _descriptor(message: Message) -> Descriptor:
    # The stubs name two types for one thing: the pure and the compiled descriptor.
    return cast(Descriptor, message.DESCRIPTOR)


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def _inside(field: FieldDescriptor, value: Any) -> Iterable[Message]:
    """The messages that a field of messages holds."""
    if _is_map(field):
        return (item for item in value.values() if isinstance(item, Message))
    return value if field.is_repeated else (value,)


def _content(packed: Any) -> Message | None:
    """What an Any holds; None where its type is not known, or the content is none of it."""
    try:
        known = descriptor_pool.Default().FindMessageTypeByName(packed.TypeName())
        content = message_factory.GetMessageClass(known)()
        content.ParseFromString(packed.value)
    except (KeyError, DecodeError):
        return None
    return content


def _hide(message: Message, depth: int) -> None:
    if _descriptor(message).full_name == _ANY:
        _hide_packed(message, depth)
        return
    for field, value in message.ListFields():
        fate = _fate(field)
        if fate is _Fate.HIDE:
            _overwrite(message, field, value)
        elif fate is _Fate.ENTER and depth == DEPTH_MAX:
            message.ClearField(field.name)
        elif fate is _Fate.ENTER:
            for inner in _inside(field, value):
                _hide(inner, depth + 1)


def _hide_packed(packed: Any, depth: int) -> None:
    content = _content(packed) if depth < DEPTH_MAX else None
    if content is None:
        packed.value = b""
        return
    content.DiscardUnknownFields()
    _hide(content, depth + 1)
    packed.value = content.SerializeToString(deterministic=True)


def _overwrite(message: Message, field: FieldDescriptor, value: Any) -> None:
    if field.type != FieldDescriptor.TYPE_STRING:
        message.ClearField(field.name)
    elif field.is_repeated:
        value[:] = [MARK] * len(value)
    else:
        setattr(message, field.name, MARK)


def _shown(message: Message, depth: int) -> object:
    if depth == DEPTH_MAX:
        return CUT
    name = _descriptor(message).full_name
    if name == _ANY:
        return _shown_packed(message, depth)
    if name in _PLAIN:
        return _shown_plain(message)
    return {
        field.name: MARK if _fate(field) is _Fate.HIDE else _shown_field(field, value, depth)
        for field, value in message.ListFields()
    }


def _shown_plain(message: Message) -> object:
    try:
        return json_format.MessageToDict(message)
    except (json_format.Error, ValueError):
        return INVALID


def _shown_packed(packed: Any, depth: int) -> object:
    content = _content(packed)
    inside = {} if content is None else _shown(content, depth + 1)
    return {"@type": packed.type_url} | (inside if isinstance(inside, dict) else {"value": inside})


def _shown_field(field: FieldDescriptor, value: Any, depth: int) -> object:
    if field.message_type is not None and _is_map(field):
        entry = field.message_type.fields_by_name["value"]
        return {str(key): _shown_value(entry, item, depth) for key, item in value.items()}
    if field.is_repeated:
        return [_shown_value(field, item, depth) for item in value]
    return _shown_value(field, value, depth)


def _shown_value(field: FieldDescriptor, value: Any, depth: int) -> object:
    if isinstance(value, Message):
        return _shown(value, depth + 1)
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    if field.enum_type is not None:
        known = field.enum_type.values_by_number.get(value)
        return value if known is None else known.name
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _marked(message: Message, depth: int) -> Iterator[str]:
    if depth == DEPTH_MAX:
        return
    if _descriptor(message).full_name == _ANY:
        content = _content(message)
        if content is not None:
            yield from _marked(content, depth + 1)
        return
    for field, value in message.ListFields():
        fate = _fate(field)
        if fate is _Fate.HIDE:
            yield from _texts(field, value, depth)
        elif fate is _Fate.ENTER:
            for inner in _inside(field, value):
                yield from _marked(inner, depth + 1)


def _texts(field: FieldDescriptor, value: Any, depth: int) -> Iterator[str]:
    """Every text in a value."""
    if field.message_type is not None:
        for inner in _inside(field, value) if depth < DEPTH_MAX else ():
            for below, item in inner.ListFields():
                yield from _texts(below, item, depth + 1)
    elif field.type == FieldDescriptor.TYPE_STRING:
        yield from value if field.is_repeated else (value,)
