"""Looks at the load of what is sized by load, and has it resized. Thin: `autoscale.py` decides, `load.py` measures."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

import structlog

from deploy.supervisor import autoscale
from deploy.supervisor.autoscale import Bounds, Sample
from deploy.supervisor.errors import SupervisorError
from deploy.supervisor.load import Instance, Loads

log = structlog.get_logger()

EVERY_S = 1.0
PAUSE_S = 30.0
"""After a change of size that failed."""


class Autoscaler:
    """One loop for all services and workers."""

    def __init__(
        self,
        *,
        wanted: Callable[[], Mapping[str, tuple[int, Bounds]]],
        instances: Callable[[str], Sequence[Instance]],
        resize: Callable[[Mapping[str, int]], Awaitable[None]],
    ) -> None:
        """`wanted`: what is sized by load, how many there are, and between which bounds; `resize` changes that."""
        self._wanted = wanted
        self._instances = instances
        self._resize = resize
        self._loads = Loads()
        self._samples: dict[str, list[Sample]] = {}

    async def run(self) -> None:
        """Go on until cancelled."""
        while True:
            await asyncio.sleep(EVERY_S)
            try:
                sizes = await self.look()
                if sizes:
                    log.info("load_asks_for", sizes=sizes)
                    await self._resize(sizes)
            except SupervisorError as error:
                log.warning("not_resized", reason=str(error))
                self._samples.clear()
                await asyncio.sleep(PAUSE_S)

    async def look(self) -> Mapping[str, int]:
        """Measure once; the sizes that should change."""
        loop, wanted = asyncio.get_running_loop(), self._wanted()
        found = {service: self._instances(service) for service in wanted}
        loads = await asyncio.gather(*(self._loads.of(service, found[service]) for service in wanted))
        self._loads.forget({one.pid for instances in found.values() for one in instances})
        self._samples = {service: samples for service, samples in self._samples.items() if service in wanted}
        changed = {}
        for (service, (current, bounds)), load in zip(wanted.items(), loads, strict=True):
            samples = self._samples.setdefault(service, [])
            if load is not None:
                samples.append(Sample(loop.time(), load))
            self._samples[service] = samples = autoscale.recent(samples, now=loop.time())
            size = autoscale.size(samples, current=current, bounds=bounds, now=loop.time())
            # More than its bounds allow it has for the time of a roll: what was just begun is not undone.
            if size > current or (size < current and autoscale.settled(samples, now=loop.time())):
                changed[service] = size
        return changed

    def hold(self, service: str) -> None:
        """Somebody works on it by hand: what was measured until now is no reason to send an instance away."""
        self._samples.pop(service, None)

    def load(self, service: str) -> float | None:
        """What was measured last, in instances."""
        samples = self._samples.get(service)
        return samples[-1].load if samples else None
