"""Bounds the retries of an outage. Envoy's own retry budget does not: it counts what is in flight at one moment, and
calls that fail fast are hardly ever in flight. With a floor of 100, which a killed instance needs, every call of an
outage got all its retries (docs/decisions/0006-overload.md has the measurements).
"""

from typing import Final

from gateway.envoy import names
from gateway.envoy.script import Module
from gateway.policy import Rpc

#: In tenths: ten failed calls in a row empty it, and five stop the retries (maxTokens 10 and tokenRatio 0.1 of A6).
TOKENS_MAX: Final = 100
COST: Final = 10
REFUND: Final = 1

_SERVICE: Final = "retried_service"

MODULE: Final = Module(
    "throttle",
    script="retry_throttle.lua",
    constants={"SERVICE": _SERVICE, "TOKENS_MAX": TOKENS_MAX, "COST": COST, "REFUND": REFUND, "REASON": names.REASON},
)


def for_route(rpc: Rpc) -> dict[str, str]:
    """Route metadata: whose retries these are, where there are any."""
    return {} if rpc.policy.max_attempts is None else {_SERVICE: rpc.owner}
