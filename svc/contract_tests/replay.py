"""Records of consumers replayed against the real provider: in process, an instance, or a mesh through its gateway.

What a record states must hold, and all else may be anything: fields that no consumer's test wrote down, messages
beyond those a stream began with, the text of an error. States are brought about by the provider's own code, by name.
"""

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Final

import grpc
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from svc.contract_tests import messages
from svc.contract_tests.errors import ContractTestError
from svc.contract_tests.records import Failure, Given, Interaction, Record

#: Longer than any timeout of a contract: the provider answers first.
CALL_S: Final = 30.0

State = Callable[..., Any]


class States:
    """How a provider gets into the states that its consumers suppose.

    states = States()

    @states.on("a product")
    def a_product(name: str, display_name: str) -> None: ...

    A function that yields once is left again after the call, as pytest's fixtures are.
    """

    def __init__(self) -> None:
        self._known: dict[str, State] = {}

    def on(self, state: str) -> Callable[[State], State]:
        """Register a function for a state; it takes the state's parameters by name."""

        def register(function: State) -> State:
            self._known[state] = function
            return function

        return register

    @contextmanager
    def entered(self, given: Sequence[Given]) -> Iterator[None]:
        """The states, in their order. Raises ContractTestError where one is unknown or takes other parameters."""
        with ExitStack() as stack:
            for each in given:
                function = self._known.get(each.state)
                if function is None:
                    known = ", ".join(map(repr, sorted(self._known))) or "none"
                    raise ContractTestError(f"nothing brings about the state {each.state!r}; known are {known}")
                try:
                    inspect.signature(function).bind(**each.parameters)
                except TypeError as error:
                    raise ContractTestError(f"the state {each.state!r}: {error}") from None
                if inspect.isgeneratorfunction(function):
                    stack.enter_context(contextmanager(function)(**each.parameters))
                else:
                    function(**each.parameters)
            yield


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one interaction."""

    record: Record
    interaction: Interaction
    mismatches: tuple[str, ...]
    """Empty where the provider does what the consumer relies on."""

    def __str__(self) -> str:
        said = f"{self.record.consumer} -> {self.record.provider}: {self.interaction}"
        lines = "\n".join(f"    {line}" for mismatch in self.mismatches for line in mismatch.splitlines())
        return f"{said}\n    asked {messages.shown(self.interaction.request)}\n{lines}" if lines else said


def replay(record: Record, channel: grpc.Channel, *, states: States, token: str = "") -> tuple[Result, ...]:
    """Ask a provider everything that a consumer asks, each in its states. `token` is the caller's access token."""
    return tuple(
        Result(record, each, tuple(_mismatches(record, each, channel, states=states, token=token)))
        for each in record.interactions
    )


def verify(record: Record, channel: grpc.Channel, *, states: States, token: str = "") -> None:
    """Raise ContractTestError with every mismatch; for the provider's own tests."""
    __tracebackhide__ = True
    results = replay(record, channel, states=states, token=token)
    broken = [str(result) for result in results if result.mismatches]
    if broken:
        raise ContractTestError("\n".join(broken))


def _mismatches(
    record: Record, interaction: Interaction, channel: grpc.Channel, *, states: States, token: str
) -> Iterator[str]:
    try:
        method = messages.method_of(messages.service_of(record.provider), interaction.method)
        request = messages.build(method.input_type, interaction.request, what="the request")
        for answer in interaction.answers:
            messages.build(method.output_type, answer, what="the recorded answer")
        with states.entered(interaction.given):
            answers, failure = _ask(method, request, channel, token=token, enough=_enough(interaction))
    except ContractTestError as error:
        yield str(error)
        return
    if failure is not None and failure.kept != interaction.error:
        expected = interaction.error or "an answer"
        yield f"expected {expected}, failed with {failure.kept}: {failure.message}"
    elif failure is None and interaction.error is not None:
        yield f"expected {interaction.error}, was answered {[messages.complete(each) for each in answers]}"
    elif len(answers) < len(interaction.answers):
        yield f"expected {len(interaction.answers)} messages, came {len(answers)}"
    for said, actual in zip(interaction.answers, answers, strict=False):
        yield from messages.differences(said, messages.complete(actual))


def _enough(interaction: Interaction) -> int | None:
    """How many messages of a stream to wait for; None: to its end, which must be an error."""
    return None if interaction.error is not None else len(interaction.answers)


@dataclass(frozen=True, slots=True)
class _Failed:
    kept: Failure
    message: str


def _ask(
    method: MethodDescriptor, request: Message, channel: grpc.Channel, *, token: str, enough: int | None
) -> tuple[list[Message], _Failed | None]:
    """What the provider says: its messages, and how it failed."""
    open_ = channel.unary_stream if method.server_streaming else channel.unary_unary
    call: Any = open_(
        f"/{method.containing_service.full_name}/{method.name}",
        request_serializer=GetMessageClass(method.input_type).SerializeToString,
        response_deserializer=GetMessageClass(method.output_type).FromString,
    )
    metadata = (("authorization", f"Bearer {token}"),) if token else ()
    answers: list[Message] = []
    try:
        if not method.server_streaming:
            return [call(request, metadata=metadata, timeout=CALL_S)], None
        stream = call(request, metadata=metadata, timeout=CALL_S)
        while enough is None or len(answers) < enough:
            answers.append(next(stream))
        stream.cancel()
    except StopIteration:
        return answers, None
    except grpc.RpcError as error:
        return answers, _failed(error)
    return answers, None


def _failed(error: Any) -> _Failed:
    info = error_details_pb2.ErrorInfo()
    status = rpc_status.from_call(error)
    for detail in status.details if status is not None else ():
        detail.Unpack(info)
    return _Failed(Failure(code=error.code().name, reason=info.reason), error.details() or "")
