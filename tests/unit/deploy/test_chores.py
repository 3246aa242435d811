"""What is begun for somebody who does not wait: a restart, another size, a roll, and why one is not begun."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, cast

import pytest

from deploy.supervisor import chores
from deploy.supervisor.chores import Chores
from deploy.supervisor.errors import RefusedError
from deploy.supervisor.messages import Killed, Process
from deploy.supervisor.supervisor import Supervisor

DEADLINE_S = 20.0


class Mesh:
    """A supervisor's processes; restarts and sizes are noted, and done at once unless they are to hang or fail."""

    def __init__(self, *names: str, kind: str = "service") -> None:
        self.names = list(names)
        self.kind = kind
        self.states: dict[str, str] = {}
        self.did: list[str] = []
        self.hangs: asyncio.Event | None = None
        self.fails = ""

    def processes(self) -> tuple[Process, ...]:
        return tuple(
            Process(name, self.kind, name.rpartition("-")[0], 7, "", self.states.get(name, "ready"), 0, "", "member")
            for name in self.names
        )

    async def restart(self, name: str) -> Killed:
        if self.hangs is not None:
            await self.hangs.wait()
        if name == self.fails:
            raise RefusedError(f"{name} is not ready again")
        self.did.append(f"restart {name}")
        return Killed(name, 8)

    async def resize(self, service: str, size: int) -> None:
        self.did.append(f"{service} to {size}")
        self.names = [f"{service}-{number}" for number in range(1, size + 1)]

    def hold(self, service: str) -> None:
        self.did.append(f"hold {service}")


def doing(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(DEADLINE_S):
            await work()

    asyncio.run(bounded())


def made(mesh: Mesh) -> tuple[Chores, Supervisor]:
    return Chores(resize=mesh.resize, hold=mesh.hold), cast(Supervisor, mesh)


async def over(begun: Chores) -> None:
    while begun._tasks:
        await asyncio.sleep(0.01)


def test_a_roll_has_one_more_instance_while_it_replaces_the_others() -> None:
    mesh = Mesh("orders-1", "orders-2")

    async def work() -> None:
        begun, supervisor = made(mesh)
        begun.roll(supervisor, "orders", {"orders": 2})
        assert ("orders",) == begun.rolling
        await over(begun)
        assert () == begun.rolling

    doing(work)
    renewed = [step for name in ("orders-1", "orders-2") for step in ("hold orders", f"restart {name}")]
    assert ["hold orders", "orders to 3", *renewed, "orders to 2"] == mesh.did


def test_what_cannot_be_resized_is_rolled_as_it_is() -> None:
    mesh = Mesh("etcd-1", "etcd-2", kind="etcd")

    async def work() -> None:
        begun, supervisor = made(mesh)
        begun.roll(supervisor, "etcd", {})
        await over(begun)

    doing(work)
    assert ["hold etcd", "restart etcd-1", "hold etcd", "restart etcd-2"] == mesh.did


def test_a_roll_that_fails_stops_there_and_is_over() -> None:
    mesh = Mesh("orders-1", "orders-2")
    mesh.fails = "orders-1"

    async def work() -> None:
        begun, supervisor = made(mesh)
        begun.roll(supervisor, "orders", {"orders": 2})
        await over(begun)
        assert () == begun.rolling

    doing(work)
    assert ["hold orders", "orders to 3", "hold orders"] == mesh.did


def test_a_size_that_somebody_asked_for_meanwhile_stays() -> None:
    mesh = Mesh("orders-1")
    restart = mesh.restart

    async def meanwhile(name: str) -> Killed:
        mesh.names = [f"orders-{number}" for number in range(1, 6)]
        return await restart(name)

    mesh.restart = meanwhile  # type: ignore[method-assign]

    async def work() -> None:
        begun, supervisor = made(mesh)
        begun.roll(supervisor, "orders", {"orders": 1})
        await over(begun)

    doing(work)
    assert ["hold orders", "orders to 2", "hold orders", "restart orders-1"] == mesh.did


def test_what_is_not_there_not_ready_or_begun_already_is_refused_before_anything_is_done() -> None:
    mesh = Mesh("orders-1", "orders-2")

    async def work() -> None:
        begun, supervisor = made(mesh)
        with pytest.raises(RefusedError, match="nothing that can be rolled is called cart"):
            begun.roll(supervisor, "cart", {})
        with pytest.raises(RefusedError, match="no process is called orders-9"):
            begun.restart(supervisor, "orders-9")
        mesh.states["orders-2"] = "starting"
        with pytest.raises(RefusedError, match="orders-2 of orders is not ready"):
            begun.roll(supervisor, "orders", {"orders": 2})
        mesh.states.clear()
        assert [] == mesh.did
        mesh.hangs = asyncio.Event()
        begun.roll(supervisor, "orders", {"orders": 2})
        await asyncio.sleep(0)
        with pytest.raises(RefusedError, match="being rolled already"):
            begun.roll(supervisor, "orders", {"orders": 2})
        await begun.stop()
        assert () == begun.rolling

    doing(work)


def test_a_restart_is_answered_before_it_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chores, "CHORES_MAX", 1)
    mesh = Mesh("orders-1")

    async def work() -> None:
        mesh.hangs = asyncio.Event()
        begun, supervisor = made(mesh)
        assert Killed("orders-1", 7) == begun.restart(supervisor, "orders-1")
        assert [] == mesh.did
        with pytest.raises(RefusedError, match="1 things are being done already"):
            begun.restart(supervisor, "orders-1")
        mesh.hangs.set()
        await over(begun)

    doing(work)
    assert ["restart orders-1"] == mesh.did
