"""A service that is not there: the chassis' own server on loopback, with a test's expectations for handlers.

Everything before the handler is the real thing: parsing, the contract's rules, deadlines, streams' budget, statuses
with their details, and access where it is asked for. A call that nobody expects is answered with INTERNAL and the
difference to what was expected, and fails the test.
"""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message

from svc.chassis.call import Method, Verifier
from svc.chassis.config import Address
from svc.chassis.context import CallContext
from svc.chassis.errors import DeadlineExceeded, Internal
from svc.chassis.server import Limits, Server
from svc.contract_tests import messages
from svc.contract_tests.expectation import Expectation, Like, Where, given_of
from svc.contract_tests.records import Given, Interaction
from svc.contract_tests.tokens import Anybody

LIMITS: Final = Limits(threads=8, streams=8)
_LOOK_S: Final = 0.02
_GRACE_S: Final = 0.2
UNEXPECTED: Final = "UNEXPECTED_CALL"


@dataclass(frozen=True, slots=True)
class Received:
    """A call that came through to the handler: its request obeys the contract."""

    method: str
    request: Any
    token: str
    """The bearer token; empty where there was none."""
    subject: str
    """Whose token it is; known only where access is tested."""
    time_left_s: float
    """Until the caller's deadline or the contract's timeout, when it came."""


class Open(Server):
    """A server that lets everybody in."""

    def _method(self, descriptor: MethodDescriptor) -> Method:
        return replace(super()._method(descriptor), public=True, scopes=frozenset())


class Answers(Protocol):
    """Whoever answers for a service that is not there."""

    def answer(self, method: MethodDescriptor, request: Message, call: CallContext) -> Iterator[Message]:
        """The answer, or those of a stream. Raises AppError."""
        ...


class Handlers:
    """One handler for each method of a service."""

    def __init__(self, service: ServiceDescriptor, mock: Answers) -> None:
        for method in service.methods:
            setattr(
                self, method.name, self._stream(mock, method) if method.server_streaming else self._one(mock, method)
            )

    def _one(self, mock: Answers, method: MethodDescriptor) -> Callable[[Message, CallContext], Message]:
        return lambda request, call: next(mock.answer(method, request, call))

    def _stream(self, mock: Answers, method: MethodDescriptor) -> Callable[[Message, CallContext], Iterator[Message]]:
        return lambda request, call: mock.answer(method, request, call)


class Mock:
    """One mocked service. The fixture `provider` makes, starts, verifies and closes them."""

    def __init__(self, service: ServiceDescriptor, *, consumer: str, verifier: Verifier | None) -> None:
        """`verifier` None: anybody may call, with any token or none. An empty `consumer` records nothing."""
        self.service = service
        self.consumer = consumer
        self.calls: list[Received] = []
        self._expectations: list[Expectation] = []
        self._problems: list[str] = []
        self._interactions: list[Interaction] = []
        self._lock = threading.Lock()
        made = (service, Handlers(service, self))
        if verifier is None:
            self._server: Server = Open([made], verifier=Anybody(), limits=LIMITS)
        else:
            self._server = Server([made], verifier=verifier, limits=LIMITS)
        self.address: str = f"127.0.0.1:{self._server.bind(Address('127.0.0.1', 0))}"
        self._server.start()
        self._server.serving(True)

    def channel(self) -> grpc.Channel:
        """A channel to it, to be used in `with`; `address` is for consumers that open their own."""
        return grpc.insecure_channel(self.address, options=(("grpc.use_local_subchannel_pool", 1),))

    def given(self, state: str, /, **parameters: Any) -> "Stage":
        """Say which state of the provider the next expectation supposes; the provider's replay brings it about."""
        __tracebackhide__ = True
        return Stage(self, (given_of(state, parameters),))

    def expects(self, method: str, request: Message | Like | Where | None = None, /, **fields: Any) -> Expectation:
        """Expect one call: with this message, with just these fields, or with a request as `like` or `where` say.

        Expectations are looked at in the order in which they are made; each is used up by its calls.
        """
        __tracebackhide__ = True
        return self.add((), method, request, **fields)

    def add(
        self, given: tuple[Given, ...], method: str, request: Message | Like | Where | None, **fields: Any
    ) -> Expectation:
        """What `expects` does, in a state."""
        __tracebackhide__ = True
        made = Expectation(messages.method_of(self.service, method), given, request, **fields)
        with self._lock:
            self._expectations.append(made)
        return made

    def answer(self, method: MethodDescriptor, request: Message, call: CallContext) -> Iterator[Message]:
        """What the first expectation that fits says. The server calls it, on threads of its own."""
        token, subject = ("", "") if call.principal is None else (call.principal.token, call.principal.subject)
        with self._lock:
            self.calls.append(Received(method.name, request, token, subject, call.deadline.remaining()))
            expectation = self._fitting(method, request)
        yield from ended(expectation, call)

    def _fitting(self, method: MethodDescriptor, request: Message) -> Expectation:
        """Use up an expectation, or raise what the consumer is told."""
        rivals = [each for each in self._expectations if each.method.name == method.name]
        fitting = [each for each in rivals if not each.differences(request)]
        free = next((each for each in fitting if each.uses < each.expected), None)
        if free is None:
            problem = _unexpected(method, request, rivals, fitting)
        elif not free.outcome.said:
            problem = f"{free} has no outcome: say returns(), streams(), fails() or hangs()"
        else:
            free.uses += 1
            if free.recorded:
                self._interactions.append(free.interaction(request))
            return free
        if free is not None:
            free.uses += 1
        self._problems.append(problem)
        raise Internal(problem, reason=UNEXPECTED)

    def problems(self) -> tuple[str, ...]:
        """Calls that nobody expected."""
        with self._lock:
            return tuple(self._problems)

    def unused(self) -> tuple[str, ...]:
        """Expectations that the consumer did not live up to."""
        with self._lock:
            return tuple(
                f"{each}: expected {each.expected} time{'s' if each.expected > 1 else ''}, called {each.uses}"
                for each in self._expectations
                if each.uses < each.expected
            )

    def interactions(self) -> tuple[Interaction, ...]:
        """What there is to record."""
        with self._lock:
            return tuple(self._interactions)

    def close(self) -> None:
        """Stop serving; calls that hang end."""
        self._server.stop(_GRACE_S)


@dataclass(frozen=True, slots=True)
class Stage:
    """States of the provider, and the expectations that suppose them."""

    mock: Mock
    states: tuple[Given, ...]

    def given(self, state: str, /, **parameters: Any) -> "Stage":
        """One state more."""
        __tracebackhide__ = True
        return Stage(self.mock, (*self.states, given_of(state, parameters)))

    def expects(self, method: str, request: Message | Like | Where | None = None, /, **fields: Any) -> Expectation:
        """As `Mock.expects`."""
        __tracebackhide__ = True
        return self.mock.add(self.states, method, request, **fields)


def ended(expectation: Expectation, call: CallContext) -> Iterator[Message]:
    """What an expectation says that comes of a call. Raises AppError."""
    outcome = expectation.outcome
    yield from (message for message, _ in outcome.answers)
    if outcome.hangs:
        _hang(call)
    if outcome.error is not None:
        raise outcome.error


def _hang(call: CallContext) -> None:
    pause = threading.Event()
    while call.is_active() and not call.deadline.expired():
        pause.wait(_LOOK_S)
    raise DeadlineExceeded("The deadline passed.", reason="DEADLINE_EXPIRED")


def _unexpected(
    method: MethodDescriptor, request: Message, rivals: list[Expectation], fitting: list[Expectation]
) -> str:
    lines = [f"unexpected call of {method.full_name}", f"    {messages.shown(messages.stated(request, request))}"]
    if fitting:
        lines.append(f"expected {fitting[-1].expected} times only: {fitting[-1]}")
    elif rivals:
        nearest = min(rivals, key=lambda each: len(each.differences(request)))
        lines.append(f"nearest expectation: {nearest}")
        lines += [f"    {difference}" for difference in nearest.differences(request)]
    else:
        lines.append("no call of this method is expected")
    return "\n".join(lines)
