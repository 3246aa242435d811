"""What the registry holds now, for whoever shows it: asked in one go, over a connection that is kept.

Belongs to one thread, which blocks while it asks. Nobody acts on what it says: whoever calls others has a Directory.
"""

import asyncio
import contextlib
from contextlib import AsyncExitStack
from dataclasses import dataclass

from lb.config import EtcdSettings
from lb.endpoint import Endpoint
from lb.errors import EtcdError, EtcdUnavailableError
from lb.registry.endpoints import registered
from lb.registry.etcd import Client, Dialer
from lb.registry.statuses import statuses
from lb.status import ControlPlaneStatus


@dataclass(frozen=True, slots=True)
class Seen:
    """What is registered, and what every living control plane says."""

    endpoints: tuple[Endpoint, ...]
    statuses: tuple[ControlPlaneStatus, ...]


class Survey:
    """Asks again and again."""

    def __init__(self, settings: EtcdSettings) -> None:
        """Opens nothing."""
        self._dialer = Dialer(settings)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stack = AsyncExitStack()
        self._client: Client | None = None

    def read(self, timeout_s: float) -> Seen:
        """What is there. Raises EtcdError."""
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
        return self._loop.run_until_complete(self._read(timeout_s))

    def close(self) -> None:
        """Close the connection. In the thread that asked, or after it has ended."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.run_until_complete(self._leave())
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()

    async def _read(self, timeout_s: float) -> Seen:
        try:
            async with asyncio.timeout(timeout_s):
                try:
                    return await self._ask()
                except EtcdError as error:
                    # A connection that was kept may have died, and its login ends after a while.
                    await self._leave(error)
                    return await self._ask()
        except TimeoutError as error:
            await self._leave()
            raise EtcdUnavailableError("no answer in time") from error

    async def _ask(self) -> Seen:
        if self._client is None:
            self._client = await self._stack.enter_async_context(self._dialer.session())
        return Seen(await registered(self._client), await statuses(self._client))

    async def _leave(self, error: EtcdError | None = None) -> None:
        """Close the connection; one that has failed is not tried again before the other members."""
        self._client = None
        with contextlib.suppress(EtcdError):
            await self._stack.__aexit__(None if error is None else type(error), error, None)
