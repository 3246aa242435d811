"""What lies below `/weft/endpoints/`, made endpoints: whoever can write to etcd cannot make others send calls astray.

An entry that is not what its key says is refused, and the last good one of that key stays. So is one outside the mesh's
networks, of a service that no contract knows, or at an address that another instance has registered since. Pure. Work
is done for what has changed, not for what there is.
"""

import ipaddress
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from lb.endpoint import Endpoint
from lb.errors import EntryRefusedError
from lb.registry.etcd import Record
from lb.registry.keys import EDGE, decode

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

#: Where instances are unless somebody says otherwise: loopback and private networks (RFC 1918, 4193, 6598).
PRIVATE: Final[tuple[Network, ...]] = tuple(
    ipaddress.ip_network(text)
    for text in ("127.0.0.0/8", "::1/128", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")
)


class Entries:
    """The endpoints of one registry."""

    def __init__(
        self,
        *,
        networks: Sequence[Network] = PRIVATE,
        known: Callable[[str], bool] = lambda service: True,
        on_refused: Callable[[bytes, str], None] = lambda key, reason: None,
    ) -> None:
        """`known` says whether a service is one of the mesh's; `on_refused` is told each refusal once."""
        self._networks = tuple(networks)
        self._known = known
        self._on_refused = on_refused
        self._records: dict[bytes, Record] = {}
        self._endpoints: dict[bytes, Endpoint] = {}
        self._broken: dict[bytes, str] = {}
        self._refused: dict[bytes, str] = {}

    @property
    def refused(self) -> Mapping[bytes, str]:
        """The reason for each key that is refused now."""
        return self._refused

    def take(self, records: Mapping[bytes, Record]) -> dict[bytes, Endpoint]:
        """Everything that may be used of what lies there now."""
        for key in self._records.keys() - records.keys():
            del self._records[key]
            self._endpoints.pop(key, None)
            self._broken.pop(key, None)
        again: set[bytes] = set()
        for key, record in records.items():
            before = self._records.get(key)
            if before is not record and before != record:
                again.add(key)
                self._records[key] = record
                self._read(key, record)
        refused = dict(self._broken)
        admitted = self._admitted(refused)
        for key, reason in refused.items():
            if key in again or self._refused.get(key) != reason:
                self._on_refused(key, reason)
        self._refused = refused
        return admitted

    def _read(self, key: bytes, record: Record) -> None:
        try:
            endpoint = decode(key, record.value, lease=record.lease)
            if not self._inside(endpoint.address):
                raise EntryRefusedError("foreign_host", f"{endpoint.address} is in none of the mesh's networks")
        except EntryRefusedError as error:
            self._broken[key] = error.reason
        else:
            self._broken.pop(key, None)
            self._endpoints[key] = endpoint

    def _inside(self, address: str) -> bool:
        ip = ipaddress.ip_address(address)
        plain = ip.ipv4_mapped or ip if isinstance(ip, ipaddress.IPv6Address) else ip
        return any(plain in network for network in self._networks)

    def _admitted(self, refused: dict[bytes, str]) -> dict[bytes, Endpoint]:
        """Endpoints of services that are known, one for each address; the others are added to `refused`."""
        admitted: dict[bytes, Endpoint] = {}
        holders: dict[tuple[str, int], bytes] = {}
        for key, endpoint in self._endpoints.items():
            if endpoint.service == EDGE:
                admitted[key] = endpoint  # counted, never connected to: its address is the far end of a stream
                continue
            if not self._known(endpoint.service):
                refused[key] = "unknown_service"
                continue
            # Who has registered last has the address now; the other one ended without having been missed yet.
            other = holders.setdefault((endpoint.address, endpoint.port), key)
            if other != key:
                older = min(other, key, key=lambda each: self._records[each].mod_revision)
                holders[endpoint.address, endpoint.port] = key if older == other else other
                admitted.pop(older, None)
                if not self._endpoints[older].leaving:
                    refused[older] = "duplicate_address"
                if older == key:
                    continue
            admitted[key] = endpoint
        return admitted
