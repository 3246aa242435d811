"""First pass: a descriptor set becomes a frozen Contract whose every part knows its file and line.

Called by the compiler with the bytes of protos/gen/contracts.binpb, which `buf build` writes with source info. A set
without it, such as protos/baseline.binpb, says the same; its lines are then all 1. This pass takes over what the files
say and judges nothing: options stay the protobuf messages that were written.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from google.api import annotations_pb2, http_pb2
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    MethodDescriptorProto,
    MethodOptions,
    ServiceDescriptorProto,
    ServiceOptions,
)
from google.protobuf.message import DecodeError

from gateway.errors import ContractUnreadableError
from weft.options.v1 import policy_pb2
from weft.options.v1.policy_pb2 import EdgePolicy, EventPolicy, Sensitivity
from weft_protos.locations import Location, Place
from weft_protos.policy import service_owner

#: Files of these packages are the mesh's own contracts; all others are only imported by them.
OWN_PACKAGES: Final = "weft."

EVENT: Final[int] = policy_pb2.event.number
SENSITIVE: Final[int] = policy_pb2.sensitive.number
HTTP: Final[int] = annotations_pb2.http.number
EDGE: Final[int] = policy_pb2.edge.number

_VARIABLE: Final = re.compile(r"\{([^}=]+)")
_VERBS: Final = ("get", "put", "post", "delete", "patch")


@dataclass(frozen=True, slots=True)
class Binding:
    """One google.api.http binding of a method."""

    verb: str
    template: str
    body: str
    location: Location

    @property
    def variables(self) -> tuple[str, ...]:
        """Paths of the fields that stand in the template: `user.name`."""
        return tuple(_VARIABLE.findall(self.template))


@dataclass(frozen=True, slots=True)
class Method:
    """One RPC as its file says it."""

    service: str
    """Full name of the service: `weft.orders.v1.OrderService`."""
    name: str
    bindings: tuple[Binding, ...]
    safe: bool
    """idempotency_level = NO_SIDE_EFFECTS."""
    idempotent: bool
    """idempotency_level = IDEMPOTENT or NO_SIDE_EFFECTS."""
    client_streaming: bool
    server_streaming: bool
    request: str
    """Full name of the request message."""
    request_fields: frozenset[str]
    response: str
    """Full name of the response message."""
    options: MethodOptions
    place: Place

    @property
    def full_name(self) -> str:
        """`weft.orders.v1.OrderService/PlaceOrder`."""
        return f"{self.service}/{self.name}"

    @property
    def streaming(self) -> bool:
        """True where either side sends more than one message."""
        return self.client_streaming or self.server_streaming


@dataclass(frozen=True, slots=True)
class Service:
    """One service of the contracts."""

    full_name: str
    owner: str
    """The mesh service that serves it: `orders`."""
    methods: tuple[Method, ...]
    options: ServiceOptions
    place: Place


@dataclass(frozen=True, slots=True)
class Event:
    """One event type."""

    full_name: str
    owner: str
    fields: Mapping[str, bool]
    """Field names; True where the field is a single string."""
    policy: EventPolicy
    place: Place

    def said_at(self, field: int) -> Location:
        """The line of one field of its EventPolicy; that of the option where the field is not said."""
        option = self.place.below(DescriptorProto.OPTIONS_FIELD_NUMBER, EVENT)
        return option.at(field) if option.has(field) else option.at()


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a message."""

    message: str
    """Full name of the message that has it."""
    name: str
    type: FieldDescriptorProto.Type.ValueType
    holds: str
    """Full name of the message type that it holds; empty where it holds none. A map holds its entries."""
    repeated: bool
    is_map: bool
    sensitive: Sensitivity.ValueType
    place: Place

    @property
    def full_name(self) -> str:
        """`weft.identity.v1.User.email`."""
        return f"{self.message}.{self.name}"

    @property
    def said_at(self) -> Location:
        """The line of its mark; that of the field where it has none."""
        return self.place.at(FieldDescriptorProto.OPTIONS_FIELD_NUMBER, SENSITIVE)


@dataclass(frozen=True, slots=True)
class Edge:
    """What one file says about the edge."""

    policy: EdgePolicy
    place: Place
    """The option itself."""


@dataclass(frozen=True, slots=True)
class Contract:
    """Everything the contracts say."""

    services: tuple[Service, ...]
    events: tuple[Event, ...]
    fields: tuple[Field, ...]
    """The fields of all messages of the mesh's own."""
    edges: tuple[Edge, ...]
    descriptors: bytes
    """The descriptor set without source info, as the JSON transcoder reads it."""


def load(content: bytes) -> Contract:
    """Read a serialized FileDescriptorSet. Raises ContractUnreadableError."""
    try:
        files = FileDescriptorSet.FromString(content)
    except DecodeError as error:
        raise ContractUnreadableError("the descriptor set is not a serialized FileDescriptorSet") from error
    known = {file.name for file in files.file}
    for file in files.file:
        missing = next((name for name in file.dependency if name not in known), None)
        if missing is not None:
            raise ContractUnreadableError(f"the descriptor set lacks {missing}, which {file.name} imports")
    messages = dict(pair for file in files.file for pair in _messages(file))
    own = [file for file in files.file if file.package.startswith(OWN_PACKAGES)]
    services = tuple(service for file in own for service in _services(file, messages))
    events = tuple(event for file in own for event in _events(file))
    fields = tuple(field for file in own for field in _fields(file))
    edges = tuple(edge for file in own for edge in _edges(file))
    for file in files.file:
        file.ClearField("source_code_info")
    return Contract(services, events, fields, edges, files.SerializeToString(deterministic=True))


def _messages(file: FileDescriptorProto) -> Iterator[tuple[str, DescriptorProto]]:
    pending = [(f"{file.package}.{message.name}", message) for message in file.message_type]
    while pending:
        name, message = pending.pop()
        yield name, message
        pending.extend((f"{name}.{nested.name}", nested) for nested in message.nested_type)


def _services(file: FileDescriptorProto, messages: Mapping[str, DescriptorProto]) -> Iterator[Service]:
    place = Place.of(file)
    for index, service in enumerate(file.service):
        here = place.below(FileDescriptorProto.SERVICE_FIELD_NUMBER, index)
        name = f"{file.package}.{service.name}"
        methods = tuple(
            _method(name, method, messages, here.below(ServiceDescriptorProto.METHOD_FIELD_NUMBER, number))
            for number, method in enumerate(service.method)
        )
        yield Service(name, service_owner(name), methods, service.options, here)


def _method(
    service: str, method: MethodDescriptorProto, messages: Mapping[str, DescriptorProto], place: Place
) -> Method:
    request = messages[method.input_type.lstrip(".")]
    level = method.options.idempotency_level
    return Method(
        service=service,
        name=method.name,
        bindings=tuple(_bindings(method, place)),
        safe=level == MethodOptions.NO_SIDE_EFFECTS,
        idempotent=level != MethodOptions.IDEMPOTENCY_UNKNOWN,
        client_streaming=method.client_streaming,
        server_streaming=method.server_streaming,
        request=method.input_type.lstrip("."),
        request_fields=frozenset(field.name for field in request.field),
        response=method.output_type.lstrip("."),
        options=method.options,
        place=place,
    )


def _bindings(method: MethodDescriptorProto, place: Place) -> Iterator[Binding]:
    if not method.options.HasExtension(annotations_pb2.http):
        return
    first: http_pb2.HttpRule = method.options.Extensions[annotations_pb2.http]
    location = place.at(MethodDescriptorProto.OPTIONS_FIELD_NUMBER, HTTP)
    for rule in (first, *first.additional_bindings):
        pattern = rule.WhichOneof("pattern")
        if pattern == "custom":
            yield Binding(rule.custom.kind, rule.custom.path, rule.body, location)
        elif pattern in _VERBS:
            yield Binding(pattern.upper(), getattr(rule, pattern), rule.body, location)


def _events(file: FileDescriptorProto) -> Iterator[Event]:
    place = Place.of(file)
    for index, message in enumerate(file.message_type):
        if not message.options.HasExtension(policy_pb2.event):
            continue
        fields = {
            field.name: field.type == FieldDescriptorProto.TYPE_STRING
            and field.label != FieldDescriptorProto.LABEL_REPEATED
            for field in message.field
        }
        name = f"{file.package}.{message.name}"
        here = place.below(FileDescriptorProto.MESSAGE_TYPE_FIELD_NUMBER, index)
        yield Event(name, service_owner(name), fields, message.options.Extensions[policy_pb2.event], here)


def _fields(file: FileDescriptorProto) -> Iterator[Field]:
    root = Place.of(file)
    pending = [
        (f"{file.package}.{message.name}", message, root.below(FileDescriptorProto.MESSAGE_TYPE_FIELD_NUMBER, index))
        for index, message in enumerate(file.message_type)
    ]
    while pending:
        name, message, place = pending.pop()
        entries = {f".{name}.{nested.name}" for nested in message.nested_type if nested.options.map_entry}
        for index, field in enumerate(message.field):
            yield Field(
                message=name,
                name=field.name,
                type=field.type,
                holds=field.type_name.lstrip(".") if field.type == FieldDescriptorProto.TYPE_MESSAGE else "",
                repeated=field.label == FieldDescriptorProto.LABEL_REPEATED,
                is_map=field.type_name in entries,
                sensitive=field.options.Extensions[policy_pb2.sensitive],
                place=place.below(DescriptorProto.FIELD_FIELD_NUMBER, index),
            )
        pending.extend(
            (f"{name}.{nested.name}", nested, place.below(DescriptorProto.NESTED_TYPE_FIELD_NUMBER, index))
            for index, nested in enumerate(message.nested_type)
        )


def _edges(file: FileDescriptorProto) -> Iterator[Edge]:
    if file.options.HasExtension(policy_pb2.edge):
        place = Place.of(file).below(FileDescriptorProto.OPTIONS_FIELD_NUMBER, EDGE)
        yield Edge(file.options.Extensions[policy_pb2.edge], place)
