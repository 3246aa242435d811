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
INBOUND: Final = (*_IDENTITY, "baggage", *names.MARKS)
#: What proxies tell each other of a request's way. Envoy reads some of it before any filter runs: retries, timeouts and
#: forced traces are for the contracts to say, and no hop before this one is known.
_HOPS: Final = ("forwarded", "via", "x-client-trace-id")
_HOPS_BEGIN: Final = ("x-envoy-", "x-forwarded-")
#: What filters tell each other about a refusal. Runs last on the way out, after the refusal filter has read them.
OUTBOUND: Final = names.MARKS
#: Put on every answer, refusals included.
_TRACE: Final = {
    "header": {"key": names.TRACE_ID, "value": "%TRACE_ID%"},
    "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
}


def build(_: PolicySet) -> Any:
    """The filter's config."""
    return envoy(
        "extensions.filters.http.header_mutation.v3.HeaderMutation",
        mutations={
            "request_mutations": [{"remove": name} for name in INBOUND],
            "response_mutations": [
                *({"remove": name} for name in OUTBOUND),
                _beginning("x-envoy-"),
                {"append": _TRACE},
            ],
        },
    )


def early() -> dict[str, Any]:
    """The extension that takes away what clients say of hops, before Envoy itself reads it."""
    mutations = [*({"remove": name} for name in _HOPS), *(_beginning(prefix) for prefix in _HOPS_BEGIN)]
    kind = "extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation"
    return {
        "name": "envoy.http.early_header_mutation.header_mutation",
        "typed_config": envoy(kind, mutations=mutations),
    }


def _beginning(prefix: str) -> dict[str, Any]:
    return {"remove_on_match": {"key_matcher": {"prefix": prefix, "ignore_case": True}}}
