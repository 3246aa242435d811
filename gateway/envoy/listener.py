"""The two listeners of the edge: one chain of filters, in clear and over TLS.

Figures against floods are the ones that were attacked and held; each is named, and the bootstrap holds their
counterparts for the whole process.
"""

from typing import Any, Final

from gateway.envoy import access_log, answers, calls, names, route, tls
from gateway.envoy.edge import Edge
from gateway.envoy.filters import CHAIN, Link, header_strip
from gateway.envoy.sources import ads
from gateway.policy import PolicySet
from weft_protos.xds import envoy, type_url

#: Where Envoy stops reading headers. What is below, but above the limit, is refused by a route, on every wire.
HEADERS_KB_READ: Final = 64
STREAMS_MAX: Final = 100
#: For the whole request, headers among it, which so need no timer of their own: nothing the contracts take is slower to
#: send, and reflection's stream needs no longer.
REQUEST_TIMEOUT: Final = "5s"
IDLE_TIMEOUT: Final = "300s"
#: For an answer that is ready and a client that takes none of it.
FLUSH_TIMEOUT: Final = "10s"
BUFFER_BYTES: Final = 1 << 20

_HTTP2: Final = {
    "max_concurrent_streams": STREAMS_MAX,
    "initial_stream_window_size": 65_536,
    "initial_connection_window_size": 1 << 20,
    "hpack_table_size": 4096,
    "max_outbound_frames": 1000,
    "max_outbound_control_frames": 100,
    "max_consecutive_inbound_frames_with_empty_payload": 1,
    "max_inbound_priority_frames_per_stream": 10,
    "max_inbound_window_update_frames_per_data_frame_sent": 10,
    "override_stream_error_on_invalid_http_message": True,
    "connection_keepalive": {"interval": "30s", "timeout": "5s"},
}

#: What Envoy puts on every span by itself, in the caller's words: the query too, and paths that no contract knows.
_HIDDEN_TAGS: Final = ("http.url", "grpc.path", "grpc.authority", "user_agent")
#: An empty value would leave the tag as it was.
_SPAN_TAGS: Final = (
    *({"tag": tag, "literal": {"value": "-"}} for tag in _HIDDEN_TAGS),
    {"tag": "http.route", "value": "%ROUTE_NAME%"},
)


def build(policies: PolicySet, edge: Edge) -> list[Any]:
    """The listener over TLS and, where the edge has a port for it, the same in clear: HTTP/1.1 and h2c."""
    secure = _listener(edge.tls_port, edge, _chain(names.EDGE_TLS, edge, policies, tls.socket(edge.tls_secret)))
    secure.MergeFrom(tls.handshakes(names.EDGE_TLS, edge.tls_names))
    if edge.port is None:
        return [secure]
    return [_listener(edge.port, edge, _chain(names.EDGE, edge, policies)), secure]


def extensions(policies: PolicySet) -> list[Any]:
    """The filters that travel by ECDS, each under its name in the chain."""
    kind = "config.core.v3.TypedExtensionConfig"
    return [envoy(kind, name=link.name, typed_config=link.build(policies)) for link in CHAIN if link.discovered]


def _listener(port: int, edge: Edge, chain: Any) -> Any:
    return envoy(
        "config.listener.v3.Listener",
        name=chain.name,
        address={"socket_address": {"address": edge.address, "port_value": port}},
        # Several gateways on one port; the kernel spreads connections over those that live.
        enable_reuse_port=True,
        per_connection_buffer_limit_bytes=BUFFER_BYTES,
        traffic_direction="INBOUND",
        filter_chains=[chain],
    )


def _chain(name: str, edge: Edge, policies: PolicySet, socket: Any = None) -> Any:
    manager = {"name": "envoy.filters.network.http_connection_manager", "typed_config": _manager(name, edge, policies)}
    return envoy(
        "config.listener.v3.FilterChain",
        name=name,
        filters=[manager],
        transport_socket=socket,
        transport_socket_connect_timeout=tls.HANDSHAKE_TIMEOUT,
    )


def _manager(name: str, edge: Edge, policies: PolicySet) -> Any:
    return envoy(
        "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix=name.replace("-", "_"),
        codec_type="AUTO",
        rds=route.discovery(),
        http_filters=[_filter(link, policies) for link in CHAIN],
        server_name="weft",
        common_http_protocol_options={
            "idle_timeout": IDLE_TIMEOUT,
            "max_headers_count": names.HEADERS_MAX,
            "headers_with_underscores_action": "REJECT_REQUEST",
        },
        http2_protocol_options=_HTTP2,
        max_request_headers_kb=HEADERS_KB_READ,
        request_timeout=REQUEST_TIMEOUT,
        stream_idle_timeout=IDLE_TIMEOUT,
        stream_flush_timeout=FLUSH_TIMEOUT,
        # The peer's own address counts, not what it writes into a header; and nobody is trusted for being near. An
        # internal_address_config without ranges would trust every private address, none at all trusts nobody.
        use_remote_address=True,
        strip_any_host_port=True,
        early_header_mutation_extensions=[header_strip.early(edge)],
        # A path is taken as it is written or not at all: routes are exact, so `/v1/x/../stock` and `//v1` lead nowhere,
        # and what filters, services and logs see is what was sent.
        normalize_path=False,
        path_with_escaped_slashes_action="REJECT_REQUEST",
        local_reply_config={"mappers": [_mark()]},
        tracing=_tracing(edge),
        access_log=[*access_log.build(), *calls.loggers()],
    )


def _filter(link: Link, policies: PolicySet) -> dict[str, Any]:
    if not link.discovered:
        off = {"disabled": True} if link.off else {}
        config = link.build(policies)
        if link.seen is not None:
            config = answers.only(link.name, config, link.seen())
        return {"name": link.name, "typed_config": config, **off}
    source = {"config_source": ads(), "type_urls": [type_url(link.build(policies))]}
    return {"name": link.name, "config_discovery": source}


def _mark() -> dict[str, Any]:
    """Marks every answer that the gateway gives by itself with the reason for it, and with what the request was.

    The method that the transcoder replaced tells JSON from gRPC, whatever the request looked like in between.
    """
    marks = (
        (names.WHY, "%RESPONSE_CODE_DETAILS%"),
        (names.STATUS, "%RESPONSE_CODE%"),
        (names.WIRE, "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-METHOD)% %REQ(CONTENT-TYPE)%"),
    )
    every_status = {"op": "GE", "value": {"default_value": 0, "runtime_key": "weft.refusal.status_min"}}
    return {
        "filter": {"status_code_filter": {"comparison": every_status}},
        "headers_to_add": [
            {"header": {"key": key, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
            for key, value in marks
        ]
        + [header_strip.TRACE],
    }


def _tracing(edge: Edge) -> dict[str, Any]:
    collector = {"envoy_grpc": {"cluster_name": names.OTLP}, "timeout": "1s"}
    config = envoy("config.trace.v3.OpenTelemetryConfig", grpc_service=collector, service_name="gateway")
    return {
        "provider": {"name": "envoy.tracers.opentelemetry", "typed_config": config},
        "random_sampling": {"value": edge.trace_percent},
        "client_sampling": {"value": 0},
        "spawn_upstream_span": True,
        "custom_tags": list(_SPAN_TAGS),
    }
