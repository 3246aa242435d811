"""Tells instances that leave when no client of this control plane has them any more.

An instance says goodbye in its entry of the registry. Each control plane answers below `/weft/left/` once it serves the
cluster without that address and every connected client that asked for the cluster has accepted what is served. Then,
and not after some time, the instance may stop.

That a goodbye is believed at once is `Retention`'s doing. The last one of a service stays announced: no answer is due.

A client that refuses, hangs or is slow is waited for: how long is the instance's to say. Whoever is connected to no
control plane cannot be told anything, and is not waited for. All methods belong to one event loop; while nobody leaves,
nothing is done.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final

import structlog

from lb.endpoint import Endpoint
from lb.xds.feed import Feed

log = structlog.get_logger(__name__)

#: Between two looks at the clients while somebody leaves: a small part of what an acknowledgement takes.
LOOK_S: Final = 0.02

#: Whether a client has accepted a service's endpoints as they are served, or never asked for them.
GoesBy = Callable[[str], bool]


class Departures:
    """Who leaves, and which clients may still have them."""

    def __init__(
        self, feed: Feed, *, answer: Callable[[Endpoint, bytes], None], withdraw: Callable[[Endpoint], None]
    ) -> None:
        """`answer` repeats an instance's goodbye, `withdraw` takes that back when it is gone."""
        self._feed = feed
        self._answer = answer
        self._withdraw = withdraw
        self._leaving: dict[Endpoint, bytes] = {}
        self._answered: dict[Endpoint, bytes] = {}
        self._clients: dict[object, GoesBy] = {}
        self._timer: asyncio.TimerHandle | None = None

    def follow(self, leaving: Mapping[Endpoint, bytes]) -> None:
        """Take over who leaves, and the words each has said: all of them."""
        self._leaving = dict(leaving)
        for endpoint in self._answered.keys() - leaving.keys():
            del self._answered[endpoint]
            self._withdraw(endpoint)
        self._look()

    @contextmanager
    def watching(self, goes_by: GoesBy) -> Iterator[None]:
        """A stream that counts for as long as the context lasts."""
        token = object()
        self._clients[token] = goes_by
        try:
            yield
        finally:
            del self._clients[token]

    def _look(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        waiting = [endpoint for endpoint, value in self._leaving.items() if self._answered.get(endpoint) != value]
        for endpoint in waiting:
            if self._gone(endpoint):
                self._answered[endpoint] = self._leaving[endpoint]
                self._answer(endpoint, self._leaving[endpoint])
                log.info("departure_acknowledged", endpoint=endpoint.instance)
        if self._answered != self._leaving:
            self._timer = asyncio.get_running_loop().call_later(LOOK_S, self._look)

    def _gone(self, endpoint: Endpoint) -> bool:
        """Whether no client of ours may send anything to it any more."""
        if not self._feed.loaded or self._feed.announces(endpoint):
            return False
        names = self._feed.clusters_of(endpoint)
        return all(goes_by(name) for goes_by in self._clients.values() for name in names)
