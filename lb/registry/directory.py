"""A range of etcd, kept in memory: list, watch, and ask from time to time whether the watch missed anything.

Used by control planes (endpoints, documents, the pointer to the published bundle) and by the agent of every instance
(documents). Level-triggered: a lost event costs a resync interval, never truth. Trouble with etcd never changes what
the directory says; only a list that was answered or an event that arrived does.

A new connection, to whichever member, goes on at the revision after the last one seen, as long as the member's history
is the one that is known; it lists again where it is not, and where etcd has forgotten that revision.
"""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final, NoReturn

import structlog

from lb.errors import RevisionCompactedError
from lb.registry.etcd import Client, Dialer, KeyRange, News, Record
from lb.registry.session import keep_trying
from lb.registry.view import View

log = structlog.get_logger(__name__)

#: Time between two looks: the longest a watch that died in silence goes unnoticed.
RESYNC_S: Final = 2.0
#: An event may still be on its way when the look already knows of it.
SETTLE_S: Final = 0.5
#: Time between two lists, which would bring to light whatever else went wrong.
RELIST_S: Final = 60.0


class Directory:
    """Follows one range and calls `on_change` with every new set of records, in the loop that runs it."""

    def __init__(
        self,
        dialer: Dialer,
        span: KeyRange,
        *,
        on_change: Callable[[Mapping[bytes, Record]], None],
        on_trouble: Callable[[], None] = lambda: None,
        resync_s: float = RESYNC_S,
    ) -> None:
        """`on_trouble` is called before any change that trouble in etcd causes.

        Trouble is an etcd that fails, that comes back with another history, or that has another leader: it is the
        leader who ends leases, and one that hung ends those which were renewed meanwhile.
        """
        self._dialer = dialer
        self._span = span
        self._on_change = on_change
        self._on_trouble = on_trouble
        self._resync_s = resync_s
        self._view = View()
        self._listed_at: float | None = None

    @property
    def loaded(self) -> bool:
        """True once etcd has answered a list."""
        return self._view.loaded

    async def run(self) -> NoReturn:
        """Follow the range until cancelled."""
        await keep_trying(self._dialer, self._session, part="directory", on_trouble=self._on_trouble)

    async def _session(self, client: Client) -> None:
        if self._listed_at is None or _now() - self._listed_at > RELIST_S or await self._lost(client):
            await self._list(client)
        while True:
            with contextlib.suppress(RevisionCompactedError):  # fell behind: list again
                await _first_of(self._watch(client), self._resync(client))
            await self._list(client)

    async def _list(self, client: Client) -> None:
        listing = await client.list(self._span)
        if self._view.lost_by(listing, since=self._view.revision):
            log.warning("etcd_history_lost", range=self._span.start.decode(), revision=listing.revision)
            self._on_trouble()
        self._note(listing.term)
        self._listed_at = _now()
        if self._view.adopt(listing):
            self._on_change(self._view.records())

    async def _lost(self, client: Client) -> bool:
        known = self._view.revision
        return self._view.lost_by(await self._news(client), since=known)

    async def _news(self, client: Client) -> News:
        news = await client.news(self._span, since=self._view.revision)
        self._note(news.term)
        return news

    def _note(self, term: int) -> None:
        if self._view.elected(term):
            log.warning("etcd_leader_changed", range=self._span.start.decode(), term=term)
            self._on_trouble()

    async def _watch(self, client: Client) -> None:
        async with contextlib.aclosing(client.watch(self._span, start_revision=self._view.revision + 1)) as batches:
            async for changes in batches:
                self._note(changes[-1].term)
                if self._view.apply(changes):
                    self._on_change(self._view.records())

    async def _resync(self, client: Client) -> None:
        """Return when the watch must be replaced: it missed something, or etcd lost its history, or it is time."""
        while self._listed_at is not None and _now() - self._listed_at < RELIST_S:
            await asyncio.sleep(self._resync_s)
            known = self._view.revision
            news = await self._news(client)
            if self._view.lost_by(news, since=known):
                return
            if self._view.revision != known or self._view.agrees(news):
                continue  # events overtook the look: the next one will tell
            await asyncio.sleep(min(SETTLE_S, self._resync_s))
            if self._view.revision == known:
                log.info("etcd_watch_replaced", range=self._span.start.decode(), revision=news.revision)
                return


def _now() -> float:
    return asyncio.get_running_loop().time()


async def _first_of(*work: Coroutine[Any, Any, None]) -> None:
    """Run coroutines side by side until one returns or raises; end the others."""
    tasks = [asyncio.ensure_future(each) for each in work]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
