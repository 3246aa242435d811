"""Refuses requests that are too large, before anything parses them."""

from typing import Any

from gateway.envoy import names
from gateway.policy import PolicySet
from weft_protos.xds import envoy


def build(_: PolicySet) -> Any:
    """The filter's config."""
    return envoy("extensions.filters.http.buffer.v3.Buffer", max_request_bytes=names.REQUEST_BYTES_MAX)


def unbuffered() -> Any:
    """For routes whose requests are streams: the filter waits for the end of the request, which never comes."""
    return envoy("extensions.filters.http.buffer.v3.BufferPerRoute", disabled=True)
