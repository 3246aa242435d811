"""What a control plane serves, kept on disk, and taken from there when it starts while the registry is away.

Where the registry answers in time it alone is believed: what lies on disk may be a week old. After `PATIENCE_S` a
client that waits gets what was good last, until the registry has answered.
"""

import asyncio
import base64
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, NoReturn

import structlog

from lb.endpoint import Endpoint
from lb.lastgood import BUNDLE, ENDPOINTS, KEYS, LANES, LastGood, endpoints_from_bytes, endpoints_to_bytes
from lb.registry import metrics

log = structlog.get_logger(__name__)

#: So long the registry has to answer first: a leader is elected in less.
PATIENCE_S: Final = 3.0
#: Changes come in bursts; the disk is told once for all of them.
COALESCE_S: Final = 0.5
#: A disk that is full may have room again.
_RETRY_S: Final = 10.0

Pieces = Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class Source:
    """One thing that the registry tells."""

    loaded: Callable[[], bool]
    """Whether it has."""
    recall: Callable[[], None]
    """Take what was good last instead."""


class Keeper:
    """Belongs to one event loop. Without a place to keep things it keeps and finds nothing."""

    def __init__(self, place: LastGood | None) -> None:
        self._place = place
        self._waiting: dict[str, Callable[[], bytes]] = {}
        self._wake = asyncio.Event()

    def endpoints(self, endpoints: Iterable[Endpoint]) -> None:
        """Keep what is announced."""
        self._keep(ENDPOINTS, lambda: endpoints_to_bytes(endpoints))

    def bundle(self, manifest: bytes, pieces: Pieces) -> None:
        """Keep what is served."""
        self._keep(BUNDLE, lambda: bundle_to_bytes(manifest, pieces))

    def keys(self, document: bytes) -> None:
        """Keep what tokens are checked with."""
        self._keep(KEYS, lambda: document)

    def lanes(self, document: bytes) -> None:
        """Keep which lanes there are."""
        self._keep(LANES, lambda: document)

    def last_endpoints(self) -> tuple[Endpoint, ...]:
        """What was announced last."""
        return endpoints_from_bytes(self._read(ENDPOINTS))

    def last_bundle(self) -> tuple[bytes, Pieces] | None:
        """Manifest and pieces of what was served last."""
        content = self._read(BUNDLE)
        return None if content is None else bundle_from_bytes(content)

    def last_keys(self) -> bytes | None:
        """The keys that were good last."""
        return self._read(KEYS)

    def last_lanes(self) -> bytes | None:
        """The lanes there were last."""
        return self._read(LANES)

    async def run(self, sources: Iterable[Source], *, patience_s: float = PATIENCE_S) -> NoReturn:
        """Recall what the registry does not tell in time; write what there is to write, until cancelled."""
        await asyncio.gather(self._write_for_ever(), _recall(sources, patience_s))
        raise AssertionError("writing never ends")

    async def _write_for_ever(self) -> NoReturn:
        while True:
            await self._wake.wait()
            await asyncio.sleep(COALESCE_S)
            self._wake.clear()
            waiting, self._waiting = self._waiting, {}
            try:
                await asyncio.to_thread(self._write, waiting)
            except OSError as error:  # the copy is old then; nothing else is worse for it
                log.error("last_good_not_kept", reason=error.strerror)
                metrics.LAST_GOOD.set(1)
                self._waiting = {**waiting, **self._waiting}
                await asyncio.sleep(_RETRY_S)
                self._wake.set()
            else:
                metrics.LAST_GOOD.set(0)

    def _keep(self, name: str, render: Callable[[], bytes]) -> None:
        if self._place is not None:
            self._waiting[name] = render
            self._wake.set()

    def _write(self, waiting: Mapping[str, Callable[[], bytes]]) -> None:
        assert self._place is not None
        for name, render in waiting.items():
            self._place.write(name, render())

    def _read(self, name: str) -> bytes | None:
        return None if self._place is None else self._place.read(name)


async def _recall(sources: Iterable[Source], patience_s: float) -> None:
    await asyncio.sleep(patience_s)
    silent = [source for source in sources if not source.loaded()]
    if silent:
        log.warning("registry_silent", patience_s=patience_s, recalled=len(silent))
    for source in silent:
        source.recall()


def bundle_to_bytes(manifest: bytes, pieces: Pieces) -> bytes:
    """One value of a manifest and its pieces."""
    texts = {name: base64.b64encode(content).decode() for name, content in pieces.items()}
    return json.dumps({"manifest": base64.b64encode(manifest).decode(), "pieces": texts}).encode()


def bundle_from_bytes(content: bytes) -> tuple[bytes, Pieces] | None:
    """What `bundle_to_bytes` wrote; None for anything else. Whether the pieces fit is for the bundle's check to say."""
    try:
        document = json.loads(content)
        pieces = {str(name): base64.b64decode(text) for name, text in document["pieces"].items()}
        return base64.b64decode(document["manifest"]), pieces
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        log.warning("last_good_damaged", name=BUNDLE, reason=error.__class__.__name__)
        return None
