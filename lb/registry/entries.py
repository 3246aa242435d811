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
        self._at: dict[tuple[str, int], set[bytes]] = {}
        """Who has registered at an address."""
        self._goodbyes: dict[bytes, bytes] = {}
        self._broken: dict[bytes, str] = {}
        self._admitted: dict[bytes, Endpoint] = {}
        self._refused: dict[bytes, str] = {}

    @property
    def refused(self) -> Mapping[bytes, str]:
        """The reason for each key that is refused now."""
        return self._refused

    @property
    def leaving(self) -> Mapping[Endpoint, bytes]:
        """Who says goodbye, and the words it was said in. They are heard wherever they come from within the mesh."""
        return {self._endpoints[key]: words for key, words in self._goodbyes.items()}

    def take(self, records: Mapping[bytes, Record]) -> Mapping[bytes, Endpoint]:
        """Everything that may be used of what lies there now: as it is until this is called again."""
        changed = {key for key, record in records.items() if self._records.get(key) is not record}
        changed = {key for key in changed if self._records.get(key) != records[key]}
        gone = self._records.keys() - records.keys()
        affected = {key for key in changed | gone for key in self._neighbours(key)}
        for key in gone:
            del self._records[key]
            self._broken.pop(key, None)
            self._place(key, None)
        for key in changed:
            self._records[key] = records[key]
            self._read(key, records[key])
            affected.update(self._neighbours(key))
        for key in affected:
            self._judge(key, again=key in changed)
        return self._admitted

    def reconsider(self) -> None:
        """The services that are known have changed."""
        for key in self._records:
            self._judge(key, again=False)

    def _read(self, key: bytes, record: Record) -> None:
        try:
            endpoint = decode(key, record.value, lease=record.lease)
            if not self._inside(endpoint.address):
                raise EntryRefusedError("foreign_host", f"{endpoint.address} is in none of the mesh's networks")
        except EntryRefusedError as error:
            self._broken[key] = error.reason
        else:
            self._broken.pop(key, None)
            self._place(key, endpoint)
            if endpoint.leaving:
                self._goodbyes[key] = record.value

    def _place(self, key: bytes, endpoint: Endpoint | None) -> None:
        """Put a key's endpoint at its address, and nowhere else."""
        self._goodbyes.pop(key, None)
        before = self._endpoints.pop(key, None)
        if before is not None:
            there = self._at[before.address, before.port]
            there.discard(key)
            if not there:
                del self._at[before.address, before.port]
        if endpoint is not None:
            self._endpoints[key] = endpoint
            self._at.setdefault((endpoint.address, endpoint.port), set()).add(key)

    def _neighbours(self, key: bytes) -> set[bytes]:
        """All keys at this one's address, itself included."""
        endpoint = self._endpoints.get(key)
        return {key} if endpoint is None else {key, *self._at[endpoint.address, endpoint.port]}

    def _judge(self, key: bytes, *, again: bool) -> None:
        """Admit a key's endpoint or not, and say why not. `again`: even if that has been said."""
        endpoint = self._endpoints.get(key)
        reason = self._objection(key, endpoint) if endpoint is not None else None
        if endpoint is None or reason is not None:
            self._admitted.pop(key, None)
        else:
            self._admitted[key] = endpoint
        reason = self._broken.get(key, reason)
        if endpoint is not None and endpoint.leaving and reason == "duplicate_address":
            reason = None  # its place has been taken already: nothing to complain of
        if reason is None:
            self._refused.pop(key, None)
        else:
            if again or self._refused.get(key) != reason:
                self._on_refused(key, reason)
            self._refused[key] = reason

    def _objection(self, key: bytes, endpoint: Endpoint) -> str | None:
        if endpoint.service == EDGE:
            return None  # counted, never connected to: its address is the far end of a stream
        if not self._known(endpoint.service):
            return "unknown_service"
        # Who has registered last has the address now; the others ended without having been missed yet.
        rivals = [each for each in self._at[endpoint.address, endpoint.port] if self._rival(each)]
        newest = max(rivals, key=lambda each: (self._records[each].mod_revision, each))
        return None if newest == key else "duplicate_address"

    def _rival(self, key: bytes) -> bool:
        endpoint = self._endpoints[key]
        return endpoint.service != EDGE and self._known(endpoint.service)

    def _inside(self, address: str) -> bool:
        ip = ipaddress.ip_address(address)
        plain = ip.ipv4_mapped or ip if isinstance(ip, ipaddress.IPv6Address) else ip
        return any(plain in network for network in self._networks)
