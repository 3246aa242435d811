"""What one kind of client is served at one moment: immutable, versioned by content, complete. Pure.

Invariant: a snapshot that exists names nothing it does not hold. `build` refuses anything else, so a client never
learns of a cluster without endpoints' resource or a listener without its routes. A snapshot that differs from another
in a few resources costs a look at those, not at all: versions of types are sums over their resources.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Self

from lb.errors import SnapshotRefusedError
from lb.xds import wire_format
from lb.xds.bundle import Reference
from lb.xds.types import short

_VERSION_LENGTH: Final = 16
_SUM_BITS: Final = 64


@dataclass(frozen=True, slots=True)
class Resource:
    """One resource, serialised once for all clients and both protocols."""

    type_url: str
    name: str
    version: str
    """Begin of the SHA-256 of its content."""
    content: bytes
    packed: bytes = field(init=False, repr=False, compare=False)
    """The field of a DiscoveryResponse that holds it."""
    named: bytes = field(init=False, repr=False, compare=False)
    """The field of a DeltaDiscoveryResponse that holds it."""

    def __post_init__(self) -> None:
        packed = wire_format.packed(self.type_url, self.content)
        object.__setattr__(self, "packed", packed)
        object.__setattr__(self, "named", wire_format.named(self.name, self.version, packed))

    @classmethod
    def of(cls, type_url: str, name: str, content: bytes) -> Self:
        """Make a resource of its serialised message."""
        return cls(type_url, name, hashlib.sha256(content).hexdigest()[:_VERSION_LENGTH], content)


@dataclass(frozen=True, slots=True)
class TypeSet:
    """All resources of one type."""

    version: str
    resources: Mapping[str, Resource]

    @classmethod
    def of(cls, resources: Mapping[str, Resource]) -> Self:
        """Make a set; its version follows from names and contents, whatever their order."""
        return cls(_text(sum(map(_number, resources.values()))), MappingProxyType(dict(resources)))

    def replaced(self, changed: Mapping[str, Resource], removed: Iterable[str]) -> "TypeSet":
        """The set with some resources added or changed, and others gone."""
        resources, total = dict(self.resources), int(self.version or "0", 16)
        for name in removed:
            total -= _number(resources.pop(name))
        for name, resource in changed.items():
            before = resources.get(name)
            total += _number(resource) - (0 if before is None else _number(before))
            resources[name] = resource
        return TypeSet(_text(total), MappingProxyType(resources))


EMPTY: Final = TypeSet(version="", resources=MappingProxyType({}))

#: Names of each type that came, changed or went.
Changes = Mapping[str, frozenset[str]]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All resources for one kind of client."""

    types: Mapping[str, TypeSet]
    withheld: frozenset[tuple[str, str]] = frozenset()
    """Type and name of what will be there later: a client that asks for it is told nothing, not that there is none."""

    def of(self, type_url: str) -> TypeSet:
        """The resources of a type; empty where there are none."""
        return self.types.get(type_url, EMPTY)

    def with_type(self, type_url: str, resources: TypeSet) -> "Snapshot":
        """The snapshot with another set of one type."""
        return Snapshot(MappingProxyType({**self.types, type_url: resources}), self.withheld)

    def changes_since(self, before: "Snapshot | None") -> Changes:
        """What another snapshot has that this one has not, or differently, and the other way round."""
        known = {} if before is None else before.types
        found: dict[str, frozenset[str]] = {}
        for type_url in self.types.keys() | known.keys():
            new, old = self.of(type_url), known.get(type_url, EMPTY)
            if new is not old and new.version != old.version:
                found[type_url] = frozenset(
                    name
                    for name in new.resources.keys() | old.resources.keys()
                    if _version(new, name) != _version(old, name)
                )
        return {type_url: names for type_url, names in found.items() if names}


def build(
    resources: Iterable[Resource], references: Iterable[Reference], *, withheld: frozenset[tuple[str, str]]
) -> Snapshot:
    """Make a snapshot. `withheld` (type, name) may be missing on purpose. Raises SnapshotRefusedError."""
    by_type: dict[str, dict[str, Resource]] = {}
    for resource in resources:
        by_type.setdefault(resource.type_url, {})[resource.name] = resource
    problems = [
        f"{reference.source} needs {short(reference.type_url)} {reference.name!r}"
        for reference in references
        if reference.name not in by_type.get(reference.type_url, {})
        and (reference.type_url, reference.name) not in withheld
    ]
    if problems:
        raise SnapshotRefusedError(sorted(problems))
    return Snapshot(MappingProxyType({type_url: TypeSet.of(found) for type_url, found in by_type.items()}), withheld)


def _number(resource: Resource) -> int:
    digest = hashlib.sha256(f"{resource.name}\0{resource.version}".encode()).digest()
    return int.from_bytes(digest[: _SUM_BITS // 8])


def _text(total: int) -> str:
    return f"{total % (1 << _SUM_BITS):0{_VERSION_LENGTH}x}"


def _version(of: TypeSet, name: str) -> str:
    resource = of.resources.get(name)
    return "" if resource is None else resource.version
