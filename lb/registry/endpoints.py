"""All endpoints of the mesh, as a control plane announces them.

Reads `/weft/endpoints/` through a Directory, has `entries` refuse what must not be used, and lets Retention decide how
long what has vanished is still announced. What is held only because the registry may be wrong is called at its address
meanwhile: the registry says who has registered, the network says who is there.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Mapping
from typing import Final, NoReturn

import structlog

from lb.endpoint import Endpoint
from lb.errors import EntryRefusedError
from lb.registry import metrics
from lb.registry.directory import Directory
from lb.registry.entries import Entries
from lb.registry.etcd import Client, Dialer, KeyRange, Record
from lb.registry.keys import EDGE, ENDPOINTS, decode, endpoint_key, shown
from lb.registry.retention import Retention

log = structlog.get_logger(__name__)

#: Leases that end together are seen together, so that the last endpoints of a service are seen to be the last.
COALESCE_S: Final = 0.02
#: Between two calls at the address of an endpoint that is held; several fit into the time it is held for.
PROBE_EVERY_S: Final = 2.0
PROBE_TIMEOUT_S: Final = 1.0
#: Connections that are tried at once: a registry that lost everything has thousands of endpoints held.
_PROBES_AT_ONCE: Final = 100


class Endpoints:
    """Follows the registry and calls `on_change` with every new set, sorted."""

    def __init__(
        self,
        dialer: Dialer,
        *,
        on_change: Callable[[tuple[Endpoint, ...]], None],
        on_leaving: Callable[[Mapping[Endpoint, bytes]], None] = lambda leaving: None,
        entries: Entries | None = None,
        retention: Retention | None = None,
    ) -> None:
        """`on_leaving` is told who says goodbye, and in which words, after the change that it makes."""
        self._on_change = on_change
        self._on_leaving = on_leaving
        self._entries = entries or Entries()
        self._retention = retention or Retention()
        self._directory = Directory(
            dialer, KeyRange.prefix(ENDPOINTS), on_change=self._changed, on_trouble=self._distrust
        )
        self._records: Mapping[bytes, Record] = {}
        self._registered: Mapping[bytes, Endpoint] = {}
        self._announced: tuple[Endpoint, ...] | None = None
        self._leaving: Mapping[Endpoint, bytes] = {}
        self._refused: set[bytes] = set()
        """Of those that are held, whose address refused the last call."""
        self._timer: asyncio.TimerHandle | None = None

    @property
    def loaded(self) -> bool:
        """True once there was something to announce, be it nothing."""
        return self._announced is not None

    async def run(self) -> NoReturn:
        """Follow until cancelled."""
        probing = asyncio.ensure_future(self._probe())
        try:
            await self._directory.run()
        finally:
            probing.cancel()

    def remember(self, endpoints: Iterable[Endpoint]) -> None:
        """Take what was announced last as a beginning: what the registry does not know any more is held at first."""
        known = {endpoint_key(each.service, each.instance): each for each in endpoints}
        self._retention.remember(known, _now())

    def announce_remembered(self) -> None:
        """Announce what was remembered: the registry has not answered, and somebody waits."""
        self._settle()

    def reconsider(self) -> None:
        """The services that are known have changed."""
        self._entries.reconsider()
        if self._announced is not None:
            self._take()

    def _distrust(self) -> None:
        self._retention.distrust(_now())

    def _changed(self, records: Mapping[bytes, Record]) -> None:
        self._records = records
        self._take()

    def _take(self) -> None:
        self._registered = self._entries.take(self._records)
        metrics.refused(self._entries.refused.values())
        if self._announced is None:
            self._settle()
        else:
            self._schedule(_now() + COALESCE_S)

    def _settle(self) -> None:
        self._timer = None
        now = _now()
        for key, endpoint in self._retention.held().items():
            if key not in self._refused and endpoint.service != EDGE:
                # Thousands may wait for their turn to be called, and until then nobody can tell.
                self._retention.unclear(key, now)
        settled = self._retention.settle(self._registered, now)
        announced = tuple(settled[key] for key in sorted(settled))
        held = self._retention.held()
        self._refused.intersection_update(held)
        metrics.held(endpoint.service for endpoint in held.values())
        if announced != self._announced:
            self._announced = announced
            if held:
                log.warning("endpoints_held", count=len(held), services=sorted({e.service for e in held.values()})[:10])
            self._on_change(announced)
        leaving = self._entries.leaving
        if leaving != self._leaving:
            self._leaving = leaving
            self._on_leaving(leaving)
        deadline = self._retention.next_deadline()
        if deadline is not None:
            self._schedule(deadline)

    def _schedule(self, when: float) -> None:
        if self._timer is not None:
            if self._timer.when() <= when:
                return
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(when, self._settle)

    async def _probe(self) -> NoReturn:
        room = asyncio.Semaphore(_PROBES_AT_ONCE)
        while True:
            held = self._retention.held()
            await asyncio.gather(*(self._call(key, endpoint, room) for key, endpoint in held.items()))
            await asyncio.sleep(PROBE_EVERY_S)

    async def _call(self, key: bytes, endpoint: Endpoint, room: asyncio.Semaphore) -> None:
        if endpoint.service == EDGE:
            return  # its address is the far end of a stream: nobody listens there
        async with room:
            try:
                async with asyncio.timeout(PROBE_TIMEOUT_S):
                    _, writer = await asyncio.open_connection(endpoint.address, endpoint.port)
            except ConnectionRefusedError:
                self._refused.add(key)
                return
            except OSError:  # a timeout is one as well
                self._refused.discard(key)
                self._retention.unclear(key, _now())
                return
        self._refused.discard(key)
        self._retention.answered(key, _now())
        with contextlib.suppress(OSError):
            writer.close()
            await writer.wait_closed()


def refusals(count: Callable[[str], None]) -> Callable[[bytes, str], None]:
    """What to do about each refused entry: one line, and one count by its reason."""

    def refused(key: bytes, reason: str) -> None:
        log.warning("registry_entry_refused", key=shown(key), reason=reason)
        count(reason)

    return refused


async def registered(client: Client) -> tuple[Endpoint, ...]:
    """The endpoints registered at this moment; entries that are refused and instances that leave are left out."""
    endpoints: list[Endpoint] = []
    for record in (await client.list(KeyRange.prefix(ENDPOINTS))).records:
        try:
            endpoint = decode(record.key, record.value, lease=record.lease)
        except EntryRefusedError as error:
            log.warning("registry_entry_refused", key=shown(record.key), reason=error.reason)
        else:
            endpoints += [] if endpoint.leaving else [endpoint]
    return tuple(sorted(endpoints, key=_order))


def _now() -> float:
    return asyncio.get_running_loop().time()


def _order(endpoint: Endpoint) -> tuple[str, str]:
    return endpoint.service, endpoint.instance
