"""Compiled bundles in etcd: content-addressed pieces, and one pointer that is moved by compare-and-swap.

A piece is named by the SHA-256 of its content and stored compressed: the route table of a thousand methods is 2.3 MB,
and etcd takes no request of more than 1.5 MiB.

`python -m lb publish` and `rollback` write here, every control plane follows. A reader sees the old bundle or the new
one and never a mixture, because pieces are complete before the pointer moves and pieces are never changed.
The history is a stack of what the pointer named, the newest on top; rolling back takes the top off.

What falls out of the history leaves pieces behind that nothing names. They are put under a lease of `GRACE_S`: etcd
deletes them when whoever may still be reading them is done. Publishing one of them again takes it off the lease.
"""

import asyncio
import hashlib
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NoReturn

import structlog

from lb.errors import BundleRefusedError, EtcdError, EtcdRefusedError, EtcdUnavailableError
from lb.registry.directory import Directory
from lb.registry.etcd import (
    TXN_BYTES_MAX,
    TXN_OPS_MAX,
    Bind,
    Client,
    Delete,
    Dialer,
    Expect,
    KeyRange,
    Put,
    Record,
)
from lb.registry.keys import BLOBS, CURRENT, HISTORY, blob_key, history_key, history_number
from lb.registry.session import keep_trying

log = structlog.get_logger(__name__)

#: Entries of the history that are kept: as far as one can roll back.
HISTORY_MAX: Final = 50
#: The largest piece that is unpacked. Whoever can write to etcd must not be able to fill a control plane's memory.
PIECE_BYTES_MAX: Final = 64 << 20
#: The fastest level: route tables repeat themselves so much that more effort saves little.
_COMPRESSION: Final = 1
#: Publishers that race for the pointer: the loser looks again so many times.
_CAS_ATTEMPTS: Final = 5
#: So long a piece that nothing names any more is still there: a bundle is read in seconds.
GRACE_S: Final = 3600
#: Each moves the pointer's revision: a publisher that races with all of them has an attempt left.
_SWEEPS: Final = _CAS_ATTEMPTS - 1


@dataclass(frozen=True, slots=True)
class Published:
    """What `publish` did."""

    digest: str
    number: int
    blobs_written: int
    changed: bool


@dataclass(frozen=True, slots=True)
class RolledBack:
    """What `roll_back` did."""

    digest: str
    undone: str
    number: int


async def publish(
    client: Client,
    manifest: bytes,
    blobs: Mapping[str, bytes],
    *,
    pieces_of: Callable[[bytes], Sequence[str]] | None = None,
    grace_s: int = GRACE_S,
) -> Published:
    """Store the pieces etcd lacks, then move the pointer to `manifest`. Publishing the same again changes nothing.

    `pieces_of` reads from a manifest what it needs: with it, pieces that only trimmed history named end in `grace_s`.
    """
    digest = hashlib.sha256(manifest).hexdigest()
    pieces = {**blobs, digest: manifest}
    written = 0
    for _ in range(_CAS_ATTEMPTS):
        current = await client.get(CURRENT)
        # After the look at the pointer: whoever puts a piece under a lease later moves the pointer's revision.
        written += await _store(client, pieces)
        history = await _history(client)
        number = history_number(history[-1].key) if history else 0
        if current is not None and current.value.decode() == digest:
            return Published(digest, number, written, changed=False)
        operations: list[Put | Delete] = [
            Put(CURRENT, digest.encode()),
            Put(history_key(number + 1), digest.encode()),
        ]
        trimmed = history[: max(0, len(history) + 1 - HISTORY_MAX)]
        operations += [Delete(record.key) for record in trimmed]
        expected = [Expect(CURRENT, current.mod_revision if current else 0), Expect(history_key(number + 1), 0)]
        if await client.commit(expected, operations[:TXN_OPS_MAX]):
            if trimmed and pieces_of is not None:
                await _sweep(client, pieces_of, grace_s)
            return Published(digest, number + 1, written, changed=True)
    raise EtcdUnavailableError("other publishers kept moving the pointer; try again")


async def roll_back(client: Client) -> RolledBack:
    """Move the pointer to what it named before. Raises EtcdRefusedError where there is nothing before."""
    for _ in range(_CAS_ATTEMPTS):
        current = await client.get(CURRENT)
        history = await _history(client)
        if current is None or len(history) < 2:
            raise EtcdRefusedError("there is no earlier bundle to go back to")
        last, before = history[-1], history[-2]
        operations: list[Put | Delete] = [Put(CURRENT, before.value), Delete(last.key)]
        expected = [Expect(CURRENT, current.mod_revision), Expect(last.key, last.mod_revision)]
        if await client.commit(expected, operations):
            return RolledBack(before.value.decode(), current.value.decode(), history_number(before.key))
    raise EtcdUnavailableError("other publishers kept moving the pointer; try again")


class Follower:
    """Follows the pointer and hands over every bundle it comes to name.

    `pieces_of` reads from a manifest which pieces it needs; `on_bundle` gets manifest and pieces. Both may raise
    BundleRefusedError: it is logged, told to `on_refused` with the digest and the problems, and the last good bundle
    stays with the receiver. Should etcd lose its data, the bundle is published again from here.
    """

    def __init__(
        self,
        dialer: Dialer,
        *,
        pieces_of: Callable[[bytes], Sequence[str]],
        on_bundle: Callable[[bytes, Mapping[str, bytes]], None],
        on_refused: Callable[[str, Sequence[str]], None] = lambda digest, problems: None,
    ) -> None:
        self._dialer = dialer
        self._pieces_of = pieces_of
        self._on_bundle = on_bundle
        self._on_refused = on_refused
        self._wanted: bytes | None = None
        self._seen: bytes | None = None
        self._manifest = b""
        self._pieces: dict[str, bytes] = {}
        self._lost = False
        self._moved = asyncio.Event()
        self._directory = Directory(dialer, KeyRange(CURRENT), on_change=self._pointed)

    @property
    def loaded(self) -> bool:
        """True once a bundle of etcd's has been handed over."""
        return self._seen is not None

    def remember(self, manifest: bytes, pieces: Mapping[str, bytes]) -> None:
        """Begin with what was good last: should etcd have lost its data meanwhile, it is published from here."""
        self._manifest, self._pieces = manifest, dict(pieces)

    async def run(self) -> NoReturn:
        """Follow until cancelled."""
        fetching = asyncio.ensure_future(
            keep_trying(self._dialer, self._session, part="bundle", on_trouble=lambda: None)
        )
        try:
            await self._directory.run()
        finally:
            fetching.cancel()

    def _pointed(self, records: Mapping[bytes, Record]) -> None:
        record = records.get(CURRENT)
        if record is not None:
            self._wanted = record.value
        # A pointer that vanished says nothing about what to serve: the last bundle stays, and goes back to etcd.
        self._lost = record is None and bool(self._manifest)
        self._moved.set()

    async def _session(self, client: Client) -> None:
        while True:
            self._moved.clear()
            if self._lost:
                await publish(client, self._manifest, self._pieces)
                log.warning("bundle_restored", digest=hashlib.sha256(self._manifest).hexdigest())
                self._lost = False
            wanted = self._wanted
            if wanted is not None and wanted != self._seen:
                await self._take(client, wanted)
            await self._moved.wait()

    async def _take(self, client: Client, wanted: bytes) -> None:
        digest = wanted.decode(errors="replace")
        try:
            manifest, pieces = await load(client, digest, self._pieces_of, known=self._pieces)
            self._on_bundle(manifest, pieces)
        except BundleRefusedError as error:
            log.error("bundle_refused", digest=digest, problems=list(error.problems)[:10])
            self._on_refused(digest, error.problems)
        else:
            self._manifest, self._pieces = manifest, pieces
            log.info("bundle_taken", digest=digest, pieces=len(pieces))
        self._seen = wanted


async def load(
    client: Client,
    digest: str,
    pieces_of: Callable[[bytes], Sequence[str]],
    *,
    known: Mapping[str, bytes],
) -> tuple[bytes, dict[str, bytes]]:
    """Read a manifest and the pieces it names; those in `known` are not read again."""
    try:
        key = blob_key(digest)
    except ValueError as error:
        raise BundleRefusedError([f"the pointer holds no SHA-256: {error}"]) from error
    record = await client.get(key)
    if record is None:
        raise EtcdUnavailableError(f"manifest {digest} is not there yet")
    manifest = unpacked(record.value, digest)
    names = list(dict.fromkeys(pieces_of(manifest)))
    pieces = {name: known[name] for name in names if name in known}
    keys = {blob_key(name): name for name in names if name not in known}
    found = await client.get_many(list(keys))
    missing = [name for key, name in keys.items() if key not in found]
    if missing:
        raise EtcdUnavailableError(f"{len(missing)} pieces of {digest} are not there yet")
    pieces.update((keys[key], unpacked(value, keys[key])) for key, value in found.items())
    return manifest, pieces


def packed(content: bytes) -> bytes:
    """A piece as etcd holds it."""
    return zlib.compress(content, _COMPRESSION)


def unpacked(value: bytes, digest: str) -> bytes:
    """The content of a piece. One that was stored as it is, before pieces were packed, is taken too.

    Raises BundleRefusedError where it is not what its name says.
    """
    if hashlib.sha256(value).hexdigest() == digest:
        return value
    unpacking = zlib.decompressobj()
    try:
        content = unpacking.decompress(value, PIECE_BYTES_MAX)
    except zlib.error:
        content = b""
    if hashlib.sha256(content).hexdigest() != digest:
        raise BundleRefusedError([f"piece {digest} is not what its name says"])
    return content


async def _sweep(client: Client, pieces_of: Callable[[bytes], Sequence[str]], grace_s: int) -> None:
    """Put pieces that nothing names under a lease. What is not done now is done when history is trimmed again."""
    known: dict[str, frozenset[bytes]] = {}
    try:
        for _ in range(_SWEEPS):
            current = await client.get(CURRENT)
            if current is None:
                return
            named: set[bytes] = set()
            for pointer in (current, *await _history(client)):
                digest = pointer.value.decode()
                if digest not in known:
                    known[digest] = await _named_by(client, digest, pieces_of)
                named |= known[digest]
            listing = await client.list(KeyRange.prefix(BLOBS), keys_only=True)
            unused = [each.key for each in listing.records if not each.lease and each.key not in named]
            if not unused:
                return
            lease = await client.grant(grace_s)
            bound = [Bind(key, lease) for key in unused[: TXN_OPS_MAX - 1]]
            # The pointer gets a new revision: a publisher that counts on one of these pieces has to look again.
            operations: list[Put | Bind] = [Put(CURRENT, current.value), *bound]
            if not await client.commit([Expect(CURRENT, current.mod_revision)], operations):
                return
            log.info("pieces_outdated", count=len(bound), grace_s=grace_s)
    except (EtcdError, BundleRefusedError, ValueError) as error:
        # The bundle is published all the same. A manifest that cannot be read may be of a later release: it counts.
        log.warning("pieces_not_swept", kind=error.__class__.__name__, detail=str(error))


async def _named_by(client: Client, digest: str, pieces_of: Callable[[bytes], Sequence[str]]) -> frozenset[bytes]:
    """Keys of a manifest and its pieces. One that is not there names nothing: nobody can go back to it."""
    key = blob_key(digest)
    record = await client.get(key)
    pieces = () if record is None else pieces_of(unpacked(record.value, digest))
    return frozenset((key, *map(blob_key, pieces)))


async def _store(client: Client, pieces: Mapping[str, bytes]) -> int:
    listing = await client.list(KeyRange.prefix(BLOBS), keys_only=True)
    there = {record.key for record in listing.records if not record.lease}
    missing = [Put(blob_key(name), packed(value)) for name, value in pieces.items() if blob_key(name) not in there]
    too_large = [put.key.decode() for put in missing if len(put.value) > TXN_BYTES_MAX]
    if too_large:
        raise BundleRefusedError([f"{key} is larger than {TXN_BYTES_MAX} bytes, compressed" for key in too_large])
    for batch in _batches(missing):
        await client.commit([], batch)
    return len(missing)


def _batches(puts: Sequence[Put]) -> Iterator[list[Put]]:
    """Split into transactions that etcd accepts."""
    batch: list[Put] = []
    size = 0
    for put in puts:
        cost = len(put.key) + len(put.value)
        if batch and (len(batch) == TXN_OPS_MAX or size + cost > TXN_BYTES_MAX):
            yield batch
            batch, size = [], 0
        batch.append(put)
        size += cost
    if batch:
        yield batch


async def _history(client: Client) -> list[Record]:
    listing = await client.list(KeyRange.prefix(HISTORY))
    return sorted((record for record in listing.records if history_number(record.key) >= 0), key=lambda r: r.key)
