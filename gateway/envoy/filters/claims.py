"""Refuses verified tokens for what Envoy's own check does not look at: type, critical extensions, subject, times."""

from typing import Any

from gateway.envoy import names
from gateway.envoy.script import lua
from gateway.policy import PolicySet


def build(_: PolicySet) -> Any:
    """The filter's config."""
    constants: dict[str, str | int] = {
        "SKEW_S": names.CLOCK_SKEW_S,
        "LIFETIME_S": names.TOKEN_LIFETIME_S,
        "JWT": names.JWT,
        "PAYLOAD": names.JWT_PAYLOAD,
        "HEADER": names.JWT_HEADER,
        "REASON": names.REASON,
        "TOKENS_MAX": names.TOKENS_MAX,
    }
    return lua(names.CLAIMS, script="claims.lua", constants=constants)
