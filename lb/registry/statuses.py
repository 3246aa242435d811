"""Status documents of control planes in etcd: kept by each control plane, read by whoever publishes.

The document lies under the control plane's lease, so that one that died says nothing any more after five seconds.
"""

import asyncio
from collections.abc import Callable
from typing import Final

import structlog

from lb.registry.etcd import Client, KeyRange
from lb.registry.keys import CONTROL_PLANES, status_key
from lb.registry.registrar import Registrar
from lb.status import ControlPlaneStatus, Verdict, decode, encode, judge

log = structlog.get_logger(__name__)

#: Changes come in bursts, one for each answer of each client; etcd is told once for all of a burst.
COALESCE_S: Final = 0.05
#: What nobody waits for, such as the way of endpoints to their clients, is told less often: it never ends.
IDLE_S: Final = 1.0
#: A client asks for what a response names only after it has accepted that response: so long it must have been quiet.
QUIET_S: Final = 0.5
_POLL_S: Final = 0.1


class StatusKeeper:
    """Keeps one control plane's document up to date. All methods belong to the loop that runs the registrar."""

    def __init__(self, registrar: Registrar, instance: str) -> None:
        self._registrar = registrar
        self._key = status_key(instance)
        self._timer: asyncio.TimerHandle | None = None
        self._stored = b""

    def changed(self, read: Callable[[], ControlPlaneStatus], *, soon: bool = True) -> None:
        """Something changed: what `read` then returns is stored in a moment, or in one second where nobody waits."""
        if self._timer is not None and not soon:
            return
        loop = asyncio.get_running_loop()
        when = loop.time() + (COALESCE_S if soon else IDLE_S)
        if self._timer is not None:
            if self._timer.when() <= when:
                return
            self._timer.cancel()
        self._timer = loop.call_at(when, self._announce, read)

    def _announce(self, read: Callable[[], ControlPlaneStatus]) -> None:
        self._timer = None
        document = encode(read())
        if document != self._stored:
            self._stored = document
            self._registrar.announce(self._key, document)


async def statuses(client: Client) -> tuple[ControlPlaneStatus, ...]:
    """What every living control plane says, sorted by name. What is no status is left out."""
    found: list[ControlPlaneStatus] = []
    for record in (await client.list(KeyRange.prefix(CONTROL_PLANES))).records:
        try:
            found.append(decode(record.value))
        except ValueError as error:
            log.warning("status_refused", key=record.key.decode(errors="replace"), reason=str(error))
    return tuple(sorted(found, key=lambda status: status.instance))


async def settled(client: Client, digest: str, *, timeout_s: float) -> Verdict:
    """The verdict on a bundle once it is final, or what is still waited for after `timeout_s`."""
    loop = asyncio.get_running_loop()
    deadline, accepted_at = loop.time() + timeout_s, None
    while True:
        verdict, now = judge(digest, await statuses(client)), loop.time()
        accepted_at = (accepted_at or now) if verdict.state == "accepted" else None
        if verdict.state == "refused" or (accepted_at is not None and now - accepted_at >= QUIET_S):
            return verdict
        if now >= deadline:
            return verdict
        await asyncio.sleep(_POLL_S)
