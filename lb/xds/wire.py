"""Bytes of the xDS protocol to values and back.

A response is put together from bytes that were serialised once for all clients: concatenated fields of a protobuf
message are that message.
"""

from dataclasses import dataclass
from typing import Any, Final

from google.protobuf.message import DecodeError

from lb.errors import ProtocolError
from lb.xds.snapshot import Resource
from lb.xds.stream import Request, Response
from lb.xds.types import Kind
from weft_protos.xds import message_class

_REQUEST: Final = "envoy.service.discovery.v3.DiscoveryRequest"
_RESPONSE: Final = "envoy.service.discovery.v3.DiscoveryResponse"
#: Tags of length-delimited fields: DiscoveryResponse.resources, Any.type_url, Any.value.
_RESOURCES_TAG: Final = b"\x12"
_TYPE_URL_TAG: Final = b"\x0a"
_VALUE_TAG: Final = b"\x12"
#: A client's own words end up in logs: bounded.
_ERROR_LENGTH_MAX: Final = 500


@dataclass(frozen=True, slots=True)
class Node:
    """Who asks."""

    id: str
    cluster: str
    kind: Kind
    zone: str = ""
    """Where it runs; empty where it does not say."""


def decode(content: bytes) -> tuple[Request, Node | None]:
    """Read a DiscoveryRequest and the node it names, if any. Raises ProtocolError."""
    try:
        message: Any = message_class(_REQUEST).FromString(content)
    except DecodeError as error:
        raise ProtocolError("not a DiscoveryRequest") from error
    request = Request(
        type_url=message.type_url,
        version=message.version_info,
        nonce=message.response_nonce,
        names=tuple(message.resource_names),
        error=message.error_detail.message[:_ERROR_LENGTH_MAX] if message.HasField("error_detail") else None,
    )
    return request, _node(message.node) if message.HasField("node") else None


def encode(response: Response) -> bytes:
    """Serialise a DiscoveryResponse."""
    head = message_class(_RESPONSE)(
        version_info=response.version, type_url=response.type_url, nonce=response.nonce
    ).SerializeToString(deterministic=True)
    return b"".join((head, *(_field(_RESOURCES_TAG, _packed(resource)) for resource in response.resources)))


def _packed(resource: Resource) -> bytes:
    """The resource as a serialised google.protobuf.Any."""
    return _field(_TYPE_URL_TAG, resource.type_url.encode()) + _field(_VALUE_TAG, resource.content)


def _field(tag: bytes, content: bytes) -> bytes:
    size, length = len(content), bytearray()
    while size > 0x7F:
        length.append(size & 0x7F | 0x80)
        size >>= 7
    length.append(size)
    return b"".join((tag, length, content))


def _node(node: Any) -> Node:
    told = node.metadata.fields["kind"].string_value if "kind" in node.metadata.fields else ""
    is_envoy = told == Kind.ENVOY.value or (not told and node.user_agent_name == "envoy")
    return Node(id=node.id, cluster=node.cluster, kind=Kind.ENVOY if is_envoy else Kind.GRPC, zone=node.locality.zone)
