"""Bytes of the xDS protocol to values and back, of both variants.

A response is put together from bytes that were serialised once for all clients, see `wire_format`.
"""

from dataclasses import dataclass
from typing import Any, Final

from google.protobuf.message import DecodeError

from lb.errors import ProtocolError
from lb.xds.delta import DeltaRequest, DeltaResponse
from lb.xds.stream import Request, Response
from lb.xds.types import Kind
from lb.xds.wire_format import text
from weft_protos.xds import message_class

_REQUEST: Final = "envoy.service.discovery.v3.DiscoveryRequest"
_DELTA_REQUEST: Final = "envoy.service.discovery.v3.DeltaDiscoveryRequest"
#: Tags of string fields, alike in DiscoveryResponse and DeltaDiscoveryResponse but for the removed names.
_VERSION: Final = b"\x0a"
_TYPE_URL: Final = b"\x22"
_NONCE: Final = b"\x2a"
_REMOVED: Final = b"\x32"
#: A client's own words end up in logs: bounded.
_ERROR_LENGTH_MAX: Final = 500
_AGENT_LENGTH_MAX: Final = 60


@dataclass(frozen=True, slots=True)
class Node:
    """Who asks."""

    id: str
    cluster: str
    kind: Kind
    zone: str = ""
    """Where it runs; empty where it does not say."""
    agent: str = ""
    """The client's software and its version, in its own words."""


def decode(content: bytes) -> tuple[Request, Node | None]:
    """Read a DiscoveryRequest and the node it names, if any. Raises ProtocolError."""
    message = _parsed(_REQUEST, content)
    request = Request(
        type_url=message.type_url,
        version=message.version_info,
        nonce=message.response_nonce,
        names=tuple(message.resource_names),
        error=_error(message),
    )
    return request, _node(message)


def decode_delta(content: bytes) -> tuple[DeltaRequest, Node | None]:
    """Read a DeltaDiscoveryRequest and the node it names, if any. Raises ProtocolError."""
    message = _parsed(_DELTA_REQUEST, content)
    request = DeltaRequest(
        type_url=message.type_url,
        nonce=message.response_nonce,
        subscribe=tuple(message.resource_names_subscribe),
        unsubscribe=tuple(message.resource_names_unsubscribe),
        held=dict(message.initial_resource_versions),
        error=_error(message),
    )
    return request, _node(message)


def encode(response: Response) -> bytes:
    """Serialise a DiscoveryResponse."""
    head = _head(response.version, response.type_url, response.nonce)
    return b"".join((head, *(resource.packed for resource in response.resources)))


def encode_delta(response: DeltaResponse) -> bytes:
    """Serialise a DeltaDiscoveryResponse."""
    head = _head(response.version, response.type_url, response.nonce)
    removed = (text(_REMOVED, name) for name in response.removed)
    return b"".join((head, *(resource.named for resource in response.resources), *removed))


def _head(version: str, type_url: str, nonce: str) -> bytes:
    return text(_VERSION, version) + text(_TYPE_URL, type_url) + text(_NONCE, nonce)


def _parsed(name: str, content: bytes) -> Any:
    try:
        return message_class(name).FromString(content)
    except DecodeError as error:
        raise ProtocolError(f"not a {name.rsplit('.', 1)[-1]}") from error


def _error(message: Any) -> str | None:
    return message.error_detail.message[:_ERROR_LENGTH_MAX] if message.HasField("error_detail") else None


def _node(message: Any) -> Node | None:
    if not message.HasField("node"):
        return None
    node = message.node
    told = node.metadata.fields["kind"].string_value if "kind" in node.metadata.fields else ""
    is_envoy = told == Kind.ENVOY.value or (not told and node.user_agent_name == "envoy")
    kind = Kind.ENVOY if is_envoy else Kind.GRPC
    return Node(node.id, node.cluster, kind, node.locality.zone, _agent(node)[:_AGENT_LENGTH_MAX])


def _agent(node: Any) -> str:
    build = node.user_agent_build_version.version
    version = node.user_agent_version or f"{build.major_number}.{build.minor_number}.{build.patch}"
    return f"{node.user_agent_name} {version}" if node.user_agent_name else ""
