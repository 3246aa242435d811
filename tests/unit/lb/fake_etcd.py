"""An etcd of one member in this process: real gRPC, real revisions, leases and watches, no disk.

`registry_suite` runs against this and against the real etcd alike, so that it cannot drift from it unnoticed.
"""

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from typing import Any

import grpc
from aetcd import rpc

DEADLINE_S = 10.0


class _State:
    """What would be on disk."""

    def __init__(self, cluster: int) -> None:
        self.cluster = cluster
        self.revision = 1
        self.term = 1
        self.compacted = 0
        self.keys: dict[bytes, Any] = {}
        self.events: list[Any] = []
        self.leases: dict[int, tuple[float, float]] = {}
        self.lease_ids = 0


class FakeEtcd:
    """Started at construction. `kill` and `restart` keep the data, `wipe` loses it."""

    def __init__(self, password: str | None = None) -> None:
        """With a password, nothing is done for who has not signed in since the last start."""
        self._password = password
        self._starts = 0
        self._state = _State(cluster=1)
        self._changed: asyncio.Event = asyncio.Event()
        self._frozen = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server: Any = None
        self._expiry: Any = None
        self.port = 0
        self.watches = 0
        self.lists = 0
        self.restart()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def restart(self) -> None:
        self._run(self._start())

    def kill(self) -> None:
        self._run(self._stop())

    stop = kill

    def wipe(self) -> None:
        """Come back with nothing: another cluster whose revisions begin anew."""
        self.kill()
        self._state = _State(cluster=self._state.cluster + 1)
        self.restart()

    def compact(self) -> None:
        """Forget all history up to now."""

        async def work() -> None:
            self._state.compacted = self._state.revision
            self._state.events.clear()

        self._run(work())

    def elect(self) -> int:
        """Have another leader. The one before, who hung, ends a lease that was renewed meanwhile: returns which."""
        lease = min(self._state.leases)

        async def work() -> None:
            self._state.term += 1
            self._end(lease)

        self._run(work())
        return lease

    def deafen(self) -> None:
        """From now on watches deliver nothing, and nobody is told."""
        self._frozen = True

    def hear(self) -> None:
        self._frozen = False

    def close(self) -> None:
        self.kill()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(DEADLINE_S)
        self._loop.close()

    def _run(self, work: Any) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(DEADLINE_S)

    async def _start(self) -> None:
        self._starts += 1
        self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        self._server.add_generic_rpc_handlers(
            (
                _service("Auth", Authenticate=self._authenticate),
                _service("KV", Range=self._range, Put=self._put, Txn=self._txn),
                _service("Lease", LeaseGrant=self._grant, LeaseRevoke=self._revoke, LeaseKeepAlive=self._keep_alive),
                _service("Watch", Watch=self._watch),
            )
        )
        self.port = self._server.add_insecure_port(self.address)
        # A member extends leases when it begins to lead.
        now = time.monotonic()
        self._state.leases = {lease: (ttl, now + ttl) for lease, (ttl, _) in self._state.leases.items()}
        await self._server.start()
        self._expiry = asyncio.ensure_future(self._expire())

    async def _stop(self) -> None:
        if self._server is not None:
            self._expiry.cancel()
            await self._server.stop(0)
            self._server = None

    async def _expire(self) -> None:
        while True:
            await asyncio.sleep(0.05)
            now = time.monotonic()
            for lease, (_, until) in tuple(self._state.leases.items()):
                if until < now:
                    self._end(lease)

    def _end(self, lease: int) -> None:
        self._state.leases.pop(lease, None)
        keys = [key for key, kv in self._state.keys.items() if kv.lease == lease]
        if keys:
            self._state.revision += 1
            for key in keys:
                self._delete(key)
            self._tell()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def _header(self) -> Any:
        state = self._state
        return rpc.ResponseHeader(cluster_id=state.cluster, revision=state.revision, raft_term=state.term)

    def _store(self, request: Any) -> None:
        before = self._state.keys.get(request.key)
        kv = rpc.KeyValue(
            key=request.key,
            value=before.value if request.ignore_value else request.value,
            lease=request.lease,
            mod_revision=self._state.revision,
            create_revision=before.create_revision if before else self._state.revision,
        )
        self._state.keys[request.key] = kv
        self._state.events.append(rpc.Event(type=rpc.Event.PUT, kv=kv))

    def _delete(self, key: bytes) -> None:
        if self._state.keys.pop(key, None) is not None:
            gone = rpc.KeyValue(key=key, mod_revision=self._state.revision)
            self._state.events.append(rpc.Event(type=rpc.Event.DELETE, kv=gone))

    @property
    def _token(self) -> str:
        return f"token-{self._starts}"

    async def _authenticate(self, request: Any, context: Any) -> Any:
        if request.password != self._password:
            await context.abort(
                grpc.StatusCode.INVALID_ARGUMENT, "etcdserver: authentication failed, invalid user ID or password"
            )
        return rpc.AuthenticateResponse(header=self._header(), token=self._token)

    def _signed_in(self, context: Any) -> bool:
        return self._password is None or ("token", self._token) in context.invocation_metadata()

    async def _admit(self, context: Any) -> None:
        if not self._signed_in(context):
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "etcdserver: invalid auth token")

    async def _range(self, request: Any, context: Any) -> Any:
        await self._admit(context)
        kvs = [kv for key, kv in sorted(self._state.keys.items()) if _within(key, request)]
        self.lists += bool(request.range_end) and not request.keys_only
        count = len(kvs)
        kvs = [kv for kv in kvs if kv.mod_revision >= request.min_mod_revision]
        if request.keys_only:
            kvs = [rpc.KeyValue(key=kv.key, mod_revision=kv.mod_revision, lease=kv.lease) for kv in kvs]
        return rpc.RangeResponse(header=self._header(), kvs=kvs, count=count)

    async def _put(self, request: Any, context: Any) -> Any:
        await self._admit(context)
        if request.lease and request.lease not in self._state.leases:
            await context.abort(grpc.StatusCode.NOT_FOUND, "etcdserver: requested lease not found")
        self._state.revision += 1
        self._store(request)
        self._tell()
        return rpc.PutResponse(header=self._header())

    async def _txn(self, request: Any, context: Any) -> Any:
        if len(request.success) > 128:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "etcdserver: too many operations in txn request")
        if not all(self._holds(compare) for compare in request.compare):
            return rpc.TxnResponse(header=self._header(), succeeded=False)
        if any(not operation.HasField("request_range") for operation in request.success):
            self._state.revision += 1
        responses = []
        for operation in request.success:
            if operation.HasField("request_put"):
                self._store(operation.request_put)
            elif operation.HasField("request_delete_range"):
                self._delete(operation.request_delete_range.key)
            else:
                found = await self._range(operation.request_range, context)
                responses.append(rpc.ResponseOp(response_range=found))
        self._tell()
        return rpc.TxnResponse(header=self._header(), succeeded=True, responses=responses)

    def _holds(self, compare: Any) -> bool:
        kv = self._state.keys.get(compare.key)
        if compare.target == rpc.Compare.LEASE:
            return bool(compare.lease == (kv.lease if kv else 0))
        return bool(compare.mod_revision == (kv.mod_revision if kv else 0))

    async def _grant(self, request: Any, context: Any) -> Any:
        self._state.lease_ids += 1
        lease = self._state.cluster * 1_000_000 + self._state.lease_ids
        self._state.leases[lease] = (request.TTL, time.monotonic() + request.TTL)
        return rpc.LeaseGrantResponse(header=self._header(), ID=lease, TTL=request.TTL)

    async def _revoke(self, request: Any, context: Any) -> Any:
        if request.ID not in self._state.leases:
            await context.abort(grpc.StatusCode.NOT_FOUND, "etcdserver: requested lease not found")
        self._end(request.ID)
        return rpc.LeaseRevokeResponse(header=self._header())

    async def _keep_alive(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        async for request in requests:
            ttl = 0.0
            if request.ID in self._state.leases:
                ttl, _ = self._state.leases[request.ID]
                self._state.leases[request.ID] = (ttl, time.monotonic() + ttl)
            yield rpc.LeaseKeepAliveResponse(header=self._header(), ID=request.ID, TTL=int(ttl))

    async def _watch(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        self.watches += 1
        create = (await anext(aiter(requests))).create_request
        if not self._signed_in(context):
            yield rpc.WatchResponse(
                header=self._header(), created=True, canceled=True, cancel_reason="etcdserver: permission denied"
            )
            return
        yield rpc.WatchResponse(header=self._header(), created=True)
        if create.start_revision <= self._state.compacted:
            yield rpc.WatchResponse(header=self._header(), canceled=True, compact_revision=self._state.compacted)
            return
        sent = create.start_revision - 1
        while True:
            changed = self._changed
            events = [
                event
                for event in self._state.events
                if event.kv.mod_revision > sent and _within(event.kv.key, create) and not self._frozen
            ]
            sent = max(sent, self._state.revision)
            if events:
                yield rpc.WatchResponse(header=self._header(), events=events)
            await changed.wait()


def _within(key: bytes, request: Any) -> bool:
    if not request.range_end:
        return bool(key == request.key)
    return bool(request.key <= key < request.range_end)


_TYPES = {
    "Authenticate": (rpc.AuthenticateRequest, rpc.AuthenticateResponse, False),
    "Range": (rpc.RangeRequest, rpc.RangeResponse, False),
    "Put": (rpc.PutRequest, rpc.PutResponse, False),
    "Txn": (rpc.TxnRequest, rpc.TxnResponse, False),
    "LeaseGrant": (rpc.LeaseGrantRequest, rpc.LeaseGrantResponse, False),
    "LeaseRevoke": (rpc.LeaseRevokeRequest, rpc.LeaseRevokeResponse, False),
    "LeaseKeepAlive": (rpc.LeaseKeepAliveRequest, rpc.LeaseKeepAliveResponse, True),
    "Watch": (rpc.WatchRequest, rpc.WatchResponse, True),
}


def _service(name: str, **methods: Any) -> Any:
    handlers = {}
    for method, behaviour in methods.items():
        request, response, streams = _TYPES[method]
        make = grpc.stream_stream_rpc_method_handler if streams else grpc.unary_unary_rpc_method_handler
        handlers[method] = make(
            behaviour, request_deserializer=request.FromString, response_serializer=response.SerializeToString
        )
    return grpc.method_handlers_generic_handler(f"etcdserverpb.{name}", handlers)
