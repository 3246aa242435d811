"""Example requests that keep the contract's own rules, made from those rules. Pure.

An example has what the method demands and little else. It is judged by protovalidate before anybody sees it; where the
rules are too intricate for this writer there is none, and the contract can help it with `example` rules.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

import protovalidate
from google.api import field_behavior_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from buf.validate import validate_pb2
from buf.validate.validate_pb2 import FieldRules
from weft_protos import pattern

ID: Final = "example-1"
UUID: Final = "3f0c1e9a-5b7d-4c2e-8a61-0d9e4b7f2c13"
#: Lists in lists, and types within themselves, end somewhere.
_DEPTH_MAX: Final = 5
_ITEMS_MAX: Final = 20
_NUMBER: Final = 2
#: Values that only an earlier answer gives: an invented one is refused.
_FROM_ANSWERS: Final = frozenset({"etag", "page_token"})
_VARIABLE: Final = re.compile(r"\{([^}=]+)(?:=([^}]*))?\}")
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


class Binding(Protocol):
    """One way to call a method in JSON."""

    @property
    def template(self) -> str:
        """The template of its path (google.api.http)."""
        ...


class Method(Protocol):
    """What has to be known of a method."""

    @property
    def request(self) -> str:
        """Full name of its request message."""
        ...

    @property
    def bindings(self) -> Sequence[Binding]:
        """How it is called in JSON."""
        ...


class Samples:
    """Makes requests of the messages in one pool."""

    def __init__(self, pool: DescriptorPool) -> None:
        self._pool = pool
        self._validator = protovalidate.Validator()

    def request(self, method: Method) -> Message | None:
        """A valid request; None where none could be made."""
        kind = GetMessageClass(self._pool.FindMessageTypeByName(method.request))
        for everything in (False, True):
            message = kind()
            _fill(message, everything=everything, above=())
            for binding in method.bindings:
                for path, template in _VARIABLE.findall(binding.template):
                    _name(message, path, template or "*")
            if not self._validator.collect_violations(message):
                return message
        return None


def rules_of(field: FieldDescriptor) -> FieldRules:
    """The field's protovalidate rules."""
    found: FieldRules = field.GetOptions().Extensions[validate_pb2.field]
    return found


def behaviour_of(field: FieldDescriptor) -> frozenset[int]:
    """The field's `google.api.field_behavior` (AIP-203)."""
    return frozenset(field.GetOptions().Extensions[field_behavior_pb2.field_behavior])


def _fill(message: Any, *, everything: bool, above: tuple[str, ...]) -> None:
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
        if not taken and _is_wanted(field, everything=everything):
            _set(message, field, (*above, descriptor.full_name))


def _is_wanted(field: FieldDescriptor, *, everything: bool) -> bool:
    behaviour, rules = behaviour_of(field), rules_of(field)
    if field_behavior_pb2.REQUIRED in behaviour or rules.required or rules.repeated.min_items or rules.map.min_pairs:
        return True
    # A number with bounds is a choice that the example makes; an optional text mostly is one of its own meaning.
    if rules.WhichOneof("type") is not None and field.cpp_type in _NUMBERS and not field.is_repeated:
        return True
    return everything and not behaviour & _INPUT_FREE and field.name not in _FROM_ANSWERS


def _set(message: Any, field: FieldDescriptor, above: tuple[str, ...]) -> None:
    rules, kind = rules_of(field), field.message_type
    if kind is not None and kind.GetOptions().map_entry:
        key = _scalar(kind.fields_by_name["key"], rules.map.keys, 0)
        value = kind.fields_by_name["value"]
        if value.message_type is not None:
            _fill(getattr(message, field.name)[key], everything=True, above=above)
        else:
            getattr(message, field.name)[key] = _scalar(value, rules.map.values, 0)
    elif field.is_repeated:
        for index in range(min(_ITEMS_MAX, max(1, rules.repeated.min_items))):
            if kind is not None:
                _fill(getattr(message, field.name).add(), everything=True, above=above)
            else:
                getattr(message, field.name).append(_scalar(field, rules.repeated.items, index))
    elif kind is not None:
        getattr(message, field.name).SetInParent()
        _fill(getattr(message, field.name), everything=True, above=above)
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


def _name(message: Any, path: str, template: str) -> None:
    """Give a path variable a value that its template takes, unless its own rules have given it one."""
    *holders, leaf = path.split(".")
    for holder in holders:
        message = getattr(message, holder)
    if message.DESCRIPTOR.fields_by_name[leaf].type != FieldDescriptor.TYPE_STRING:
        return
    fits = re.escape(template).replace(r"\*\*", ".+").replace(r"\*", "[^/]+")
    if not re.fullmatch(fits, getattr(message, leaf)):
        setattr(message, leaf, template.replace("**", ID).replace("*", ID))
