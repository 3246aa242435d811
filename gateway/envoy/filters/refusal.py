"""Explains every refusal of the gateway itself in google.rpc details: who may call, how often, and where that is said.

The connection manager marks its own answers with WHY and STATUS headers; the script acts only on marked answers, so a
service's answer is never touched, and a service cannot set the marks because the virtual host takes them off.
"""

import math
from typing import Any, Final

from gateway.envoy import names
from gateway.envoy.script import lua
from gateway.policy import PolicySet, RateLimit, Rpc

#: The least that a refused caller is told to wait.
WAIT_MS_MIN: Final = 100


def build(_: PolicySet) -> Any:
    """The filter's config."""
    constants = {
        "WHY": names.WHY,
        "STATUS": names.STATUS,
        "REASON": names.REASON,
        "JWT": names.JWT,
        "PAYLOAD": names.JWT_PAYLOAD,
        "SUBJECT_LIMIT": names.SUBJECT_LIMIT,
    }
    return lua(names.REFUSAL, script="refusal.lua", constants=constants)


def for_route(rpc: Rpc) -> dict[str, str | float]:
    """Route metadata: what the script says about this RPC."""
    said: dict[str, str | float] = {
        "method": rpc.name,
        "access_rule": str(rpc.places["access"]),
        "scopes": " ".join(rpc.policy.scopes),
    }
    limit = rpc.policy.rate_limit
    if limit is not None:
        said |= {
            "limit": str(limit),
            "limit_key": limit.key,
            "limit_rule": str(rpc.places["rate_limit"]),
            "retry_ms": wait_ms(limit),
        }
    return said


def wait_ms(limit: RateLimit) -> int:
    """How long until a token is there again: twice the fleet's interval, because a gateway has a share of it."""
    return max(WAIT_MS_MIN, math.ceil(2000 * limit.per.total_seconds() / limit.requests))
