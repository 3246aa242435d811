"""Takes away every header by which a client could speak for the gateway or for a signed-in user.

Answers name their trace, so that whoever got one can look it up.
"""

from typing import Any, Final

from gateway.envoy import names
from gateway.policy import PolicySet
from weft_protos.xds import envoy

#: Identity, which only the gateway and identity give; and how much a call matters, which the contract says.
_IDENTITY: Final = ("x-user", "x-scopes", "x-subject", "x-actor", "x-weft-criticality")
#: Identity, and what nothing in the mesh reads.
INBOUND: Final = (*_IDENTITY, "baggage", *names.MARKS, names.HEADERS_BYTES)
#: What proxies tell each other of a request's way. Envoy reads some of it before any filter runs: retries, timeouts and
#: forced traces are for the contracts to say, and no hop before this one is known.
_HOPS: Final = ("forwarded", "via", "x-client-trace-id")
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
#: What filters tell each other about a refusal. Runs last on the way out, after the refusal filter has read them.
OUTBOUND: Final = names.MARKS
#: Put on every answer, refusals included.
_TRACE: Final = {
    "header": {"key": names.TRACE_ID, "value": "%TRACE_ID%"},
    "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
}
_BYTES: Final = {
    "header": {"key": names.HEADERS_BYTES, "value": "%REQUEST_HEADERS_BYTES%"},
    "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
}


def build(_: PolicySet) -> Any:
    """The filter's config."""
    return envoy(
        "extensions.filters.http.header_mutation.v3.HeaderMutation",
        mutations={
            "request_mutations": [{"remove": name} for name in INBOUND],
            "request_trailers_mutations": [_EVERY],
            "response_mutations": [
                *({"remove": name} for name in OUTBOUND),
                _beginning("x-envoy-"),
                {"append": _TRACE},
            ],
        },
    )


def early() -> dict[str, Any]:
    """Takes away what Envoy itself would read or instances cannot, and counts what came, before a route is chosen."""
    mutations: list[dict[str, Any]] = [{"append": _BYTES}, *({"remove": name} for name in (*_HOPS, *_GRPC))]
    mutations += [_BINARY, *(_beginning(prefix) for prefix in _HOPS_BEGIN)]
    kind = "extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation"
    return {
        "name": "envoy.http.early_header_mutation.header_mutation",
        "typed_config": envoy(kind, mutations=mutations),
    }


def without_grpc() -> Any:
    """For a route on which no filter looks at gRPC's headers; a deadline is the contract's there."""
    return envoy(
        "extensions.filters.http.header_mutation.v3.HeaderMutationPerRoute",
        mutations={"request_mutations": [{"remove": name} for name in _UNREAD]},
    )


def _beginning(prefix: str) -> dict[str, Any]:
    return {"remove_on_match": {"key_matcher": {"prefix": prefix, "ignore_case": True}}}
