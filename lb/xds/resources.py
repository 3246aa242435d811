"""From bundle, endpoints and token keys to the resources of each kind of client. Pure.

The bundle brings everything that follows from the contracts. This module adds what only a running mesh knows: the
endpoints of every cluster, and the public keys inside the gateway's token filter. Without keys that one resource is
withheld; Envoy keeps its listener waiting for it rather than let anyone in unchecked. Endpoints are the same resources
for every kind of client, so they are made once, and only those of services that changed.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

from lb.endpoint import Endpoint
from lb.xds import laned
from lb.xds.bundle import Bundle, audience
from lb.xds.snapshot import Resource, Snapshot, build
from lb.xds.types import ECDS, EDS, Kind
from weft_protos.lanes import Lane
from weft_protos.manifests import GATEWAYS_MAX
from weft_protos.xds import envoy, message_class

#: The filter whose configuration is completed here. Also its name in the chain and of its per-route configuration.
JWT_FILTER: Final = "envoy.filters.http.jwt_authn"
#: The gateways' own cluster: there even while nobody is connected, because a gateway waits for it at its start.
EDGE: Final = "edge"

_JWT_AUTHENTICATION: Final = "envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication"
#: gRPC refuses a locality without a name and ignores one without a weight.
_LOCALITY: Final = {"region": "local"}
#: Members of a JWK that only a private or symmetric key has (RFC 7518, sections 6.2.2, 6.3.2 and 6.4.1).
_PRIVATE_MEMBERS: Final = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})


def snapshots(
    bundle: Bundle, assigned: Iterable[Resource], keys: str | None, lanes: Sequence[Lane] = ()
) -> dict[Kind, Snapshot]:
    """Everything each kind of client is served. `keys`: a checked JWK set. Raises SnapshotRefusedError."""
    withheld = frozenset({(ECDS, JWT_FILTER)}) if keys is None else frozenset()
    shared = tuple(assigned)
    of_kind: dict[Kind, list[Resource]] = {kind: list(shared) for kind in Kind}
    for entry in bundle.entries:
        if (entry.type_url, entry.name) in withheld:
            continue
        content = entry.content
        if keys is not None and (entry.type_url, entry.name) == (ECDS, JWT_FILTER):
            content = with_keys(content, keys)
        made = laned.resources(entry, content, lanes)
        for kind in audience(entry):
            of_kind[kind] += made
    return {kind: build(of_kind[kind], bundle.references[kind], withheld=withheld) for kind in Kind}


def assigned_clusters(bundle: Bundle) -> frozenset[str]:
    """Names under which endpoints must be there, even if there are none of them."""
    return frozenset({each.name for kind in Kind for each in bundle.references[kind] if each.type_url == EDS} | {EDGE})


def by_cluster(endpoints: Iterable[Endpoint]) -> dict[str, list[Endpoint]]:
    """The endpoints of each service, and of each lane of one, that has any."""
    found: dict[str, list[Endpoint]] = {}
    for endpoint in endpoints:
        # Ten thousand of these are gone through at each change of one: no call, and no list made in vain.
        if endpoint.cluster in found:
            found[endpoint.cluster].append(endpoint)
        else:
            found[endpoint.cluster] = [endpoint]
    return found


def assignments(
    members: Mapping[str, Sequence[Endpoint]], clusters: Iterable[str], laned: Mapping[str, str] = MappingProxyType({})
) -> list[Resource]:
    """One ClusterLoadAssignment for each of the clusters. `laned`: the service behind each cluster of a lane.

    Stable instances stand behind those of a lane, and in their place where there are none.
    """
    made = []
    for name in sorted(clusters):
        own, behind = members.get(name, ()), members.get(laned.get(name, ""), ())
        if name == EDGE and len(own) > GATEWAYS_MAX:
            # By what is counted here limits are divided; shares of nothing would refuse every call at every gateway.
            own = sorted(own, key=lambda gateway: gateway.instance)[:GATEWAYS_MAX]
        made.append(_assignment(name, own or behind, behind=behind if own else ()))
    return made


def seen_from(zone: str, members: Mapping[str, Sequence[Endpoint]]) -> dict[str, Resource]:
    """What clients of one zone are served otherwise than all others: instances of their own zone first, by cluster.

    Instances of other zones are used for those that fail. Where the zone has too few to bear its own callers, or all
    there are, nothing is changed; nor is the gateways' own cluster, which is counted and not called.
    """
    changed: dict[str, Resource] = {}
    for service, found in members.items():
        if found[0].lane:
            continue  # a few instances for a while: all of them, wherever they are
        own, zones = sum(member.zone == zone for member in found), len({member.zone for member in found})
        if service != EDGE and 0 < own < len(found) and _bears_its_callers(own, zones, len(found)):
            changed[service] = _assignment(service, found, near=zone)
    return changed


def with_keys(content: bytes, keys: str) -> bytes:
    """Put a JWK set into every provider of a serialised TypedExtensionConfig holding JwtAuthentication."""
    extension: Any = message_class("envoy.config.core.v3.TypedExtensionConfig").FromString(content)
    filter_config: Any = message_class(_JWT_AUTHENTICATION).FromString(extension.typed_config.value)
    for name in filter_config.providers:
        filter_config.providers[name].local_jwks.inline_string = keys
    extension.typed_config.Pack(filter_config, deterministic=True)
    return bytes(extension.SerializeToString(deterministic=True))


def checked_keys(document: bytes) -> str:
    """A JWK set (RFC 7517) of public keys, as text. Raises ValueError; a private key is never passed on."""
    try:
        text = document.decode()
        parsed = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON: {error.__class__.__name__}") from error
    keys = parsed.get("keys") if isinstance(parsed, dict) else None
    if not isinstance(keys, list) or not keys:
        raise ValueError("no `keys`")
    for key in keys:
        if not isinstance(key, dict) or not isinstance(key.get("kty"), str) or not isinstance(key.get("kid"), str):
            raise ValueError("a key without `kty` or `kid`")
        if _PRIVATE_MEMBERS & key.keys():
            raise ValueError(f"key {key['kid']!r} has private members")
    return text


def _assignment(
    cluster: str, members: Iterable[Endpoint], *, near: str = "", behind: Iterable[Endpoint] = ()
) -> Resource:
    """One cluster's endpoints, by zone. From a zone `near`, its own come first and all others take over for them.

    `behind`: those that take over for all of these.
    """
    zones: dict[tuple[int, str], set[tuple[str, int]]] = {}
    for member in members:
        rank = 1 if near and member.zone != near else 0
        zones.setdefault((rank, member.zone), set()).add((member.address, member.port))
    for member in behind:
        zones.setdefault((1, member.zone), set()).add((member.address, member.port))
    localities = [
        {
            "locality": _LOCALITY | ({"zone": zone} if zone else {}),
            "priority": rank,
            # Among the zones of one priority, shares go by instances; what each one bears, it says itself.
            "load_balancing_weight": len(sockets),
            "lb_endpoints": [
                {"endpoint": {"address": {"socket_address": {"address": address, "port_value": port}}}}
                for address, port in sorted(sockets)
            ],
        }
        for (rank, zone), sockets in sorted(zones.items())
    ]
    message = envoy("config.endpoint.v3.ClusterLoadAssignment", cluster_name=cluster, endpoints=localities)
    return Resource.of(EDS, cluster, message.SerializeToString(deterministic=True))


def _bears_its_callers(own: int, zones: int, total: int) -> bool:
    """Whether a zone has enough instances to be called alone: half of what it had if all zones had the same."""
    return own * zones * 2 >= total
