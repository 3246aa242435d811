"""Channels to other services of the mesh: gRPC's own client-side balancing over endpoints from the control plane.

Every caller inside the mesh opens its channels here. A channel names a service, never an address.

A channel that no control plane has told anything yet takes the addresses that were good last, from disk; it goes over
to the control plane's as soon as one tells it.
"""

import ipaddress
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import grpc

from lb.credentials import Credentials, asks_for
from lb.endpoint import Endpoint, service_name
from lb.fallback import FallbackChannel
from lb.lastgood import ENDPOINTS, LastGood, endpoints_from_bytes
from weft_protos import identity

#: A peer that stops answering is noticed within about two seconds. `keepalive_timeout_ms` alone never closes the
#: connection (its pings share the transport's own timeout of 60 s); `http2.ping_timeout_ms` is what does.
OPTIONS: Final[tuple[tuple[str, int], ...]] = (
    ("grpc.keepalive_time_ms", 1_000),
    ("grpc.keepalive_timeout_ms", 500),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.http2.ping_timeout_ms", 1_000),
    ("grpc.enable_http_proxy", 0),
)


#: An idle channel would forget what it was told, and have to ask again at a moment when nobody may be there to tell.
_NEVER_IDLE: Final = ("grpc.client_idle_timeout_ms", 2**31 - 1)
_ROUND_ROBIN: Final = ("grpc.service_config", json.dumps({"loadBalancingConfig": [{"round_robin": {}}]}))


def open(  # noqa: A001 - reads `channel.open("orders")`
    service: str, *, state: Path | None = None, credentials: Credentials | None = None
) -> grpc.Channel:
    """Open a channel to a service. It connects lazily; `bootstrap.install` must have run. Raises ValueError.

    `state`: the directory of what was good last; None: without a control plane nobody is found. `credentials`: what
    the process shows of itself, as its bootstrap says too; None: the mesh talks in clear.
    """
    name = service_name(service)
    options = (*OPTIONS, _NEVER_IDLE)
    if credentials is None:
        first = grpc.insecure_channel(f"xds:///{name}", options=options)
    else:
        first = grpc.secure_channel(f"xds:///{name}", credentials.xds(), options=options)
    if state is None:
        return first
    place = LastGood(state)

    def spare() -> grpc.Channel | None:
        known = endpoints_from_bytes(place.read(ENDPOINTS))
        address = target(endpoint for endpoint in known if endpoint.cluster == name)
        if address is None:
            return None
        if credentials is None:
            return grpc.insecure_channel(address, options=(*OPTIONS, _ROUND_ROBIN))
        whom = asks_for(identity.service(name))
        return grpc.secure_channel(address, credentials.client(), options=(*OPTIONS, _ROUND_ROBIN, whom))

    return FallbackChannel(first, spare, mark=(lambda: None) if credentials is None else credentials.mark)


def target(endpoints: Iterable[Endpoint]) -> str | None:
    """The endpoints as one address of gRPC's, which takes those of one kind only; None where there are none."""
    sockets: dict[int, list[str]] = {4: [], 6: []}
    for endpoint in endpoints:
        ip = ipaddress.ip_address(endpoint.address)
        sockets[ip.version].append(f"{ip}:{endpoint.port}" if ip.version == 4 else f"[{ip}]:{endpoint.port}")
    scheme = "ipv4" if sockets[4] else "ipv6"
    chosen = sorted(set(sockets[4] or sockets[6]))
    return f"{scheme}:{','.join(chosen)}" if chosen else None
