"""Keeps lanes as they are desired: tells the control planes of them, watches what their callers see, rolls them back.

Routes come before instances and go after them: a lane is declared closed, its instances are started, and it opens when
they are ready; it is closed before they are drained, and forgotten when they are gone. The desired state is written
before anything is done about it, and what control planes were told is compared with it every second, so a lane outlives
the supervisor, and an end that was begun is finished.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import structlog

from deploy.supervisor import lane, lane_budget, lane_watch
from deploy.supervisor.config import PROJECT
from deploy.supervisor.desired import Desired
from deploy.supervisor.errors import RefusedError, SupervisorError
from deploy.supervisor.lane import LaneSpec
from deploy.supervisor.lane_budget import Count, Window
from deploy.supervisor.lane_watch import Figures
from deploy.supervisor.messages import Process, Scaled
from weft_protos import lanes

log = structlog.get_logger()

EVERY_S: Final = 1.0
PUBLISH_S: Final = 10.0
"""How long etcd has to take the lanes."""
PAUSE_S: Final = 5.0
"""After it did not."""

Change = Callable[[Callable[[Desired], Desired]], Awaitable[Scaled]]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What lanes need of the supervisor."""

    desired: Callable[[], Desired]
    change: Change
    """Goes over to another desired state and waits until it is there. Raises RefusedError."""
    processes: Callable[[], Sequence[Process]]
    metrics_port: Callable[[str], int]
    admin: Callable[[str], Path]
    """The admin socket of a gateway."""
    environ: Callable[[], Mapping[str, str]]
    """Of `python -m lb`."""


@dataclass(slots=True)
class _Watched:
    """What was counted of one lane lately, and of the stable instances beside it."""

    at_gateways: Window
    beside: Window
    in_instances: Window
    in_stable: Window

    @classmethod
    def begin(cls) -> "_Watched":
        return cls(Window(), Window(), Window(), Window())

    def verdict(self, budgets: Mapping[str, float]) -> str:
        """Why the lane is to be rolled back; empty: it is not."""
        seen = lane_budget.burns(self.at_gateways.counts(), self.beside.counts(), budgets)
        return seen or lane_budget.burns(self.in_instances.counts(), self.in_stable.counts(), budgets)


class Lanes:
    """All lanes of one mesh. Used from the supervisor's loop only."""

    def __init__(self, around: Surroundings, told: Path) -> None:
        """`told`: where the document lies that control planes were told last."""
        self._around = around
        self._told = told
        self._one_at_a_time = asyncio.Lock()
        self._watched: dict[str, _Watched] = {}
        self._figures: dict[str, Figures] = {}
        self._silent_until = float("-inf")

    async def run(self) -> None:
        """Go on until cancelled."""
        while True:
            await asyncio.sleep(EVERY_S)
            for step in (self._tell, self._judge):
                try:
                    await step()
                except SupervisorError as error:
                    log.warning("lanes_not_kept", reason=str(error))
                except Exception:  # whatever it was: nobody else would look after lanes until a restart
                    log.exception("lanes_not_kept")

    async def _tell(self) -> None:
        """Have control planes know what is desired, whatever kept them from it."""
        if asyncio.get_running_loop().time() < self._silent_until:
            return
        async with self._one_at_a_time:
            await self._publish(self._wanted())

    async def _judge(self) -> None:
        for name, reason in (await self.look()).items():
            await self.roll_back(name, reason)

    async def start(self, name: str, spec: LaneSpec) -> Scaled:
        """Start a lane's instances, and open it when they are ready. Raises RefusedError, ConfigError."""
        async with self._one_at_a_time:
            desired = self._around.desired().with_lane(name, spec)
            await self._publish([*self._wanted(), lane.closed(desired.lanes[name].routing(name))])
            try:
                scaled = await self._around.change(lambda desired: desired.with_lane(name, spec))
            finally:
                await self._publish(self._wanted())
        log.info("lane_started", lane=name, services=spec.services, percent=spec.percent, header=spec.header)
        return scaled

    async def shift(self, name: str, percent: float) -> None:
        """Send another share of the subjects there. Raises RefusedError, ConfigError."""
        async with self._one_at_a_time:
            await self._around.change(lambda desired: desired.with_share(name, percent))
            await self._publish(self._wanted())
        log.info("lane_shifted", lane=name, percent=percent)

    async def end(self, name: str) -> Scaled:
        """Let nobody enter any more, drain its instances, forget it. Raises RefusedError, ConfigError."""
        async with self._one_at_a_time:
            spec = self._around.desired().lane(name)
            await self._close(name, spec)
            scaled = await self._around.change(lambda desired: desired.without_lane(name))
            await self._publish(self._wanted())
        log.info("lane_ended", lane=name)
        return scaled

    async def roll_back(self, name: str, reason: str) -> None:
        """Do as at its end, but remember why. Raises RefusedError."""
        async with self._one_at_a_time:
            spec = self._around.desired().lanes.get(name)
            if spec is None or spec.rolled_back:
                return
            log.error("lane_rolled_back", lane=name, services=spec.services, reason=reason)
            try:
                await self._close(name, spec)
            except RefusedError as error:
                # Without its instances nobody is sent there either.
                log.warning("lane_not_closed", lane=name, reason=str(error))
            await self._around.change(lambda desired: desired.with_lane_rolled_back(name, reason))
            await self._publish(self._wanted())

    async def look(self) -> dict[str, str]:
        """Count once; why each lane that burns its budget is to be rolled back."""
        present = {name: spec for name, spec in self._around.desired().lanes.items() if not spec.rolled_back}
        self._watched = {name: watched for name, watched in self._watched.items() if name in present}
        if not present:
            self._figures = {}
            return {}
        now, reasons = asyncio.get_running_loop().time(), {}
        ready = [process for process in self._around.processes() if process.state == "ready"]
        admins = {process.name: self._around.admin(process.name) for process in ready if process.kind == "gateway"}
        seen = await lane_watch.gateways(admins)
        self._figures = _together(seen)
        for name, spec in present.items():
            watched = self._watched.setdefault(name, _Watched.begin())
            watched.at_gateways.take(now, {gateway: _of(found, name) for gateway, found in seen.items()})
            watched.beside.take(now, {gateway: _of(found, "") for gateway, found in seen.items()})
            for window, targets in (
                (watched.in_instances, {lanes.cluster(service, name) for service in spec.services}),
                (watched.in_stable, set(spec.services)),
            ):
                ports = {each.name: self._around.metrics_port(each.name) for each in ready if each.service in targets}
                window.take(now, await lane_watch.instances(ports))
            reason = self._crash_loop(name, spec) or watched.verdict(lane_watch.budgets())
            if reason:
                reasons[name] = reason
        return reasons

    def rolled_back(self) -> dict[str, bool]:
        """Of each lane, whether it was."""
        return {name: bool(spec.rolled_back) for name, spec in self._around.desired().lanes.items()}

    def describe(self) -> list[dict[str, Any]]:
        """What `weft lane` shows: what is wanted, what runs, and what callers have seen since the gateways began."""
        processes = self._around.processes()
        return [
            {
                "name": name,
                "services": list(spec.services),
                "percent": spec.percent,
                "header": spec.header,
                "claim": f"{spec.claim}={spec.value}" if spec.claim else "",
                "checkout": spec.checkout,
                "env": dict(spec.env),
                "state": "rolled-back" if spec.rolled_back else "open" if spec.routing(name).is_open else "closed",
                "reason": spec.rolled_back,
                "instances": [
                    {"name": process.name, "state": process.state}
                    for process in processes
                    if process.service in {lanes.cluster(service, name) for service in spec.services}
                ],
                "seen": _summed(self._figures.get(name)),
                "stable": _summed(self._figures.get("")),
            }
            for name, spec in sorted(self._around.desired().lanes.items())
        ]

    def _wanted(self) -> list[lanes.Lane]:
        return [spec.routing(name) for name, spec in self._around.desired().lanes.items()]

    async def _close(self, name: str, spec: LaneSpec) -> None:
        others = [each for each in self._wanted() if each.name != name]
        await self._publish([*others, lane.closed(replace(spec, rolled_back="").routing(name))])

    def _crash_loop(self, name: str, spec: LaneSpec) -> str:
        targets = {lanes.cluster(service, name) for service in spec.services}
        for process in self._around.processes():
            if process.service in targets and process.quarantined:
                return f"{process.name} dies again and again, last: {process.reason}"
        return ""

    async def _publish(self, wanted: Sequence[lanes.Lane]) -> None:
        """Tell the control planes, where they were told otherwise. Raises RefusedError."""
        document = lanes.to_bytes(wanted)
        told = self._told.read_bytes() if self._told.exists() else lanes.to_bytes(())
        if document == told:
            return
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "lb", "lanes", "--replace", "--timeout", f"{PUBLISH_S:g}"),
            env=dict(self._around.environ()),
            cwd=PROJECT,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            _, complaint = await process.communicate(document)
        except BaseException:
            process.kill()
            raise
        if process.returncode != 0:
            self._silent_until = asyncio.get_running_loop().time() + PAUSE_S
            lines = complaint.decode(errors="replace").strip().splitlines()
            raise RefusedError(f"the registry does not take the lanes: {lines[-1] if lines else 'no reason given'}")
        try:
            self._told.write_bytes(document)
        except OSError as error:  # it is told again then, which changes nothing
            log.warning("lanes_not_remembered", reason=error.strerror)


def _of(found: Mapping[str, Figures], name: str) -> Mapping[str, Count]:
    return found[name].counts if name in found else {}


def _together(seen: Mapping[str, Mapping[str, Figures]]) -> dict[str, Figures]:
    found: dict[str, Figures] = {}
    for of_gateway in seen.values():
        for name, figures in of_gateway.items():
            found.setdefault(name, Figures()).add(figures)
    return found


def _summed(figures: Figures | None) -> dict[str, Any]:
    counts = lane_budget.total([figures.counts]).values() if figures is not None else ()
    return {
        "calls": sum(count.calls for count in counts),
        "faults": sum(count.faults for count in counts),
        "buckets": {} if figures is None else {f"{bound:g}": calls for bound, calls in sorted(figures.buckets.items())},
    }
