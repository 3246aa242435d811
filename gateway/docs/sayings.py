"""What the files say of each element: its comment, and the line it stands on. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    ServiceDescriptorProto,
)

from weft_protos.locations import Location, Place


@dataclass(frozen=True, slots=True)
class Saying:
    """One element of a file."""

    comment: str
    """The comment above it as paragraphs, lines joined; empty where it has none."""
    location: Location


def read(files: FileDescriptorSet) -> Mapping[str, Saying]:
    """Services, methods, messages, fields, enums and their values by full name: `weft.orders.v1.Order.State`."""
    return {name: saying for file in files.file for name, saying in _file(file)}


def _file(file: FileDescriptorProto) -> Iterator[tuple[str, Saying]]:
    comments = {
        tuple(location.path): _paragraphs(location.leading_comments) for location in file.source_code_info.location
    }
    for name, place in _elements(file):
        yield name, Saying(comments.get(place.path, ""), place.at())


def _elements(file: FileDescriptorProto) -> Iterator[tuple[str, Place]]:
    root = Place.of(file)
    for index, service in enumerate(file.service):
        here, name = root.below(FileDescriptorProto.SERVICE_FIELD_NUMBER, index), f"{file.package}.{service.name}"
        yield name, here
        for number, method in enumerate(service.method):
            yield f"{name}.{method.name}", here.below(ServiceDescriptorProto.METHOD_FIELD_NUMBER, number)
    for index, message in enumerate(file.message_type):
        here = root.below(FileDescriptorProto.MESSAGE_TYPE_FIELD_NUMBER, index)
        yield from _message(f"{file.package}.{message.name}", message, here)
    for index, enum in enumerate(file.enum_type):
        here = root.below(FileDescriptorProto.ENUM_TYPE_FIELD_NUMBER, index)
        yield from _enum(f"{file.package}.{enum.name}", enum, here)


def _message(name: str, message: DescriptorProto, here: Place) -> Iterator[tuple[str, Place]]:
    yield name, here
    for index, field in enumerate(message.field):
        yield f"{name}.{field.name}", here.below(DescriptorProto.FIELD_FIELD_NUMBER, index)
    for index, nested in enumerate(message.nested_type):
        inside = here.below(DescriptorProto.NESTED_TYPE_FIELD_NUMBER, index)
        yield from _message(f"{name}.{nested.name}", nested, inside)
    for index, enum in enumerate(message.enum_type):
        yield from _enum(f"{name}.{enum.name}", enum, here.below(DescriptorProto.ENUM_TYPE_FIELD_NUMBER, index))


def _enum(name: str, enum: EnumDescriptorProto, here: Place) -> Iterator[tuple[str, Place]]:
    yield name, here
    for index, value in enumerate(enum.value):
        yield f"{name}.{value.name}", here.below(EnumDescriptorProto.VALUE_FIELD_NUMBER, index)


def _paragraphs(comment: str) -> str:
    parts = comment.split("\n\n")
    return "\n\n".join(" ".join(part.split()) for part in parts if part.strip())
