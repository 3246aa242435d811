"""What a gateway counts of each call: how it ended, why if the gateway refused it, how long it took if it succeeded.

Counted when the call is over, as the caller saw it: after all retries, on every wire alike, and also where no instance
was there to answer. Objectives (`gateway.slo`) are measured by these figures; they are in each gateway's exposition.

Every label is a status or a word of the scripts and the contracts, never of a caller, so there are no more series than
these have pairs. Envoy calls its stats logger unfit for untrusted traffic because labels may be taken from requests;
none is here. They cost a call one to two microseconds of CPU.
"""

from typing import Any, Final

from gateway.envoy import access_log, names
from weft_protos import lanes
from weft_protos.xds import envoy

#: Envoy puts its own name in front. It would rather be told by `stats_scope`, which the descriptors do not have yet,
#: and says so in its log.
_PREFIX: Final = "weft"
_COUNTER: Final = "calls_total"
_HISTOGRAM: Final = "call_duration_ms"
#: Series as Prometheus has them. Labels: `method` (`weft.orders.v1.OrderService/PlaceOrder`, empty where no contract
#: has one), `lane` (empty for a call of none), and of the counter `http_status` and `grpc_status`, both as numbers, and
#: `reason`, absent unless the gateway itself refused the call. JSON has its own HTTP status, the others have 200
#: whatever gRPC says. Without an answer, as when the caller left, `http_status` is 0. On gRPC-web a status that comes
#: in trailers is part of the body and shows as 2 (UNKNOWN): so it is with calls that succeed.
CALLS: Final = f"envoy_{_PREFIX}_{_COUNTER}"
#: Milliseconds of the calls that succeeded, in Envoy's own bounds.
DURATION: Final = f"envoy_{_PREFIX}_{_HISTOGRAM}"

#: Routes of the gRPC form and of the JSON form carry the same.
_METHOD: Final = {"name": "method", "value_format": f"%METADATA(ROUTE:{names.LUA_METADATA}:method)%"}
_HTTP: Final = {"name": "http_status", "value_format": "%RESPONSE_CODE%"}
_GRPC: Final = {"name": "grpc_status", "value_format": "%GRPC_STATUS_NUMBER%"}
#: Of its own making: what a client says of it is taken off before.
_LANE: Final = {"name": "lane", "value_format": f"%REQ({lanes.HEADER})%"}
_REASON: Final = {"name": "reason", "value_format": f"%DYNAMIC_METADATA({names.REFUSAL}:reason)%"}


def loggers() -> list[dict[str, Any]]:
    """The access loggers that count. Why a call was refused is asked of none that went well, see `access_log`."""
    time = {
        "stat": {"name": _HISTOGRAM, "tags": [_METHOD, _LANE]},
        "unit": "Milliseconds",
        "value_format": "%DURATION%",
    }
    return [
        _logger(access_log.went_well(), counters=[_count()], histograms=[time]),
        _logger(access_log.went_wrong(), counters=[_count(_REASON)]),
        _logger(_succeeded_in_trailers(), histograms=[time]),
    ]


def _count(*more: dict[str, str]) -> dict[str, Any]:
    return {"stat": {"name": _COUNTER, "tags": [_METHOD, _HTTP, _GRPC, _LANE, *more]}, "value_fixed": 1}


def _logger(which: dict[str, Any], **stats: Any) -> dict[str, Any]:
    config = envoy("extensions.access_loggers.stats.v3.Config", stat_prefix=_PREFIX, **stats)
    return {"name": "envoy.access_loggers.stats", "filter": which, "typed_config": config}


def _succeeded_in_trailers() -> dict[str, Any]:
    """Calls on gRPC-web whose status Envoy does not know."""
    status = {"op": "EQ", "value": {"default_value": 200, "runtime_key": "weft.calls.succeeded"}}
    both = [{"status_code_filter": {"comparison": status}}, {"grpc_status_filter": {"statuses": ["UNKNOWN"]}}]
    return {"and_filter": {"filters": both}}
