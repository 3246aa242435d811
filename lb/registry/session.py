"""Keeps a piece of work connected to etcd for as long as the process lives.

Registrar and directory both run inside `keep_trying`: whatever ends an attempt, the next one begins with a fresh
connection to the next endpoint after a short, jittered wait. It never gives up; only cancellation ends it.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, NoReturn

import structlog

from lb.errors import EtcdError
from lb.registry.backoff import Backoff
from lb.registry.etcd import Client, Dialer

log = structlog.get_logger(__name__)

#: A session that lasted this long was a good one: the next wait is the shortest again.
_GOOD_SESSION_S: Final = 3.0


async def keep_trying(
    dialer: Dialer, session: Callable[[Client], Awaitable[None]], *, part: str, on_trouble: Callable[[], None]
) -> NoReturn:
    """Run `session` again and again. `on_trouble` is told of every failed attempt before the wait."""
    backoff = Backoff()
    loop = asyncio.get_running_loop()
    while True:
        began = loop.time()
        try:
            async with dialer.session() as client:
                await session(client)
        except EtcdError as error:
            log.warning("etcd_session_failed", part=part, kind=error.__class__.__name__, detail=str(error))
        except Exception:  # a defect here must not end the lease of a healthy instance; on_trouble counts it
            log.exception("etcd_session_broken", part=part)
        on_trouble()
        if loop.time() - began > _GOOD_SESSION_S:
            backoff.reset()
        await asyncio.sleep(backoff.next())
