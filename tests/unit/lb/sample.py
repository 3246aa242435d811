"""Compiled bundles as the gateway writes them, small enough to read."""

import hashlib
import json
from collections.abc import Iterable
from typing import Any

from google.protobuf.message import Message

from lb.endpoint import Endpoint, ServiceName
from lb.xds.bundle import Bundle, parse
from weft_protos.xds import envoy, type_url

ROUTER = {
    "name": "envoy.filters.http.router",
    "typed_config": envoy("extensions.filters.http.router.v3.Router"),
}
ADS = {"ads": {}, "resource_api_version": "V3"}
KEYS = json.dumps({"keys": [{"kty": "EC", "crv": "P-256", "kid": "k1", "x": "eA", "y": "eQ"}]})

Row = tuple[str, Message]


def cluster(name: str, **fields: Any) -> Message:
    fields = {"type": "EDS", "eds_cluster_config": {"eds_config": ADS}, "connect_timeout": "1s"} | fields
    message: Message = envoy("config.cluster.v3.Cluster", name=name, **fields)
    return message


def routes(name: str, to: str) -> Message:
    message: Message = envoy(
        "config.route.v3.RouteConfiguration",
        name=name,
        virtual_hosts=[
            {"name": name, "domains": ["*"], "routes": [{"match": {"prefix": ""}, "route": {"cluster": to}}]}
        ],
    )
    return message


def manager(route: str, filters: Iterable[Any] = (ROUTER,)) -> Message:
    message: Message = envoy(
        "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix=route,
        rds={"route_config_name": route, "config_source": ADS},
        http_filters=list(filters),
    )
    return message


def api_listener(name: str) -> Message:
    message: Message = envoy("config.listener.v3.Listener", name=name, api_listener={"api_listener": manager(name)})
    return message


def gateway_listener() -> Message:
    discovered = {
        "name": "envoy.filters.http.jwt_authn",
        "config_discovery": {
            "config_source": ADS,
            "type_urls": ["type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication"],
        },
    }
    message: Message = envoy(
        "config.listener.v3.Listener",
        name="gateway",
        address={"socket_address": {"address": "127.0.0.1", "port_value": 8080}},
        filter_chains=[
            {"filters": [{"name": "http", "typed_config": manager("gateway", [discovered, ROUTER])}]},
        ],
    )
    return message


def token_filter() -> Message:
    message: Message = envoy(
        "config.core.v3.TypedExtensionConfig",
        name="envoy.filters.http.jwt_authn",
        typed_config=envoy(
            "extensions.filters.http.jwt_authn.v3.JwtAuthentication",
            providers={"weft": {"issuer": "weft-identity", "local_jwks": {"inline_string": ""}}},
        ),
    )
    return message


def rows(service: str = "orders") -> list[Row]:
    """Everything a service needs: routes and listener for gRPC, a cluster for all."""
    return [("all", cluster(service)), ("grpc", routes(service, service)), ("grpc", api_listener(service))]


def gateway_rows() -> list[Row]:
    return [("envoy", gateway_listener()), ("envoy", routes("gateway", "orders")), ("envoy", token_filter())]


def compiled(resources: Iterable[Row]) -> tuple[bytes, dict[str, bytes]]:
    pieces: dict[str, bytes] = {}
    manifest: list[dict[str, str]] = []
    for audience, message in resources:
        content = message.SerializeToString(deterministic=True)
        digest = hashlib.sha256(content).hexdigest()
        pieces[digest] = content
        name: str = message.name  # type: ignore[attr-defined]
        manifest.append({"audience": audience, "type_url": type_url(message), "name": name, "sha256": digest})
    return json.dumps({"format": 1, "resources": manifest}).encode(), pieces


def bundle(*resources: Row) -> Bundle:
    return parse(*compiled(resources or rows()))


def endpoint(instance: str, port: int, service: str = "orders", *, zone: str = "") -> Endpoint:
    return Endpoint(ServiceName(service), instance, "127.0.0.1", port, zone=zone)
