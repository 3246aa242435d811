"""What the contracts' comments say of methods and fields. Read from `contracts.binpb`, as `locations` reads lines."""

from collections.abc import Iterator, Mapping
from functools import cache

from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto, FileDescriptorSet
from google.protobuf.message import DecodeError

from weft_protos import locations

_Path = tuple[int, ...]


def method(descriptor: MethodDescriptor) -> str:
    """The comment of a linked method, on one line; empty where there is none or nobody knows it."""
    return _comments().get(descriptor.full_name, "")


def field(descriptor: FieldDescriptor) -> str:
    """The comment of a field of a linked message, on one line; empty where there is none or nobody knows it."""
    return _comments().get(descriptor.full_name, "")


@cache
def _comments() -> Mapping[str, str]:
    try:
        files = FileDescriptorSet.FromString(locations.contracts().read_bytes()).file
    except (OSError, DecodeError):
        return {}
    return {name: comment for file in files for name, comment in _of_file(file)}


def _of_file(file: FileDescriptorProto) -> Iterator[tuple[str, str]]:
    said = {tuple(at.path): " ".join(at.leading_comments.split()) for at in file.source_code_info.location}
    for name, path in _paths(file):
        if said.get(path):
            yield f"{file.package}.{name}", said[path]


def _paths(file: FileDescriptorProto) -> Iterator[tuple[str, _Path]]:
    for number, service in enumerate(file.service):
        for index, one in enumerate(service.method):
            yield f"{service.name}.{one.name}", (6, number, 2, index)
    for number, message in enumerate(file.message_type):
        yield from _fields(message, message.name, (4, number))


def _fields(message: DescriptorProto, name: str, path: _Path) -> Iterator[tuple[str, _Path]]:
    for index, one in enumerate(message.field):
        yield f"{name}.{one.name}", (*path, 2, index)
    for index, nested in enumerate(message.nested_type):
        yield from _fields(nested, f"{name}.{nested.name}", (*path, 3, index))
