"""Channels to other services of the mesh: gRPC's own client-side balancing over endpoints from the control plane.

Every caller inside the mesh opens its channels here. A channel names a service, never an address.
"""

from typing import Final

import grpc

from lb.endpoint import service_name

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


def open(service: str) -> grpc.Channel:  # noqa: A001 - reads `channel.open("orders")` where it is called
    """Open a channel to a service. It connects lazily; `bootstrap.install` must have run. Raises ValueError."""
    return grpc.insecure_channel(f"xds:///{service_name(service)}", options=OPTIONS)
