"""Turns gRPC-web into gRPC and back, for browsers."""

from typing import Any

from gateway.policy import PolicySet
from weft_protos.xds import envoy


def build(_: PolicySet) -> Any:
    """The filter's config."""
    return envoy("extensions.filters.http.grpc_web.v3.GrpcWeb")
