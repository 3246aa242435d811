"""File and line of what the contracts say: of a method, of a part of its policy, of a field of a message.

The gateway compiler reads them from the descriptor set that it compiles; services ask here for those of the linked
contracts. Generated Python code has no source info, so they are read from `contracts.binpb` beside the generated
packages, when the first refusal asks. Where that file is missing nothing is known, and nothing fails.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Final, Literal

from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    MethodDescriptorProto,
    MethodOptions,
    ServiceDescriptorProto,
    ServiceOptions,
)
from google.protobuf.message import DecodeError

from weft.options.v1 import policy_pb2
from weft.options.v1.policy_pb2 import MethodPolicy

#: Where the contracts' files lie in the repository, so that a reported line can be opened.
SOURCE_ROOT: Final = "protos"

Part = Literal[
    "access",
    "rate_limit",
    "timeout",
    "retry",
    "cache",
    "max_request_bytes",
    "criticality",
    "errors",
    "hedging",
    "slo",
    "consistency",
    "invalidates",
]
#: The parts of a policy, each with the fields that say it.
PARTS: Final[Mapping[Part, tuple[int, ...]]] = {
    "access": (MethodPolicy.PUBLIC_FIELD_NUMBER, MethodPolicy.SCOPES_FIELD_NUMBER),
    "rate_limit": (MethodPolicy.RATE_LIMIT_FIELD_NUMBER,),
    "timeout": (MethodPolicy.TIMEOUT_FIELD_NUMBER,),
    "retry": (MethodPolicy.RETRY_FIELD_NUMBER,),
    "cache": (MethodPolicy.CACHE_FIELD_NUMBER,),
    "max_request_bytes": (MethodPolicy.MAX_REQUEST_BYTES_FIELD_NUMBER,),
    "criticality": (MethodPolicy.CRITICALITY_FIELD_NUMBER,),
    "errors": (MethodPolicy.ERRORS_FIELD_NUMBER,),
    "hedging": (MethodPolicy.HEDGING_FIELD_NUMBER,),
    "slo": (MethodPolicy.SLO_FIELD_NUMBER,),
    "consistency": (MethodPolicy.CONSISTENCY_FIELD_NUMBER,),
    "invalidates": (MethodPolicy.INVALIDATES_FIELD_NUMBER,),
}

_POLICY: Final[int] = policy_pb2.policy.number
_DEFAULTS: Final[int] = policy_pb2.defaults.number


@dataclass(frozen=True, slots=True, order=True)
class Location:
    """A line of a .proto file, counted from 1, as an editor opens it."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"

    @property
    def contract(self) -> str:
        """The line as refusals name it, by the name under which contracts import the file."""
        return f"{self.file.removeprefix(f'{SOURCE_ROOT}/')}:{self.line}"


@dataclass(frozen=True, slots=True)
class Place:
    """A node of one file's syntax tree, as descriptor.proto numbers it."""

    file: str
    lines: Mapping[tuple[int, ...], int]
    path: tuple[int, ...] = ()

    @classmethod
    def of(cls, file: FileDescriptorProto) -> "Place":
        """The root of a file that has source info."""
        lines: dict[tuple[int, ...], int] = {}
        for location in file.source_code_info.location:
            lines.setdefault(tuple(location.path), location.span[0] + 1)
        return cls(f"{SOURCE_ROOT}/{file.name}", lines)

    def below(self, *steps: int) -> "Place":
        """The node that `steps` lead to, whether the file has it or not."""
        return Place(self.file, self.lines, self.path + steps)

    def has(self, *steps: int) -> bool:
        """True where the file says something at or below that node."""
        path = self.path + steps
        return any(known[: len(path)] == path for known in self.lines)

    def at(self, *steps: int) -> Location:
        """The node's line: its own, else the first line below it, else that of the nearest node above."""
        path = self.path + steps
        while path:
            inside = (line for known, line in self.lines.items() if known[: len(path)] == path)
            line = self.lines.get(path) or min(inside, default=0)
            if line:
                return Location(self.file, line)
            path = path[:-1]
        return Location(self.file, 1)


def part_of(part: Part, method: tuple[Place, MethodOptions], *, service: tuple[Place, ServiceOptions]) -> Location:
    """Where a part of a method's policy is said: on the method, in its service's defaults, else the method's line."""
    (own_place, own), (above_place, above) = method, service
    if _says(own.Extensions[policy_pb2.policy], part):
        place = own_place.below(MethodDescriptorProto.OPTIONS_FIELD_NUMBER, _POLICY)
    elif _says(above.Extensions[policy_pb2.defaults], part):
        place = above_place.below(ServiceDescriptorProto.OPTIONS_FIELD_NUMBER, _DEFAULTS)
    else:
        return own_place.at()
    # A compiler without deep source info knows the option's line, but not those of the parts inside.
    return min((place.at(number) for number in PARTS[part] if place.has(number)), default=place.at())


def _says(policy: MethodPolicy, part: Part) -> bool:
    if part == "access":
        return policy.public or bool(policy.scopes)
    if part == "criticality":
        return policy.criticality != policy_pb2.CRITICALITY_UNSPECIFIED
    if part == "errors":
        return bool(policy.errors)
    if part == "invalidates":
        return bool(policy.invalidates)
    return policy.HasField(part)


def contracts() -> Path:
    """The descriptor set of the linked contracts, with source info; it need not exist."""
    return Path(str(resources.files("weft"))).parent / "contracts.binpb"


@cache
def method(descriptor: MethodDescriptor, part: Part | None = None) -> str:
    """`file:line` of a linked method, or of a part of its policy; empty where the lines are not known."""
    service = descriptor.containing_service
    root = _root(service.file.name)
    if root is None:
        return ""
    above = root.below(FileDescriptorProto.SERVICE_FIELD_NUMBER, service.index)
    place = above.below(ServiceDescriptorProto.METHOD_FIELD_NUMBER, descriptor.index)
    if part is None:
        return place.at().contract
    return part_of(part, (place, descriptor.GetOptions()), service=(above, service.GetOptions())).contract


@cache
def field(descriptor: FieldDescriptor) -> str:
    """`file:line` of a field of a linked message; empty where the lines are not known."""
    holder = descriptor.containing_type
    root = None if holder is None else _root(holder.file.name)
    if holder is None or root is None:
        return ""
    return root.below(*_path(holder), DescriptorProto.FIELD_FIELD_NUMBER, descriptor.index).at().contract


def _path(message: Descriptor) -> tuple[int, ...]:
    above = message.containing_type
    if above is None:
        return FileDescriptorProto.MESSAGE_TYPE_FIELD_NUMBER, list(message.file.message_types_by_name).index(
            message.name
        )
    return *_path(above), DescriptorProto.NESTED_TYPE_FIELD_NUMBER, list(above.nested_types_by_name).index(message.name)


@cache
def _root(name: str) -> Place | None:
    file = _files().get(name)
    return None if file is None else Place.of(file)


@cache
def _files() -> Mapping[str, FileDescriptorProto]:
    try:
        found = FileDescriptorSet.FromString(contracts().read_bytes())
    except (OSError, DecodeError):
        # A refusal without a line is still a refusal.
        return {}
    return {file.name: file for file in found.file if file.HasField("source_code_info")}
