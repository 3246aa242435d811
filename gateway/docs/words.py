"""Rules and policies in words, whatever parts they have: a new option is listed without a change here.

Known rules get a sentence; all others are said by the names that protovalidate or policy.proto give them. Pure.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from google.api import field_behavior_pb2
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from buf.validate import validate_pb2
from buf.validate.validate_pb2 import FieldRules
from weft.options.v1.policy_pb2 import MethodPolicy
from weft_protos.fields import behaviour_of, rules_of

_BEHAVIOURS: Final[Mapping[int, str]] = {
    field_behavior_pb2.OPTIONAL: "optional",
    field_behavior_pb2.REQUIRED: "required",
    field_behavior_pb2.OUTPUT_ONLY: "only in answers; ignored in requests",
    field_behavior_pb2.INPUT_ONLY: "only in requests; never in answers",
    field_behavior_pb2.IMMUTABLE: "cannot be changed once it is set",
    field_behavior_pb2.UNORDERED_LIST: "in no particular order",
    field_behavior_pb2.NON_EMPTY_DEFAULT: "has a value where none is given",
    field_behavior_pb2.IDENTIFIER: "names the resource",
}
_SENTENCES: Final[Mapping[str, str]] = {
    "const": "exactly {}",
    "in": "one of {}",
    "not_in": "none of {}",
    "len": "{} characters",
    "min_len": "at least {} characters",
    "max_len": "at most {} characters",
    "len_bytes": "{} bytes",
    "min_bytes": "at least {} bytes",
    "max_bytes": "at most {} bytes",
    "pattern": "matches {}",
    "prefix": "begins with {}",
    "suffix": "ends with {}",
    "contains": "contains {}",
    "not_contains": "does not contain {}",
    "lt": "less than {}",
    "lte": "at most {}",
    "gt": "more than {}",
    "gte": "at least {}",
    "finite": "neither NaN nor infinite",
    "min_items": "at least {} entries",
    "max_items": "at most {} entries",
    "unique": "no entry twice",
    "min_pairs": "at least {} entries",
    "max_pairs": "at most {} entries",
    "defined_only": "a value that the type names",
    "email": "an e-mail address",
    "hostname": "a host name",
    "ip": "an IP address",
    "ipv4": "an IPv4 address",
    "ipv6": "an IPv6 address",
    "uri": "a URI",
    "uri_ref": "a URI or a relative reference",
    "address": "a host name or an IP address",
    "uuid": "a UUID",
    "tuuid": "a UUID without hyphens",
    "host_and_port": "a host and a port",
    "lt_now": "in the past",
    "gt_now": "in the future",
    "within": "within {} of now",
}
_ONE: Final[Mapping[str, str]] = {"entries": "1 entry", "characters": "1 character", "bytes": "1 byte"}
_SINGULAR: Final = re.compile(r"(?<![0-9])1 (entries|characters|bytes)$")
#: Said with the rule itself, or of no interest to a caller.
_SILENT: Final = frozenset({"example", "strict"})


def field_rules(field: FieldDescriptor) -> tuple[str, ...]:
    """Field behaviour (AIP-203) and protovalidate rules of one field."""
    behaviours = [_BEHAVIOURS[each] for each in sorted(behaviour_of(field)) if each in _BEHAVIOURS]
    return tuple(dict.fromkeys((*behaviours, *_rules(rules_of(field)))))


def message_rules(message: Descriptor) -> tuple[str, ...]:
    """The rules on a message as a whole."""
    rules: Any = message.GetOptions().Extensions[validate_pb2.message]
    choices = (f"{'exactly' if one.required else 'at most'} one of {', '.join(one.fields)}" for one in rules.oneof)
    return (*(rule.message or rule.expression for rule in rules.cel), *rules.cel_expression, *choices)


def policy_parts(policy: MethodPolicy) -> Iterator[tuple[str, str]]:
    """Every part that an effective policy has, by the name the contract gives it, with its value."""
    for field, value in policy.ListFields():
        yield field.name, value_of(field, value)


def _rules(rules: FieldRules) -> Iterator[str]:
    if rules.required:
        yield "required"
    if rules.ignore == validate_pb2.IGNORE_ALWAYS:
        return
    unless = "where it is not empty, " if rules.ignore == validate_pb2.IGNORE_IF_ZERO_VALUE else ""
    for rule in rules.cel:
        yield unless + (rule.message or f"`{rule.expression}`")
    for expression in rules.cel_expression:
        yield f"{unless}`{expression}`"
    kind = rules.WhichOneof("type")
    for sentence in _typed(getattr(rules, kind)) if kind else ():
        yield unless + sentence


def _typed(said: Message) -> Iterator[str]:
    for field, value in said.ListFields():
        if field.name in ("items", "keys", "values"):
            owner = {"items": "each entry", "keys": "each key", "values": "each value"}[field.name]
            yield from (f"{owner}: {rule}" for rule in _rules(value))
        elif field.name not in _SILENT and value is not False:
            sentence = _SENTENCES.get(field.name, field.name.replace("_", " ") + " {}").format(_quoted(field, value))
            yield _SINGULAR.sub(lambda plural: _ONE[plural[1]], sentence)


def _quoted(field: FieldDescriptor, value: Any) -> str:
    if field.is_repeated:
        return ", ".join(_one(field, item) or '""' for item in value)
    return _one(field, value)


def _one(field: FieldDescriptor, value: Any) -> str:
    text = _single(field, value)
    return f"`{text}`" if field.type == FieldDescriptor.TYPE_STRING and text else text


def value_of(field: FieldDescriptor, value: Any) -> str:
    """A value of any option, in words."""
    if field.is_repeated:
        return ", ".join(_single(field, item) for item in value)
    return _single(field, value)


def _single(field: FieldDescriptor, value: Any) -> str:
    if isinstance(value, Duration):
        return f"{value.ToTimedelta().total_seconds():g} s" if value.ByteSize() else "0 s"
    if isinstance(value, Message):
        return ", ".join(f"{inside.name} {value_of(inside, each)}" for inside, each in value.ListFields()) or "set"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if field.enum_type is not None:
        return _enum(field.enum_type, value)
    if isinstance(value, bytes):
        return value.hex()
    return f"{value:g}" if isinstance(value, float) else str(value)


def _enum(enum: EnumDescriptor, number: int) -> str:
    known = enum.values_by_number.get(number)
    if known is None:
        return str(number)
    name, prefix = known.name, enum.values[0].name.removesuffix("UNSPECIFIED")
    return str(name.removeprefix(prefix).lower().replace("_", " "))
