"""The kept answers of one method, as its use case sees them."""

import contextlib
import hashlib
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Generic, Literal, Protocol, TypeVar, get_args

import structlog
from opentelemetry.trace import SpanKind

from svc.chassis import metrics, telemetry
from svc.chassis.cache.node import Node, SilentError
from svc.chassis.cache.value import Seal, Value, not_found, nothing
from svc.chassis.cache.wire import Answer, Incarnation
from svc.chassis.context import CallContext
from svc.chassis.errors import AppError, NotFound
from svc.chassis.single_flight import SingleFlight
from weft_protos import policy
from weft_protos.caching import Cached

T = TypeVar("T")

_log: Final = structlog.get_logger(__name__)

#: A lease outlives any load that is worth storing; that of a loader that died blocks filling no longer than this.
LEASE_S: Final = int(policy.FILL_S)
#: A follower starts its own load after this, or after half of the time its call has left.
FOLLOW_S: Final = 0.25
_FOLLOW_SHARE: Final = 0.5
# Between two looks at whether another process has filled the slot.
_LOOK_FIRST_S: Final = 0.002
_LOOK_MAX_S: Final = 0.03
# An entry's life is shortened by up to this share, so that what was filled together does not expire together.
_TTL_JITTER: Final = 0.1
# What is left of an entry's life when one caller renews it.
_RENEW_SHARE: Final = 0.1
# Memcached takes 1 MiB with key and header, unless it is set up otherwise.
_VALUE_BYTES_MAX: Final = 1_000_000
_STORED: Final = b"HD"
# Values that were proven and decoded are remembered by their bytes, up to this many, each up to this long.
_SMALL_VALUES: Final = 1024
_SMALL_BYTES: Final = 4096

Result = Literal["hit", "miss", "stale", "foreign", "error"]


def slot_of(method: str, key: str) -> str:
    """What Memcached calls an entry. Any string is a key; Memcached's own are short and without spaces."""
    return f"{method}:{hashlib.blake2b(key.encode(), digest_size=20).hexdigest()}"


def lifetime(ttl_s: float, share: float) -> int:
    """Whole seconds that a value is kept, never more than `ttl_s`; `share` in [0, 1) is how much of the jitter."""
    return max(1, int(ttl_s * (1 - _TTL_JITTER * share)))


@dataclass(frozen=True, slots=True)
class Codec(Generic[T]):
    """How an answer becomes bytes. Values are shared between threads: immutable, please."""

    encode: Callable[[T], bytes]
    decode: Callable[[bytes], T]
    version: Callable[[T], int] = lambda _: 0
    """A number that grows with every change of the thing, for whoever looks whether the cache lags behind."""


class Nodes(Protocol):
    """The ring: `store.Cache`."""

    def node(self, slot: str) -> Node:
        """The node that has a slot."""
        ...

    def chance(self) -> float:
        """A random number in [0, 1)."""
        ...


@dataclass(frozen=True, slots=True)
class _Lease:
    """The right to fill a slot, at one start of its node."""

    cas: int
    incarnation: Incarnation | None


@dataclass(slots=True)
class _Found:
    """What a look at a slot brought."""

    result: Result
    """The label of the metric."""
    value: Value | None = None
    answer: tuple[Any, ...] = ()
    """The decoded payload of a value that is not absent."""
    lease: _Lease | None = None
    """Under which the slot may be filled."""
    reserved: bool = False
    """The lease is the only one, and nobody else fills the slot as long as it stands."""
    awaited: bool = False
    """Another one loads."""


class Entry(Generic[T]):
    """The kept answers of one method. Thread-safe."""

    def __init__(self, nodes: Nodes, said: Cached, *, seal: Seal, codec: Codec[T]) -> None:
        """Made by `Cache.entry`."""
        self.ttl_s: Final = said.ttl_s
        self._nodes = nodes
        self._said = said
        self._seal = seal
        self._codec = codec
        self._flights: SingleFlight[T] = SingleFlight(wait_s=2 * FOLLOW_S)
        self._counts = {result: metrics.CACHE_REQUESTS.labels(said.method, result) for result in get_args(Result)}
        self._open_small = lru_cache(_SMALL_VALUES)(self._open)
        renew_s = int(said.ttl_s * _RENEW_SHARE)
        # A lease of LEASE_S must not look like a value that is about to expire.
        self._look = f" v c t N{LEASE_S}" + (f" R{renew_s}" if renew_s else "") + "\r\n"

    def get_or_load(self, call: CallContext, load: Callable[[], T], *, max_age_s: float = math.inf) -> T:
        """The kept answer, or what `load` returns, which is then kept. What `load` raises is raised.

        The contract's `key` says under which key (`call.cache_key`); NotFound is kept, too, where the contract says for
        how long. `load` must begin its own read of the primary: a snapshot taken before this call may be out of date.
        `max_age_s`: an answer that may have been read from the database longer ago than this is not good enough; ages
        are known to a second or so, and never taken for less than they are. Zero: the cache is not even asked, as a
        STRONG read wants it.
        """
        if max_age_s <= 0:
            return load()
        slot, owner = slot_of(self._said.method, call.cache_key), "" if self._said.shared else call.caller.subject
        with telemetry.span("cache.get", SpanKind.CLIENT, attributes={"cache.entry": self._said.method}) as span:
            found = self._look_at(slot, owner, max_age_s)
            span.set_attribute("cache.result", found.result)
        self._counts[found.result].inc()
        if found.value is not None and found.lease is None:
            return self._answer(found)

        def work() -> T:
            return self._load(_Wanted(slot, owner, max_age_s, call), found, load)

        if max_age_s < self.ttl_s + LEASE_S:
            # A load that is under way may have begun before what the caller wants to see.
            return work()
        # Who alone may fill the slot waits for nobody: the others wait for it.
        return self._flights.run(f"{slot} {owner}", work, lead=found.reserved)

    def forget(self, key: str) -> None:
        """Let nobody of this process join a load of the key that is under way: what it reads is out of date."""
        slot = slot_of(self._said.method, key)
        self._flights.forget(f"{slot} ")

    def _answer(self, found: _Found) -> T:
        if found.answer:
            answer: T = found.answer[0]
            return answer
        assert found.value is not None
        raise not_found(found.value.payload)

    def _look_at(self, slot: str, owner: str, max_age_s: float) -> _Found:
        try:
            answer, incarnation = self._nodes.node(slot).ask(f"mg {slot}{self._look}".encode())
        except SilentError:
            return _Found("error")
        try:
            return self._judge(slot, owner, answer, incarnation=incarnation, max_age_s=max_age_s)
        except (LookupError, ValueError):
            return _Found("foreign")

    def _judge(
        self, slot: str, owner: str, answer: Answer, *, incarnation: Incarnation | None, max_age_s: float
    ) -> _Found:
        if answer.value is None:
            # Only where there is no room even for a lease.
            return _Found("miss")
        if not answer.value:
            if b"Z" in answer.flags:
                return _Found("miss", awaited=True)
            return _Found("miss", lease=_lease(answer, incarnation), reserved=True)
        opened = self._open_small if len(answer.value) <= _SMALL_BYTES else self._open
        value, kept = opened(slot, owner, answer.value)
        if value is None:
            return _Found("foreign", lease=_lease(answer, incarnation))
        if max_age_s < math.inf and value.age_s(answer.number(b"t")) > max_age_s:
            return _Found("stale", lease=_lease(answer, incarnation))
        # That there is nothing lives too short to be renewed.
        if b"W" in answer.flags and not value.absent:
            return _Found("hit", value, kept, _lease(answer, incarnation), reserved=True)
        return _Found("hit", value, kept)

    def _open(self, slot: str, owner: str, raw: bytes) -> tuple[Value | None, tuple[T, ...]]:
        """What the bytes of a slot say; a pure function of them, so that what was proven once need not be again."""
        value = self._seal.open(slot, owner, raw)
        if value is None or value.absent:
            return value, ()
        try:
            return value, (self._codec.decode(value.payload),)
        except Exception as error:  # noqa: BLE001 - whatever a decoder says of what another release wrote, it is a miss
            _log.warning("cache_undecodable", entry=self._said.method, error=type(error).__name__)
            return None, ()

    def _load(self, wanted: "_Wanted", found: _Found, load: Callable[[], T]) -> T:
        if found.awaited:
            found = self._follow(wanted, found)
            if found.value is not None and found.lease is None:
                return self._answer(found)
        began = time.monotonic()
        try:
            loaded = load()
        except NotFound as error:
            took_s = time.monotonic() - began
            self._fill(wanted, found.lease, nothing(error), load_s=took_s, absent=True)
            raise
        except BaseException as error:
            if found.value is not None and isinstance(error, AppError):
                # It was to be renewed early, and is still good.
                return self._answer(found)
            if found.value is None and found.reserved:
                self._give_back(wanted.slot, found.lease)
            raise
        took_s = time.monotonic() - began
        version = self._codec.version(loaded)
        self._fill(wanted, found.lease, self._codec.encode(loaded), load_s=took_s, version=version)
        return loaded

    def _follow(self, wanted: "_Wanted", found: _Found) -> _Found:
        """Wait for whoever loads: until there is a value, a lease to be had, or no more time for it."""
        patience_s = min(FOLLOW_S, wanted.call.deadline.remaining() * _FOLLOW_SHARE)
        until, pause_s = time.monotonic() + patience_s, _LOOK_FIRST_S
        while found.awaited and time.monotonic() < until:
            threading.Event().wait(pause_s)
            pause_s = min(2 * pause_s, _LOOK_MAX_S)
            found = self._look_at(wanted.slot, wanted.owner, wanted.max_age_s)
        return found

    def _fill(
        self,
        wanted: "_Wanted",
        lease: _Lease | None,
        payload: bytes,
        *,
        load_s: float,
        version: int = 0,
        absent: bool = False,
    ) -> None:
        ttl_s = self._said.negative_ttl_s if absent else self._said.ttl_s
        if lease is None:
            return
        if not ttl_s or len(payload) > _VALUE_BYTES_MAX:
            # What lies there, a lease or an older answer, is worth nothing now.
            self._give_back(wanted.slot, lease)
            return
        life_s = lifetime(ttl_s, self._nodes.chance())
        raw = self._seal.close(wanted.slot, wanted.owner, Value(payload, life_s, load_s, version, absent))
        request = b"ms %b %d C%d T%d\r\n%b\r\n" % (wanted.slot.encode(), len(raw), lease.cas, life_s, raw)
        try:
            # Refused where the slot was forgotten or filled since the lease was taken.
            stored = self._nodes.node(wanted.slot).tell(request, lease.incarnation)
        except SilentError:
            stored = b""
        metrics.CACHE_FILLS.labels(self._said.method, "stored" if stored == _STORED else "refused").inc()

    def _give_back(self, slot: str, lease: _Lease | None) -> None:
        """Let the next caller load at once: nothing will be filled in under this lease."""
        if lease is not None:
            with contextlib.suppress(SilentError):
                self._nodes.node(slot).tell(b"md %b C%d\r\n" % (slot.encode(), lease.cas), lease.incarnation)


def _lease(answer: Answer, incarnation: Incarnation | None) -> _Lease:
    return _Lease(answer.number(b"c"), incarnation)


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What one call asks for."""

    slot: str
    owner: str
    max_age_s: float
    call: CallContext
