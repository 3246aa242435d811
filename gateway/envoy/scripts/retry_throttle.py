"""Bounds the retries of an outage, and hedging where all instances are slow. Envoy's own retry budget does not: it
counts what is in flight at one moment, and calls that fail fast are hardly ever in flight. With a floor of 100, which a
killed instance needs, every call of an outage got all its retries (docs/decisions/0006-overload.md measures it).

Hedges are counted apart. A call that hangs at one instance is none of an outage, and calls that are slow everywhere
must not lose their retries; but they must not be sent two and three times either.
"""

from typing import Final

from gateway.envoy import names
from gateway.envoy.script import Module
from gateway.policy import Rpc
from weft_protos import lanes

#: In tenths: ten failed calls in a row empty it, and five stop the retries (maxTokens 10 and tokenRatio 0.1 of A6).
TOKENS_MAX: Final = 100
#: Likewise for hedges, each of which costs as much as a failed call: 50 in a row, which is more than the calls that one
#: instance has in flight until it is found to hang and ejected; in the long run, one for ten calls that need none.
HEDGES_MAX: Final = 1000
COST: Final = 10
REFUND: Final = 1

#: A lane has buckets of its own: the control plane writes another target under these keys into its routes.
_SERVICE: Final = lanes.RETRIED
_HEDGED: Final = lanes.HEDGED

MODULE: Final = Module(
    "throttle",
    script="retry_throttle.lua",
    constants={
        "SERVICE": _SERVICE,
        "HEDGED": _HEDGED,
        "TOKENS_MAX": TOKENS_MAX,
        "HEDGES_MAX": HEDGES_MAX,
        "COST": COST,
        "REFUND": REFUND,
        "REASON": names.REASON,
        "COUNTED": names.COUNTED,
        "STRING": names.STRING_STATE,
    },
)


def for_route(rpc: Rpc) -> dict[str, str]:
    """Route metadata: whose retries and whose hedges these are, where there are any."""
    retried = {} if rpc.policy.max_attempts is None else {_SERVICE: rpc.owner}
    return retried if rpc.policy.hedging_delay is None else {**retried, _HEDGED: f"{rpc.owner} hedges"}
