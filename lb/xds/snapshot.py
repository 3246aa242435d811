"""What one kind of client is served at one moment: immutable, versioned by content, complete. Pure.

Invariant: a snapshot that exists names nothing it does not hold. `build` refuses anything else, so a client never
learns of a cluster without endpoints' resource or a listener without its routes.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Self

from lb.errors import SnapshotRefusedError
from lb.xds.bundle import Reference
from lb.xds.types import short

_VERSION_LENGTH: Final = 16


@dataclass(frozen=True, slots=True)
class Resource:
    """One resource, serialised once for all clients."""

    type_url: str
    name: str
    version: str
    """Begin of the SHA-256 of its content."""
    content: bytes

    @classmethod
    def of(cls, type_url: str, name: str, content: bytes) -> Self:
        """Make a resource of its serialised message."""
        return cls(type_url, name, hashlib.sha256(content).hexdigest()[:_VERSION_LENGTH], content)


@dataclass(frozen=True, slots=True)
class TypeSet:
    """All resources of one type."""

    version: str
    resources: Mapping[str, Resource]


_EMPTY: Final = TypeSet(version="", resources=MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All resources for one kind of client."""

    types: Mapping[str, TypeSet]

    def of(self, type_url: str) -> TypeSet:
        """The resources of a type; empty where there are none."""
        return self.types.get(type_url, _EMPTY)

    def replaced(self, type_url: str, resources: Mapping[str, Resource]) -> "Snapshot":
        """The same, with other content for some resources of a type that it has."""
        if not resources:
            return self
        merged = {**self.of(type_url).resources, **resources}
        changed = TypeSet(_version(merged), MappingProxyType(merged))
        return Snapshot(MappingProxyType({**self.types, type_url: changed}))


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
    return Snapshot(
        MappingProxyType({type_url: TypeSet(_version(of), MappingProxyType(of)) for type_url, of in by_type.items()})
    )


def _version(resources: Mapping[str, Resource]) -> str:
    digest = hashlib.sha256()
    for name in sorted(resources):
        digest.update(f"{name}\0{resources[name].version}\0".encode())
    return digest.hexdigest()[:_VERSION_LENGTH]
