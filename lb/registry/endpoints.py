"""All endpoints of the mesh, as a control plane announces them.

Reads `/weft/endpoints/` through a Directory, refuses entries that are not what their key says (the last good value of
that key stays), and lets Retention decide how long what has vanished is still announced.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Final, NoReturn

import structlog

from lb.endpoint import Endpoint
from lb.errors import EntryRefusedError
from lb.registry.directory import Directory
from lb.registry.etcd import Client, Dialer, KeyRange, Record
from lb.registry.keys import ENDPOINTS, decode
from lb.registry.retention import Retention

log = structlog.get_logger(__name__)

#: Leases that end together are seen together, so that the last endpoints of a service are seen to be the last.
COALESCE_S: Final = 0.02


class Endpoints:
    """Follows the registry and calls `on_change` with every new set, sorted."""

    def __init__(
        self,
        dialer: Dialer,
        *,
        on_change: Callable[[tuple[Endpoint, ...]], None],
        on_refused: Callable[[str], None] = lambda reason: None,
        retention: Retention | None = None,
    ) -> None:
        self._on_change = on_change
        self._on_refused = on_refused
        self._retention = retention or Retention()
        self._directory = Directory(
            dialer, KeyRange.prefix(ENDPOINTS), on_change=self._changed, on_trouble=self._distrust
        )
        self._refused: dict[bytes, bytes] = {}
        self._registered: dict[bytes, Endpoint] = {}
        self._announced: tuple[Endpoint, ...] | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def run(self) -> NoReturn:
        """Follow until cancelled."""
        await self._directory.run()

    def _distrust(self) -> None:
        self._retention.distrust(asyncio.get_running_loop().time())

    def _changed(self, records: Mapping[bytes, Record]) -> None:
        self._registered = self._decoded(records)
        if self._announced is None:
            self._settle()
        else:
            self._schedule(asyncio.get_running_loop().time() + COALESCE_S)

    def _decoded(self, records: Mapping[bytes, Record]) -> dict[bytes, Endpoint]:
        endpoints: dict[bytes, Endpoint] = {}
        refused: dict[bytes, bytes] = {}
        for key, record in records.items():
            try:
                endpoints[key] = decode(key, record.value, lease=record.lease)
            except EntryRefusedError as error:
                refused[key] = record.value
                if self._refused.get(key) != record.value:  # said once for each value, not at every change
                    log.warning("registry_entry_refused", key=key.decode(errors="replace"), reason=error.reason)
                    self._on_refused(error.reason)
                if key in self._registered:
                    endpoints[key] = self._registered[key]
        self._refused = refused
        return endpoints

    def _settle(self) -> None:
        self._timer = None
        announced = tuple(sorted(self._retention.settle(self._registered, _now()).values(), key=_order))
        if announced != self._announced:
            self._announced = announced
            self._on_change(announced)
        deadline = self._retention.next_deadline()
        if deadline is not None:
            self._schedule(deadline)

    def _schedule(self, when: float) -> None:
        if self._timer is not None:
            if self._timer.when() <= when:
                return
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(when, self._settle)


async def registered(client: Client) -> tuple[Endpoint, ...]:
    """The endpoints registered at this moment; entries that are refused are left out."""
    endpoints: list[Endpoint] = []
    for record in (await client.list(KeyRange.prefix(ENDPOINTS))).records:
        try:
            endpoints.append(decode(record.key, record.value, lease=record.lease))
        except EntryRefusedError as error:
            log.warning("registry_entry_refused", key=record.key.decode(errors="replace"), reason=error.reason)
    return tuple(sorted(endpoints, key=_order))


def _now() -> float:
    return asyncio.get_running_loop().time()


def _order(endpoint: Endpoint) -> tuple[str, str]:
    return endpoint.service, endpoint.instance
