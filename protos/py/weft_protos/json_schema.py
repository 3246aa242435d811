"""A request of a linked method as JSON Schema (2020-12): the contract's types, rules and comments.

The schema is for whoever writes a request, a form or a model. It says what JSON Schema can say of the rules; those in
CEL stand in the descriptions. What it lets pass is still held to the contract when it is called.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from google.api import field_behavior_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from buf.validate import validate_pb2
from buf.validate.validate_pb2 import FieldRules
from weft_protos import comments
from weft_protos.fields import behaviour_of, rules_of

Schema = dict[str, Any]

#: Filled in by clients (AIP-155).
REQUEST_ID: Final = "request_id"
_FLOATS: Final = frozenset({FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT})
_UNSIGNED: Final = frozenset({FieldDescriptor.CPPTYPE_UINT32, FieldDescriptor.CPPTYPE_UINT64})
_WELL_KNOWN: Final[Mapping[str, Schema]] = {
    "google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
    "google.protobuf.Duration": {"type": "string", "pattern": r"^-?[0-9]+(\.[0-9]{1,9})?s$"},
    "google.protobuf.FieldMask": {"type": "string", "description": "Paths divided by commas, in lowerCamelCase."},
    "google.protobuf.Struct": {"type": "object"},
    "google.protobuf.Value": {},
    "google.protobuf.ListValue": {"type": "array"},
    "google.protobuf.Any": {"type": "object"},
    "google.protobuf.BoolValue": {"type": "boolean"},
    "google.protobuf.StringValue": {"type": "string"},
    "google.protobuf.BytesValue": {"type": "string", "contentEncoding": "base64"},
    "google.protobuf.DoubleValue": {"type": "number"},
    "google.protobuf.FloatValue": {"type": "number"},
    "google.protobuf.Int32Value": {"type": "integer"},
    "google.protobuf.Int64Value": {"type": "integer"},
    "google.protobuf.UInt32Value": {"type": "integer", "minimum": 0},
    "google.protobuf.UInt64Value": {"type": "integer", "minimum": 0},
}
_FORMATS: Final = frozenset({"uuid", "email", "hostname", "ipv4", "ipv6", "uri"})
#: Rules whose names JSON Schema has others for.
_BOUNDS: Final[Mapping[str, str]] = {
    "gte": "minimum",
    "lte": "maximum",
    "gt": "exclusiveMinimum",
    "lt": "exclusiveMaximum",
}
_TEXT: Final[Mapping[str, str]] = {"min_len": "minLength", "max_len": "maxLength", "pattern": "pattern"}
_LIST: Final[Mapping[str, str]] = {"min_items": "minItems", "max_items": "maxItems", "unique": "uniqueItems"}
_MAP: Final[Mapping[str, str]] = {"min_pairs": "minProperties", "max_pairs": "maxProperties"}


def of(message: Descriptor, above: tuple[str, ...] = ()) -> Schema:
    """The schema of a message in its JSON form, with the contract's field names; output-only fields are left out."""
    if message.full_name in _WELL_KNOWN:
        return dict(_WELL_KNOWN[message.full_name])
    if message.full_name in above:
        # A type within itself: what lies deeper is an object.
        return {"type": "object"}
    fields = [field for field in message.fields if field_behavior_pb2.OUTPUT_ONLY not in behaviour_of(field)]
    inside = (*above, message.full_name)
    schema: Schema = {
        "type": "object",
        "properties": {field.name: _field(field, inside) for field in fields},
        "additionalProperties": False,
    }
    required = [field.name for field in fields if _is_required(field)]
    if required:
        schema["required"] = required
    rules = [rule.message for rule in message.GetOptions().Extensions[validate_pb2.message].cel if rule.message]
    return schema | ({"description": ". ".join(rules)} if rules else {})


def _is_required(field: FieldDescriptor) -> bool:
    said = field_behavior_pb2.REQUIRED in behaviour_of(field) or rules_of(field).required
    return said and field.name != REQUEST_ID


def _field(field: FieldDescriptor, above: tuple[str, ...]) -> Schema:
    rules, kind = rules_of(field), field.message_type
    if kind is not None and kind.GetOptions().map_entry:
        value = kind.fields_by_name["value"]
        inner = _one(value, rules.map.values, above)
        schema: Schema = {"type": "object", "additionalProperties": inner, **_renamed(rules.map, _MAP)}
    elif field.is_repeated:
        schema = {"type": "array", "items": _one(field, rules.repeated.items, above), **_renamed(rules.repeated, _LIST)}
    else:
        schema = _one(field, rules, above)
    said = [comments.field(field), schema.get("description", ""), *(rule.message for rule in rules.cel)]
    description = " ".join(f"{text.rstrip('.')}." for text in said if text)
    return schema | ({"description": description} if description else {})


def _one(field: FieldDescriptor, rules: FieldRules, above: tuple[str, ...]) -> Schema:
    """The schema of one value of a field, whether it stands alone, in a list or in a map."""
    if field.message_type is not None:
        return of(field.message_type, above)
    kind = rules.WhichOneof("type")
    said: Any = getattr(rules, kind) if kind else None
    if field.enum_type is not None:
        without = set(said.not_in) if said is not None else set()
        return {"type": "string", "enum": [one.name for one in field.enum_type.values if one.number not in without]}
    plain: Mapping[int, Callable[[Any], Schema]] = {
        FieldDescriptor.CPPTYPE_BOOL: lambda _: {"type": "boolean"},
        FieldDescriptor.CPPTYPE_STRING: _text if field.type == FieldDescriptor.TYPE_STRING else _bytes,
    }
    schema = plain.get(field.cpp_type, lambda rule: _number(field, rule))(said)
    if said is None:
        return schema
    if said.DESCRIPTOR.fields_by_name["const"].has_presence and said.HasField("const"):
        return schema | {"const": said.const}
    if "in" in said.DESCRIPTOR.fields_by_name and getattr(said, "in"):
        return schema | {"enum": list(getattr(said, "in"))}
    return schema


def _text(said: Any) -> Schema:
    schema: Schema = {"type": "string"}
    if said is None:
        return schema
    form = said.WhichOneof("well_known")
    if form in _FORMATS and getattr(said, form):
        schema["format"] = form
    return schema | _renamed(said, _TEXT)


def _bytes(said: Any) -> Schema:
    return {"type": "string", "contentEncoding": "base64"}


def _number(field: FieldDescriptor, said: Any) -> Schema:
    schema: Schema = {"type": "number" if field.cpp_type in _FLOATS else "integer"}
    if field.cpp_type in _UNSIGNED:
        schema["minimum"] = 0
    return schema if said is None else schema | _renamed(said, _BOUNDS)


def _renamed(said: Any, names: Mapping[str, str]) -> Schema:
    """The rules that are said, under their names in JSON Schema."""
    return {other: getattr(said, name) for name, other in names.items() if said.HasField(name)}
