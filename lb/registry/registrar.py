"""Keeps keys in etcd: those of a living process under its lease, and documents that outlive it.

One Registrar belongs to one process: an instance's agent announces its endpoint with it, a control plane the gateways
connected to it. Level-triggered: every third of the lease it renews, looks at each of its keys and repairs what is
missing, so the loss of a lease, of a key or of all of etcd's data heals by itself.

Two processes that claim one key do not fight: the later one has it, the earlier one says so and waits until it is free.

Leaving has two steps, because a key that vanishes does not say why. First every key says goodbye, still under its
lease, so that whoever follows the registry, or lists it anew, knows that nobody is lost; then the lease is given back.
"""

import asyncio
from collections.abc import Callable
from typing import NoReturn

import structlog

from lb.errors import LeaseLostError
from lb.registry.backoff import MINIMUM_S
from lb.registry.etcd import Client, Delete, Dialer, Expect, ExpectLease, Put, Record
from lb.registry.keys import says_goodbye
from lb.registry.session import keep_trying

log = structlog.get_logger(__name__)


class Registrar:
    """All methods belong to the loop that runs `run`."""

    def __init__(
        self,
        dialer: Dialer,
        *,
        on_registration: Callable[[bool], None] = lambda registered: None,
        on_renewal: Callable[[str], None] = lambda outcome: None,
    ) -> None:
        """`on_renewal` is told `ok`, `lost` (the lease had ended) or `failed` (etcd did not answer)."""
        self._dialer = dialer
        self._ttl_s = dialer.settings.lease_ttl_s
        self._on_registration = on_registration
        self._on_renewal = on_renewal
        self._leased: dict[bytes, bytes] = {}
        self._goodbyes: dict[bytes, bytes] = {}
        self._stored: set[bytes] = set()
        self._taken: set[bytes] = set()
        self._said: dict[bytes, int] = {}
        self._withdrawn: set[bytes] = set()
        self._documents: dict[bytes, bytes] = {}
        self._unpublished: set[bytes] = set()
        self._lease = 0
        self._renewed = float("-inf")
        self._registered = False
        self._leaving = False
        self._left = asyncio.Event()
        self._ending = False
        self._ended = asyncio.Event()
        self._wake = asyncio.Event()

    def announce(self, key: bytes, value: bytes, *, goodbye: bytes | None = None) -> None:
        """Keep the key under this process's lease from now on. Ignored after `leave`.

        `goodbye`: the value that says that the process leaves; None: the key is deleted then.
        """
        if self._leaving:
            return
        if goodbye is not None:
            self._goodbyes[key] = goodbye
        self._withdrawn.discard(key)
        self._stored.discard(key)
        self._leased[key] = value
        self._wake.set()

    def withdraw(self, key: bytes) -> None:
        """Delete the key, unless another process has it by now."""
        if self._leased.pop(key, None) is not None:
            self._stored.discard(key)
            self._taken.discard(key)
            self._said.pop(key, None)
            self._withdrawn.add(key)
            self._wake.set()

    def publish(self, key: bytes, value: bytes) -> None:
        """Store a document, and store it again should etcd ever lose it."""
        self._documents[key] = value
        self._unpublished.add(key)
        self._wake.set()

    def learn(self, key: bytes, value: bytes) -> None:
        """A document was seen in etcd: should it be lost, this is what to restore, whoever published it."""
        if key in self._documents and key not in self._unpublished:
            self._documents[key] = value

    async def leave(self) -> None:
        """Say goodbye with every key, and never take another. Returns when etcd has confirmed it."""
        self._leaving = True
        self._wake.set()
        await self._left.wait()

    async def end(self) -> None:
        """Leave, and end the lease with all its keys. Returns when etcd has confirmed it."""
        self._leaving = self._ending = True
        self._wake.set()
        await self._ended.wait()

    def registered(self) -> bool:
        """True while every announced key is known to be in etcd under a lease that has not run out."""
        fresh = asyncio.get_running_loop().time() - self._renewed < self._ttl_s
        return bool(self._leased) and not self._leaving and fresh and self._stored.issuperset(self._leased)

    async def run(self) -> NoReturn:
        """Keep everything as it should be until cancelled. Being cancelled does not end the lease."""
        await keep_trying(self._dialer, self._session, part="registrar", on_trouble=self._trouble)

    def _trouble(self) -> None:
        if self._lease:
            self._on_renewal("failed")
        self._report()

    async def _session(self, client: Client) -> None:
        while True:
            self._wake.clear()
            try:
                await self._step(client)
            except LeaseLostError as error:
                log.warning("lease_lost", detail=str(error))
                self._lease = 0
                self._stored.clear()
                self._on_renewal("lost")
                self._report()
                await asyncio.sleep(MINIMUM_S)
                continue
            self._report()
            try:
                async with asyncio.timeout(self._ttl_s / 3):
                    await self._wake.wait()
            except TimeoutError:
                continue  # time to renew

    async def _step(self, client: Client) -> None:
        if self._leaving:
            await self._leave(client)
        await self._renew(client)
        for key in tuple(self._withdrawn):
            await client.commit([ExpectLease(key, self._lease)], [Delete(key)])
            self._withdrawn.discard(key)
        for key, value in tuple(self._leased.items()):
            await self._keep(client, key, value)
        for key, value in tuple(self._documents.items()):
            await self._keep_document(client, key, value)

    async def _leave(self, client: Client) -> None:
        if self._lease and not self._left.is_set():
            for key in tuple(self._leased):
                goodbye = self._goodbyes.get(key)
                last = Delete(key) if goodbye is None else Put(key, goodbye, self._lease)
                # Where somebody else has the key by now, there is nobody to say goodbye for.
                await client.commit([ExpectLease(key, self._lease)], [last])
        self._leased.clear()
        self._stored.clear()
        self._report()
        self._left.set()
        if self._ending:
            if self._lease:
                await client.revoke(self._lease)
                self._lease = 0
            self._ended.set()

    async def _renew(self, client: Client) -> None:
        began = asyncio.get_running_loop().time()
        if self._lease:
            await client.keep_alive(self._lease)
            self._on_renewal("ok")
        elif self._leased:
            self._lease = await client.grant(self._ttl_s)
        else:
            return
        self._renewed = began

    async def _keep(self, client: Client, key: bytes, value: bytes) -> None:
        if key in self._stored or key in self._taken:
            record = await client.get(key)
            if self._foreign(record, value):
                if key not in self._taken:
                    log.error("registration_taken_over", key=key.decode(), lease_id=self._lease)
                self._taken.add(key)
                self._stored.discard(key)
                return
            if record is not None and record.lease == self._lease and record.value == value:
                return
        await client.put(Put(key, value, self._lease))
        if self._leased.get(key) != value:
            # Changed or withdrawn while etcd was asked: the wake that came with it brings the next step at once.
            if key not in self._leased:
                self._withdrawn.add(key)
            return
        self._taken.discard(key)
        self._stored.add(key)
        if self._said.get(key) != self._lease:  # once for each lease: a value may change often
            self._said[key] = self._lease
            log.info("key_registered", key=key.decode(), lease_id=self._lease)

    def _foreign(self, record: Record | None, value: bytes) -> bool:
        """True where another living process holds the key. What lies there without a lease is nobody's."""
        if record is None or record.lease in (0, self._lease) or record.value == value:
            return False
        return not says_goodbye(record.value)

    async def _keep_document(self, client: Client, key: bytes, value: bytes) -> None:
        record = await client.get(key)
        if key in self._unpublished:
            if record is None or record.value != value:
                await client.put(Put(key, value))
                log.info("document_published", key=key.decode(), size=len(value))
            if self._documents[key] == value:
                self._unpublished.discard(key)
        elif record is None:
            if await client.commit([Expect(key, 0)], [Put(key, value)]):
                log.warning("document_restored", key=key.decode(), size=len(value))
        else:
            self.learn(key, record.value)

    def _report(self) -> None:
        registered = self.registered()
        if registered != self._registered:
            self._registered = registered
            self._on_registration(registered)
