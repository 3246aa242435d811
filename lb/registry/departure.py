"""An instance's way out of the registry: asked to go, it waits until no client has it any more.

Its entry says goodbye, under its lease; `lb.xds.departures` answers that in each control plane that lives. Those that
have told etcd of themselves within their lease are waited for, and nobody else.
"""

import asyncio
import contextlib
from dataclasses import dataclass
from typing import Final

import structlog

from lb.endpoint import Endpoint
from lb.errors import EtcdError
from lb.registry.backoff import MINIMUM_S
from lb.registry.etcd import Client, Dialer, KeyRange
from lb.registry.keys import CONTROL_PLANES, ENDPOINTS, endpoint_key, left_key, takes_over

log = structlog.get_logger(__name__)

_POLL_S: Final = 0.02


@dataclass(frozen=True, slots=True)
class Departure:
    """How an instance left."""

    confirmed: bool
    """Etcd has it that the instance leaves."""
    unanswered: tuple[str, ...] = ()
    """Control planes that did not say in time that all their clients know."""
    alone: bool = False
    """No other instance of the service is there: nobody can be sent elsewhere, so nobody was waited for."""

    @property
    def complete(self) -> bool:
        """Whether there is nothing left to wait for."""
        return self.confirmed and not self.unanswered


async def departed(
    dialer: Dialer, endpoint: Endpoint, goodbye: bytes, *, confirm_s: float, acknowledge_s: float
) -> Departure:
    """Wait until etcd has the goodbye, `confirm_s` at most, and no client the endpoint, `acknowledge_s` at most."""
    began = asyncio.get_running_loop().time()
    seen = Departure(confirmed=False)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(confirm_s) as limit:
            while True:
                try:
                    async with dialer.session() as client:
                        while not seen.complete:
                            seen = await _look(client, endpoint, goodbye)
                            if seen.confirmed:
                                limit.reschedule(began + acknowledge_s)
                            if not seen.complete:
                                await asyncio.sleep(_POLL_S)
                        break
                except EtcdError as error:
                    log.warning("departure_not_seen", kind=error.__class__.__name__, detail=str(error))
                    await asyncio.sleep(MINIMUM_S)
    return seen


async def _look(client: Client, endpoint: Endpoint, goodbye: bytes) -> Departure:
    entry = await client.get(endpoint_key(endpoint.service, endpoint.instance))
    if entry is None or entry.value != goodbye:
        return Departure(confirmed=False)
    service = await client.list(KeyRange.prefix(ENDPOINTS + f"{endpoint.service}/".encode()))
    if not any(takes_over(record.value) for record in service.records):
        return Departure(confirmed=True, alone=True)
    begin = left_key(endpoint.service, endpoint.instance)
    answers = {
        record.key.removeprefix(begin)
        for record in (await client.list(KeyRange.prefix(begin))).records
        if record.value == goodbye
    }
    living = await client.list(KeyRange.prefix(CONTROL_PLANES), keys_only=True)
    silent = {record.key.removeprefix(CONTROL_PLANES) for record in living.records} - answers
    return Departure(confirmed=True, unanswered=tuple(sorted(name.decode(errors="replace") for name in silent)))
