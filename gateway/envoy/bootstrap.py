"""What an Envoy process starts with: who it is, where its control planes are, and what must hold before they answer.

Everything that contracts decide comes later by ADS. The admin interface is a socket file that only the same user can
open; of it, metrics and readiness alone are shown on a port, of loopback unless another address is named.
"""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gateway.envoy import hop, names
from gateway.envoy.cluster import http2
from gateway.envoy.sources import ads
from weft_protos import identity
from weft_protos.xds import envoy

#: A control plane that hangs is left after interval and timeout together.
XDS_KEEPALIVE: Final = {"interval": "10s", "timeout": "3s"}
CONNECT_TIMEOUT: Final = "1s"
CONNECTIONS_MAX: Final = 4096
HEAP_BYTES_MAX: Final = 1 << 30
#: Without the gateways' number the declared limits are not divided, so starting does not wait for it for long.
EDGE_WAIT: Final = "3s"
#: Octal 600 in decimal, as JSON has no octal.
SOCKET_MODE: Final = 0o600
METRICS_PATHS: Final = ("/stats/prometheus", "/ready")

#: Limits against floods that are set for the whole process (the listener holds the others).
RUNTIME: Final = {
    "overload.premature_reset_total_stream_count": 50,
    "overload.premature_reset_min_stream_lifetime_seconds": 1,
    # What one connection may have begun before others are looked at. With 1, concurrent calls of a client are never
    # written to a service together, which costs every honest one 6 % more CPU in system calls.
    "http.max_requests_per_io_cycle": 8,
}

#: Shares of the heap at which the process gives up something, the cheapest first.
_OVERLOAD_ACTIONS: Final = (
    ("envoy.overload_actions.shrink_heap", 0.85),
    ("envoy.overload_actions.disable_http_keepalive", 0.92),
    ("envoy.overload_actions.stop_accepting_requests", 0.95),
    ("envoy.overload_actions.stop_accepting_connections", 0.98),
)
_HEAP: Final = "envoy.resource_monitors.fixed_heap"
_CONNECTIONS: Final = "envoy.resource_monitors.global_downstream_max_connections"
_H2: Final = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


@dataclass(frozen=True, slots=True)
class Address:
    """A host and port."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything in which two gateways differ."""

    node: str
    control_planes: Sequence[Address]
    collector: Address | None
    """Takes spans by OTLP; None: they are dropped."""
    metrics_port: int
    admin_socket: Path
    pages: Sequence[Address] = ()
    """Who serves pages to browsers, over HTTP/1.1; nobody: there are none."""
    zone: str = ""
    """Where it runs: it calls instances of the same zone first. Empty: not said."""
    metrics_address: str = "127.0.0.1"
    """Where metrics and readiness are shown."""
    hop_secrets: Path | None = None
    """Directory of `hop.secret_files`; None: control planes are called in clear."""


def build(settings: Settings) -> Any:
    """The bootstrap of one gateway."""
    return envoy(
        "config.bootstrap.v3.Bootstrap",
        node={
            "id": settings.node,
            "cluster": names.EDGE,
            "locality": {"zone": settings.zone},
            "metadata": {"kind": "envoy"},
        },
        admin={"address": {"pipe": {"path": str(settings.admin_socket), "mode": SOCKET_MODE}}},
        # The rate limits are divided by the number of endpoints of this cluster.
        cluster_manager={"local_cluster_name": names.EDGE},
        dynamic_resources={
            "ads_config": {
                "api_type": "DELTA_GRPC",
                "transport_api_version": "V3",
                "grpc_services": [{"envoy_grpc": {"cluster_name": names.XDS}}],
                "set_node_on_first_message_only": True,
            },
            "cds_config": ads(),
            "lds_config": ads(),
        },
        static_resources={
            "clusters": [
                _upstream(names.XDS, settings.control_planes, **_to_control_planes(settings.hop_secrets)),
                _upstream(names.OTLP, [settings.collector] if settings.collector else []),
                _edge(),
                _admin(settings.admin_socket),
                *([_pages(settings.pages)] if settings.pages else []),
            ],
            "listeners": [_metrics(Address(settings.metrics_address, settings.metrics_port))],
        },
        layered_runtime={"layers": [{"name": "floods", "static_layer": RUNTIME}]},
        overload_manager=_overload(),
    )


def _upstream(name: str, addresses: Sequence[Address], **words: Any) -> Any:
    return _static(name, addresses, typed_extension_protocol_options={_H2: http2(XDS_KEEPALIVE)}, **words)


def _to_control_planes(hop_secrets: Path | None) -> dict[str, Any]:
    if hop_secrets is None:
        return {}
    return {"transport_socket": hop.from_gateway(hop_secrets, identity.CONTROL_PLANE)}


def _pages(addresses: Sequence[Address]) -> Any:
    # Of the places some may be empty: one whose port is closed is left out until it is worth another look.
    outliers = {"consecutive_local_origin_failure": 1, "split_external_local_origin_errors": True}
    bounds = {"interval": "1s", "base_ejection_time": "2s", "max_ejection_time": "5s", "max_ejection_percent": 50}
    return _static(names.PAGES, addresses, outlier_detection={**outliers, **bounds})


def _static(name: str, addresses: Sequence[Address], **words: Any) -> Any:
    literal = all(_is_ip(address.host) for address in addresses)
    return envoy(
        "config.cluster.v3.Cluster",
        name=name,
        type="STATIC" if literal else "STRICT_DNS",
        connect_timeout=CONNECT_TIMEOUT,
        load_assignment={
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _socket(address)}} for address in addresses]}],
        },
        **words,
    )


def _edge() -> Any:
    config = ads(wait=EDGE_WAIT)
    return envoy(
        "config.cluster.v3.Cluster",
        name=names.EDGE,
        type="EDS",
        eds_cluster_config={"eds_config": config, "service_name": names.EDGE},
        connect_timeout=CONNECT_TIMEOUT,
    )


def _admin(path: Path) -> Any:
    pipe = {"endpoint": {"address": {"pipe": {"path": str(path)}}}}
    return envoy(
        "config.cluster.v3.Cluster",
        name=names.ADMIN,
        type="STATIC",
        connect_timeout=CONNECT_TIMEOUT,
        load_assignment={"cluster_name": names.ADMIN, "endpoints": [{"lb_endpoints": [pipe]}]},
    )


def _metrics(address: Address) -> Any:
    get = {"name": ":method", "string_match": {"exact": "GET"}}
    routes: list[dict[str, Any]] = [
        {"match": {"path": path, "headers": [get]}, "route": {"cluster": names.ADMIN}} for path in METRICS_PATHS
    ]
    routes.append({"match": {"prefix": "/"}, "direct_response": {"status": 404}})
    router = envoy("extensions.filters.http.router.v3.Router")
    manager = envoy(
        "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="metrics",
        normalize_path=True,
        route_config={"name": "metrics", "virtual_hosts": [{"name": "metrics", "domains": ["*"], "routes": routes}]},
        http_filters=[{"name": names.ROUTER, "typed_config": router}],
    )
    filters = [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]
    return envoy(
        "config.listener.v3.Listener",
        name="metrics",
        address=_socket(address),
        enable_reuse_port=False,
        # Metrics must be readable most of all while the gateway is full.
        ignore_global_conn_limit=True,
        filter_chains=[{"filters": filters}],
    )


def _overload() -> dict[str, Any]:
    heap = envoy("extensions.resource_monitors.fixed_heap.v3.FixedHeapConfig", max_heap_size_bytes=HEAP_BYTES_MAX)
    connections = envoy(
        "extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
        max_active_downstream_connections=CONNECTIONS_MAX,
    )
    return {
        "refresh_interval": "0.25s",
        "resource_monitors": [
            {"name": _HEAP, "typed_config": heap},
            {"name": _CONNECTIONS, "typed_config": connections},
        ],
        "actions": [
            {"name": name, "triggers": [{"name": _HEAP, "threshold": {"value": share}}]}
            for name, share in _OVERLOAD_ACTIONS
        ],
    }


def _socket(address: Address) -> dict[str, Any]:
    return {"socket_address": {"address": address.host, "port_value": address.port}}


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
