"""Values of the registry: the name of a service, and one endpoint of it.

Everything that comes from the registry passes through `Endpoint` before it is used, so an address that no client may
ever be sent to (none, link-local, multicast) cannot get further than here.
"""

import ipaddress
import re
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, NewType

from weft_protos import lanes

#: Name of a mesh service: `orders`. Also the name of its cluster and of its xDS listener.
ServiceName = NewType("ServiceName", str)

_NAME: Final = re.compile(r"[a-z][a-z0-9-]{0,62}")
_ZONE: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_PORT_MAX: Final = 65535
_VERSION_LENGTH_MAX: Final = 64


def service_name(text: str) -> ServiceName:
    """Check a service's name. Raises ValueError."""
    if not _NAME.fullmatch(text):
        raise ValueError(f"{text!r} is not a service name (a-z, 0-9 and -, beginning with a letter, 63 at most)")
    return ServiceName(text)


def zone_name(text: str) -> str:
    """Check a zone's name; empty: none. Raises ValueError."""
    if text and not _ZONE.fullmatch(text):
        raise ValueError(f"{text!r} is not a zone (a-z, 0-9 and -, 63 at most)")
    return text


@dataclass(frozen=True, slots=True, order=True)
class Endpoint:
    """One instance of a service and where it listens. Raises ValueError for anything no client could be sent to."""

    service: ServiceName
    instance: str
    address: str
    port: int
    version: str = ""
    start_time: datetime | None = None
    zone: str = ""
    """Where it runs; empty: not said. Callers of the same zone prefer it."""
    leaving: bool = False
    """It has said that it is about to end: nobody is sent there any more."""
    lane: str = ""
    """The lane it is in: only calls that go by that lane are sent there; empty: it is a stable one."""
    cluster: str = field(init=False, compare=False)
    """Under which name clients ask for it: `orders`, `orders@canary`."""

    def __post_init__(self) -> None:
        service_name(self.service)
        if not _NAME.fullmatch(self.instance):
            raise ValueError(f"{self.instance!r} is not an instance name")
        object.__setattr__(self, "address", _usable(self.address))
        if not 1 <= self.port <= _PORT_MAX:
            raise ValueError(f"port {self.port} is not in 1..{_PORT_MAX}")
        if len(self.version) > _VERSION_LENGTH_MAX:
            raise ValueError(f"version is longer than {_VERSION_LENGTH_MAX} characters")
        zone_name(self.zone)
        if self.lane and not lanes.is_name(self.lane):
            raise ValueError(f"{self.lane!r} is not a lane")
        object.__setattr__(self, "cluster", lanes.cluster(self.service, self.lane))


def _usable(address: str) -> str:
    """Canonical text of an IP address that can be connected to. Raises ValueError."""
    if "%" in address:
        raise ValueError(f"{address!r} has a zone, which means something on one machine only")
    ip = ipaddress.ip_address(address)
    plain = ip.ipv4_mapped or ip if isinstance(ip, ipaddress.IPv6Address) else ip
    if plain.is_unspecified or plain.is_link_local or plain.is_multicast or str(plain) == "255.255.255.255":
        raise ValueError(f"{address!r} is not an address of one reachable host")
    return str(ip)
