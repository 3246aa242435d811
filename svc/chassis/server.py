"""The gRPC server of a process: contract services behind the interceptors, health beside them.

Handlers are plain objects with one method per RPC, `def PlaceOrder(self, request, call) -> Order`; a server stream
returns an iterator. Requests arrive as bytes and are parsed by the last interceptor, so that a malformed one is an
INVALID_ARGUMENT like any other. Unary calls, streams and health have threads of their own: neither many open
streams nor a slow database keep the others from being answered. Which unary call gets a thread, and which is refused
where there are too many, is decided by `admission`.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Final, NoReturn, TypeAlias, cast

import grpc
import structlog
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health, health_pb2

from lb.credentials import Credentials
from svc.chassis import crash, hop, metrics
from svc.chassis.call import Call, Interceptor, Method, Verifier
from svc.chassis.config import Address
from svc.chassis.consistency import ReadTokens
from svc.chassis.context import CallContext, Deadline
from svc.chassis.crash import Point
from svc.chassis.criticality import Courier, Criticality
from svc.chassis.errors import DeadlineExceeded, ResourceExhausted, Unauthenticated, Unavailable
from svc.chassis.health import LIVENESS, Liveness
from svc.chassis.interceptors import ORDER, status
from svc.chassis.load import TRAILER, Meter
from svc.chassis.sessions import Sessions
from svc.chassis.workers import Workers
from weft_protos import caching, grounds, policy, read_token, redaction

Service = tuple[ServiceDescriptor, object]

# More is refused unread, with RESOURCE_EXHAUSTED and no word why; up to here `validation` says why. The room is for the
# fields that the gateway takes from path and query, so that what it lets through is never met with silence.
MESSAGE_BYTES: Final = policy.REQUEST_BYTES_MAX + (32 << 10)
# One limit, not a soft and a hard one: between the two gRPC refuses at random. Above the gateway's 16 KiB by what the
# gateway adds, and by the 32 bytes that gRPC counts for each field.
METADATA_BYTES: Final = 20 << 10
# Calls that may wait for a thread, for each thread, whatever their class: the bound of memory, not of time.
QUEUE_PER_THREAD: Final = 16
#: Gateways bound their calls themselves (`gateway/envoy/cluster.py`); what others have beyond waits with them, where
#: refusing costs next to nothing. Streams have places of their own.
CALLS_PER_CONNECTION: Final = 100
# Refused calls that may wait to be told so. Beyond that gRPC refuses by itself, without a reason.
REFUSALS: Final = 512
# Threads that stay free of streams, to refuse the stream above the budget.
REFUSAL_THREADS: Final = 2
HEALTH_THREADS: Final = 2
# What a refused stream is told to wait: streams end rarely.
STREAM_RETRY_S: Final = 2.0

OPTIONS: Final[tuple[tuple[str, int], ...]] = (
    # A second process on the port must fail, not share it.
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", MESSAGE_BYTES),
    ("grpc.max_metadata_size", METADATA_BYTES),
    ("grpc.absolute_max_metadata_size", METADATA_BYTES),
    # gRPC's own protection refuses streams at random, critical ones too, and clients repeat them at once.
    ("grpc.http.overload_protection", 0),
    # Gateways ping twice a second to notice a hung instance, peers once; half of that leaves room for jitter.
    ("grpc.http2.min_ping_interval_without_data_ms", 250),
    ("grpc.keepalive_permit_without_calls", 1),
    # Notices a client that vanished without a word within 10 s; ping_timeout is the one that closes.
    ("grpc.keepalive_time_ms", 5_000),
    ("grpc.http2.ping_timeout_ms", 5_000),
    ("grpc.http2.max_pings_without_data", 0),
)

log = structlog.get_logger(__name__)

Handler = Callable[[Message, CallContext], Any]
#: Makes keys of cached methods forgotten: `cache.store.Cache.forget`.
Forget = Callable[[Sequence[str], Sequence[str]], object]
RpcHandler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a process does at once."""

    threads: int
    """Unary calls: the database connections plus a little; more threads give no more calls."""
    streams: int
    """Open server streams; each holds a thread."""

    def __post_init__(self) -> None:
        if self.threads < 1 or self.streams < 0:
            raise ValueError("limits: at least one thread, no negative number of streams")


class _Budget:
    """Places for streams. Taken without waiting: above the budget a stream is refused."""

    def __init__(self, streams: int) -> None:
        self._places = threading.Semaphore(streams)
        self._limit = f"{streams} open streams"

    @contextmanager
    def place(self) -> Iterator[None]:
        if not self._places.acquire(blocking=False):
            raise ResourceExhausted(
                "Too many open streams.",
                reason="STREAM_BUDGET_EXHAUSTED",
                violations=[("instance", self._limit)],
                retry_after=STREAM_RETRY_S,
            )
        try:
            yield
        finally:
            self._places.release()


def _text_metadata(context: grpc.ServicerContext) -> Mapping[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for key, value in context.invocation_metadata():
        if isinstance(value, str):
            found[key] = (*found.get(key, ()), value)
    return found


@contextmanager
def _guard(call: Call) -> Iterator[None]:
    """A fault of the interceptors themselves: gRPC would send the exception's text to the caller."""
    try:
        yield
    except Exception:
        # Counted, logged with its stack, answered INTERNAL without a word of it.
        metrics.UNEXPECTED_ERRORS.labels(place="interceptors").inc()
        call.refusal = status.refuse_unexpected(call)
        log.exception("interceptor_failed", method=call.method.name, without=redaction.values(call.message))


def _abort(context: grpc.ServicerContext, call: Call, load: bytes = b"") -> NoReturn:
    assert call.refusal is not None
    trailers: list[tuple[str, str | bytes]] = [("grpc-status-details-bin", call.refusal.details)]
    if load:
        trailers.append((TRAILER, load))
    if call.refusal.pushback_ms is not None:
        trailers.append(("grpc-retry-pushback-ms", str(call.refusal.pushback_ms)))
    if call.shed and not call.hurried:
        trailers.append((grounds.OVERLOADED_MARK, "1"))
    context.set_trailing_metadata(tuple(trailers))
    context.abort(grpc.StatusCode[call.refusal.code], call.refusal.message)


class _Route:
    """One method: its interceptors around its handler."""

    def __init__(
        self,
        descriptor: MethodDescriptor,
        handler: Handler,
        *,
        verifier: Verifier,
        method: Method,
        observe: Callable[[Call], None],
        sessions: Sessions,
        forget: Forget,
        encrypted: bool,
    ) -> None:
        if descriptor.client_streaming:
            raise ValueError(f"{descriptor.full_name}: client streams are not served")
        self._cached = caching.cached(descriptor)
        self._outdates = tuple(caching.forgets(descriptor))
        self._forget = forget
        self._encrypted = encrypted
        self.method = method
        self._handler = handler
        self._verifier = verifier
        self._observe = observe
        self.sessions = sessions
        self._response_type = GetMessageClass(descriptor.output_type)
        self._interceptors: tuple[Interceptor, ...] = tuple(build(self.method, verifier) for build, _ in ORDER)

    def call(self, body: bytes, context: grpc.ServicerContext, level: Criticality, *, shed: bool = False) -> Call:
        """What has come in."""
        return Call(
            method=self.method,
            metadata=_text_metadata(context),
            body=body,
            time_left_s=context.time_remaining(),
            is_active=context.is_active,
            criticality=level,
            shed=shed,
            shown=hop.shown(context) if self._encrypted else None,
        )

    def enter(self, stack: ExitStack, call: Call) -> None:
        """Walk through the interceptors."""
        for interceptor in self._interceptors:
            stack.enter_context(interceptor(call))
        self._observe(call)

    def handle(self, call: Call, is_active: Callable[[], bool]) -> Any:
        """Call the handler."""
        assert call.message is not None
        assert call.deadline is not None
        call.session = self.sessions.open(call)
        context = CallContext(
            method=call.method.name,
            principal=call.principal,
            deadline=call.deadline,
            body_hash=call.body_hash,
            is_active=is_active,
            criticality=call.criticality,
            lane=call.lane,
            session=call.session,
            cache_key=self._cached.key.key(call.message) if self._cached is not None else "",
            peer=call.peer,
        )
        crash.passed(Point.CALL_ENTERED)
        try:
            return self._handler(call.message, context)
        finally:
            # After the commit, never before; also after a failure: a commit whose answer was lost may have happened.
            for outdated in self._outdates:
                self._forget(outdated.methods, [outdated.key.key(call.message)])

    def refuse_revoked(self, call: Call) -> None:
        """Raise Unauthenticated where the caller's token was revoked since the call began."""
        if call.principal is not None:
            self._verifier.refuse_revoked(call.principal)

    def admits(self, call: Call) -> bool:
        """Whether the caller's token is still good."""
        try:
            self.refuse_revoked(call)
        except Unauthenticated:
            return False
        return True

    def serialize(self, response: object) -> bytes:
        """Bytes of an answer; a handler that returns another type has a fault."""
        if not isinstance(response, self._response_type):
            raise TypeError(f"{self.method.name} returned {type(response).__name__}")
        return response.SerializeToString()


def _unary(
    route: _Route, level: Criticality, workers: Workers, meter: Meter
) -> Callable[[bytes, grpc.ServicerContext], bytes]:
    def serve(body: bytes, context: grpc.ServicerContext) -> bytes:
        call = route.call(body, context, level, shed=workers.refuses)
        call.hurried = workers.hurried
        answer = b""
        with _guard(call), ExitStack() as stack:
            route.enter(stack, call)
            answer = route.serialize(route.handle(call, call.is_active))
            crash.passed(Point.CALL_ANSWERED)
        load = meter.report
        if call.refusal is not None:
            _abort(context, call, load)
        if token := route.sessions.token(call.session):
            # Not among the trailers: JSON callers get none.
            context.send_initial_metadata(((read_token.HEADER, token),))
        if load:
            context.set_trailing_metadata(((TRAILER, load),))
        return answer

    return serve


def _stream(
    route: _Route, budget: _Budget, draining: threading.Event
) -> Callable[[bytes, grpc.ServicerContext], Iterator[bytes]]:
    def serve(body: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        call = route.call(body, context, route.method.criticality)

        def is_active() -> bool:
            return context.is_active() and not draining.is_set() and route.admits(call)

        with _guard(call), ExitStack() as stack:
            route.enter(stack, call)
            stack.enter_context(budget.place())
            assert call.deadline is not None
            for answer in route.handle(call, is_active):
                yield route.serialize(answer)
                _refuse_end(call.deadline, draining)
                route.refuse_revoked(call)
            _refuse_end(call.deadline, draining)
            route.refuse_revoked(call)
        if call.refusal is not None:
            _abort(context, call)

    return serve


def _refuse_end(deadline: Deadline, draining: threading.Event) -> None:
    """A stream that ends because time is up or the process stops must not look complete."""
    if draining.is_set():
        raise Unavailable("The instance is stopping; open the stream again.", reason="DRAINING", retry_after=0.0)
    if deadline.expired():
        raise DeadlineExceeded("The deadline passed.", reason="DEADLINE_EXPIRED")


def _run_in(pool: ThreadPoolExecutor, behaviour: Any) -> None:
    """GRPC runs a behaviour with this attribute in the pool it names instead of the server's."""
    behaviour.experimental_thread_pool = pool


def _handler_of(target: object, descriptor: MethodDescriptor) -> Handler:
    handler = getattr(target, descriptor.name, None)
    if not callable(handler):
        raise TypeError(f"{type(target).__name__} lacks {descriptor.full_name}")
    return cast(Handler, handler)


class _Methods(grpc.GenericRpcHandler):
    """Every contract method; of a unary one, the handler for calls of each class."""

    def __init__(self, courier: Courier) -> None:
        self._courier = courier
        self._unary: dict[str, tuple[Criticality, Mapping[Criticality, RpcHandler]]] = {}
        self._streams: dict[str, RpcHandler] = {}

    def add_unary(self, method: Method, handlers: Mapping[Criticality, RpcHandler]) -> None:
        self._unary[method.name] = (method.criticality, handlers)

    def add_stream(self, method: Method, handler: RpcHandler) -> None:
        self._streams[method.name] = handler

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> "RpcHandler | None":
        """The handler of a call that has come in; gRPC asks in the thread that reads the wire."""
        name = handler_call_details.method
        found = self._unary.get(name)
        if found is None:
            return self._streams.get(name)
        own, handlers = found
        return handlers[self._courier.read(handler_call_details.invocation_metadata, method=name, own=own)]


def _answer(good: bool) -> Any:
    return health_pb2.HealthCheckResponse.SERVING if good else health_pb2.HealthCheckResponse.NOT_SERVING


class Server:
    """Serves contract services and health. Made, bound, started, drained and stopped once."""

    def __init__(
        self,
        services: Sequence[Service],
        *,
        verifier: Verifier,
        limits: Limits,
        instance: str = "",
        courier: Courier | None = None,
        observe: Callable[[Call], None] = lambda call: None,
        tokens: ReadTokens | None = None,
        forget: Forget = lambda methods, keys: None,
        credentials: Credentials | None = None,
    ) -> None:
        """Refuses a handler that lacks a method of its service, and a contract that cannot be obeyed.

        `instance`: what refusals call this process; empty: they do not name it. `courier` reads how much a peer says
        that its call matters; without one, nobody is believed who says that it matters more than its method. `observe`
        is told of every call that the interceptors let through, before its handler is; it must be quick and must not
        raise. `tokens` makes read tokens; without it, none are made or read. `forget` is told, when a handler has
        ended, what its contract says is out of date in the cache; it must not raise. `credentials`: whom it takes calls
        of, and what it shows them; without them it is called in clear.
        """
        self._instance = instance
        self._observe = observe
        self._sessions = Sessions(tokens, [descriptor for descriptor, _ in services])
        self._forget = forget
        self._credentials = credentials
        self._draining = threading.Event()
        # Part of the threads' names, so that the server can tell its own from those of another.
        self._mark = f"server-{id(self):x}"
        sizes = {"stream": limits.streams + REFUSAL_THREADS, "health": HEALTH_THREADS}
        self._pools = {
            name: ThreadPoolExecutor(size, thread_name_prefix=f"{self._mark}-{name}") for name, size in sizes.items()
        }
        places = limits.threads * QUEUE_PER_THREAD
        self._meter = Meter(limits.threads)
        self._workers = Workers(limits.threads, places=places, name=self._mark, meter=self._meter)
        self._server = grpc.server(
            self._workers.lane(Criticality.DEFAULT),
            options=(
                *OPTIONS,
                *hop.options(credentials),
                ("grpc.max_concurrent_streams", CALLS_PER_CONNECTION + limits.streams),
            ),
            maximum_concurrent_rpcs=limits.threads + places + limits.streams + REFUSALS,
        )
        self._budget = _Budget(limits.streams)
        self._names = ["", *(descriptor.full_name for descriptor, _ in services)]
        methods = _Methods(courier or Courier())
        for descriptor, target in services:
            self._add(methods, descriptor, target, verifier)
        self._server.add_generic_rpc_handlers((methods,))
        self.liveness = Liveness()
        self.liveness.add("workers", self._workers.turn)
        self._health = health.HealthServicer()
        self._add_health()
        self.serving(False)

    def _add(self, methods: _Methods, service: ServiceDescriptor, target: object, verifier: Verifier) -> None:
        for descriptor in service.methods:
            handler = _handler_of(target, descriptor)
            method = self._method(descriptor)
            route = _Route(
                descriptor,
                handler,
                verifier=verifier,
                method=method,
                observe=self._observe,
                sessions=self._sessions,
                forget=self._forget,
                encrypted=self._credentials is not None,
            )
            if route.method.streaming:
                stream = _stream(route, self._budget, self._draining)
                _run_in(self._pools["stream"], stream)
                methods.add_stream(route.method, grpc.unary_stream_rpc_method_handler(stream))
            else:
                methods.add_unary(route.method, {level: self._unary(route, level) for level in Criticality})

    def _unary(self, route: _Route, level: Criticality) -> RpcHandler:
        behaviour = _unary(route, level, self._workers, self._meter)
        _run_in(self._workers.lane(level), behaviour)
        return grpc.unary_unary_rpc_method_handler(behaviour)

    def _method(self, descriptor: MethodDescriptor) -> Method:
        """What holds for a method. Consumer contract tests have another idea of who may call."""
        return Method.of(descriptor, instance=self._instance)

    def _add_health(self) -> None:
        def check(request: Any, context: grpc.ServicerContext) -> Any:
            if request.service == LIVENESS:
                return health_pb2.HealthCheckResponse(status=_answer(self.liveness.goes_on()))
            return self._health.Check(request, context)

        def watch(request: Any, context: grpc.ServicerContext, send: Callable[[Any], None]) -> None:
            self._health.Watch(request, context, send)

        behaviours: tuple[Any, Any] = (check, watch)
        for behaviour in behaviours:
            _run_in(self._pools["health"], behaviour)
        behaviours[1].experimental_non_blocking = True  # a watcher holds no thread
        codec = {
            "request_deserializer": health_pb2.HealthCheckRequest.FromString,
            "response_serializer": health_pb2.HealthCheckResponse.SerializeToString,
        }
        handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            "Check": grpc.unary_unary_rpc_method_handler(behaviours[0], **codec),
            "Watch": grpc.unary_stream_rpc_method_handler(behaviours[1], **codec),
        }
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(health.SERVICE_NAME, handlers),))

    def bind(self, address: Address) -> int:
        """Take the port (0: any) and return it. Raises RuntimeError where another process has it."""
        return hop.listen(self._server, address, self._credentials)

    def start(self) -> None:
        """Answer calls. Health says NOT_SERVING until `serving(True)`."""
        self._workers.start()
        self._meter.start(f"{self._mark}-load")
        self._server.start()

    def serving(self, ready: bool) -> None:
        """What health answers, for the process and for each of its services."""
        self.ready = ready
        for name in self._names:
            self._health.set(name, _answer(ready))

    @property
    def waiting(self) -> int:
        """How many unary calls wait for a thread."""
        return self._workers.waiting

    def stop(self, grace_s: float) -> bool:
        """Take no new calls, end streams with UNAVAILABLE, let unary calls finish; cancel what is left after grace.

        Whether every thread has come back: a handler that ignores its deadline leaves one behind.
        """
        self._draining.set()
        self._server.stop(grace_s).wait()
        self._workers.shutdown()
        self._meter.stop()
        for pool in self._pools.values():
            pool.shutdown(wait=False, cancel_futures=True)
        left = [thread for thread in threading.enumerate() if thread.name.startswith(self._mark)]
        deadline = Deadline.after(1.0)
        for thread in left:
            thread.join(deadline.remaining())
        return not any(thread.is_alive() for thread in left)
