"""Envoy's and xDS's messages as typed Python, from one private descriptor pool.

The gateway compiler and the control plane build every resource here. The pool is private because its copies of
google/rpc and opentelemetry differ from those of the installed wheels; there is one pool in a process because messages
of two pools do not mix. A misspelt field, an unknown enum label or two members of a oneof are refused with the path
of the mistake, so that a wrong resource fails where it is written and not at Envoy.
"""

import difflib
from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Final

from google.protobuf import json_format, message_factory
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message

TYPE_URL_PREFIX: Final = "type.googleapis.com/"

_WRAPPERS: Final = frozenset(
    f"google.protobuf.{kind}Value"
    for kind in ("Double", "Float", "Int64", "UInt64", "Int32", "UInt32", "Bool", "String", "Bytes")
)


class XdsDescriptorsMissingError(RuntimeError):
    """protos/gen/xds.binpb is not there: set-up has not run."""


class XdsFieldError(ValueError):
    """A resource is written wrongly; the message begins with the path of the field."""


def _descriptors() -> Path:
    return Path(str(resources.files("weft"))).parent / "xds.binpb"


@cache
def pool() -> DescriptorPool:
    """The process's only pool of xDS descriptors. Raises XdsDescriptorsMissingError."""
    path = _descriptors()
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise XdsDescriptorsMissingError(f"{path} is missing: run `make gen-xds`") from error
    private = DescriptorPool()
    for file in FileDescriptorSet.FromString(content).file:
        private.Add(file)
    return private


@cache
def message_class(name: str) -> type[Message]:
    """Class of a message by its full name. Raises KeyError where no such message was taken over (see make_xds.py)."""
    return message_factory.GetMessageClass(pool().FindMessageTypeByName(name))


def type_url(message: Message) -> str:
    """Type URL under which a message travels in an Any or a DiscoveryResponse."""
    return TYPE_URL_PREFIX + message.DESCRIPTOR.full_name


def envoy(name: str, /, **fields: Any) -> Any:
    """Build a message: `envoy("config.cluster.v3.Cluster", name="orders", connect_timeout="0.25s")`.

    `name` may leave out the leading `envoy.`. Values may be messages of this pool, mappings, sequences, scalars, enum
    labels, "1.5s" or timedelta for durations, and plain scalars for wrappers; a message given for an Any is packed.
    Raises XdsFieldError.
    """
    full = name if name.startswith(("envoy.", "xds.", "google.", "udpa.")) else f"envoy.{name}"
    message = message_class(full)()
    _fill(message, fields, full.rsplit(".", 1)[-1])
    return message


def to_dict(message: Message) -> dict[str, Any]:
    """ProtoJSON of a message with the contract's own field names, nested Any included."""
    return json_format.MessageToDict(message, preserving_proto_field_name=True, descriptor_pool=pool())


def _fill(message: Message, fields: Mapping[str, Any], path: str) -> None:
    descriptor = message.DESCRIPTOR
    chosen: dict[str, str] = {}
    for name, value in fields.items():
        if value is None:
            continue
        field = descriptor.fields_by_name.get(name)
        if field is None:
            close = difflib.get_close_matches(name, descriptor.fields_by_name, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise XdsFieldError(f"{path}: {descriptor.full_name} has no field {name!r}{hint}")
        oneof = field.containing_oneof
        if oneof is not None and chosen.setdefault(oneof.name, name) != name:
            raise XdsFieldError(f"{path}: {chosen[oneof.name]!r} and {name!r} exclude each other (oneof {oneof.name})")
        _set(message, field, value, f"{path}.{name}")


def _set(message: Message, field: Any, value: Any, path: str) -> None:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        _set_map(getattr(message, field.name), field, value, path)
    elif field.is_repeated:
        if isinstance(value, str | bytes | Mapping) or not isinstance(value, Sequence):
            raise XdsFieldError(f"{path}: expected a list, got {type(value).__name__}")
        target = getattr(message, field.name)
        for index, item in enumerate(value):
            if field.message_type is None:
                target.append(_scalar(field, item, f"{path}[{index}]"))
            else:
                _assign(target.add(), item, f"{path}[{index}]")
    elif field.message_type is not None:
        target = getattr(message, field.name)
        target.SetInParent()
        _assign(target, value, path)
    else:
        plain = _scalar(field, value, path)
        try:
            setattr(message, field.name, plain)
        except (TypeError, ValueError) as error:
            raise XdsFieldError(f"{path}: {error}") from error


def _set_map(target: Any, field: Any, value: Any, path: str) -> None:
    if not isinstance(value, Mapping):
        raise XdsFieldError(f"{path}: expected a mapping, got {type(value).__name__}")
    entry = field.message_type.fields_by_name["value"]
    for key, item in value.items():
        if entry.message_type is None:
            target[key] = _scalar(entry, item, f"{path}[{key!r}]")
        else:
            target[key].SetInParent()
            _assign(target[key], item, f"{path}[{key!r}]")


def _scalar(field: Any, value: Any, path: str) -> Any:
    if field.enum_type is not None and isinstance(value, str):
        label = field.enum_type.values_by_name.get(value)
        if label is None:
            known = ", ".join(field.enum_type.values_by_name)
            raise XdsFieldError(f"{path}: {field.enum_type.full_name} has no label {value!r}; it has {known}")
        return label.number
    return value


def _assign(target: Message, value: Any, path: str) -> None:
    full: str = target.DESCRIPTOR.full_name
    try:
        if full == "google.protobuf.Any" and isinstance(value, Message) and value.DESCRIPTOR.full_name != full:
            target.Pack(value, deterministic=True)  # type: ignore[attr-defined]
        elif isinstance(value, Message):
            if value.DESCRIPTOR.full_name != full:
                raise XdsFieldError(f"{path}: expected {full}, got {value.DESCRIPTOR.full_name}")
            target.MergeFromString(value.SerializeToString(deterministic=True))
        elif full == "google.protobuf.Duration" and isinstance(value, str):
            target.FromJsonString(value)  # type: ignore[attr-defined]
        elif full == "google.protobuf.Duration" and isinstance(value, timedelta):
            target.FromTimedelta(value)  # type: ignore[attr-defined]
        elif full == "google.protobuf.Struct" and isinstance(value, Mapping):
            target.update(value)  # type: ignore[attr-defined]
        elif full == "google.protobuf.Value":
            json_format.ParseDict(value, target, descriptor_pool=pool())
        elif full in _WRAPPERS and not isinstance(value, Mapping):
            _set(target, target.DESCRIPTOR.fields_by_name["value"], value, path)
        elif isinstance(value, Mapping):
            _fill(target, value, path)
        else:
            raise XdsFieldError(f"{path}: expected {full}, got {type(value).__name__}")
    except (TypeError, ValueError) as error:
        raise error if isinstance(error, XdsFieldError) else XdsFieldError(f"{path}: {error}") from error
