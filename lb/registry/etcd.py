"""The only door to etcd: one connection, every wait bounded, every driver error translated.

Built on aetcd's client for sign-in and its stubs for the calls, because the client's own methods drop what resync
needs (the revision of a transaction, the cluster's id) and its watch hides how it ended. Callers open a `session` per
attempt: a failed one moves the dialer on to the next endpoint, and the next attempt gets a fresh connection.

A member that lost the others is no use: it answers no read, and streams ask to be ended once it has no leader.
"""

import asyncio
import contextlib
import random
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import aetcd
import structlog
from aetcd import rpc

from lb.config import EtcdSettings, host_port
from lb.errors import EtcdError, EtcdRefusedError, EtcdUnavailableError, LeaseLostError, RevisionCompactedError

log = structlog.get_logger(__name__)

#: etcd refuses a transaction with more operations (`--max-txn-ops`).
TXN_OPS_MAX: Final = 128
#: Kept clear of etcd's 1.5 MiB limit of one request.
TXN_BYTES_MAX: Final = 1_000_000

_OPTIONS: Final = {
    # A fresh client must mean a fresh connection: without this it would share a subchannel, and its backoff, with
    # the client that has just failed.
    "grpc.use_local_subchannel_pool": 1,
    "grpc.initial_reconnect_backoff_ms": 100,
    "grpc.max_reconnect_backoff_ms": 1_000,
    # etcd closes connections that ping more often than every 5 s; ping_timeout is what ends a frozen one.
    "grpc.keepalive_time_ms": 6_000,
    "grpc.http2.ping_timeout_ms": 1_000,
    "grpc.max_receive_message_length": -1,
    "grpc.enable_http_proxy": 0,
}

_UNAVAILABLE: Final = frozenset(
    {
        rpc.StatusCode.UNAVAILABLE,
        rpc.StatusCode.DEADLINE_EXCEEDED,
        rpc.StatusCode.CANCELLED,
        rpc.StatusCode.UNKNOWN,
        rpc.StatusCode.INTERNAL,
        # A token ends with the member that made it; signing in again is part of the next attempt.
        rpc.StatusCode.UNAUTHENTICATED,
    }
)

#: Tells a member to end a stream when it has no leader for a while, rather than to wait with the client for one.
_WANTS_LEADER: Final = ("hasleader", "true")
#: etcd's words for "sign in again", whatever status it gives them.
_STALE_SIGN_IN: Final = ("auth: revision in header is old", "invalid auth token")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class KeyRange:
    """What to list or watch. An empty `end` means the one key `start`."""

    start: bytes
    end: bytes = b""

    @classmethod
    def prefix(cls, prefix: bytes) -> "KeyRange":
        """Every key that begins with `prefix`, which must not be empty nor end in 0xff."""
        return cls(prefix, prefix[:-1] + bytes((prefix[-1] + 1,)))


@dataclass(frozen=True, slots=True)
class Record:
    """One key as etcd holds it."""

    key: bytes
    value: bytes
    mod_revision: int
    lease: int


@dataclass(frozen=True, slots=True)
class Listing:
    """Everything in a range at one revision of one cluster's history."""

    records: tuple[Record, ...]
    revision: int
    cluster: int
    term: int
    """The leader's, at the member that answered: raft counts elections with it."""


@dataclass(frozen=True, slots=True)
class News:
    """What has happened in a range since a revision, without the values: whether anything was missed."""

    changed: int
    """Keys put after that revision which are there now."""
    count: int
    """Keys there are now."""
    revision: int
    cluster: int
    term: int


@dataclass(frozen=True, slots=True)
class Change:
    """A record put, or a key deleted (`record` is None) at `revision`, told in the leader's `term`."""

    key: bytes
    record: Record | None
    revision: int
    term: int


@dataclass(frozen=True, slots=True)
class Put:
    """Operation of a transaction."""

    key: bytes
    value: bytes
    lease: int = 0


@dataclass(frozen=True, slots=True)
class Delete:
    """Operation of a transaction."""

    key: bytes


@dataclass(frozen=True, slots=True)
class Bind:
    """Operation of a transaction: the key, which must exist, stays as it is and ends with the lease."""

    key: bytes
    lease: int


@dataclass(frozen=True, slots=True)
class Expect:
    """Condition of a transaction: the key was last changed at this revision (0: it does not exist)."""

    key: bytes
    mod_revision: int


@dataclass(frozen=True, slots=True)
class ExpectLease:
    """Condition of a transaction: the key exists under this lease."""

    key: bytes
    lease: int


class Client:
    """One connection to one member. Every call raises EtcdError, and returns or raises within the timeout."""

    def __init__(self, settings: EtcdSettings, endpoint: str) -> None:
        host, port = host_port(endpoint, "WEFT_ETCD")
        self.endpoint = endpoint
        self._timeout_s = settings.timeout_s
        self._driver = aetcd.Client(
            host=host,
            port=port,
            username=settings.user,
            password=settings.password,
            timeout=settings.timeout_s,
            options=_OPTIONS,
        )

    async def connect(self) -> None:
        """Sign in. Without credentials nothing is sent: the first call finds out whether anyone listens."""
        await self._bounded(self._driver.connect())

    async def close(self) -> None:
        """Give the connection back. Never raises: there is nothing left to lose."""
        with contextlib.suppress(EtcdError):
            await self._bounded(self._driver.close())

    async def get(self, key: bytes) -> Record | None:
        """The record of one key, or None."""
        listing = await self.list(KeyRange(key))
        return listing.records[0] if listing.records else None

    async def list(self, span: KeyRange, *, keys_only: bool = False) -> Listing:
        """Linearizable list of a range."""
        request = rpc.RangeRequest(key=span.start, range_end=span.end, keys_only=keys_only)
        response = await self._call(self._driver.kvstub.Range, request)
        return Listing(
            records=tuple(_record(kv) for kv in response.kvs),
            revision=response.header.revision,
            cluster=response.header.cluster_id,
            term=response.header.raft_term,
        )

    async def news(self, span: KeyRange, *, since: int) -> News:
        """Linearizable look at a range, as cheap as can be: one number for all keys, and what was put after `since`."""
        request = rpc.RangeRequest(key=span.start, range_end=span.end, keys_only=True, min_mod_revision=since + 1)
        response = await self._call(self._driver.kvstub.Range, request)
        header = response.header
        return News(len(response.kvs), response.count, header.revision, header.cluster_id, header.raft_term)

    async def get_many(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """Values of those of the keys that exist, read in transactions of at most `TXN_OPS_MAX`."""
        values: dict[bytes, bytes] = {}
        for start in range(0, len(keys), TXN_OPS_MAX):
            part = keys[start : start + TXN_OPS_MAX]
            request = rpc.TxnRequest(success=[rpc.RequestOp(request_range=rpc.RangeRequest(key=key)) for key in part])
            response = await self._call(self._driver.kvstub.Txn, request)
            for answer in response.responses:
                values.update((kv.key, kv.value) for kv in answer.response_range.kvs)
        return values

    async def put(self, put: Put) -> None:
        """Store one key. Raises LeaseLostError where its lease does not exist."""
        await self._call(self._driver.kvstub.Put, rpc.PutRequest(key=put.key, value=put.value, lease=put.lease))

    async def commit(self, expected: Sequence[Expect | ExpectLease], operations: Sequence[Put | Delete | Bind]) -> bool:
        """Do all operations if every condition holds; False where one does not."""
        request = rpc.TxnRequest(
            compare=[_compare(condition) for condition in expected],
            success=[_operation(operation) for operation in operations],
        )
        response = await self._call(self._driver.kvstub.Txn, request)
        return bool(response.succeeded)

    async def grant(self, ttl_s: int) -> int:
        """Take a new lease; returns its id."""
        response = await self._call(self._driver.leasestub.LeaseGrant, rpc.LeaseGrantRequest(TTL=ttl_s))
        return int(response.ID)

    async def keep_alive(self, lease: int) -> None:
        """Renew a lease. Raises LeaseLostError where it has ended."""
        request = rpc.LeaseKeepAliveRequest(ID=lease)
        call = self._driver.leasestub.LeaseKeepAlive([request], timeout=self._timeout_s, metadata=self._streaming())
        try:
            response = await self._bounded(call.read())
        finally:
            call.cancel()
        if not isinstance(response, rpc.LeaseKeepAliveResponse):
            raise EtcdUnavailableError("the renewal was not answered")
        if response.TTL <= 0:
            raise LeaseLostError(f"lease {lease:x} has ended")

    async def revoke(self, lease: int) -> None:
        """End a lease: its keys are gone when this returns."""
        with contextlib.suppress(LeaseLostError):
            await self._call(self._driver.leasestub.LeaseRevoke, rpc.LeaseRevokeRequest(ID=lease))

    async def watch(self, span: KeyRange, *, start_revision: int) -> AsyncGenerator[tuple[Change, ...], None]:
        """Changes of a range from `start_revision` on, for as long as the connection lives.

        Ends only by raising: RevisionCompactedError, EtcdError. Waiting for the next change is not bounded here; a
        watch that died in silence is found out by the caller's periodic list.
        """
        call = rpc.WatchStub(self._driver.channel).Watch(metadata=self._streaming())
        create = rpc.WatchCreateRequest(key=span.start, range_end=span.end, start_revision=start_revision)
        try:
            await self._bounded(call.write(rpc.WatchRequest(create_request=create)))
            response = await self._bounded(call.read())
            while True:
                if not isinstance(response, rpc.WatchResponse):
                    raise EtcdUnavailableError("the watch was closed")
                if response.compact_revision:
                    raise RevisionCompactedError(f"compacted up to {response.compact_revision}")
                if response.canceled:
                    raise EtcdRefusedError(f"the watch was refused: {response.cancel_reason}")
                if response.events:
                    yield tuple(_change(event, response.header.raft_term) for event in response.events)
                with _translated():
                    response = await call.read()
        finally:
            call.cancel()

    def _streaming(self) -> tuple[tuple[str, str], ...]:
        return (*(self._driver.metadata or ()), _WANTS_LEADER)

    async def _call(self, method: Any, request: Any) -> Any:
        call = method(request, timeout=self._timeout_s, metadata=self._driver.metadata)
        return await self._bounded(call)

    async def _bounded(self, awaitable: Awaitable[T]) -> T:
        # gRPC keeps the deadline of a call; the second bound is for what has none (writes, closing).
        with _translated():
            async with asyncio.timeout(self._timeout_s * 2):
                return await awaitable


class Dialer:
    """Hands out connections, one endpoint after the other: a session that failed moves on to the next.

    Where it begins is left to chance, so that a fleet spreads over the members.
    """

    def __init__(self, settings: EtcdSettings, source: random.Random | None = None) -> None:
        self.settings = settings
        self._turn = (source or random.Random()).randrange(len(settings.endpoints))

    @contextlib.asynccontextmanager
    async def session(self) -> AsyncIterator[Client]:
        """A connected client, closed at the end. Raises EtcdError."""
        endpoints = self.settings.endpoints
        client = Client(self.settings, endpoints[self._turn % len(endpoints)])
        try:
            await client.connect()
            yield client
        except EtcdError:
            self._turn += 1
            raise
        finally:
            await client.close()


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """Turn the driver's errors into ours."""
    try:
        yield
    except rpc.AioRpcError as error:
        raise _error(error) from error
    except aetcd.ClientError as error:
        cause = error.__cause__
        if isinstance(cause, rpc.AioRpcError):
            raise _error(cause) from error
        raise EtcdUnavailableError(str(error)) from error
    except (TimeoutError, asyncio.InvalidStateError) as error:
        raise EtcdUnavailableError("no answer in time") from error


def _error(error: Any) -> EtcdError:
    code, detail = error.code(), error.details() or ""
    if code == rpc.StatusCode.NOT_FOUND and "lease" in detail:
        return LeaseLostError(detail)
    if code in _UNAVAILABLE or any(words in detail for words in _STALE_SIGN_IN):
        return EtcdUnavailableError(f"{code.name}: {detail}")
    return EtcdRefusedError(f"{code.name}: {detail}")


def _record(kv: Any) -> Record:
    return Record(key=kv.key, value=kv.value, mod_revision=kv.mod_revision, lease=kv.lease)


def _change(event: Any, term: int) -> Change:
    record = None if event.type == rpc.Event.DELETE else _record(event.kv)
    return Change(key=event.kv.key, record=record, revision=event.kv.mod_revision, term=term)


def _compare(condition: Expect | ExpectLease) -> Any:
    equal = rpc.Compare.EQUAL
    if isinstance(condition, Expect):
        return rpc.Compare(key=condition.key, result=equal, target=rpc.Compare.MOD, mod_revision=condition.mod_revision)
    return rpc.Compare(key=condition.key, result=equal, target=rpc.Compare.LEASE, lease=condition.lease)


def _operation(operation: Put | Delete | Bind) -> Any:
    if isinstance(operation, Bind):
        bind = rpc.PutRequest(key=operation.key, lease=operation.lease, ignore_value=True)
        return rpc.RequestOp(request_put=bind)
    if isinstance(operation, Put):
        put = rpc.PutRequest(key=operation.key, value=operation.value, lease=operation.lease)
        return rpc.RequestOp(request_put=put)
    return rpc.RequestOp(request_delete_range=rpc.DeleteRangeRequest(key=operation.key))
