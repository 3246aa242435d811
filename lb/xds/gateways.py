"""The gateways that are connected to this control plane, as endpoints of the cluster `edge`.

A gateway has no registry agent of its own: it counts as alive while a control plane has its stream. Envoy needs to
know how many gateways there are to divide rate limits among them; the address is never connected to.
"""

from collections.abc import Callable
from typing import Final
from urllib.parse import unquote

import structlog

from lb.endpoint import Endpoint, ServiceName
from lb.xds.resources import EDGE
from lb.xds.types import Kind
from lb.xds.wire import Node

log = structlog.get_logger(__name__)

_SCHEMES: Final = ("ipv4:", "ipv6:")


class Gateways:
    """Counts the streams of each gateway: it arrives with the first and departs with the last."""

    def __init__(self, *, arrived: Callable[[Endpoint], None], departed: Callable[[Endpoint], None]) -> None:
        self._arrived = arrived
        self._departed = departed
        self._streams: dict[str, int] = {}
        self._endpoints: dict[str, Endpoint] = {}

    def connected(self, node: Node, peer: str) -> bool:
        """A stream began. Returns whether it is a gateway's; then `disconnected` must follow."""
        if node.kind is not Kind.ENVOY or node.cluster != EDGE:
            return False
        try:
            # The peer's own address and port: two gateways behind one address stay two.
            address, port = _socket(peer)
            endpoint = Endpoint(ServiceName(EDGE), node.id, address, port)
        except ValueError as error:
            log.warning("gateway_refused", node=node.id[:80], peer=peer, reason=str(error))
            return False
        self._streams[node.id] = self._streams.get(node.id, 0) + 1
        self._endpoints[node.id] = endpoint
        self._arrived(endpoint)
        return True

    def disconnected(self, node: Node) -> None:
        """A stream of a gateway ended."""
        self._streams[node.id] -= 1
        if not self._streams[node.id]:
            del self._streams[node.id]
            self._departed(self._endpoints.pop(node.id))


def _socket(peer: str) -> tuple[str, int]:
    """Address and port of a gRPC peer: `ipv4:127.0.0.1:4711`, `ipv6:%5B::1%5D:4711`. Raises ValueError."""
    scheme = next((each for each in _SCHEMES if peer.startswith(each)), None)
    if scheme is None:
        raise ValueError(f"{peer!r} is not an IP peer")
    address, _, port = unquote(peer.removeprefix(scheme)).rpartition(":")
    return address.strip("[]"), int(port)
