"""All resources of a bundle, each with the kind of client that gets it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from google.protobuf.message import Message

from gateway.envoy import cluster, hop, listener, proxyless, route
from gateway.envoy.edge import Edge
from gateway.policy import PolicySet
from weft_protos import identity, lanes

Audience = Literal["envoy", "grpc", "all"]


@dataclass(frozen=True, slots=True)
class Resource:
    """One xDS resource."""

    audience: Audience
    name: str
    message: Message


def build(policies: PolicySet, edge: Edge) -> Iterator[Resource]:
    """Everything but endpoints and keys, which only the control plane knows."""
    for message in (*listener.build(policies, edge), route.build(policies, edge)):
        yield Resource("envoy", message.name, message)
    for extension in listener.extensions(policies):
        yield Resource("envoy", extension.name, extension)
    for service in policies.owners:
        socket = None
        if edge.hop_secrets is None:
            yield Resource("all", service, cluster.build(service))
        else:
            server = identity.service(service)
            socket = hop.from_gateway(edge.hop_secrets, server)
            yield Resource("envoy", service, cluster.build(service, socket))
            yield Resource("grpc", service, cluster.build(service, hop.from_service(server)))
        if any(rpc.method.streaming for rpc in policies.rpcs if rpc.owner == service):
            yield Resource("envoy", lanes.streams(service), cluster.of_streams(service, socket))
        yield Resource("grpc", service, proxyless.listener(service))
        yield Resource("grpc", proxyless.route_name(service), proxyless.routes(service))
