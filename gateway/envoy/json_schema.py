"""What each JSON body and each query may hold, by the contracts, as the Lua calls that tell it to strict_json.lua.

A message is listed once however many bodies and queries hold it. Well-known types are listed by their JSON form: a
Timestamp is a string, a wrapper is what it wraps, a Struct is any object. Formats inside strings are left to the
transcoder, which refuses bad ones by itself; what it lets pass in silence is unknown and repeated keys, and those need
only names.
"""

from collections.abc import Iterator, Mapping
from typing import Final

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool

from gateway.contract import Binding
from gateway.policy import PolicySet, Rpc

_KINDS: Final[Mapping[int, str]] = {
    FieldDescriptor.TYPE_DOUBLE: "double",
    FieldDescriptor.TYPE_FLOAT: "float",
    FieldDescriptor.TYPE_INT64: "int64",
    FieldDescriptor.TYPE_SINT64: "int64",
    FieldDescriptor.TYPE_SFIXED64: "int64",
    FieldDescriptor.TYPE_UINT64: "uint64",
    FieldDescriptor.TYPE_FIXED64: "uint64",
    FieldDescriptor.TYPE_INT32: "int32",
    FieldDescriptor.TYPE_SINT32: "int32",
    FieldDescriptor.TYPE_SFIXED32: "int32",
    FieldDescriptor.TYPE_UINT32: "uint32",
    FieldDescriptor.TYPE_FIXED32: "uint32",
    FieldDescriptor.TYPE_BOOL: "bool",
    FieldDescriptor.TYPE_STRING: "string",
    # Base64 in a string.
    FieldDescriptor.TYPE_BYTES: "string",
}
#: Types whose JSON form is not that of a message. An Any may hold every type there is, so its keys are not known here.
_WELL_KNOWN: Final[Mapping[str, str]] = {
    "google.protobuf.Timestamp": "string",
    "google.protobuf.Duration": "string",
    "google.protobuf.FieldMask": "string",
    "google.protobuf.DoubleValue": "double",
    "google.protobuf.FloatValue": "float",
    "google.protobuf.Int64Value": "int64",
    "google.protobuf.UInt64Value": "uint64",
    "google.protobuf.Int32Value": "int32",
    "google.protobuf.UInt32Value": "uint32",
    "google.protobuf.BoolValue": "bool",
    "google.protobuf.StringValue": "string",
    "google.protobuf.BytesValue": "string",
    "google.protobuf.Value": "value",
    "google.protobuf.ListValue": "values",
    "google.protobuf.Struct": "object",
    "google.protobuf.Any": "object",
}
_NULL: Final = "google.protobuf.NullValue"


def key(rpc: Rpc, binding: Binding) -> str:
    """The name of one binding's body, shared by its route and its line in the program."""
    return f"{rpc.name} {binding.verb} {binding.template}"


def program(policies: PolicySet) -> str:
    """One call of `body` for each binding, then one of `message` or `enum` for each type these hold."""
    pool = DescriptorPool()
    for file in FileDescriptorSet.FromString(policies.descriptors).file:
        pool.Add(file)
    types = _Types()
    lines = [
        f"body({_quoted(key(rpc, binding))}, {_rest(rpc, binding, types, _method(pool, rpc).input_type)}, "
        f"{_body(binding, types, _method(pool, rpc).input_type)})"
        for rpc in policies.rpcs
        for binding in rpc.method.bindings
    ]
    return "".join(f"{line}\n" for line in (*lines, *types.lines()))


def _method(pool: DescriptorPool, rpc: Rpc) -> MethodDescriptor:
    return pool.FindServiceByName(rpc.method.service).methods_by_name[rpc.method.name]


class _Types:
    """The messages and enums that the bodies hold, each once, in the order in which they were met."""

    def __init__(self) -> None:
        self._met: dict[str, Descriptor | EnumDescriptor] = {}

    def meet(self, found: Descriptor | EnumDescriptor) -> str:
        self._met.setdefault(found.full_name, found)
        return str(found.full_name)

    def lines(self) -> Iterator[str]:
        """The calls; a message may add further types, which come after it."""
        done: set[str] = set()
        while len(done) < len(self._met):
            for name in [name for name in self._met if name not in done]:
                done.add(name)
                found = self._met[name]
                yield self._message(found) if isinstance(found, Descriptor) else self._enum(found)

    def _message(self, found: Descriptor) -> str:
        if not found.fields:
            return f"message({_quoted(found.full_name)}, {{}})"
        fields = "".join(f"  {_field(field, self)},\n" for field in found.fields)
        return f"message({_quoted(found.full_name)}, {{\n{fields}}})"

    def _enum(self, found: EnumDescriptor) -> str:
        values = ", ".join(_quoted(name) for name in found.values_by_name)
        return f"enum({_quoted(found.full_name)}, {{{values}}})"


def _rest(rpc: Rpc, binding: Binding, types: _Types, request: Descriptor) -> str:
    """Who may send the body, and which fields a query gives: those that neither path nor body do."""
    said = ["open = true"] if rpc.policy.public else []
    if binding.body != "*":
        said.append(f"query = {_quoted(types.meet(request))}")
        said.append(f"path = {{{', '.join(map(_quoted, binding.variables))}}}")
        said += [f"field = {_quoted(binding.body)}"] if binding.body else []
    return f"{{{', '.join(said)}}}"


def _body(binding: Binding, types: _Types, request: Descriptor) -> str:
    if not binding.body:
        return "nil"
    if binding.body == "*":
        return _table(_message_shape(request, types))
    return _field(request.fields_by_name[binding.body], types)


def _field(field: FieldDescriptor, types: _Types) -> str:
    said = {"name": field.name, "json": field.json_name}
    entry = field.message_type
    if entry is not None and entry.GetOptions().map_entry:
        key_kind = _KINDS[entry.fields_by_name["key"].type]
        said |= {"form": "map", "key": key_kind} | _shape(entry.fields_by_name["value"], types)
    else:
        said |= ({"form": "list"} if field.is_repeated else {}) | _shape(field, types)
    # One field alone is what `optional` makes of it, and repeating it is refused anyway.
    if field.containing_oneof is not None and len(field.containing_oneof.fields) > 1:
        said["oneof"] = field.containing_oneof.name
    return _table(said)


def _shape(field: FieldDescriptor, types: _Types) -> dict[str, str]:
    if field.message_type is not None:
        return _message_shape(field.message_type, types)
    if field.enum_type is None:
        return {"kind": _KINDS[field.type]}
    kind = "null" if field.enum_type.full_name == _NULL else "enum"
    return {"kind": kind, "of": types.meet(field.enum_type)}


def _message_shape(found: Descriptor, types: _Types) -> dict[str, str]:
    known = _WELL_KNOWN.get(found.full_name)
    if known is not None:
        return {"kind": known}
    return {"kind": "message", "of": types.meet(found)}


def _table(said: Mapping[str, str]) -> str:
    return "{" + ", ".join(f"{word} = {_quoted(value)}" for word, value in said.items()) + "}"


def _quoted(value: str) -> str:
    if not value.isascii() or not value.isprintable() or '"' in value or "\\" in value:
        raise ValueError(f"a name in a contract must be plain text: {value!r}")
    return f'"{value}"'
