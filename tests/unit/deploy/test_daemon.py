"""What the daemon does about another desired state, and at its own end. Its parts are few and quick to start."""

import asyncio
import json
import random
import resource
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from deploy.supervisor.config import Settings
from deploy.supervisor.daemon import Daemon
from deploy.supervisor.desired import Desired
from deploy.supervisor.errors import RefusedError
from deploy.supervisor.layout import Layout
from deploy.supervisor.messages import Scaled
from deploy.supervisor.part import Part
from deploy.supervisor.ports import Ports
from deploy.supervisor.secrets import Secrets
from deploy.supervisor.stack import Stack


@contextmanager
def full_disk() -> Iterator[None]:
    """No file grows beyond a few bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class Started:
    """A supervisor that only counts what it is told to go over to."""

    def __init__(self) -> None:
        self.parts: list[frozenset[str]] = []

    async def change(self, parts: Sequence[Part]) -> Scaled:
        self.parts.append(frozenset(part.name for part in parts))
        return Scaled((), ())


class Changing(Daemon):
    """A daemon whose mesh is up."""

    def __init__(self, layout: Layout, started: object) -> None:
        desired = replace(Desired.of(Settings(data=layout.root)), free_ports=True)
        super().__init__(layout, desired, now=lambda: datetime.now(UTC), rng=random.Random(1))
        ports = Ports(layout.ports, base=21000, is_free=lambda _: True)
        self._stack = Stack(desired, layout, ports=ports, secrets=Secrets(layout.secrets), account=None)
        self._stack.parts()
        desired.write(layout.desired)
        self._supervisor = started  # type: ignore[assignment]

    async def go_over(self, change: Callable[[Desired], Desired]) -> Scaled:
        return await self._change(change)

    def sizes(self) -> dict[str, int]:
        return dict(self._desired.sizes)


def test_a_size_that_cannot_be_written_down_is_refused_and_changes_nothing(layout: Layout) -> None:
    started = Started()

    async def run() -> None:
        daemon = Changing(layout, started)
        before = (layout.ports.read_text(), layout.desired.read_text(), daemon.sizes())
        with full_disk(), pytest.raises(RefusedError, match="cannot be written down, so nothing is changed"):
            await daemon.go_over(lambda desired: desired.resized("orders", 5))
        assert before == (layout.ports.read_text(), layout.desired.read_text(), daemon.sizes())
        assert [] == started.parts

        await daemon.go_over(lambda desired: desired.resized("orders", 5))
        assert 5 == daemon.sizes()["orders"] == json.loads(layout.desired.read_text())["sizes"]["orders"]
        assert "orders-5" in started.parts[0]

    asyncio.run(run())
