"""Goes over from one desired state of a running mesh to another: written down first, done then, and taken back where it
is refused.

Changes of one thing (a service, the lanes) are made one after the other. Those of different things are not: a start or
a drain may take a minute, and load does not wait for them.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Final

import structlog

from deploy.supervisor.desired import Desired
from deploy.supervisor.errors import RefusedError
from deploy.supervisor.layout import Layout
from deploy.supervisor.messages import Scaled
from deploy.supervisor.part import Part
from deploy.supervisor.stack import Stack
from deploy.supervisor.supervisor import Supervisor

log = structlog.get_logger()

LANES: Final = "lanes"
"""What changes of lanes are about; any other is about a service."""

Change = Callable[[Desired], Desired]


class Changes:
    """What is desired of one mesh, and the stack of that. Used from the supervisor's loop only."""

    def __init__(self, layout: Layout, desired: Desired) -> None:
        self.desired = desired
        self.stack: Stack | None = None
        self._layout = layout
        self._names: frozenset[str] = frozenset()
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._under_way = 0

    def begin(self) -> Sequence[Part]:
        """The parts of the stack that the mesh starts with. Raises ConfigError, OSError."""
        parts = self._current.parts()
        self._names = _names(parts)
        return parts

    async def make(self, supervisor: Supervisor, about: str, change: Change) -> Scaled:
        """Go over to another desired state, and wait until it is there.

        Raises RefusedError, ConfigError; then it is as it was.
        """
        async with self._turns[about]:
            before, names = self.desired, self._names
            parts = self._take(change(before))
            after, touched = self.desired, names ^ self._names
            self._under_way += 1
            try:
                scaled = await supervisor.change(parts, touched)
            except Exception:
                self._names ^= touched
                await self._take_back(supervisor, self.desired.taken_back(before, after))
                raise
            finally:
                self._under_way -= 1
            if not self._under_way:
                self._current.settle()
        log.info("scaled", sizes=dict(after.sizes), started=scaled.started, stopped=scaled.stopped)
        return scaled

    @property
    def _current(self) -> Stack:
        assert self.stack is not None
        return self.stack

    def _take(self, desired: Desired) -> Sequence[Part]:
        """Desire this from now on; its parts. Raises ConfigError, and RefusedError where it cannot be written down."""
        stack = self._current.resized(desired)
        try:
            parts = stack.parts()
            desired.write(self._layout.desired)  # before anything is done: whoever takes over finishes it
        except OSError as error:
            raise RefusedError(f"what is desired cannot be written down, so nothing is changed: {error}") from error
        self.stack, self.desired, self._names = stack, desired, _names(parts)
        return parts

    async def _take_back(self, supervisor: Supervisor, desired: Desired) -> None:
        """Desire what there was before a change that was refused, and what others have changed since."""
        self.desired, self.stack = desired, self._current.resized(desired)
        try:
            parts = self.stack.parts()
            desired.write(self._layout.desired)
        except OSError as error:  # a successor would begin what was refused, and would be refused as well
            log.error("not_taken_back", reason=str(error))
        else:
            await supervisor.change(parts, frozenset())  # for those who read of the others


def _names(parts: Sequence[Part]) -> frozenset[str]:
    return frozenset(part.name for part in parts)
