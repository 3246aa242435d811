"""Spares an overloaded service the work of refusing: the gateway refuses the same share of calls, by criticality.

The client-side throttling of the SRE book, with the service's own word instead of a count of what it accepted: an
instance knows by the time calls wait that it has too much to do, and says so with each call it refuses.
"""

from typing import Final

from gateway.envoy.script import Module
from gateway.policy import Rpc
from weft_protos import grounds, lanes

#: What one refusal of an instance adds. At the half-life below some fifty a second hold nine tenths of the calls off.
STEP_PERCENT: Final = 2
#: The rest goes through, or nobody would notice that there is time again.
MOST_PERCENT: Final = 98
HALF_LIFE_MS: Final = 500

_CLASS: Final = lanes.OVERLOADED

MODULE: Final = Module(
    "overload",
    script="overload.lua",
    constants={
        "CLASS": _CLASS,
        "MARK": grounds.OVERLOADED_MARK,
        "STEP_PERCENT": STEP_PERCENT,
        "MOST_PERCENT": MOST_PERCENT,
        "HALF_LIFE_MS": HALF_LIFE_MS,
    },
)


def for_route(rpc: Rpc) -> dict[str, str]:
    """Route metadata: with which others a call is refused; nothing for those that are refused last."""
    level = rpc.policy.criticality or "default"
    return {} if level == "critical" else {_CLASS: f"{rpc.owner} {level}"}
