"""Refuses requests that are larger than their method's contract allows, before anything parses them.

gRPC and gRPC-web are counted as the frame that holds the message, JSON as what is sent of it: path, query and body.
What it becomes is counted again by the service, on the message; so is a compressed message, after it was unpacked.

This filter keeps no more than the limit, and refuses what does not fit while it comes in; but a body that came whole
with the end of its stream it does not count. The scripts behind it, which have the whole body, compare its length.
"""

from typing import Any

from gateway.envoy import names
from gateway.policy import PolicySet, Rpc
from weft_protos import policy
from weft_protos.xds import envoy


def build(_: PolicySet) -> Any:
    """The filter's config, for requests that are no method's."""
    return _buffer(policy.REQUEST_BYTES_MAX + names.FRAME_BYTES)


def for_grpc(rpc: Rpc) -> Any:
    """For a method's own path. A stream has no end to wait for."""
    return unbuffered() if rpc.method.client_streaming else _per_route(rpc.policy.request_bytes + names.FRAME_BYTES)


def for_json(rpc: Rpc) -> Any:
    """For a method's JSON path."""
    return _per_route(rpc.policy.request_bytes)


def unbuffered() -> Any:
    """For routes whose requests are streams: the filter waits for the end of the request, which never comes."""
    return envoy("extensions.filters.http.buffer.v3.BufferPerRoute", disabled=True)


def _per_route(most: int) -> Any:
    return envoy("extensions.filters.http.buffer.v3.BufferPerRoute", buffer=_buffer(most))


def _buffer(most: int) -> Any:
    return envoy("extensions.filters.http.buffer.v3.Buffer", max_request_bytes=most)
