"""Refuses JSON bodies that the contract does not allow to the letter, in front of a transcoder that does.

Envoy's transcoder drops unknown keys, takes the last of several equal ones, and reads much that is no JSON at all; it
has no switch for any of it. So a typo in a key would be a request for something else, answered with success.
"""

from typing import Any

from gateway.contract import Binding
from gateway.envoy import json_schema, names
from gateway.envoy.script import lua
from gateway.envoy.scripts import checks
from gateway.policy import PolicySet, Rpc
from weft_protos.xds import envoy

#: Containers in each other. Far above any contract's own depth; the services refuse 100.
DEPTH_MAX = 32
#: The longest 64-bit integer has 20 digits, the longest double that anything prints has 21.
DIGITS_MAX = 25

_BODY = "json_body"


def build(policies: PolicySet) -> Any:
    """The filter's config, with what every body of the contracts may hold."""
    constants: dict[str, str | int] = {
        "BODY": _BODY,
        "MOST": names.JSON_MOST,
        "DEPTH_MAX": DEPTH_MAX,
        "DIGITS_MAX": DIGITS_MAX,
    }
    return lua(
        names.STRICT_JSON,
        script="strict_json.lua",
        constants=constants,
        modules=(checks.MODULE,),
        calls=json_schema.program(policies),
    )


def unneeded() -> Any:
    """For a gRPC method's own path: no JSON path begins like one, so the transcoder reads no body there.

    Envoy leaves a disabled filter out of the chain when the request arrives, so a gRPC call does not pay for it.
    """
    return envoy("config.route.v3.FilterConfig", disabled=True)


def for_route(rpc: Rpc, binding: Binding) -> dict[str, str | float]:
    """Route metadata: which body requests on a JSON path have, and how large they may be."""
    return {_BODY: json_schema.key(rpc, binding), names.JSON_MOST: rpc.policy.request_bytes}
