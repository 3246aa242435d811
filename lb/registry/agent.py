"""An instance's side of the registry: one daemon thread with its own event loop.

The chassis of every service and worker owns one Agent. It keeps the instance registered, publishes and follows
documents, and never lets trouble with etcd reach the caller: only `depart` and `stop` wait, and only so long.

Documents that are watched are kept on disk. A process that starts while etcd is silent gets them as they were last: its
endpoint is still known to others, who call it at the address it always had.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import replace
from typing import Final, NoReturn

import structlog

from lb.config import EtcdSettings
from lb.endpoint import Endpoint
from lb.lastgood import LastGood
from lb.registry.departure import Departure, departed
from lb.registry.directory import Directory
from lb.registry.etcd import Dialer, KeyRange, Record
from lb.registry.keeper import PATIENCE_S
from lb.registry.keys import DOCUMENTS, document_key, encode, endpoint_key
from lb.registry.registrar import Registrar

log = structlog.get_logger(__name__)

#: How long closing connections may take once the work has been told to end.
_CLOSING_S: Final = 3.0
#: How soon whoever waits for the clients hears that it shall not.
_HURRY_S: Final = 0.1


class Agent:
    """Thread-safe. Calls made before `start` are kept and done then."""

    def __init__(
        self,
        settings: EtcdSettings,
        *,
        last_good: LastGood | None = None,
        patience_s: float = PATIENCE_S,
        on_registration: Callable[[bool], None] | None = None,
        on_renewal: Callable[[str], None] | None = None,
    ) -> None:
        """`last_good` keeps documents; it is asked when etcd has been silent for `patience_s`.

        `on_registration` is told each change; `on_renewal` each outcome: `ok`, `lost` or `failed`.

        These two are called in the agent's thread and must not block.
        """
        self._settings = settings
        self._on_registration = on_registration or (lambda registered: None)
        self._on_renewal = on_renewal or (lambda outcome: None)
        self._watchers: dict[bytes, list[Callable[[bytes], None]]] = {}
        self._known: dict[bytes, bytes] = {}
        self._last_good = last_good
        self._patience_s = patience_s
        self._recalling = False
        self._unkept: dict[bytes, bytes] = {}
        self._something_unkept = asyncio.Event()
        self._registered = threading.Event()
        self._stopping = asyncio.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="registry-agent", daemon=True)
        self._registrar = Registrar(Dialer(settings), on_registration=self._registration, on_renewal=self._on_renewal)

    def start(self) -> None:
        """Begin. Returns at once, whether etcd is there or not."""
        self._thread.start()

    def register(self, endpoint: Endpoint) -> None:
        """Keep the endpoint registered from now on."""
        key = endpoint_key(endpoint.service, endpoint.instance)
        self._soon(lambda: self._registrar.announce(key, encode(endpoint), goodbye=_goodbye(endpoint)))

    def depart(
        self, endpoint: Endpoint, *, confirm_s: float, acknowledge_s: float, hurried: threading.Event
    ) -> Departure:
        """Have nobody sent to the endpoint any more, for good, and wait until no client has it.

        Etcd has `confirm_s` to confirm the goodbye, and all clients together `acknowledge_s` to acknowledge it, from
        now on; `hurried` ends the wait. The lease goes on until `stop`. Without etcd's confirmation the endpoint is
        known as lost once its lease has ended.
        """
        if not self._thread.is_alive():
            return Departure(confirmed=False)
        work = self._depart(endpoint, confirm_s=confirm_s, acknowledge_s=acknowledge_s)
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        while not hurried.is_set():
            with contextlib.suppress(FutureTimeoutError):
                return future.result(_HURRY_S)
        future.cancel()
        return Departure(confirmed=False)

    async def _depart(self, endpoint: Endpoint, *, confirm_s: float, acknowledge_s: float) -> Departure:
        saying = asyncio.ensure_future(self._registrar.leave())
        try:
            return await departed(
                Dialer(self._settings),
                endpoint,
                _goodbye(endpoint),
                confirm_s=confirm_s,
                acknowledge_s=acknowledge_s,
            )
        finally:
            saying.cancel()

    def wait_registered(self, timeout: float) -> bool:
        """Wait until the endpoint is in the registry; whether it is."""
        return self._registered.wait(timeout)

    def publish(self, name: str, value: bytes) -> None:
        """Keep a document published from now on. Raises ValueError for a name that cannot be a key."""
        key = document_key(name)
        self._soon(lambda: self._registrar.publish(key, value))

    def watch(self, name: str, callback: Callable[[bytes], None]) -> None:
        """Call back with the document's value now and whenever it changes, in the agent's thread.

        A document that vanishes is not reported: the last value stays good. Of documents that are seen at once, the one
        that was watched first is told first.
        """
        key = document_key(name)

        def add() -> None:
            self._watchers.setdefault(key, []).append(callback)
            if self._recalling:
                self._recall(key)
            elif key in self._known:
                self._tell(callback, key)

        self._soon(add)

    def stop(self, timeout: float) -> None:
        """End the thread. The lease is given back if it was not before and etcd answers in time."""
        if not self._thread.is_alive():
            return
        began = self._loop.time()
        ending: Future[None] = asyncio.run_coroutine_threadsafe(self._registrar.end(), self._loop)
        try:
            ending.result(timeout / 2)
        except FutureTimeoutError:
            log.warning("lease_not_given_back", timeout_s=timeout / 2)
            ending.cancel()
        self._soon(self._stopping.set)
        self._thread.join(max(0.0, timeout - (self._loop.time() - began)))
        if self._thread.is_alive():
            log.warning("agent_still_running", timeout_s=timeout)

    def registered(self) -> bool:
        """True while the endpoint is known to be in the registry."""
        return self._registered.is_set()

    def _soon(self, action: Callable[[], None]) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(action)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._work())
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        finally:
            self._loop.close()

    async def _work(self) -> None:
        # Documents and registration have connections of their own: neither waits for the other's trouble.
        documents = Directory(Dialer(self._settings), KeyRange.prefix(DOCUMENTS), on_change=self._documents_changed)
        work = (self._registrar.run(), documents.run(), self._be_patient(documents), self._keep_for_ever())
        tasks = [asyncio.ensure_future(each) for each in work]
        await self._stopping.wait()
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=_CLOSING_S)

    async def _be_patient(self, documents: Directory) -> None:
        """Tell watchers what was good last where etcd does not tell them anything."""
        await asyncio.sleep(self._patience_s)
        self._recalling = not documents.loaded and self._last_good is not None
        for key in tuple(self._watchers) if self._recalling else ():
            self._recall(key)

    def _recall(self, key: bytes) -> None:
        value = None if self._last_good is None else self._last_good.read(_file_of(key))
        if value is not None and key not in self._known:
            log.warning("document_recalled", key=key.decode())
            self._known[key] = value
        for callback in self._watchers[key] if key in self._known else ():
            self._tell(callback, key)

    async def _keep_for_ever(self) -> NoReturn:
        """Write what is new, in another thread: a disk that hangs must not end the lease, which this loop renews.

        Of values that come while one is being written, only the last is written.
        """
        while True:
            await self._something_unkept.wait()
            self._something_unkept.clear()
            unkept, self._unkept = self._unkept, {}
            for key, value in unkept.items():
                await asyncio.to_thread(self._keep, key, value)

    def _keep(self, key: bytes, value: bytes) -> None:
        if self._last_good is None:
            return
        try:
            self._last_good.write(_file_of(key), value)
        except OSError as error:  # the copy is old then; nothing else is worse for it
            log.error("last_good_not_kept", reason=error.strerror)

    def _documents_changed(self, records: Mapping[bytes, Record]) -> None:
        self._recalling = False
        changed = {key for key, record in records.items() if self._known.get(key) != record.value}
        for key in changed:
            self._known[key] = records[key].value
            self._registrar.learn(key, records[key].value)
        for key, callbacks in self._watchers.items():
            for callback in callbacks if key in changed else ():
                self._tell(callback, key)
            if key in changed:
                self._unkept[key] = self._known[key]
                self._something_unkept.set()

    def _tell(self, callback: Callable[[bytes], None], key: bytes) -> None:
        try:
            callback(self._known[key])
        except Exception:  # the caller's defect must not end the lease; the next value is told all the same
            log.exception("document_callback_failed", key=key.decode())

    def _registration(self, registered: bool) -> None:
        if registered:
            self._registered.set()
        else:
            self._registered.clear()
        log.info("registration_changed", registered=registered)
        self._on_registration(registered)


def _goodbye(endpoint: Endpoint) -> bytes:
    return encode(replace(endpoint, leaving=True))


def _file_of(key: bytes) -> str:
    return "document." + key.removeprefix(DOCUMENTS).decode()
