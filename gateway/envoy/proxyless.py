"""What gRPC clients inside the mesh get: `xds:///orders` resolves to these.

No filter but the router: gRPC refuses what it does not know, and access was checked at the edge and is checked again
by the service. Deadlines are the caller's own: gRPC's route timeouts fire too early.
"""

from typing import Any, Final

from gateway.envoy import names
from gateway.envoy.sources import ads
from gateway.policy import PolicySet, Rpc
from weft_protos.xds import envoy

#: Failures that the inner hop repeats. A service that has retried itself answers with another code.
RETRY_ON: Final = "unavailable"
RETRY_BACK_OFF: Final = {"base_interval": "0.02s", "max_interval": "0.2s"}


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


def routes(policies: PolicySet, service: str) -> Any:
    """The service's route table: retried methods by name, then everything else (health, reflection) without retries."""
    retried = [rpc for rpc in policies.rpcs if rpc.owner == service and rpc.policy.max_attempts is not None]
    rest = {"match": {"prefix": ""}, "route": {"cluster": service}}
    return envoy(
        "config.route.v3.RouteConfiguration",
        name=route_name(service),
        virtual_hosts=[{"name": service, "domains": ["*"], "routes": [*map(_route, retried), rest]}],
    )


def _route(rpc: Rpc) -> dict[str, Any]:
    attempts = rpc.policy.max_attempts or 1
    retry = {"retry_on": RETRY_ON, "num_retries": attempts - 1, "retry_back_off": RETRY_BACK_OFF}
    return {"match": {"path": f"/{rpc.name}"}, "route": {"cluster": rpc.owner, "retry_policy": retry}}
