"""Clusters of the mesh services, one resource for both kinds of client while hops are in clear.

Both weigh instances by the load that these report (`svc/chassis/load.py`). Of the rest each takes what it knows: Envoy
circuit breakers, keepalive, slow start and all of the outlier detection; gRPC the part by failed calls. Nothing here
may be what gRPC refuses (`lb_policy: LEAST_REQUEST`, a type other than EDS).
The type of a cluster must never change under one name: a live gRPC client would crash.
"""

from collections.abc import Mapping
from typing import Any, Final

from gateway.envoy.sources import ads
from weft_protos import lanes
from weft_protos.xds import envoy

#: Of a cluster's calls in flight, what share may be retries, and how many may be in any case. A killed instance fails
#: all its calls at the same moment, so the floor must hold the calls that one instance can have in flight. It bounds
#: no outage, in which calls fail too fast to be in flight: that does `scripts/retry_throttle`.
RETRY_BUDGET_PERCENT: Final = 20.0
RETRIES_MIN: Final = 100
REQUESTS_MAX: Final = 2048
CONNECTIONS_MAX: Final = 1024
#: A gateway sends an instance so many calls at once on so many connections, and more would not make it any faster: what
#: is beyond waits in the gateway, and is refused there, instead of keeping a busy instance from reading which calls are
#: critical. These have connections of their priority. One would do, but for those that an ejection leaves behind: they
#: take no new calls, end with the last one they have, and count until then. So streams, which may last for days, have
#: connections of their own, too.
CONNECTIONS_PER_INSTANCE: Final = 4
CALLS_PER_CONNECTION: Final = 50
PENDING_MAX: Final = 128
#: A frozen instance is noticed after interval and timeout together: in time to repeat a call that may take 2 s.
KEEPALIVE: Final = {"interval": "0.5s", "timeout": "0.5s"}
CONNECT_TIMEOUT: Final = "1s"
#: Of two instances one may be ejected, never both.
EJECTION_PERCENT_MAX: Final = 50
#: Of an instance's calls within a second.
EJECTED_AT_PERCENT: Final = 95
#: Until an instance has reported for so long it gets the mean share; a report older than the other is forgotten.
BLACKOUT: Final = "1s"
REPORT_EXPIRES: Final = "60s"
#: How often clients compute the shares anew.
WEIGHTS_EVERY: Final = "1s"
#: A new instance gets a growing share: its caches and connections are cold. Envoy only.
SLOW_START: Final = {"slow_start_window": "5s", "min_weight_percent": {"value": 10}}

_H2: Final = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_POLICIES: Final = "extensions.load_balancing_policies"


def build(service: str, socket: Mapping[str, Any] | None = None) -> Any:
    """The cluster of one mesh service's unary calls; its endpoints come by EDS under the same name.

    `socket`: how its connections are encrypted (`hop`); None: they are not.
    """
    of_instance = [{"priority": each, "max_connections": CONNECTIONS_PER_INSTANCE} for each in ("DEFAULT", "HIGH")]
    return _cluster(
        service, service, per_host_thresholds=of_instance, calls=CALLS_PER_CONNECTION, transport_socket=socket
    )


def of_streams(service: str, socket: Mapping[str, Any] | None = None) -> Any:
    """The cluster of its streams, for gateways: of the same endpoints. How many there are, instances decide."""
    return _cluster(lanes.streams(service), service, transport_socket=socket)


def _cluster(
    name: str,
    service: str,
    *,
    calls: int | None = None,
    transport_socket: Mapping[str, Any] | None = None,
    **per_instance: Any,
) -> Any:
    return envoy(
        "config.cluster.v3.Cluster",
        name=name,
        type="EDS",
        eds_cluster_config={"eds_config": ads(wait=None), "service_name": service},
        connect_timeout=CONNECT_TIMEOUT,
        load_balancing_policy={"policies": [_by_load(), _policy("round_robin", "RoundRobin")]},
        circuit_breakers={
            # Calls of critical methods are HIGH: whatever hangs, there is room for them.
            "thresholds": [_threshold("DEFAULT", PENDING_MAX), _threshold("HIGH", REQUESTS_MAX)],
            **per_instance,
        },
        typed_extension_protocol_options={_H2: http2(KEEPALIVE, calls=calls)},
        outlier_detection=_outliers(),
        transport_socket=transport_socket,
    )


def http2(keepalive: dict[str, str], *, calls: int | None = None) -> Any:
    """Protocol options of an upstream that speaks gRPC. `calls`: at most so many at once on one connection."""
    options = {"connection_keepalive": keepalive, "max_concurrent_streams": calls}
    return envoy(
        "extensions.upstreams.http.v3.HttpProtocolOptions", explicit_http_config={"http2_protocol_options": options}
    )


def _threshold(priority: str, pending: int) -> dict[str, Any]:
    return {
        "priority": priority,
        "max_connections": CONNECTIONS_MAX,
        "max_pending_requests": pending,
        "max_requests": REQUESTS_MAX,
        "retry_budget": {
            "budget_percent": {"value": RETRY_BUDGET_PERCENT},
            "min_retry_concurrency": RETRIES_MIN,
        },
    }


def _by_load() -> dict[str, Any]:
    return _policy(
        "client_side_weighted_round_robin",
        "ClientSideWeightedRoundRobin",
        blackout_period=BLACKOUT,
        weight_expiration_period=REPORT_EXPIRES,
        weight_update_period=WEIGHTS_EVERY,
        slow_start_config=SLOW_START,
    )


def _policy(package: str, message: str, **fields: Any) -> dict[str, Any]:
    config = envoy(f"{_POLICIES}.{package}.v3.{message}", **fields)
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
        # What one instance fails more often than the others says nothing where there are two or three.
        "enforcing_success_rate": 0,
        # All that gRPC knows. It counts NOT_FOUND as a failure, too, so the threshold is one that only an instance
        # which does nothing else reaches.
        "failure_percentage_threshold": EJECTED_AT_PERCENT,
        "enforcing_failure_percentage": 100,
        "failure_percentage_minimum_hosts": 2,
        "failure_percentage_request_volume": 10,
    }
