"""An instance's way out of the registry: asked to go, it waits until no client has it any more.

The endpoint's key makes place for one below `/weft/leaving/`; `lb.xds.departures` answers it in each control plane that
lives. Those that have told etcd of themselves within their lease are waited for, and nobody else.
"""

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import structlog

from lb.endpoint import Endpoint
from lb.errors import EntryRefusedError, EtcdError
from lb.registry.backoff import MINIMUM_S
from lb.registry.etcd import Client, Dialer, KeyRange, Record
from lb.registry.keys import CONTROL_PLANES, ENDPOINTS, decode_leaving, endpoint_key, leaving_key, left_key

log = structlog.get_logger(__name__)

_POLL_S: Final = 0.02


@dataclass(frozen=True, slots=True)
class Departure:
    """How an instance left."""

    confirmed: bool
    """Etcd has it that the endpoint is gone."""
    unanswered: tuple[str, ...] = ()
    """Control planes that did not say in time that all their clients know."""
    alone: bool = False
    """No other instance of the service is there: nobody can be sent elsewhere, so nobody was waited for."""

    @property
    def complete(self) -> bool:
        """Whether there is nothing left to wait for."""
        return self.confirmed and not self.unanswered


def leaving(records: Mapping[bytes, Record]) -> Mapping[Endpoint, bytes]:
    """Who leaves, and what each has written, of the records below `/weft/leaving/`. What is refused is left out."""
    found: dict[Endpoint, bytes] = {}
    for key, record in records.items():
        try:
            found[decode_leaving(key, record.value, lease=record.lease)] = record.value
        except EntryRefusedError as error:
            log.warning("registry_entry_refused", key=key.decode(errors="replace"), reason=error.reason)
    return found


async def departed(
    dialer: Dialer, endpoint: Endpoint, value: bytes, *, confirm_s: float, acknowledge_s: float
) -> Departure:
    """Wait until the endpoint is gone from etcd, `confirm_s` at most, and from all clients, `acknowledge_s` at most.

    `value`: what was written below `/weft/leaving/`.
    """
    began = asyncio.get_running_loop().time()
    seen = Departure(confirmed=False)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(confirm_s) as limit:
            while True:
                try:
                    async with dialer.session() as client:
                        while not seen.complete:
                            seen = await _look(client, endpoint, value)
                            if seen.confirmed:
                                limit.reschedule(began + acknowledge_s)
                            if not seen.complete:
                                await asyncio.sleep(_POLL_S)
                        break
                except EtcdError as error:
                    log.warning("departure_not_seen", kind=error.__class__.__name__, detail=str(error))
                    await asyncio.sleep(MINIMUM_S)
    return seen


async def _look(client: Client, endpoint: Endpoint, value: bytes) -> Departure:
    asked = await client.get(leaving_key(endpoint.service, endpoint.instance))
    kept = await client.get(endpoint_key(endpoint.service, endpoint.instance))
    if asked is None or asked.value != value or (kept is not None and kept.value == value):
        return Departure(confirmed=False)
    others = await client.list(KeyRange.prefix(ENDPOINTS + f"{endpoint.service}/".encode()), keys_only=True)
    if not others.records:
        return Departure(confirmed=True, alone=True)
    begin = left_key(endpoint.service, endpoint.instance)
    answers = {
        record.key.removeprefix(begin)
        for record in (await client.list(KeyRange.prefix(begin))).records
        if record.value == value
    }
    living = await client.list(KeyRange.prefix(CONTROL_PLANES), keys_only=True)
    silent = {record.key.removeprefix(CONTROL_PLANES) for record in living.records} - answers
    return Departure(confirmed=True, unanswered=tuple(sorted(name.decode(errors="replace") for name in silent)))
