"""Looks at the load of what is sized by load, and has it resized. Thin: `autoscale.py` decides, `load.py` measures.

Each service is resized for itself: one whose instances start or drain slowly, or are refused, keeps no other waiting.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

import structlog

from deploy.supervisor import autoscale
from deploy.supervisor.autoscale import Bounds, Sample
from deploy.supervisor.errors import SupervisorError
from deploy.supervisor.load import Instance, Loads
from deploy.supervisor.supervisor import cancel

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
        resize: Callable[[str, int], Awaitable[None]],
    ) -> None:
        """`wanted`: what is sized by load, how many there are, and between which bounds; `resize` changes that."""
        self._wanted = wanted
        self._instances = instances
        self._resize = resize
        self._loads = Loads()
        self._samples: dict[str, list[Sample]] = {}
        self._resizing: dict[str, asyncio.Task[None]] = {}
        self._paused_until: dict[str, float] = {}

    async def run(self) -> None:
        """Go on until cancelled."""
        try:
            while True:
                await asyncio.sleep(EVERY_S)
                try:
                    sizes = await self.look()
                except Exception:  # whatever it was: nobody else would look at the load until a restart
                    log.exception("load_not_measured")
                    continue
                for service, size in sizes.items():
                    self._resizing[service] = asyncio.create_task(
                        self._follow(service, size), name=f"size of {service}"
                    )
        finally:
            await cancel(self._resizing.values())

    async def _follow(self, service: str, size: int) -> None:
        log.info("load_asks_for", service=service, size=size)
        try:
            await self._resize(service, size)
        except SupervisorError as error:
            log.warning("not_resized", service=service, reason=str(error))
            self._pause(service)
        except Exception:  # a fault in this is no reason to leave the others alone
            log.exception("not_resized", service=service)
            self._pause(service)
        finally:
            del self._resizing[service]

    def _pause(self, service: str) -> None:
        self._samples.pop(service, None)
        self._paused_until[service] = asyncio.get_running_loop().time() + PAUSE_S

    async def look(self) -> Mapping[str, int]:
        """Measure once; the sizes that should change, but for what is being changed, or was refused just now."""
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
            waits = service in self._resizing or loop.time() < self._paused_until.get(service, 0.0)
            # More than its bounds allow it has for the time of a roll: what was just begun is not undone.
            settled = size > current or autoscale.settled(samples, now=loop.time())
            if size != current and settled and not waits:
                changed[service] = size
        return changed

    def hold(self, service: str) -> None:
        """Somebody works on it by hand: what was measured until now is no reason to send an instance away."""
        self._samples.pop(service, None)

    def load(self, service: str) -> float | None:
        """What was measured last, in instances."""
        samples = self._samples.get(service)
        return samples[-1].load if samples else None
