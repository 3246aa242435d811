"""Sends calls into a lane, where one is open. Off unless the control plane turns it on, so that it costs nothing."""

from typing import Any

from gateway.envoy import names
from gateway.envoy.script import lua
from gateway.policy import PolicySet
from weft_protos import lanes


def build(_: PolicySet) -> Any:
    """The filter's config. Which lanes there are comes with the routes, by the control plane."""
    constants: dict[str, str | int] = {
        "ASKED": lanes.ASKED,
        "HEADER": lanes.HEADER,
        "JWT": names.JWT,
        "PAYLOAD": names.JWT_PAYLOAD,
    }
    return lua(names.LANE, script="lane.lua", constants=constants)
