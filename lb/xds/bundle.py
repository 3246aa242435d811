"""A compiled bundle: the resources that come from the contracts, before endpoints and keys are added. Pure.

The gateway compiler writes it, `python -m lb publish` checks it, every control plane checks it again. What passes here
parses, is what its hash says, is named once per audience, and names no resource that is not there.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from google.protobuf.message import DecodeError, Message

from lb.errors import BundleRefusedError
from lb.xds.types import CDS, ECDS, EDS, LDS, NAME_FIELD, RDS, Kind, short
from weft_protos.xds import TYPE_URL_PREFIX, message_class

_FORMAT: Final = 1
_AUDIENCES: Final[Mapping[str, tuple[Kind, ...]]] = {
    "envoy": (Kind.ENVOY,),
    "grpc": (Kind.GRPC,),
    "all": (Kind.ENVOY, Kind.GRPC),
}
#: Clusters that every Envoy of the mesh has from its start: routes may name them, and there is no resource of them.
STATIC_CLUSTERS: Final = frozenset({"xds", "otlp", "edge", "admin"})
_HCM: Final = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"


@dataclass(frozen=True, slots=True)
class Entry:
    """One resource of the bundle and who receives it."""

    audience: str
    type_url: str
    name: str
    digest: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Reference:
    """A resource (`type_url`, `name`) that another one, `source`, needs."""

    type_url: str
    name: str
    source: str


@dataclass(frozen=True, slots=True)
class Bundle:
    """Checked resources, and what they refer to."""

    digest: str
    entries: tuple[Entry, ...]
    references: Mapping[Kind, frozenset[Reference]]
    clusters: Mapping[str, str]
    """Discovery type of each cluster: it must never change under one name."""


def pieces_of(manifest: bytes) -> tuple[str, ...]:
    """SHA-256 of every piece that a manifest names. Raises BundleRefusedError."""
    return tuple(row["sha256"] for row in _rows(manifest))


def parse(manifest: bytes, pieces: Mapping[str, bytes]) -> Bundle:
    """Check a bundle completely. Raises BundleRefusedError with every problem found."""
    problems: list[str] = []
    entries: list[Entry] = []
    messages: list[Message] = []
    for row in _rows(manifest):
        entry = Entry(row["audience"], row["type_url"], row["name"], row["sha256"], pieces.get(row["sha256"], b""))
        try:
            messages.append(_message(entry, present=entry.digest in pieces))
            entries.append(entry)
        except ValueError as error:
            problems.append(f"{short(entry.type_url)} {entry.name!r}: {error}")
    problems += _duplicates(entries)
    if problems:
        raise BundleRefusedError(problems)
    references = {
        kind: frozenset(
            reference
            for entry, message in zip(entries, messages, strict=True)
            if kind in _AUDIENCES[entry.audience]
            for reference in _references(entry, message)
            if not (kind is Kind.ENVOY and reference.type_url == CDS and reference.name in STATIC_CLUSTERS)
        )
        for kind in Kind
    }
    problems = list(_missing(entries, references))
    if problems:
        raise BundleRefusedError(problems)
    clusters = {
        entry.name: _cluster_type(message)
        for entry, message in zip(entries, messages, strict=True)
        if entry.type_url == CDS
    }
    return Bundle(hashlib.sha256(manifest).hexdigest(), tuple(entries), references, clusters)


def audience(entry: Entry) -> tuple[Kind, ...]:
    """The kinds of client that receive an entry."""
    return _AUDIENCES[entry.audience]


def _rows(manifest: bytes) -> list[dict[str, str]]:
    try:
        document = json.loads(manifest)
    except (ValueError, RecursionError) as error:
        raise BundleRefusedError([f"the manifest is not JSON: {error.__class__.__name__}"]) from error
    if not isinstance(document, dict) or document.get("format") != _FORMAT:
        raise BundleRefusedError([f"the manifest is not of format {_FORMAT}"])
    rows = document.get("resources")
    if not isinstance(rows, list) or not rows:
        raise BundleRefusedError(["the manifest lists no resources"])
    for index, row in enumerate(rows):
        fields = ("audience", "type_url", "name", "sha256")
        if not isinstance(row, dict) or not all(isinstance(row.get(field), str) and row[field] for field in fields):
            raise BundleRefusedError([f"resources[{index}] does not have {', '.join(fields)}"])
    return rows


def _message(entry: Entry, *, present: bool) -> Message:
    """The entry's message. Raises ValueError saying what is wrong with it."""
    if entry.audience not in _AUDIENCES:
        raise ValueError(f"audience {entry.audience!r} is not one of {', '.join(_AUDIENCES)}")
    if entry.type_url == EDS:
        raise ValueError("endpoints come from the registry, not from a bundle")
    if entry.type_url not in NAME_FIELD:
        raise ValueError(f"{entry.type_url} is not a type this control plane serves")
    if not present:
        raise ValueError(f"piece {entry.digest} is missing")
    if hashlib.sha256(entry.content).hexdigest() != entry.digest:
        raise ValueError(f"piece {entry.digest} is not what its name says")
    message = message_class(entry.type_url.removeprefix(TYPE_URL_PREFIX))()
    try:
        message.ParseFromString(entry.content)
    except DecodeError as error:
        raise ValueError("it does not parse") from error
    if getattr(message, NAME_FIELD[entry.type_url]) != entry.name:
        raise ValueError("it carries another name inside")
    return message


def _duplicates(entries: Iterable[Entry]) -> list[str]:
    seen: set[tuple[Kind, str, str]] = set()
    problems: list[str] = []
    for entry in entries:
        for kind in _AUDIENCES[entry.audience]:
            identity = (kind, entry.type_url, entry.name)
            if identity in seen:
                problems.append(f"{short(entry.type_url)} {entry.name!r} is there twice for {kind.value}")
            seen.add(identity)
    return problems


def _missing(entries: Sequence[Entry], references: Mapping[Kind, frozenset[Reference]]) -> Iterable[str]:
    for kind, wanted in references.items():
        there = {(entry.type_url, entry.name) for entry in entries if kind in _AUDIENCES[entry.audience]}
        for reference in sorted(wanted, key=lambda each: (each.type_url, each.name)):
            # Endpoints are added by the control plane; everything else has to be in the bundle.
            if reference.type_url != EDS and (reference.type_url, reference.name) not in there:
                yield f"{reference.source} needs {short(reference.type_url)} {reference.name!r} ({kind.value})"


def _references(entry: Entry, message: Any) -> Iterable[Reference]:
    if entry.type_url == CDS and _cluster_type(message) == "EDS":
        name = message.eds_cluster_config.service_name or message.name
        yield Reference(EDS, name, f"cluster {entry.name!r}")
    if entry.type_url == RDS:
        yield from _routed(message, f"routes {entry.name!r}")
    if entry.type_url == LDS:
        for manager in _managers(message):
            if manager.HasField("rds"):
                yield Reference(RDS, manager.rds.route_config_name, f"listener {entry.name!r}")
            yield from _routed(manager.route_config, f"listener {entry.name!r}")
            for http_filter in manager.http_filters:
                if http_filter.HasField("config_discovery"):
                    yield Reference(ECDS, http_filter.name, f"listener {entry.name!r}")


def _routed(routes: Any, source: str) -> Iterable[Reference]:
    """Every cluster that routes send to, but for routes that say what to answer because theirs is not there."""
    found: set[str] = set()
    mirrors = [*routes.request_mirror_policies]
    for host in routes.virtual_hosts:
        mirrors += host.request_mirror_policies
        for action in (route.route for route in host.routes if route.HasField("route")):
            mirrors += action.request_mirror_policies
            if not action.cluster_not_found_response_code:
                found |= {action.cluster, *(each.name for each in action.weighted_clusters.clusters)}
    found |= {each.cluster for each in mirrors}
    return (Reference(CDS, name, source) for name in sorted(found - {""}))


def _managers(listener: Any) -> Iterable[Any]:
    """Every HTTP connection manager of a listener, gRPC's or Envoy's."""
    packed = [listener.api_listener.api_listener]
    chains = [*listener.filter_chains]
    if listener.HasField("default_filter_chain"):
        chains.append(listener.default_filter_chain)
    packed += [network_filter.typed_config for chain in chains for network_filter in chain.filters]
    for each in packed:
        if each.type_url == TYPE_URL_PREFIX + _HCM:
            manager = message_class(_HCM)()
            manager.ParseFromString(each.value)
            yield manager


def _cluster_type(cluster: Any) -> str:
    if cluster.HasField("cluster_type"):
        return str(cluster.cluster_type.name)
    field = cluster.DESCRIPTOR.fields_by_name["type"]
    return str(field.enum_type.values_by_number[cluster.type].name)
