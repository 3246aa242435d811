"""Who calls, asks or feeds whom, as measured. Pure.

An edge is there when there are parts at both its ends, or when something was measured on it. Figures are counted by
whoever calls, so that a call that never arrived counts, too; only those of the cache and of databases have no times.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from svc.operations import names
from svc.operations.figures import Figures
from weft.operations.v1 import mesh_pb2

_Edge: Final = mesh_pb2.Edge
#: Results of a look-up that say that a node is away.
_CACHE_AWAY: Final = frozenset({"error"})


def build(processes: Sequence[mesh_pb2.Process], figures: Figures) -> list[mesh_pb2.Edge]:
    """All edges, by source, target and kind."""
    found = [
        *_outside(processes, figures),
        *_calls(figures),
        *_databases(figures),
        *_cache(figures),
        *_events(figures),
        *_control(processes),
    ]
    return sorted(found, key=lambda edge: (edge.source, edge.target, edge.kind))


def _outside(processes: Iterable[mesh_pb2.Process], figures: Figures) -> Iterator[mesh_pb2.Edge]:
    """From clients to the gateways, and from them to services."""
    total = sum_of(figures.one(name) for name in ("edge faults json", "edge faults grpc"))
    rate = figures.one("edge")
    if rate is not None or any(each.kind == mesh_pb2.KIND_GATEWAY for each in processes):
        edge = _Edge(source=names.CLIENTS, target=names.GATEWAY, kind=_Edge.KIND_CALLS)
        _measure(edge, rate=rate, errors=total)
        _times(edge, figures.one("clients p50"), figures.one("clients p99"), unit_s=0.001)
        if rate is not None:
            edge.refusal_rate = figures.one("edge refusals") or 0.0
        yield edge
    for owner in {sample.labels.get("owner", "") for sample in figures.all("edge")} - {""}:
        edge = _Edge(source=names.GATEWAY, target=owner, kind=_Edge.KIND_CALLS)
        faults = sum_of(figures.one(name, owner=owner) for name in ("edge faults json", "edge faults grpc"))
        _measure(edge, rate=figures.one("edge", owner=owner), errors=faults)
        edge.refusal_rate = figures.one("edge refusals", owner=owner) or 0.0
        _times(edge, figures.one("edge p50", owner=owner), figures.one("edge p99", owner=owner), unit_s=0.001)
        yield edge


def _calls(figures: Figures) -> Iterator[mesh_pb2.Edge]:
    for source, target in _pairs(figures, "peers", "service", "owner"):
        about = {"service": source, "owner": target}
        edge = _Edge(source=source, target=target, kind=_Edge.KIND_CALLS)
        _measure(edge, rate=figures.one("peers", **about), errors=figures.one("peer faults", **about))
        _times(edge, figures.one("peer p50", **about), figures.one("peer p99", **about), unit_s=1.0)
        yield edge


def _databases(figures: Figures) -> Iterator[mesh_pb2.Edge]:
    for source in {sample.labels.get("service", "") for sample in figures.all("transactions")} - {""}:
        edge = _Edge(source=source, target=names.DATABASE, kind=_Edge.KIND_DATABASE)
        rate, errors = (figures.one(name, service=source) for name in ("transactions", "transaction faults"))
        _measure(edge, rate=rate, errors=errors)
        yield edge


def _cache(figures: Figures) -> Iterator[mesh_pb2.Edge]:
    def away(labels: Mapping[str, str]) -> str:
        return labels.get("service", "") if labels.get("result") in _CACHE_AWAY else ""

    errors = figures.sums("cache", away)
    for source, rate in figures.sums("cache", lambda labels: labels.get("service", "")).items():
        edge = _Edge(source=source, target=names.CACHE, kind=_Edge.KIND_CACHE)
        _measure(edge, rate=rate, errors=errors.get(source))
        yield edge


def _events(figures: Figures) -> Iterator[mesh_pb2.Edge]:
    for source, rate in figures.sums("published", lambda labels: labels.get("service", "")).items():
        edge = _Edge(source=source, target=names.BROKER, kind=_Edge.KIND_PUBLISH)
        _measure(edge, rate=rate, errors=None)
        yield edge
    for target in {sample.labels.get("service", "") for sample in figures.all("delivered")} - {""}:
        edge = _Edge(source=names.BROKER, target=target, kind=_Edge.KIND_DELIVER)
        taken, failed = (figures.one(name, service=target) for name in ("delivered", "deliveries failed"))
        _measure(edge, rate=taken, errors=failed)
        yield edge


def _control(processes: Iterable[mesh_pb2.Process]) -> Iterator[mesh_pb2.Edge]:
    """What nobody counts, and everything hangs on."""
    there = {each.service for each in processes}
    for source, target, kind in (
        (names.CONTROL_PLANE, names.REGISTRY, _Edge.KIND_REGISTRY),
        (names.CONTROL_PLANE, names.GATEWAY, _Edge.KIND_CONFIGURATION),
        (names.EMAIL, names.MAIL, _Edge.KIND_MAIL),
    ):
        if {source, target} <= there:
            yield _Edge(source=source, target=target, kind=kind)


def _pairs(figures: Figures, question: str, first: str, second: str) -> set[tuple[str, str]]:
    pairs = {(sample.labels.get(first, ""), sample.labels.get(second, "")) for sample in figures.all(question)}
    return {pair for pair in pairs if all(pair)}


def sum_of(values: Iterable[float | None]) -> float | None:
    """The sum of what was measured; None where nothing was."""
    found = [value for value in values if value is not None]
    return sum(found) if found else None


def _measure(edge: mesh_pb2.Edge, *, rate: float | None, errors: float | None) -> None:
    if rate is not None:
        # A counter that is not there yet has not counted anything.
        edge.rate, edge.error_rate = rate, errors or 0.0


def _times(edge: mesh_pb2.Edge, p50: float | None, p99: float | None, *, unit_s: float) -> None:
    if p50 is not None:
        edge.p50_seconds = p50 * unit_s
    if p99 is not None:
        edge.p99_seconds = p99 * unit_s
