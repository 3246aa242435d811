"""Takes away every header by which a client could speak for the gateway or for a signed-in user.

Answers name their trace, so that whoever got one can look it up.
"""

from typing import Any, Final

from gateway.envoy import names
from gateway.policy import PolicySet
from weft_protos.xds import envoy

#: Identity that only the gateway and identity give; and baggage, which nothing in the mesh reads.
INBOUND: Final = ("x-user", "x-scopes", "x-subject", "x-actor", "baggage", *names.MARKS)
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
            "response_mutations": [*({"remove": name} for name in OUTBOUND), {"append": _TRACE}],
        },
    )
