"""Clusters of the mesh services, one resource for both kinds of client.

Envoy and gRPC each take what they know: Envoy LeastRequest, circuit breakers, keepalive and outlier detection; gRPC
RoundRobin and the endpoints. Nothing here may be what gRPC refuses (`lb_policy: LEAST_REQUEST`, a type other than EDS).
The type of a cluster must never change under one name: a live gRPC client would crash.
"""

from typing import Any, Final

from gateway.envoy.sources import ads
from weft_protos.xds import envoy

#: Of a cluster's calls in flight, what share may be retries, and how many may be in any case. A killed instance fails
#: all its calls at the same moment, so the floor must hold the calls that one instance can have in flight. It bounds
#: no outage, in which calls fail too fast to be in flight: that does `scripts/retry_throttle`.
RETRY_BUDGET_PERCENT: Final = 20.0
RETRIES_MIN: Final = 100
REQUESTS_MAX: Final = 2048
CONNECTIONS_MAX: Final = 1024
#: A frozen instance is noticed after interval and timeout together.
KEEPALIVE: Final = {"interval": "1s", "timeout": "0.5s"}
CONNECT_TIMEOUT: Final = "1s"
#: Of two instances one may be ejected, never both.
EJECTION_PERCENT_MAX: Final = 50

_H2: Final = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_POLICIES: Final = "extensions.load_balancing_policies"


def build(service: str) -> Any:
    """The cluster of one mesh service; its endpoints come by EDS under the same name."""
    return envoy(
        "config.cluster.v3.Cluster",
        name=service,
        type="EDS",
        eds_cluster_config={"eds_config": ads(wait=None), "service_name": service},
        connect_timeout=CONNECT_TIMEOUT,
        load_balancing_policy={
            "policies": [_policy("least_request", "LeastRequest"), _policy("round_robin", "RoundRobin")]
        },
        circuit_breakers={
            # Calls of critical methods are HIGH: whatever hangs, there is room for them.
            "thresholds": [_threshold("DEFAULT"), _threshold("HIGH")]
        },
        typed_extension_protocol_options={_H2: http2(KEEPALIVE)},
        outlier_detection=_outliers(),
    )


def http2(keepalive: dict[str, str]) -> Any:
    """Protocol options of an upstream that speaks gRPC."""
    return envoy(
        "extensions.upstreams.http.v3.HttpProtocolOptions",
        explicit_http_config={"http2_protocol_options": {"connection_keepalive": keepalive}},
    )


def _threshold(priority: str) -> dict[str, Any]:
    return {
        "priority": priority,
        "max_connections": CONNECTIONS_MAX,
        "max_pending_requests": REQUESTS_MAX,
        "max_requests": REQUESTS_MAX,
        "retry_budget": {
            "budget_percent": {"value": RETRY_BUDGET_PERCENT},
            "min_retry_concurrency": RETRIES_MIN,
        },
    }


def _policy(package: str, message: str) -> dict[str, Any]:
    config = envoy(f"{_POLICIES}.{package}.v3.{message}")
    return {"typed_extension_config": {"name": f"envoy.load_balancing_policies.{package}", "typed_config": config}}


def _outliers() -> dict[str, Any]:
    return {
        "interval": "1s",
        # Short, and no longer each time: who is back stays ejected for the rest of its time, and where the other one of
        # two goes meanwhile, nobody is left. With 2 s, 321 of 3972 calls failed at the gateway while two instances were
        # killed in turn, each 2 s after the other was back; with 1 s, one of 3914.
        "base_ejection_time": "1s",
        "max_ejection_time": "1s",
        "max_ejection_percent": EJECTION_PERCENT_MAX,
        "consecutive_5xx": 10,
        "consecutive_gateway_failure": 5,
        "enforcing_consecutive_gateway_failure": 100,
        # Statistics over two or three instances say nothing, and gRPC would count NOT_FOUND as a failure.
        "enforcing_success_rate": 0,
        "enforcing_failure_percentage": 0,
    }
