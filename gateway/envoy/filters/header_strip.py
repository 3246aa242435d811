"""Takes away every header by which a client could speak for the gateway or for a user, before Envoy reads one.

This happens in the connection manager, not in a filter: a filter that only takes headers off cost as much as the check
of a token. What answers say is put right where each is made: `for_answers`, and the listener's local replies.
"""

from typing import Any, Final

from gateway.envoy import names
from weft_protos.xds import envoy

#: Identity, which only the gateway and identity give; and how much a call matters, which the contract says.
_IDENTITY: Final = ("x-user", "x-scopes", "x-subject", "x-actor", "x-weft-criticality")
#: Identity, and what nothing in the mesh reads.
_INBOUND: Final = (*_IDENTITY, "baggage", *names.MARKS)
#: What proxies tell each other of a request's way. Envoy reads some of it before any filter runs: retries, timeouts and
#: forced traces are for the contracts to say, and no hop before this one is known.
_HOPS: Final = ("forwarded", "via", "x-client-trace-id")
_HOPS_BEGIN: Final = ("x-envoy-", "x-forwarded-")
#: By these an instance would speak as Envoy does; marks are what filters tell each other about a refusal.
_OUTBOUND: Final = (
    *names.MARKS,
    "x-envoy-upstream-canary",
    "x-envoy-upstream-service-time",
    "x-envoy-decorator-operation",
    "x-envoy-degraded",
    "x-envoy-immediate-health-check-fail",
    "x-envoy-ratelimited",
)
#: Put on every answer, refusals included, so that whoever got one can look its trace up.
TRACE: Final = {
    "header": {"key": names.TRACE_ID, "value": "%TRACE_ID%"},
    "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
}


def early() -> dict[str, Any]:
    """The extension that takes away what clients say of themselves and of hops."""
    mutations = [*({"remove": name} for name in (*_INBOUND, *_HOPS)), *(_beginning(prefix) for prefix in _HOPS_BEGIN)]
    kind = "extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation"
    return {
        "name": "envoy.http.early_header_mutation.header_mutation",
        "typed_config": envoy(kind, mutations=mutations),
    }


def for_answers() -> dict[str, Any]:
    """For the virtual host: what every answer of a service loses and gets."""
    return {"response_headers_to_remove": list(_OUTBOUND), "response_headers_to_add": [TRACE]}


def _beginning(prefix: str) -> dict[str, Any]:
    return {"remove_on_match": {"key_matcher": {"prefix": prefix}}}
