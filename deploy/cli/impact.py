"""What a violation is about: which methods and events it touches, and where in them. Pure.

It reads the sentences of `buf breaking` and of the policy check against the contracts as they were before.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool

from weft.options.v1 import policy_pb2
from weft_protos.policy import service_owner
from weft_protos.usage import WHOLE, Entry

_OWN: Final = "weft."
_DEPTH_MAX: Final = 5
_FIELD: Final = re.compile(r'[Ff]ield "(\d+)"(?: with name "[^"]*")? on message "([^"]+)"')
_TYPE: Final = re.compile(r'(?:message|enum) "([^"]+)"')
_RPC: Final = re.compile(r'RPC "(\w+)" on service "(\w+)"')
_SERVICE: Final = re.compile(r'service "(\w+)" was deleted')
_MESSAGE: Final = re.compile(r"\bweft(?:\.\w+)+")
_METHOD: Final = re.compile(r"\bweft\.[\w.]+/\w+")


@dataclass(frozen=True, slots=True)
class Impact:
    """What changes, by method: paths in the request, and paths in what its answer or `read_mask` is about.

    An event stands where a method does: what happens to it is a call, and its consumers read it.
    """

    whole: frozenset[str]
    """Methods of which every call is concerned, and events of which every one is."""
    sent: Mapping[str, frozenset[str]]
    read: Mapping[str, frozenset[str]]

    @property
    def services(self) -> frozenset[str]:
        """The mesh services that are concerned, and the events."""
        names = (*self.whole, *self.sent, *self.read)
        return frozenset(service_owner(name) if "/" in name else name for name in names)

    def how(self, entry: Entry) -> str:
        """In which way an entry is a use of what changes; empty where it is none."""
        if entry.method in self.whole:
            does = "calls it" if "/" in entry.method else "consumes it"
            return does if entry.kind == "call" else ""
        if entry.kind == "sent" and entry.path in self.sent.get(entry.method, ()):
            return f"sends {entry.path}"
        if entry.kind != "read" or not self.read.get(entry.method):
            return ""
        if entry.path == WHOLE:
            return "reads the whole answer" if "/" in entry.method else "reads the whole event"
        hit = any(_overlap(entry.path, path) for path in self.read[entry.method])
        return f"asks for {entry.path}" if hit else ""


class Contracts:
    """The contracts as they were, by what their fields mean."""

    def __init__(self, descriptors: bytes) -> None:
        files = FileDescriptorSet.FromString(descriptors)
        pool = DescriptorPool()
        for file in files.file:
            pool.Add(file)
        own = [file for file in files.file if file.package.startswith(_OWN)]
        self._packages = {f"protos/{file.name}": file.package for file in own}
        self._methods: list[MethodDescriptor] = [
            method
            for file in own
            for service in file.service
            for method in pool.FindServiceByName(f"{file.package}.{service.name}").methods
        ]

        self._events: list[Descriptor] = [
            pool.FindMessageTypeByName(f"{file.package}.{message.name}")
            for file in own
            for message in file.message_type
            if message.options.HasExtension(policy_pb2.event)
        ]

    def impact(self, found: Mapping[str, Any]) -> Impact | None:
        """What a violation is about; None where that is no method and no field of one."""
        message, package = str(found["message"]), self._packages.get(str(found["file"]), "")
        whole = {name for name in _METHOD.findall(message) if name in map(_name, self._methods)}
        whole |= {event.full_name for event in self._events if event.full_name in _MESSAGE.findall(message)}
        if rpc := _RPC.search(message):
            whole |= {
                _name(each) for each in self._methods if (each.name, each.containing_service.name) == rpc.groups()
            }
        if service := _SERVICE.search(message):
            whole |= {_name(each) for each in self._methods if each.containing_service.name == service[1]}
        if whole:
            return Impact(frozenset(name for name in whole if name.startswith(package)), {}, {})
        number = 0
        if field := _FIELD.search(message):
            number, name = int(field[1]), field[2]
        elif kind := _TYPE.search(message):
            name = kind[1]
        else:
            return None
        made = self._of_type(_Type(package, name), number)
        return made if made.whole or made.sent or made.read else None

    def _of_type(self, kind: "_Type", number: int) -> Impact:
        """`number`: of one field of the message; 0: of every field that has the type, and of what is of it."""
        whole, sent, read = set(), dict[str, frozenset[str]](), dict[str, frozenset[str]]()
        for method in self._methods:
            if not number and (kind.names(method.input_type) or kind.names(method.output_type)):
                whole.add(_name(method))
                continue
            request = frozenset(_touched(method.input_type, kind, number))
            answer = frozenset(path for root in _roots(method) for path in _touched(root, kind, number))
            if request:
                sent[_name(method)] = request
            if answer:
                read[_name(method)] = answer
        for event in self._events:
            if not number and kind.names(event):
                whole.add(event.full_name)
            elif paths := frozenset(_touched(event, kind, number)):
                read[event.full_name] = paths
        return Impact(frozenset(whole), sent, read)


@dataclass(frozen=True, slots=True)
class _Type:
    """A message or an enum as `buf breaking` names it: by its last name, wherever in the file it is nested."""

    package: str
    name: str

    def names(self, descriptor: Descriptor | EnumDescriptor | None) -> bool:
        full = "" if descriptor is None else descriptor.full_name
        return full.startswith(f"{self.package}.") and full.endswith(f".{self.name}")


def _touched(root: Descriptor, kind: _Type, number: int) -> Iterator[str]:
    for path, field in _fields(root, "", ()):
        if number:
            touched = field.number == number and kind.names(field.containing_type)
        else:
            touched = kind.names(field.message_type or field.enum_type)
        if touched:
            yield path


def _fields(message: Descriptor, above: str, within: tuple[str, ...]) -> Iterator[tuple[str, FieldDescriptor]]:
    if len(within) == _DEPTH_MAX or message.full_name in within or message.full_name.startswith("google.protobuf."):
        return
    for field in message.fields:
        yield f"{above}{field.name}", field
        if field.message_type is not None and not field.message_type.GetOptions().map_entry:
            yield from _fields(field.message_type, f"{above}{field.name}.", (*within, message.full_name))


def _roots(method: MethodDescriptor) -> Iterator[Descriptor]:
    """What paths of a `read_mask` begin at: the answer, or an item of a list in it."""
    yield method.output_type
    for field in method.output_type.fields:
        if field.is_repeated and field.message_type is not None:
            yield field.message_type


def _name(method: MethodDescriptor) -> str:
    return f"{method.containing_service.full_name}/{method.name}"


def _overlap(one: str, other: str) -> bool:
    return f"{one}.".startswith(f"{other}.") or f"{other}.".startswith(f"{one}.")
