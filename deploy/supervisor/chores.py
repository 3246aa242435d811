"""What the supervisor does for somebody who does not wait for it: one restart, another size, a roll.

Whether it can be done is said at once; how it goes, by the status. What fails is in the log, and the parts are kept
alive as always: nothing depends on a chore's end. Chores end with the supervisor, and the next one does not know them.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, Final

import structlog

from deploy.supervisor.desired import SCALABLE, instances_max
from deploy.supervisor.errors import ConfigError, RefusedError
from deploy.supervisor.messages import Killed, Process
from deploy.supervisor.part import Kind
from deploy.supervisor.supervisor import Supervisor, cancel

log = structlog.get_logger()

ROLLABLE: Final = (Kind.SERVICE, Kind.WORKER, Kind.GATEWAY, Kind.CONTROL_PLANE, Kind.MEMCACHED, Kind.ETCD)
"""Kinds of which one may go while others do its work."""
CHORES_MAX: Final = 16
"""At once: whoever asks for more is told to wait."""


class Chores:
    """Those of one supervisor."""

    def __init__(self, *, resize: Callable[[str, int], Awaitable[object]], hold: Callable[[str], None]) -> None:
        """`resize` goes over to another size for a while; `hold` keeps the load from changing it meanwhile."""
        self._resize = resize
        self._hold = hold
        self._tasks: set[asyncio.Task[None]] = set()
        self._rolling: set[str] = set()

    @property
    def rolling(self) -> tuple[str, ...]:
        """Services whose instances are being replaced."""
        return tuple(sorted(self._rolling))

    def begin(self, chore: str, work: Coroutine[Any, Any, object]) -> None:
        """Do this, and wait for nothing. Raises RefusedError."""
        if len(self._tasks) >= CHORES_MAX:
            work.close()
            raise RefusedError(f"{len(self._tasks)} things are being done already; wait for one of them")
        task = asyncio.create_task(_logged(chore, work), name=chore)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def restart(self, supervisor: Supervisor, name: str) -> Killed:
        """Begin to restart a process; its pid now, 0 where it has none. Raises RefusedError."""
        before = _found(supervisor, name)
        self.begin(f"restart {name}", supervisor.restart(name))
        return Killed(name, before.pid or 0)

    def roll(self, supervisor: Supervisor, service: str, sizes: Mapping[str, int]) -> None:
        """Begin to replace every instance of a service, one after another. Raises RefusedError."""
        found = [each for each in supervisor.processes() if each.service == service and each.kind in ROLLABLE]
        if not found:
            raise RefusedError(f"nothing that can be rolled is called {service}")
        if late := [each.name for each in found if each.state != "ready"]:
            raise RefusedError(f"{', '.join(late)} of {service} is not ready; nothing was begun")
        if service in self._rolling:
            raise RefusedError(f"{service} is being rolled already")
        size = sizes.get(service) if service in SCALABLE else None
        self.begin(f"roll {service}", self._roll(supervisor, service, [each.name for each in found], size=size))
        self._rolling.add(service)

    async def stop(self) -> None:
        """End all of them where they are."""
        await cancel(list(self._tasks))

    async def _roll(self, supervisor: Supervisor, service: str, names: list[str], *, size: int | None) -> None:
        try:
            if size is None or size >= instances_max(service):
                await self._renew(supervisor, service, names)
                return
            self._hold(service)
            await self._resize(service, size + 1)  # the others take the work of the one that goes
            await self._renew(supervisor, service, names)
            now = [each.name for each in supervisor.processes() if each.service == service]
            if len(now) == size + 1:  # else somebody has asked for another size meanwhile
                await self._resize(service, size)
        finally:
            self._rolling.discard(service)

    async def _renew(self, supervisor: Supervisor, service: str, names: list[str]) -> None:
        for name in names:
            self._hold(service)
            await supervisor.restart(name)


def _found(supervisor: Supervisor, name: str) -> Process:
    for each in supervisor.processes():
        if each.name == name:
            return each
    raise RefusedError(f"no process is called {name}")


async def _logged(chore: str, work: Coroutine[Any, Any, object]) -> None:
    try:
        await work
    except (RefusedError, ConfigError) as error:
        log.error("chore_given_up", chore=chore, reason=str(error))
    else:
        log.info("chore_done", chore=chore)
