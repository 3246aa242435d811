"""What the supervisor does about an alert by itself: a closed set of actions, asked for by Alertmanager.

An alert asks with its label `recovery`, and names the process with `instance`. The alert only says that something is
wrong; whether anything is done is decided here, by what the supervisor knows: an action may be unknown, the process
gone or being restarted already, or the last attempt too fresh. Each decision is logged and counted.
"""

import asyncio
import signal
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import structlog

from deploy.supervisor.errors import RefusedError
from deploy.supervisor.messages import Killed, Process
from deploy.supervisor.part import Kind

log = structlog.get_logger()

RESTARTABLE: Final = frozenset({Kind.SERVICE, Kind.WORKER, Kind.CONTROL_PLANE, Kind.GATEWAY})
"""What keeps nothing that a restart could lose. Stores are never touched because of an alert."""
PAUSE_S: Final = 120.0
"""One attempt at a process in so long: what a restart did not put right, more of them will not."""
ALERTS_MAX: Final = 100
OUTCOMES: Final = ("taken", "done", "failed")


class Processes(Protocol):
    """What a recovery needs of the supervisor."""

    def processes(self) -> Sequence[Process]:
        """Everything that should run."""
        ...

    async def restart(self, name: str) -> Killed:
        """Stop a process in an orderly way and wait for its successor. Raises RefusedError."""
        ...

    def kill(self, name: str, number: int) -> Killed:
        """Send a signal to a process. Raises RefusedError."""
        ...


@dataclass(frozen=True, slots=True)
class Decision:
    """What became of one alert."""

    action: str
    instance: str
    outcome: str
    """`taken`, or why not: `unknown_action`, `unknown_instance`, `not_restartable`, `not_ready`, `too_soon`."""


class Recovery:
    """Takes Alertmanager's notifications. Used from the supervisor's loop only."""

    def __init__(self, processes: Processes) -> None:
        self._processes = processes
        self._actions: Mapping[str, Callable[[str], Awaitable[None]]] = {"restart": self._restart}
        self._last: dict[str, float] = {}
        self._running: set[asyncio.Task[None]] = set()
        self._one_at_a_time = asyncio.Lock()
        # A counter that is born with its first event shows no increase.
        self.counts = Counter({(action, outcome): 0 for action in self._actions for outcome in OUTCOMES})
        """Decisions by action and outcome, and of actions that were taken also `done` and `failed`."""

    def receive(self, notification: Mapping[str, Any]) -> list[Decision]:
        """Decide about every alert that fires, and begin what is to be done. Raises ValueError for another form."""
        alerts = notification.get("alerts")
        if not isinstance(alerts, list) or len(alerts) > ALERTS_MAX:
            raise ValueError(f"alerts: not a list of up to {ALERTS_MAX}")
        return [self._decide(alert["labels"]) for alert in alerts if _fires(alert)]

    async def close(self) -> None:
        """Leave what is under way, before the supervisor stops everything."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    def _decide(self, labels: Mapping[str, Any]) -> Decision:
        action, instance = str(labels["recovery"]), str(labels.get("instance", ""))
        outcome = self._obstacle(action, instance) or "taken"
        # A label is what a rule file says; what is counted must stay a closed set.
        self.counts[action if action in self._actions else "other", outcome] += 1
        log.warning("recovery", alert=labels.get("alertname"), action=action, part=instance, outcome=outcome)
        if outcome == "taken":
            self._last[instance] = asyncio.get_running_loop().time()
            task = asyncio.create_task(self._carry_out(action, instance))
            self._running.add(task)
            task.add_done_callback(self._running.discard)
        return Decision(action, instance, outcome)

    def _obstacle(self, action: str, instance: str) -> str:
        if action not in self._actions:
            return "unknown_action"
        found = next((process for process in self._processes.processes() if process.name == instance), None)
        if found is None:
            return "unknown_instance"
        if found.kind not in RESTARTABLE:
            return "not_restartable"
        if found.state != "ready":
            return "not_ready"  # whatever is not, is being seen to already
        last = self._last.get(instance)
        if last is not None and asyncio.get_running_loop().time() - last < PAUSE_S:
            return "too_soon"
        return ""

    async def _carry_out(self, action: str, instance: str) -> None:
        async with self._one_at_a_time:  # never two instances of a service at once
            try:
                await self._actions[action](instance)
            except RefusedError as error:
                self.counts[action, "failed"] += 1
                log.error("recovery_failed", action=action, part=instance, reason=str(error))
            else:
                self.counts[action, "done"] += 1
                log.warning("recovery_done", action=action, part=instance)

    async def _restart(self, instance: str) -> None:
        try:
            await self._processes.restart(instance)
        except RefusedError:
            # It does not stop when it is asked to: a hung one would not.
            self._processes.kill(instance, signal.SIGKILL)


def _fires(alert: Any) -> bool:
    """Whether an entry is a firing alert that asks for something. Raises ValueError where it is no alert at all."""
    if not isinstance(alert, dict) or not isinstance(alert.get("labels"), dict):
        raise ValueError("alerts: an entry without labels")
    return alert.get("status") == "firing" and bool(alert["labels"].get("recovery"))
