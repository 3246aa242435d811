"""Example messages that keep the contract's own rules, made from those rules. Pure.

Requests for documents, answers for a mock. Whoever takes one has protovalidate judge it: rules may be too intricate for
this writer, and the contract can help it with `example` rules.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from google.api import field_behavior_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from buf.validate.validate_pb2 import FieldRules
from weft_protos import pattern
from weft_protos.fields import behaviour_of, rules_of

ID: Final = "example-1"
UUID: Final = "3f0c1e9a-5b7d-4c2e-8a61-0d9e4b7f2c13"
#: Lists in lists, and types within themselves, end somewhere.
_DEPTH_MAX: Final = 5
_ITEMS_MAX: Final = 20
_NUMBER: Final = 2
#: Values that only an earlier answer gives: an invented one is refused.
_FROM_ANSWERS: Final = frozenset({"etag", "page_token"})
#: An invented one leads to a page that is not there.
_ASKING_ON: Final = frozenset({"next_page_token"})
_FORMATS: Final[Mapping[str, str]] = {
    "uuid": UUID,
    "tuuid": UUID.replace("-", ""),
    "email": "ada@example.com",
    "hostname": "www.example.com",
    "address": "www.example.com",
    "host_and_port": "www.example.com:443",
    "uri": "https://www.example.com/",
    "uri_ref": "/path",
    "ip": "192.0.2.1",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
}
#: Well-known types whose fields stand in relation to each other.
_KNOWN: Final[Mapping[str, Mapping[str, Any]]] = {
    "google.type.Money": {"currency_code": "GBP", "units": 12, "nanos": 500_000_000},
    "google.type.Date": {"year": 2026, "month": 1, "day": 31},
    "google.protobuf.Timestamp": {"seconds": 1_769_860_800},
    "google.protobuf.Duration": {"seconds": 60},
}
_NUMBERS: Final = frozenset(
    {
        FieldDescriptor.CPPTYPE_INT32,
        FieldDescriptor.CPPTYPE_INT64,
        FieldDescriptor.CPPTYPE_UINT32,
        FieldDescriptor.CPPTYPE_UINT64,
        FieldDescriptor.CPPTYPE_DOUBLE,
        FieldDescriptor.CPPTYPE_FLOAT,
    }
)
_INPUT_FREE: Final = frozenset({field_behavior_pb2.OUTPUT_ONLY, field_behavior_pb2.IDENTIFIER})


Wanted = Callable[[FieldDescriptor], bool]


def needed(field: FieldDescriptor) -> bool:
    """Whether a request should have it: what the method demands, and numbers with bounds."""
    behaviour, rules = behaviour_of(field), rules_of(field)
    if field_behavior_pb2.REQUIRED in behaviour or rules.required or rules.repeated.min_items or rules.map.min_pairs:
        return True
    # A number with bounds is a choice that the example makes; an optional text mostly is one of its own meaning.
    return rules.WhichOneof("type") is not None and field.cpp_type in _NUMBERS and not field.is_repeated


def told(field: FieldDescriptor) -> bool:
    """Whether a full request has it: all that callers say."""
    return needed(field) or (not behaviour_of(field) & _INPUT_FREE and field.name not in _FROM_ANSWERS)


def answered(field: FieldDescriptor) -> bool:
    """Whether an answer has it: all but what would make the caller ask on."""
    return field_behavior_pb2.INPUT_ONLY not in behaviour_of(field) and field.name not in _ASKING_ON


def fill(message: Any, wanted: Wanted, above: tuple[str, ...] = ()) -> None:
    """Give an empty message the fields that are wanted; messages inside of it have all that is `told` or `answered`."""
    descriptor: Descriptor = message.DESCRIPTOR
    known = _KNOWN.get(descriptor.full_name)
    if known is not None:
        for name, value in known.items():
            setattr(message, name, value)
        return
    if descriptor.full_name.startswith("google.protobuf.") or descriptor.full_name in above or len(above) > _DEPTH_MAX:
        return
    for field in descriptor.fields:
        choice = field.containing_oneof
        taken = choice is not None and message.WhichOneof(choice.name) is not None
        if not taken and wanted(field):
            _set(message, field, (*above, descriptor.full_name), answered if wanted is answered else told)


def _set(message: Any, field: FieldDescriptor, above: tuple[str, ...], inside: Wanted) -> None:
    rules, kind = rules_of(field), field.message_type
    if kind is not None and kind.GetOptions().map_entry:
        key = _scalar(kind.fields_by_name["key"], rules.map.keys, 0)
        value = kind.fields_by_name["value"]
        if value.message_type is not None:
            fill(getattr(message, field.name)[key], inside, above)
        else:
            getattr(message, field.name)[key] = _scalar(value, rules.map.values, 0)
    elif field.is_repeated:
        for index in range(min(_ITEMS_MAX, max(1, rules.repeated.min_items))):
            if kind is not None:
                fill(getattr(message, field.name).add(), inside, above)
            else:
                getattr(message, field.name).append(_scalar(field, rules.repeated.items, index))
    elif kind is not None:
        getattr(message, field.name).SetInParent()
        fill(getattr(message, field.name), inside, above)
    else:
        setattr(message, field.name, _scalar(field, rules, 0))


def _scalar(field: FieldDescriptor, rules: FieldRules, index: int) -> Any:
    """A value for one field; `index` tells the items of one list apart."""
    name = rules.WhichOneof("type") or ""
    said: Any = getattr(rules, name) if name else None
    if said is not None:
        given = _given(said)
        if given:
            return given[index % len(given)]
    if field.type == FieldDescriptor.TYPE_BOOL:
        return True
    if field.enum_type is not None:
        values = field.enum_type.values
        return values[min(1 + index, len(values) - 1)].number
    if field.type in (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES):
        written = _written(field.name, said, index)
        return written if field.type == FieldDescriptor.TYPE_STRING else written.encode()
    whole = field.cpp_type not in (FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT)
    return _number(said, index, whole=whole)


def _given(said: Any) -> list[Any]:
    """Values that the rules name themselves, the best first."""
    fields = said.DESCRIPTOR.fields_by_name
    for name in ("const", "example", "in"):
        if name not in fields:
            continue
        if not fields[name].is_repeated:
            if said.HasField(name):
                return [getattr(said, name)]
        else:
            found = [value for value in getattr(said, name) if value] or list(getattr(said, name))
            if found:
                return found
    return []


def _written(name: str, said: Any, index: int) -> str:
    wish = _FORMATS["email"] if name == "email" else name.replace("_", " ") + (f" {index + 1}" if index else "")
    if said is None:
        return wish
    form: str | None = said.WhichOneof("well_known") if "well_known" in said.DESCRIPTOR.oneofs_by_name else None
    if form is not None and form in _FORMATS:
        return _FORMATS[form]
    if said.pattern and not re.fullmatch(said.pattern, wish):
        return pattern.text(said.pattern, ID if not index else f"example-{index + 1}")
    if said.prefix or said.suffix or said.contains:
        wish = f"{_text(said.prefix)}{_text(said.contains) or wish}{_text(said.suffix)}"
    least, most = said.len or said.min_len, said.len or said.max_len or 10_000
    while len(wish) < least:
        wish = f"{wish} {name.replace('_', ' ')}"
    return wish[:most] if len(wish) > most else wish


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode(errors="replace")


def _number(said: Any, index: int, *, whole: bool) -> int | float:
    value: int | float = _NUMBER + index
    step = 1 if whole else 0.5
    if said is not None:
        if said.HasField("lte"):
            value = min(value, said.lte)
        if said.HasField("lt"):
            value = min(value, said.lt - step)
        if said.HasField("gte"):
            value = max(value, said.gte)
        if said.HasField("gt"):
            value = max(value, said.gt + step)
    return value
