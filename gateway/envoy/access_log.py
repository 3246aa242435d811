"""One line of JSON for each call, on standard output: what was asked, how it ended and who asked.

There are two loggers, and each call is one of them's. Reading a word of dynamic metadata costs Envoy a copy of all of
it, the claims of the token among it; so why a call was refused is asked of none that went well.
"""

from typing import Any, Final

from gateway.envoy import names
from weft_protos import lanes
from weft_protos.xds import envoy

#: No token, no body, no query, and of headers none that a caller writes: what a log keeps must not be worth stealing.
#: The path is that of a method which the contracts know: it holds names of resources, and never a marked field.
_CALL: Final = {
    "time": "%START_TIME(%Y-%m-%dT%H:%M:%S.%3fZ)%",
    "event": "request",
    "trace_id": "%TRACE_ID%",
    "request_id": "%REQ(X-REQUEST-ID)%",
    "route": "%ROUTE_NAME%",
    "http_method": "%REQ(X-ENVOY-ORIGINAL-METHOD?:METHOD)%",
    "path": "%PATH(NQ:ORIG)%",
    "protocol": "%PROTOCOL%",
    "http_status": "%RESPONSE_CODE%",
    "grpc_status": "%GRPC_STATUS(CAMEL_STRING)%",
    "details": "%RESPONSE_CODE_DETAILS%",
    "flags": "%RESPONSE_FLAGS%",
    "subject": f"%FILTER_STATE({names.SUBJECT}:PLAIN)%",
    "duration_ms": "%DURATION%",
    "upstream_ms": "%RESPONSE_DURATION%",
    "attempts": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
    "received_bytes": "%BYTES_RECEIVED%",
    "sent_bytes": "%BYTES_SENT%",
    "upstream": "%UPSTREAM_HOST%",
    "cluster": "%UPSTREAM_CLUSTER%",
    "lane": f"%REQ({lanes.HEADER})%",
    "client": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
}
_REFUSAL: Final = {
    "refusal": f"%DYNAMIC_METADATA({names.REFUSAL}:reason)%",
    "rule": f"%DYNAMIC_METADATA({names.REFUSAL}:rule)%",
    "contract": f"%DYNAMIC_METADATA({names.REFUSAL}:contract)%",
}


def build() -> list[dict[str, Any]]:
    """The loggers: of calls that went well, and of all others, which alone may have been refused."""
    return [_stdout(_CALL, went_well()), _stdout(_CALL | _REFUSAL, went_wrong())]


def went_wrong() -> dict[str, Any]:
    """The filter for calls that ended in anything but success, by HTTP or by gRPC: every refusal is one of them."""
    return {"or_filter": {"filters": [_grpc_status(ok=False), _status("GE", 400)]}}


def went_well() -> dict[str, Any]:
    """The filter for all others: the exact opposite, or a call would have two lines or none."""
    return {"and_filter": {"filters": [_grpc_status(ok=True), _status("LE", 399)]}}


def _grpc_status(*, ok: bool) -> dict[str, Any]:
    return {"grpc_status_filter": {"statuses": ["OK"], "exclude": not ok}}


def _status(comparison: str, status: int) -> dict[str, Any]:
    value = {"default_value": status, "runtime_key": f"weft.access_log.{comparison.lower()}"}
    return {"status_code_filter": {"comparison": {"op": comparison, "value": value}}}


def _stdout(fields: dict[str, str], which: dict[str, Any]) -> dict[str, Any]:
    log = envoy("extensions.access_loggers.stream.v3.StdoutAccessLog", log_format={"json_format": fields})
    return {"name": "envoy.access_loggers.stdout", "filter": which, "typed_config": log}
