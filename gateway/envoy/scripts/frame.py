"""Holds calls on a method's own path to the gRPC protocol: one whole message, and headers that servers understand.

A stream of requests has no whole to look at, so routes of such methods, and reflection's, are not marked.
"""

from typing import Final

from gateway.envoy import names
from gateway.envoy.script import Module
from gateway.policy import Rpc

MODULE: Final = Module("frame", script="frame.lua", constants={"MOST": names.FRAME_MOST})


def for_route(rpc: Rpc) -> dict[str, str | float]:
    """Route metadata: that the request is one message, and how large its frame may be."""
    return {} if rpc.method.client_streaming else {names.FRAME_MOST: rpc.policy.request_bytes + names.FRAME_BYTES}
