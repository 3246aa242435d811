"""What gRPC clients inside the mesh get: `xds:///orders` resolves to these.

No filter but the router: gRPC refuses what it does not know, and access was checked at the edge and is checked again
by the service. Deadlines are the caller's own: gRPC's route timeouts fire too early. Retries are the caller's own, too
(`svc/chassis/client.py`): a route can say how often, but not that they stop while every attempt fails.
"""

from typing import Any

from gateway.envoy import names
from gateway.envoy.sources import ads
from weft_protos.xds import envoy


def route_name(service: str) -> str:
    """Name of a service's route table for gRPC clients."""
    return f"grpc/{service}"


def listener(service: str) -> Any:
    """The Listener named like the service."""
    router = envoy("extensions.filters.http.router.v3.Router")
    manager = envoy(
        "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        rds={"route_config_name": route_name(service), "config_source": ads(wait=None)},
        http_filters=[{"name": names.ROUTER, "typed_config": router}],
    )
    return envoy("config.listener.v3.Listener", name=service, api_listener={"api_listener": manager})


def routes(service: str) -> Any:
    """The service's route table: all of it goes to one cluster."""
    everything = {"match": {"prefix": ""}, "route": {"cluster": service}}
    return envoy(
        "config.route.v3.RouteConfiguration",
        name=route_name(service),
        virtual_hosts=[{"name": service, "domains": ["*"], "routes": [everything]}],
    )
