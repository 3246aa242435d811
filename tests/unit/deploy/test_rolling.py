"""A roll as a daemon does it that was asked by the command: what was sized by its load before is so afterwards.

The daemon is a real one with a real stack and socket; instances are names that come and go at once.
"""

import asyncio
import random
from collections.abc import Collection, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from deploy.cli import rolling
from deploy.supervisor.autoscale import Bounds
from deploy.supervisor.config import Settings
from deploy.supervisor.daemon import Daemon
from deploy.supervisor.desired import Desired
from deploy.supervisor.layout import Layout
from deploy.supervisor.mesh import Mesh
from deploy.supervisor.messages import Killed, Process, Scaled
from deploy.supervisor.part import Part, Server
from deploy.supervisor.supervisor import Supervisor

DEADLINE_S = 60.0


class Instances:
    """A supervisor's parts: all ready at once, each under the same pid for ever."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self._parts = list(parts)
        self.restarted: list[str] = []
        self.sizes: list[int] = []

    def processes(self) -> tuple[Process, ...]:
        return tuple(
            Process(part.name, part.kind.value, part.service, 7, "", "ready", 0, "", "member")
            for part in self._parts
            if isinstance(part, Server)
        )

    async def change(self, parts: Sequence[Part], _names: Collection[str]) -> Scaled:
        before, after = ({part.name for part in some} for some in (self._parts, parts))
        self._parts = list(parts)
        self.sizes.append(sum(part.service == "orders" for part in parts if isinstance(part, Server)))
        return Scaled(tuple(sorted(after - before)), tuple(sorted(before - after)))

    async def restart(self, name: str) -> Killed:
        self.restarted.append(name)
        return Killed(name, 7)


@contextmanager
def step(_name: str, _what: str) -> Iterator[dict[str, Any]]:
    yield {}


async def rolled(folder: Path, desired: Desired) -> tuple[Desired, Instances]:
    """What is desired, on the disk, after orders was rolled, and what became of its instances."""
    layout = Layout(folder)
    layout.prepare(None)
    daemon = Daemon(layout, desired, now=lambda: datetime.now(UTC), rng=random.Random(1))
    daemon._changes.stack = stack = daemon._make_stack(None)
    found = Instances(daemon._changes.begin())
    daemon._supervisor = cast(Supervisor, found)
    mesh = Mesh(folder)
    async with asyncio.timeout(DEADLINE_S), daemon._listening(), AsyncExitStack() as ending:
        ending.callback(stack.close)
        names = rolling.instances(await asyncio.to_thread(mesh.status), "orders")
        await asyncio.to_thread(rolling.roll, mesh, "orders", names, step=step)
    return Desired.read(layout.desired), found


def test_what_is_sized_by_its_load_is_so_after_a_roll(folder: Path) -> None:
    desired = Desired.of(Settings(data=folder), ports="free").sized_by_load("orders", Bounds(2, 6))

    after, found = asyncio.run(rolled(folder, desired))

    assert ([3, 2], ["orders-1", "orders-2"]) == (found.sizes, found.restarted)
    assert (desired.auto, desired.sizes) == (after.auto, after.sizes)
    assert Bounds(2, 6) == after.auto["orders"]


def test_what_has_a_size_of_somebody_s_has_it_after_a_roll(folder: Path) -> None:
    desired = Desired.of(Settings(data=folder), ports="free").resized("orders", 2)

    after, found = asyncio.run(rolled(folder, desired))

    assert [3, 2] == found.sizes
    assert (desired.auto, desired.sizes) == (after.auto, after.sizes)
    assert "orders" not in after.auto
