"""Cache-aside in Memcached: the only door to it.

Use cases call `Entry.get_or_load` on reads, and `Entry.delete` after the commit of a write. What holds:

- The cache is never needed. A server that is down, slow or lying is a miss; it costs at most a few tens of
  milliseconds, and after that is left alone for a while.
- Nothing stale is filled in. Who misses takes a lease before it loads, a delete takes the lease away, and what was
  loaded is stored only under a lease that still stands.
- A value proves that one of us wrote it for this entry and key; another is a miss and is overwritten.
- A key has one server, always the same. A dead server's keys do not move to another one, where they would be found
  out of date after the next move.
"""

import hashlib
import random
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

import structlog
from opentelemetry.trace import SpanKind
from pymemcache.client.base import PooledClient
from pymemcache.exceptions import MemcacheError, MemcacheUnexpectedCloseError

from svc.chassis import metrics, purity, telemetry
from svc.chassis.signed import Signer
from svc.chassis.single_flight import SingleFlight

T = TypeVar("T")
R = TypeVar("R")

_log: Final = structlog.get_logger(__name__)

# To connect, and again for each answer. A hit takes a tenth of a millisecond; what takes this long is not coming.
_ANSWER_S: Final = 0.05
# More callers than this at once on one server do without it.
_CONNECTIONS_MAX: Final = 64
# How long a server is left alone after its first failure in a row; doubled for each further one, up to the second.
_REST_FIRST_S: Final = 0.2
_REST_MAX_S: Final = 2.0
# While one caller tries a server that failed before, the others still do without it.
_PROBE_S: Final = 0.2
# A lease outlives any load that is worth storing; that of a loader that died blocks filling no longer than this.
_LEASE_S: Final = 5
_LEASE: Final = b"weft lease"
# A follower starts its own load after this.
_FOLLOW_S: Final = 0.5
# An entry's life is shortened by up to this share, so that what was filled together does not expire together.
_TTL_JITTER: Final = 0.1
# Deletes that a server did not take, kept until it answers; the oldest is dropped and then lives out its ttl.
_OWED_MAX: Final = 10_000

_STALE_CONNECTION: Final = (ConnectionResetError, BrokenPipeError, MemcacheUnexpectedCloseError)


class _SilentError(Exception):
    """The server is left alone, or did not do what it was asked."""


def choose(servers: Sequence[str], key: str) -> str:
    """The key's server by rendezvous hashing: without a server only its own keys move, and evenly."""
    return max(servers, key=lambda server: hashlib.blake2b(f"{server}\0{key}".encode(), digest_size=8).digest())


def lifetime(ttl_s: float, share: float) -> int:
    """Whole seconds that a value is kept, never more than `ttl_s`; `share` in [0, 1) is how much of the jitter."""
    return max(1, int(ttl_s * (1 - _TTL_JITTER * share)))


class Health:
    """Whether a server is worth asking. Thread-safe; times are monotonic seconds handed in."""

    def __init__(self) -> None:
        """A server is taken for well at first."""
        self._lock = threading.Lock()
        self._failures = 0
        self._rest_until = 0.0

    def ask(self, now: float) -> bool:
        """Whether to ask now. After a rest one caller at a time is told yes."""
        with self._lock:
            if self._failures == 0:
                return True
            if now < self._rest_until:
                return False
            self._rest_until = now + _PROBE_S
            return True

    def failed(self, now: float) -> bool:
        """Note a failure; whether it is the first after a success."""
        with self._lock:
            self._rest_until = now + min(_REST_MAX_S, _REST_FIRST_S * 2 ** min(self._failures, 10))
            self._failures += 1
            return self._failures == 1

    def answered(self) -> bool:
        """Note an answer; whether it is the first after a failure."""
        with self._lock:
            again = self._failures > 0
            self._failures = 0
            return again


class _Server:
    """One Memcached server."""

    def __init__(self, name: str, address: tuple[str, int]) -> None:
        self.name = name
        self._client = PooledClient(
            address,
            connect_timeout=_ANSWER_S,
            timeout=_ANSWER_S,
            no_delay=True,
            max_pool_size=_CONNECTIONS_MAX,
            default_noreply=False,
        )
        self._health = Health()
        self._owed_lock = threading.Lock()
        self._owed: dict[str, object] = {}

    def ask(self, command: Callable[[Any], R]) -> R:
        """Run a command. Raises _SilentError where there is no answer to be had."""
        if not self._health.ask(time.monotonic()):
            raise _SilentError
        if self._owed:
            # Before anything is read from it: what it was to forget is out of date.
            self._pay()
        return self._send(command)

    def delete(self, keys: Iterable[str]) -> None:
        """Forget the keys: now, or as soon as the server answers again. Asks even a server that rests."""
        with self._owed_lock:
            # A debt of its own: one that is being paid now may have been paid before this caller's commit.
            self._owed.update((key, object()) for key in keys)
            while len(self._owed) > _OWED_MAX:
                del self._owed[next(iter(self._owed))]
        self._pay()

    def _pay(self) -> None:
        with self._owed_lock:
            debts = dict(self._owed)
        self._send(lambda client: client.delete_many(list(debts)))
        with self._owed_lock:
            for key, debt in debts.items():
                if self._owed.get(key) is debt:
                    del self._owed[key]

    def _send(self, command: Callable[[Any], R]) -> R:
        # After a restart of the server every pooled connection is dead; each says so at once and is dropped.
        for _ in range(_CONNECTIONS_MAX):
            try:
                answer = command(self._client)
            except _STALE_CONNECTION:
                continue
            except OSError as error:
                self._failed(error)
                raise _SilentError from error
            except (MemcacheError, RuntimeError, ValueError, LookupError) as error:
                # It answered, though not as asked: a value too large, every connection in use, not Memcached at all.
                _log.warning("cache_refused", server=self.name, error=type(error).__name__)
                raise _SilentError from error
            if self._health.answered():
                _log.info("cache_server_back", server=self.name)
            return answer
        self._failed(ConnectionResetError())
        raise _SilentError

    def _failed(self, error: OSError) -> None:
        if self._health.failed(time.monotonic()):
            _log.warning("cache_server_silent", server=self.name, error=type(error).__name__)

    def answers(self) -> bool:
        """Whether it says its version now."""
        try:
            self._send(lambda client: client.version())
        except _SilentError:
            return False
        return True

    def close(self) -> None:
        self._client.close()


@dataclass(frozen=True, slots=True)
class _Found(Generic[T]):
    """What a look-up brought."""

    result: str
    """hit, miss or error: the label of the metric."""
    value: tuple[T, ...] = ()
    """The value of a hit."""
    lease: bytes | None = None
    """Under which the key may be filled."""
    taken: bool = False
    """Another one loads."""


@dataclass(frozen=True, slots=True)
class Codec(Generic[T]):
    """How a kind of value becomes bytes."""

    encode: Callable[[T], bytes]
    decode: Callable[[bytes], T]


class Entry(Generic[T]):
    """One kind of cached value. Values are shared between threads: immutable, please."""

    def __init__(self, cache: "Cache", name: str, *, ttl_s: float, codec: Codec[T]) -> None:
        """Made by `Cache.entry`."""
        self._cache = cache
        self._name = name
        self._ttl_s = ttl_s
        self._codec = codec
        self._flights: SingleFlight[T] = SingleFlight(wait_s=_FOLLOW_S)

    def serves(self, max_age_s: float) -> bool:
        """Whether what it keeps is never older: an entry lives for its ttl, and is filled a lease late at most."""
        return self._ttl_s + _LEASE_S <= max_age_s

    def get_or_load(self, key: str, load: Callable[[], T]) -> T:
        """The cached value, or what `load` returns, which is then kept. What `load` raises is raised and not kept.

        `load` must begin its own read of the database: a snapshot taken before this call may be out of date.
        """
        slot = self._slot(key)
        server = self._cache.server(slot)
        with telemetry.span("cache.get", SpanKind.CLIENT, attributes={"cache.entry": self._name}) as span:
            found = self._look_up(server, slot)
            span.set_attribute("cache.result", found.result)
        metrics.CACHE_REQUESTS.labels(self._name, found.result).inc()
        if found.value:
            return found.value[0]
        return self._flights.run(slot, lambda: self._load(server, slot, found, load))

    def delete(self, *keys: str) -> None:
        """Forget the keys. Called after the commit that changed what they stand for, never before."""
        by_server: dict[_Server, list[str]] = {}
        for key in keys:
            slot = self._slot(key)
            self._flights.forget(slot)
            by_server.setdefault(self._cache.server(slot), []).append(slot)
        for server, slots in by_server.items():
            try:
                server.delete(slots)
            except _SilentError:
                _log.info("cache_delete_owed", server=server.name, entry=self._name, keys=len(slots))

    def _slot(self, key: str) -> str:
        # Any string is a key here; Memcached's own are short and without spaces.
        return f"{self._name}:{hashlib.blake2b(key.encode(), digest_size=20).hexdigest()}"

    def _look_up(self, server: _Server, slot: str) -> _Found[T]:
        try:
            raw, lease = server.ask(lambda client: client.gets(slot))
        except _SilentError:
            return _Found("error")
        return self._judge(slot, raw, lease)

    def _judge(self, slot: str, raw: bytes | None, lease: bytes | None) -> _Found[T]:
        if raw is None:
            return _Found("miss")
        if raw == _LEASE:
            return _Found("miss", lease=lease, taken=True)
        payload = self._cache.signer.verify(slot, raw)
        if payload is None:
            return _Found("error", lease=lease)
        try:
            return _Found("hit", (self._codec.decode(payload),))
        except Exception as error:  # noqa: BLE001 - whatever a decoder says of an older version's value, it is a miss
            _log.warning("cache_undecodable", entry=self._name, error=type(error).__name__)
            return _Found("error", lease=lease)

    def _load(self, server: _Server, slot: str, found: _Found[T], load: Callable[[], T]) -> T:
        if found.lease is None and found.result == "miss":
            found = self._take_lease(server, slot)
            if found.value:
                return found.value[0]
        value = load()
        if found.lease is not None and not found.taken:
            self._fill(server, slot, found.lease, value)
        return value

    def _take_lease(self, server: _Server, slot: str) -> _Found[T]:
        """Reserve the key; or find that another one reserved or filled it meanwhile."""
        try:
            mine = server.ask(lambda client: client.add(slot, _LEASE, expire=_LEASE_S))
            raw, lease = server.ask(lambda client: client.gets(slot))
        except _SilentError:
            return _Found("error")
        if mine and raw == _LEASE:
            return _Found("miss", lease=lease)
        return self._judge(slot, raw, lease)

    def _fill(self, server: _Server, slot: str, lease: bytes, value: T) -> None:
        signed = self._cache.signer.sign(slot, self._codec.encode(value))
        expire = lifetime(self._ttl_s, self._cache.random.random())
        try:
            # Refused where the key was deleted or filled since the lease was taken.
            server.ask(lambda client: client.cas(slot, signed, lease, expire=expire))
        except _SilentError:
            _log.debug("cache_not_filled", server=server.name, entry=self._name)


class Cache:
    """The servers, and what is kept on them."""

    def __init__(self, servers: Sequence[tuple[str, int]], *, key: bytes) -> None:
        """Opens nothing yet. `key`: `Secrets.cache_key()`."""
        if not servers:
            raise ValueError("a cache needs at least one server")
        self._servers = {f"{host}:{port}": _Server(f"{host}:{port}", (host, port)) for host, port in servers}
        self._names = tuple(self._servers)
        self.signer = Signer(key, purpose="cache value")
        self.random = random.Random()

    def entry(self, name: str, *, ttl_s: float, encode: Callable[[T], bytes], decode: Callable[[bytes], T]) -> Entry[T]:
        """One kind of value. The name also says its version: a new encoding takes a new name, `product.v2`."""
        if not name.replace(".", "").replace("_", "").isalnum() or not name.isascii() or len(name) > 64:
            raise ValueError(f"{name!r} is not letters, digits, dots and underscores")
        if ttl_s < 1:
            raise ValueError("Memcached keeps time in whole seconds")
        return Entry(self, name, ttl_s=ttl_s, codec=Codec(encode, decode))

    def server(self, slot: str) -> _Server:
        """The server of a key."""
        purity.refuse("a look into the cache")
        return self._servers[choose(self._names, slot)]

    def ping(self) -> bool:
        """Whether every server answers."""
        return all(server.answers() for server in self._servers.values())

    def close(self) -> None:
        """Close every connection."""
        for server in self._servers.values():
            server.close()
