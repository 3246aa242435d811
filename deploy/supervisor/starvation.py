"""Whether silence proves anything: on a machine with too much to do a healthy process is late, and so are we.

Time counts as watched only where the supervisor's own loop ran, and a process that waits for a processor is not hung.
"""

import asyncio
from collections import deque

TICK_S = 0.1
LAG_MAX_S = 0.3
"""The loop was late by this much: what did not come in may lie unread."""
SHARE_MIN = 0.25
"""Of a core. A process that wants to run and gets less is starved; one that gets more, and says nothing, is not."""
EXCUSES_MAX = 10
"""In a row. Nobody is starved for ever, and one that is would be helped by a restart as well."""
_MEMORY = 100


class Lag:
    """How late the event loop has been."""

    def __init__(self) -> None:
        self._late: deque[tuple[float, float]] = deque(maxlen=_MEMORY)
        self._due = 0.0

    async def run(self) -> None:
        """Look at the clock again and again; ends when it is cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            self._due = loop.time() + TICK_S
            await asyncio.sleep(TICK_S)
            self._late.append((loop.time(), loop.time() - self._due))

    def worst_s(self, *, since: float, now: float) -> float:
        """The longest delay of the loop since that moment."""
        pending = now - self._due if self._due else 0.0
        return max((late for at, late in self._late if at >= since), default=max(0.0, pending))


def excuses(*, lag_s: float, runnable: bool, cpu_s: float, watched_s: float) -> bool:
    """Whether no answer within `watched_s`, in which the process had `cpu_s` of a processor, says nothing about it."""
    return lag_s > LAG_MAX_S or (runnable and cpu_s < SHARE_MIN * watched_s)
