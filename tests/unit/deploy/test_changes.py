"""From one desired state to another: written down first, each service for itself, taken back where it is refused."""

import asyncio
import json
import resource
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import cast

import pytest

from deploy.supervisor.changes import Change, Changes
from deploy.supervisor.config import Settings
from deploy.supervisor.desired import Desired
from deploy.supervisor.errors import RefusedError
from deploy.supervisor.layout import Layout
from deploy.supervisor.messages import Scaled
from deploy.supervisor.part import Part
from deploy.supervisor.ports import Ports
from deploy.supervisor.secrets import Secrets
from deploy.supervisor.stack import Stack
from deploy.supervisor.supervisor import Supervisor

Resize = Callable[[str, int], Awaitable[Scaled]]


@contextmanager
def full_disk() -> Iterator[None]:
    """No file grows beyond a few bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class Running:
    """A supervisor for which instances of orders are slow to start, until somebody says what becomes of them."""

    def __init__(self) -> None:
        self.asked: list[frozenset[str]] = []
        self.parts: frozenset[str] = frozenset()
        self.outcome: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def change(self, parts: Sequence[Part], names: Collection[str]) -> Scaled:
        self.asked.append(frozenset(names))
        self.parts = frozenset(part.name for part in parts)
        if any(name.startswith("orders") for name in names):
            await asyncio.shield(self.outcome)
        return Scaled(tuple(sorted(names)), ())


def to(service: str, size: int) -> Change:
    return lambda desired: desired.resized(service, size)


def scenario(layout: Layout, work: Callable[[Changes, Running, Resize], Awaitable[None]]) -> None:
    """A mesh that is up, with two instances of orders and of catalog."""

    async def run() -> None:
        desired = Desired.of(Settings(data=layout.root))
        ports = Ports(layout.ports, base=21000, is_free=lambda _: True)
        changes, running = Changes(layout, desired), Running()
        changes.stack = Stack(desired, layout, ports=ports, secrets=Secrets(layout.secrets), account=None)
        changes.begin()
        desired.write(layout.desired)

        def resize(service: str, size: int) -> Awaitable[Scaled]:
            return changes.make(cast(Supervisor, running), service, to(service, size))

        await work(changes, running, resize)

    asyncio.run(run())


def written(layout: Layout) -> dict[str, int]:
    sizes: dict[str, int] = json.loads(layout.desired.read_text())["sizes"]
    return {name: sizes[name] for name in ("orders", "catalog")}


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


def test_a_size_that_cannot_be_written_down_is_refused_and_changes_nothing(layout: Layout) -> None:
    async def work(changes: Changes, running: Running, resize: Resize) -> None:
        before = (layout.ports.read_text(), layout.desired.read_text(), changes.desired)
        with full_disk(), pytest.raises(RefusedError, match="cannot be written down, so nothing is changed"):
            await resize("catalog", 3)
        assert before == (layout.ports.read_text(), layout.desired.read_text(), changes.desired)
        assert [] == running.asked

        await resize("catalog", 3)
        assert {"orders": 2, "catalog": 3} == written(layout)
        assert [frozenset({"catalog-3"})] == running.asked

    scenario(layout, work)


def test_a_start_that_takes_long_keeps_no_other_service_waiting(layout: Layout) -> None:
    async def work(_: Changes, running: Running, resize: Resize) -> None:
        slow = asyncio.ensure_future(resize("orders", 3))
        await until(lambda: len(running.asked) == 1)
        again = asyncio.ensure_future(resize("orders", 4))

        assert ("catalog-3",) == (await resize("catalog", 3)).started

        assert [{"orders-3"}, {"catalog-3"}] == running.asked
        assert {"orders-3", "catalog-3"} <= running.parts
        assert (False, False) == (slow.done(), again.done())
        running.outcome.set_result(None)
        assert [("orders-3",), ("orders-4",)] == [(await slow).started, (await again).started]
        assert {"orders": 4, "catalog": 3} == written(layout)

    scenario(layout, work)


def test_what_is_refused_is_taken_back_and_nothing_else(layout: Layout) -> None:
    async def work(changes: Changes, running: Running, resize: Resize) -> None:
        refused = asyncio.ensure_future(resize("orders", 3))
        await until(lambda: len(running.asked) == 1)
        await resize("catalog", 3)
        running.outcome.set_exception(RefusedError("orders-3: does not come up"))
        with pytest.raises(RefusedError, match="does not come up"):
            await refused

        assert {"orders": 2, "catalog": 3} == written(layout)
        assert dict(changes.desired.sizes)["orders"] == 2
        assert [{"orders-3"}, {"catalog-3"}, frozenset()] == running.asked
        assert "catalog-3" in running.parts
        assert "orders-3" not in running.parts

    scenario(layout, work)


def test_what_is_refused_while_nothing_can_be_written_can_be_asked_for_again(layout: Layout) -> None:
    async def work(changes: Changes, running: Running, resize: Resize) -> None:
        refused = asyncio.ensure_future(resize("orders", 3))
        await until(lambda: len(running.asked) == 1)
        running.outcome.set_exception(RefusedError("orders-3: does not come up"))
        in_the_way = layout.desired.with_suffix(".new")
        in_the_way.mkdir()
        with pytest.raises(RefusedError, match="does not come up"):
            await refused
        in_the_way.rmdir()
        assert 2 == changes.desired.sizes["orders"]

        running.outcome = asyncio.get_running_loop().create_future()
        running.outcome.set_result(None)
        assert ("orders-3",) == (await resize("orders", 3)).started
        assert {"orders": 3, "catalog": 2} == written(layout)

    scenario(layout, work)
