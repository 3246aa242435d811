"""Takes away every header by which a client could speak for the gateway or for a user, before Envoy reads one.

Most of it happens in the connection manager: a filter that took the same headers off cost as much as the check of a
token. What answers say is put right where each is made: `for_virtual_host`, and the listener's local replies. The
filter is there for what only a filter sees: trailers, and headers that some routes take and others do not.
"""

from typing import Any, Final

from gateway.envoy import names
from gateway.envoy.edge import Edge
from gateway.policy import PolicySet
from weft_protos import lanes
from weft_protos.xds import envoy

_MUTATION: Final = "extensions.filters.http.header_mutation.v3.HeaderMutation"

#: Identity, which only the gateway and identity give; how much a call matters, which the contract says; and its lane,
#: which the gateway gives (`lane`), though a client may ask for one by another name.
_IDENTITY: Final = ("x-user", "x-scopes", "x-subject", "x-actor", "x-weft-criticality", lanes.HEADER)
#: Identity, and what nothing in the mesh reads.
_INBOUND: Final = (*_IDENTITY, "baggage", *names.MARKS)
#: What proxies tell each other of a request's way. Envoy reads some of it before any filter runs: retries, timeouts and
#: forced traces are for the contracts to say, and no hop before this one is known.
_HOPS: Final = ("forwarded", "via", "x-client-trace-id")
#: By which a caller says what trace its request belongs to (W3C), and whether that one is sampled at all.
_TRACE: Final = ("traceparent", "tracestate")
_HOPS_BEGIN: Final = ("x-envoy-", "x-forwarded-")
#: gRPC's own words that only clients' libraries, balancers or servers use. Instances answer one that they cannot read
#: with an error, and every later call of anybody that has a header of that name, for as long as the connection from the
#: gateway remembers the name (HPACK): one caller could shut out all. So nothing passes that such a fault may lie in:
#: these, metadata in base64 (no service reads any), and trailers, which gRPC's requests do not have.
_GRPC: Final = (
    "grpc-internal-encoding-request",
    "grpc-previous-rpc-attempts",
    "grpc-retry-pushback-ms",
    "grpc-status",
)
_BINARY: Final = {"remove_on_match": {"key_matcher": {"suffix": "-bin", "ignore_case": True}}}
_EVERY: Final = {"remove_on_match": {"key_matcher": {"safe_regex": {"regex": ".*"}}}}
#: The same, where no filter holds them to what instances read: everywhere but on gRPC methods' own paths.
_UNREAD: Final = ("grpc-encoding", "grpc-timeout")
#: What instances say of their load (gRFC A51, svc/chassis/load.py), for the gateway's balancing and nobody else's.
#: Envoy has read it when an answer comes out of the router: among its headers, where it is nothing but a status, else
#: among its trailers.
LOAD_REPORT: Final = "endpoint-load-metrics-bin"
#: By these an instance would speak as Envoy does; marks are what filters tell each other about a refusal.
_OUTBOUND: Final = (
    *names.MARKS,
    "x-envoy-upstream-canary",
    "x-envoy-upstream-service-time",
    "x-envoy-decorator-operation",
    "x-envoy-degraded",
    "x-envoy-immediate-health-check-fail",
    "x-envoy-ratelimited",
    LOAD_REPORT,
)
#: Put on every answer, refusals included, so that whoever got one can look its trace up.
TRACE: Final = {
    "header": {"key": names.TRACE_ID, "value": "%TRACE_ID%"},
    "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
}
_BYTES: Final = {
    "header": {"key": names.HEADERS_BYTES, "value": "%REQUEST_HEADERS_BYTES%"},
    "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
}


def build(_: PolicySet) -> Any:
    """The filter's config: what comes after a request's headers, and what a filter behind it has read of an answer."""
    return envoy(
        _MUTATION,
        mutations={
            "request_trailers_mutations": [_EVERY],
            "response_mutations": [{"remove": names.ATTEMPTS}],
            "response_trailers_mutations": [{"remove": LOAD_REPORT}],
        },
    )


def early(edge: Edge) -> dict[str, Any]:
    """Takes away what Envoy itself would read or instances cannot, and counts what came, before a route is chosen."""
    taken = (*_INBOUND, *_HOPS, *_GRPC) + (() if edge.joins_traces else _TRACE)
    mutations: list[dict[str, Any]] = [{"append": _BYTES}]
    mutations += [{"remove": name} for name in taken]
    mutations += [_BINARY, *(_beginning(prefix) for prefix in _HOPS_BEGIN)]
    kind = "extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation"
    return {
        "name": "envoy.http.early_header_mutation.header_mutation",
        "typed_config": envoy(kind, mutations=mutations),
    }


def for_virtual_host() -> dict[str, Any]:
    """What every request loses on its way to a service, and what every answer of one loses and gets."""
    return {
        "request_headers_to_remove": [names.HEADERS_BYTES],
        "response_headers_to_remove": list(_OUTBOUND),
        "response_headers_to_add": [TRACE],
    }


def without_grpc() -> Any:
    """For a route on which no filter looks at gRPC's headers; a deadline is the contract's there."""
    return envoy(
        f"{_MUTATION}PerRoute",
        mutations={"request_mutations": [{"remove": name} for name in _UNREAD]},
    )


def _beginning(prefix: str) -> dict[str, Any]:
    return {"remove_on_match": {"key_matcher": {"prefix": prefix}}}
