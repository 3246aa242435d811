"""The reference site: contracts in, pages out. Pure.

Called by `compiler.document`. Every text goes through templates that escape it; the pages need no script, and the same
contracts give the same bytes.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import jinja2
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from markupsafe import Markup, escape

from gateway.contract import OWN_PACKAGES, Contract, Event, Method, Service
from gateway.docs import calls, promises, refusals, sayings, words
from gateway.docs.samples import Samples
from gateway.docs.sayings import Saying
from gateway.policy import PolicySet, Rpc
from weft.options.v1.policy_pb2 import EventPolicy, MethodPolicy
from weft_protos import policy as shared
from weft_protos.locations import Location

INDEX: Final = "index.html"
EVENTS: Final = "events.html"
PROMISES: Final = "promises.html"

_SCALARS: Final[Mapping[int, str]] = {
    getattr(FieldDescriptor, name): name.removeprefix("TYPE_").lower()
    for name in dir(FieldDescriptor)
    if name.startswith("TYPE_")
}


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a policy."""

    name: str
    value: str
    comment: str
    location: Location | None


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a message."""

    name: str
    number: int
    kind: str
    target: str
    """Anchor of its type on the same page; empty where the page does not explain it."""
    comment: str
    rules: tuple[str, ...]
    location: Location


@dataclass(frozen=True, slots=True)
class Type:
    """A message, or an enum: then its fields are its values."""

    name: str
    comment: str
    rules: tuple[str, ...]
    fields: tuple[Field, ...]
    location: Location | None
    is_enum: bool = False


@dataclass(frozen=True, slots=True)
class MethodPage:
    """What is said of one method."""

    rpc: Rpc
    comment: str
    parts: tuple[Part, ...]
    refusals: tuple[refusals.Refusal, ...]
    examples: tuple[calls.Example, ...]
    request: Type
    response: Type


def render(contract: Contract, policies: PolicySet, files: FileDescriptorSet, *, sources: str) -> Mapping[str, str]:
    """Pages by file name. `sources`: what links to lines of the repository begin with."""
    reader = _Reader(policies, files)
    templates = _environment(sources)
    services = [(service, tuple(reader.methods(service))) for service in contract.services]
    pages = {
        INDEX: templates.get_template("index.html").render(
            services=[(service, reader.said(service.full_name), methods) for service, methods in services],
            events=[(event, reader.said(event.full_name)) for event in contract.events],
        )
    }
    for service, methods in services:
        inline, named = {page.request.name for page in methods}, [page.response.name for page in methods]
        pages[page_of(service.full_name)] = templates.get_template("service.html").render(
            service=service,
            said=reader.said(service.full_name),
            methods=methods,
            types=reader.types(inline, named),
        )
    pages[PROMISES] = templates.get_template("promises.html").render(
        failures=promises.FAILURES,
        services=[(service, [promises.of(page.rpc) for page in methods]) for service, methods in services],
    )
    inline = {event.full_name for event in contract.events}
    pages[EVENTS] = templates.get_template("events.html").render(
        events=[(event, reader.type(event.full_name), reader.event_parts(event)) for event in contract.events],
        types=[kind for kind in reader.types(inline, ()) if kind.name not in inline],
    )
    return pages


def page_of(service: str) -> str:
    """File name of a service's page."""
    return f"{service}.html"


def _environment(sources: str) -> jinja2.Environment:
    found = jinja2.Environment(
        loader=jinja2.PackageLoader("gateway.docs"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    found.globals.update(page_of=page_of, events_page=EVENTS, index_page=INDEX, promises_page=PROMISES)
    found.filters["prose"] = _prose
    found.filters["source"] = lambda location: f"{sources}{location.file}#L{location.line}"
    return found


def _prose(text: str) -> Markup:
    """Text with what stands between backticks set as code."""
    pieces = text.split("`")
    if len(pieces) % 2 == 0:  # one backtick too few: it is only a character
        return escape(text)
    said = (Markup("<code>{}</code>").format(each) if odd % 2 else escape(each) for odd, each in enumerate(pieces))
    return Markup("").join(said)


class _Reader:
    """What the pages need to know, by full name."""

    def __init__(self, policies: PolicySet, files: FileDescriptorSet) -> None:
        self._pool = DescriptorPool()
        for file in files.file:
            self._pool.Add(file)
        self._said = sayings.read(files)
        self._rpcs = {rpc.name: rpc for rpc in policies.rpcs}
        self._samples = Samples(self._pool)
        self._enums: dict[str, EnumDescriptor] = {}

    def said(self, name: str) -> Saying:
        return self._said[name]

    def methods(self, service: Service) -> Iterator[MethodPage]:
        for method in service.methods:
            rpc, saying = self._rpcs[method.full_name], self._said[f"{method.service}.{method.name}"]
            request = self._samples.request(method)
            file = str(self._pool.FindServiceByName(service.full_name).file.name)
            yield MethodPage(
                rpc=rpc,
                comment=saying.comment,
                parts=tuple(self._parts(service, method, rpc)),
                refusals=refusals.of(rpc, saying.comment),
                examples=() if request is None else calls.examples(rpc, request, file),
                request=self.type(method.request),
                response=self.type(self._response(method)),
            )

    def _response(self, method: Method) -> str:
        service = self._pool.FindServiceByName(method.service)
        return str(service.methods_by_name[method.name].output_type.full_name)

    def _parts(self, service: Service, method: Method, rpc: Rpc) -> Iterator[Part]:
        merged = shared.merge(service.options, method.options)
        for name, text in words.policy_parts(merged):
            value = str(rpc.policy.rate_limit) if name == "rate_limit" else text
            place: Any = rpc.places.get("access" if name in ("public", "scopes") else name)  # type: ignore[call-overload]
            yield Part(name, value, self._comment(f"{MethodPolicy.DESCRIPTOR.full_name}.{name}"), place)

    def event_parts(self, event: Event) -> tuple[Part, ...]:
        """What the contract says of an event's way."""
        found = []
        for field, _ in event.policy.ListFields():
            text = words.value_of(field, getattr(event.policy, field.name))
            comment = self._comment(f"{EventPolicy.DESCRIPTOR.full_name}.{field.name}")
            found.append(Part(field.name, text, comment, event.said_at(field.number)))
        return tuple(found)

    def _comment(self, name: str) -> str:
        saying = self._said.get(name)
        return "" if saying is None else saying.comment

    def type(self, name: str) -> Type:
        """A message as a page shows it."""
        message: Descriptor = self._pool.FindMessageTypeByName(name)
        saying = self._said[name]
        fields = tuple(self._field(field) for field in message.fields)
        return Type(name, saying.comment, words.message_rules(message), fields, saying.location)

    def types(self, inline: Iterable[str], named: Iterable[str]) -> tuple[Type, ...]:
        """Every type of the contracts' own that is named, or that a field of these or of those shown inline has."""
        found: dict[str, Type] = {}
        pending = [*named, *(kind for name in inline for kind in self._kinds(name))]
        while pending:
            name = pending.pop()
            if name in found or not name.startswith(OWN_PACKAGES):
                continue
            if name in self._enums:
                found[name] = self._enum(self._enums[name])
            else:
                found[name] = self.type(name)
                pending += self._kinds(name)
        return tuple(found[name] for name in sorted(found))

    def _kinds(self, message: str) -> Iterator[str]:
        for field in self._pool.FindMessageTypeByName(message).fields:
            value = _value_of(field)
            if value.enum_type is not None:
                self._enums[value.enum_type.full_name] = value.enum_type
            if _named(value):
                yield _named(value)

    def _enum(self, enum: EnumDescriptor) -> Type:
        saying = self._said[enum.full_name]
        values = []
        for value in enum.values:
            said = self._said[f"{enum.full_name}.{value.name}"]
            values.append(Field(value.name, value.number, "", "", said.comment, (), said.location))
        return Type(enum.full_name, saying.comment, (), tuple(values), saying.location, is_enum=True)

    def _field(self, field: FieldDescriptor) -> Field:
        saying = self._said[field.full_name]
        value, kind = _value_of(field), _kind(_value_of(field))
        target = _named(value)
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            kind = f"map of {_kind(field.message_type.fields_by_name['key'])} to {kind}"
        elif field.is_repeated:
            kind = f"list of {kind}"
        own = target.startswith(OWN_PACKAGES)
        rules = words.field_rules(field)
        return Field(field.name, field.number, kind, target if own else "", saying.comment, rules, saying.location)


def _value_of(field: FieldDescriptor) -> FieldDescriptor:
    """The field itself; of a map, that of its values."""
    kind = field.message_type
    return kind.fields_by_name["value"] if kind is not None and kind.GetOptions().map_entry else field


def _named(field: FieldDescriptor) -> str:
    kind = field.message_type or field.enum_type
    return "" if kind is None else str(kind.full_name)


def _kind(field: FieldDescriptor) -> str:
    """A type as people say it: `string`, `Money`, `Order.State`."""
    named = field.message_type or field.enum_type
    if named is None:
        return _SCALARS[field.type]
    return str(named.full_name).removeprefix(f"{named.file.package}.")
