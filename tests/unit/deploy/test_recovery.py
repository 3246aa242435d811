"""What the supervisor does about an alert by itself, and what it refuses."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import pytest

from deploy.supervisor.errors import RefusedError
from deploy.supervisor.messages import Killed, Process
from deploy.supervisor.recovery import Decision, Recovery


def process(name: str, kind: str = "service", state: str = "ready") -> Process:
    return Process(name, kind, name.rpartition("-")[0], 7, "127.0.0.1:1", state, 0, "2026-01-01T00:00:00Z", "member")


class Mesh:
    """Processes that can be restarted, or cannot."""

    def __init__(self, *processes: Process) -> None:
        self._processes = processes
        self.restarted: list[str] = []
        self.killed: list[tuple[str, int]] = []
        self.stuck = self.gone = False
        self.restarting = 0
        self.go_on = asyncio.Event()
        self.go_on.set()

    def processes(self) -> Sequence[Process]:
        return self._processes

    async def restart(self, name: str) -> Killed:
        self.restarting += 1
        assert 1 == self.restarting
        await self.go_on.wait()
        self.restarting -= 1
        if self.stuck:
            raise RefusedError(f"{name} was stopped but is not ready again")
        self.restarted.append(name)
        return Killed(name, 7)

    def kill(self, name: str, number: int) -> Killed:
        if self.gone:
            raise RefusedError(f"{name} has no process at the moment")
        self.killed.append((name, number))
        return Killed(name, 7)


def notification(*instances: str, action: str = "restart", status: str = "firing") -> dict[str, Any]:
    alerts = [
        {"status": status, "labels": {"alertname": "Hung", "recovery": action, "instance": instance}}
        for instance in instances
    ]
    return {"version": "4", "status": status, "alerts": alerts}


def run(body: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(body(), 30))


async def settled(recovery: Recovery, action: str = "restart") -> None:
    """Until everything that was taken is done or has failed."""
    counts = recovery.counts
    while counts[action, "taken"] > counts[action, "done"] + counts[action, "failed"]:
        await asyncio.sleep(0)


def test_an_instance_that_an_alert_names_is_restarted() -> None:
    async def body() -> None:
        mesh = Mesh(process("orders-1"), process("orders-2"))
        recovery = Recovery(mesh)

        assert [Decision("restart", "orders-1", "taken")] == recovery.receive(notification("orders-1"))
        await settled(recovery)

        assert ["orders-1"] == mesh.restarted
        assert 1 == recovery.counts["restart", "done"]

    run(body)


@pytest.mark.parametrize(
    ("instance", "action", "outcome"),
    [
        ("orders-1", "format-the-disk", "unknown_action"),
        ("orders-9", "restart", "unknown_instance"),
        ("", "restart", "unknown_instance"),
        ("postgres-1", "restart", "not_restartable"),
        ("orders-2", "restart", "not_ready"),
    ],
)
def test_what_is_not_to_be_done_is_not_done(instance: str, action: str, outcome: str) -> None:
    async def body() -> None:
        mesh = Mesh(process("orders-1"), process("orders-2", state="starting"), process("postgres-1", "database"))
        recovery = Recovery(mesh)

        (decision,) = recovery.receive(notification(instance, action=action))
        await asyncio.sleep(0)

        assert (outcome, [], []) == (decision.outcome, mesh.restarted, mesh.killed)
        counted = action if action == "restart" else "other"
        assert 1 == recovery.counts[counted, outcome]

    run(body)


def test_a_second_alert_about_the_same_instance_comes_too_soon() -> None:
    async def body() -> None:
        mesh = Mesh(process("orders-1"), process("orders-2"))
        recovery = Recovery(mesh)

        outcomes = [
            decision.outcome for _ in range(3) for decision in recovery.receive(notification("orders-1", "orders-2"))
        ]
        await settled(recovery)

        assert ["taken", "taken", "too_soon", "too_soon", "too_soon", "too_soon"] == outcomes
        assert ["orders-1", "orders-2"] == mesh.restarted  # and the fake saw them one after the other

    run(body)


def test_an_alert_that_ended_and_one_that_asks_for_nothing_do_nothing() -> None:
    async def body() -> None:
        recovery = Recovery(Mesh(process("orders-1")))
        asks_for_nothing = {"alerts": [{"status": "firing", "labels": {"instance": "orders-1"}}]}

        assert [] == recovery.receive(notification("orders-1", status="resolved"))
        assert [] == recovery.receive(asks_for_nothing)

    run(body)


def test_a_process_that_does_not_stop_when_asked_is_killed() -> None:
    async def body() -> None:
        mesh = Mesh(process("orders-1"))
        mesh.stuck = True
        recovery = Recovery(mesh)

        recovery.receive(notification("orders-1"))
        await settled(recovery)

        assert [("orders-1", 9)] == mesh.killed

    run(body)


def test_a_recovery_that_fails_is_counted() -> None:
    async def body() -> None:
        mesh = Mesh(process("orders-1"))
        mesh.stuck = mesh.gone = True
        recovery = Recovery(mesh)

        recovery.receive(notification("orders-1"))
        await settled(recovery)

        assert (1, 0) == (recovery.counts["restart", "failed"], recovery.counts["restart", "done"])

    run(body)


def test_a_supervisor_that_stops_leaves_what_is_under_way() -> None:
    async def body() -> None:
        mesh = Mesh(process("orders-1"))
        mesh.go_on.clear()
        recovery = Recovery(mesh)
        recovery.receive(notification("orders-1"))
        while not mesh.restarting:
            await asyncio.sleep(0)

        await recovery.close()

        assert [] == mesh.restarted

    run(body)


@pytest.mark.parametrize(
    "hostile",
    [
        {},
        {"alerts": "all"},
        {"alerts": ["one"]},
        {"alerts": [{"status": "firing"}]},
        {"alerts": [{"status": "firing", "labels": "restart"}]},
        {"alerts": [{"status": "firing", "labels": {}}] * 101},
    ],
    ids=["nothing", "no list", "no alert", "no labels", "labels of another form", "too many"],
)
def test_a_notification_of_another_form_is_refused(hostile: dict[str, Any]) -> None:
    async def body() -> None:
        with pytest.raises(ValueError, match="alerts"):
            Recovery(Mesh()).receive(hostile)

    run(body)
