"""What lanes add to a bundle's resources: clusters of their own, and routes by the header that names the lane. Pure.

A lane's cluster has its instances first and the service's stable ones behind them, so that a call of the lane is
answered by a stable instance where the lane's cannot be reached, before they are there, and when they have gone. Both
kinds of client find it in the same way: a route with the lane's header before the one without. A service that has no
such lane has no such route. While there are no lanes nothing is changed.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lb.xds.bundle import Entry
from lb.xds.snapshot import Resource
from lb.xds.types import CDS, RDS
from weft_protos import lanes
from weft_protos.lanes import Lane
from weft_protos.xds import TYPE_URL_PREFIX, envoy, message_class


def clusters(present: Iterable[Lane]) -> dict[str, str]:
    """The service of each lane's cluster, by the cluster's name."""
    return {lanes.cluster(service, lane.name): service for lane in present for service in lane.services}


def resources(entry: Entry, content: bytes, present: Sequence[Lane]) -> list[Resource]:
    """What becomes of an entry of the bundle: the same, changed, or with others beside it."""
    plain = Resource.of(entry.type_url, entry.name, content)
    if not present or entry.type_url not in (CDS, RDS):
        return [plain]
    message: Any = message_class(entry.type_url.removeprefix(TYPE_URL_PREFIX)).FromString(content)
    if entry.type_url == CDS:
        service = lanes.service(entry.name)
        return [plain, *(_cluster(message, service, lane) for lane in present if service in lane.services)]
    for host in message.virtual_hosts:
        _route(host, present)
        if entry.audience == "envoy":
            _decide(host, present)
    return [Resource.of(RDS, entry.name, message.SerializeToString(deterministic=True))]


def _cluster(base: Any, service: str, lane: Lane) -> Resource:
    made = type(base)()
    made.CopyFrom(base)
    made.name = lanes.cluster(base.name, lane.name)
    made.eds_cluster_config.service_name = lanes.cluster(service, lane.name)
    return Resource.of(CDS, made.name, made.SerializeToString(deterministic=True))


def _decide(host: Any, present: Sequence[Lane]) -> None:
    """Turn on the filter that lets calls in, where any can enter. Where none can, none has to be kept out either."""
    open_ = [lane for lane in present if lane.is_open]
    if open_:
        config = envoy("extensions.filters.http.lua.v3.LuaPerRoute", filter_context=_context(open_))
        enabled = envoy("config.route.v3.FilterConfig", config=config)
        host.typed_per_filter_config[lanes.FILTER].Pack(enabled, deterministic=True)


def _route(host: Any, present: Sequence[Lane]) -> None:
    routes = [each for route in host.routes for each in (*_laned(route, present), route)]
    copies = [_copy(each) for each in routes]  # deleting the old ones empties them
    del host.routes[:]
    host.routes.extend(copies)


def _laned(route: Any, present: Sequence[Lane]) -> Iterable[Any]:
    """The routes that go before one: the same for calls of each lane that its service has."""
    name = route.route.cluster if route.HasField("route") else ""
    service = lanes.service(name)
    for lane in present:
        if service not in lane.services:
            continue
        made = _copy(route)
        made.route.cluster = lanes.cluster(name, lane.name)
        made.match.headers.add(name=lanes.HEADER).string_match.exact = lane.name
        if made.route.HasField("retry_policy"):
            made.route.retry_policy.retry_priority.CopyFrom(_elsewhere())
        _retarget(made.metadata.filter_metadata, service, lanes.cluster(service, lane.name))
        yield made


def _elsewhere() -> Any:
    """A retry goes to the instances behind: another attempt at a lane of one instance would fail like the first."""
    return envoy(
        "config.route.v3.RetryPolicy.RetryPriority",
        name="envoy.retry_priorities.previous_priorities",
        typed_config=envoy(
            "extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig", update_frequency=1
        ),
    )


def _retarget(metadata: Mapping[str, Any], service: str, target: str) -> None:
    for read in metadata.values():
        for key in lanes.TARGETS:
            if key in read.fields:
                read.fields[key].string_value = read.fields[key].string_value.replace(service, target, 1)


def _context(open_: Sequence[Lane]) -> dict[str, Any]:
    """What the gateway's script is told: the lanes, in the order in which it asks."""
    rows = [
        {
            "name": lane.name,
            "percent": lane.percent,
            "header": lane.header,
            "claim": lane.claim,
            "value": lane.value,
        }
        for lane in sorted(open_, key=lambda lane: lane.name)
    ]
    return {"lanes": rows}


def _copy(message: Any) -> Any:
    made = type(message)()
    made.CopyFrom(message)
    return made
