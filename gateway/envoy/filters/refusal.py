"""Explains every refusal of the gateway itself in google.rpc details: who may call, how often, and where that is said.

The connection manager marks its own answers with WHY and STATUS headers; the script acts only on marked answers, so a
service's answer is never touched, and a service cannot set the marks because the virtual host takes them off.
"""

import math
from typing import Any, Final

from gateway.envoy import answers, cluster, names
from gateway.envoy.script import lua
from gateway.policy import PolicySet, RateLimit, Rpc
from weft_protos import grounds
from weft_protos import policy as shared

#: The least that a refused caller is told to wait.
WAIT_MS_MIN: Final = 100


def build(_: PolicySet) -> Any:
    """The filter's config."""
    constants: dict[str, str | int] = {
        "WHY": names.WHY,
        "STATUS": names.STATUS,
        "REASON": names.REASON,
        "WIRE": names.WIRE,
        "JWT": names.JWT,
        "PAYLOAD": names.JWT_PAYLOAD,
        "SUBJECT_LIMIT": names.SUBJECT_LIMIT,
        "INSTANCE_VARIABLE": names.INSTANCE_VARIABLE,
        "TOKEN_RULE": grounds.TOKEN,
        "SIZE_RULE": grounds.gateway(grounds.request_bytes_limit(shared.REQUEST_BYTES_MAX)),
        "ADDRESS_RULE": grounds.gateway("calls from one address"),
        "HEADERS_LIMIT": f"headers of up to {names.HEADERS_BYTES_MAX} bytes and {names.HEADERS_MAX} fields",
        "OVERLOAD_RULE": grounds.gateway("calls that their service says it has no time for"),
        "UNKNOWN_RULE": grounds.gateway("no such method"),
        "GATEWAY_RULE": grounds.gateway(""),
    }
    return lua(names.REFUSAL, script="refusal.lua", constants=constants)


def seen() -> list[answers.Predicate]:
    """Which answers are shown to it: those that the connection manager has marked."""
    return [answers.having(names.WHY, ".+")]


def for_route(rpc: Rpc) -> dict[str, str | float]:
    """Route metadata: what the script says about this RPC, each rule with the line of the contract that says it."""
    policy, places = rpc.policy, rpc.places
    waiting = cluster.REQUESTS_MAX if policy.criticality == "critical" else cluster.PENDING_MAX
    said: dict[str, str | float] = {
        "method": rpc.name,
        "contract": rpc.method.place.at().contract,
        "access_rule": rpc.access,
        "access_contract": places["access"].contract,
        "scopes": " ".join(policy.scopes),
        "request_rule": grounds.request(rpc.method.request),
        "size": grounds.request_bytes_limit(policy.request_bytes),
        "size_rule": grounds.request_bytes(policy.request_bytes),
        "size_contract": places["max_request_bytes"].contract,
        "upstream_rule": grounds.gateway(f"no instance of {rpc.owner}"),
        "waiting_rule": grounds.gateway(f"up to {waiting} calls waiting for {rpc.owner}"),
    }
    if policy.timeout is not None:
        said |= {
            "timeout_rule": grounds.timeout(policy.timeout.total_seconds()),
            "timeout_contract": places["timeout"].contract,
        }
    limit = policy.rate_limit
    if limit is not None:
        said |= {
            "limit": str(limit),
            "limit_key": limit.key,
            "limit_rule": grounds.rate_limit(limit.requests, limit.per.total_seconds()),
            "limit_contract": places["rate_limit"].contract,
            "retry_ms": wait_ms(limit),
        }
    return said


def for_guard(policies: PolicySet) -> dict[str, str]:
    """Route metadata: the same about what one address may ask, whatever it asks."""
    edge = policies.edge
    if edge is None or edge.address_limit is None:
        return {}
    limit = edge.address_limit
    return {
        "guard": str(limit),
        "guard_rule": grounds.address_limit(limit.requests, limit.per.total_seconds()),
        "guard_contract": edge.places["address_limit"].contract,
    }


def wait_ms(limit: RateLimit) -> int:
    """How long until a token is there again: twice the fleet's interval, because a gateway has a share of it."""
    return max(WAIT_MS_MIN, math.ceil(2000 * limit.per.total_seconds() / limit.requests))
