"""Mocked services that stand by themselves: `weft mock`, for programs that are made before, or without, the mesh.

Everything before the answer is the real thing, as in `mock`. An answer is the first of a file that fits the request;
where none fits, an example that the contract's rules allow, with whatever the request says of it.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from pydantic import BaseModel, ConfigDict, ValidationError

from svc.chassis.config import Address
from svc.chassis.context import CallContext
from svc.chassis.server import Server
from svc.contract_tests import messages
from svc.contract_tests.errors import ContractTestError
from svc.contract_tests.expectation import Expectation, Like
from svc.contract_tests.mock import LIMITS, Handlers, Open, ended
from svc.contract_tests.records import Record
from svc.contract_tests.tokens import Anybody, Issuer
from svc.contract_tests.web import WebServer
from weft_protos import naming, policy, samples

_GRACE_S: Final = 0.2
#: Whose token is printed where access is asked for.
SUBJECT: Final = "ann"


class _Said(BaseModel):
    """One entry of an answers file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: str
    """`GetProduct`, or `CatalogService/GetProduct` where several of the services have one."""
    request: dict[str, Any] = {}
    """What a request must have, whatever else it has."""
    answer: dict[str, Any] | None = None
    answers: tuple[dict[str, Any], ...] = ()
    """Of a stream."""
    error: dict[str, Any] | None = None
    """`code` and `reason`, and what the chassis' error of that code takes: `message`, `violations`, `retry_after`."""
    hangs: bool = False


def services_of(names: Sequence[str]) -> list[ServiceDescriptor]:
    """Services by full name or as clients call them, `catalog`. Raises ContractTestError."""
    short = {naming.stem(each.file.package, each.name): each for each in policy.SERVICES}
    return list(dict.fromkeys(short.get(name) or messages.service_of(name) for name in names))


def read_answers(file: Path, services: Sequence[ServiceDescriptor]) -> list[Expectation]:
    """The answers of a file: a list of entries, or a record of contract tests. Raises ContractTestError."""
    try:
        content = json.loads(file.read_bytes())
        if isinstance(content, Mapping):
            entries = list(_of_record(Record.model_validate(content)))
        else:
            entries = [_Said.model_validate(entry) for entry in content]
    except OSError as error:
        raise ContractTestError(f"{file} is not readable: {error.strerror}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise ContractTestError(f"{file} has no answers: {where}: {first['msg']}") from None
    except (ValueError, TypeError) as error:
        raise ContractTestError(f"{file} has no answers: {error}") from None
    try:
        return [_expectation(entry, services) for entry in entries]
    except ContractTestError as error:
        raise ContractTestError(f"{file}: {error}") from None


def _of_record(record: Record) -> Iterator[_Said]:
    for each in record.interactions:
        failure = None if each.error is None else each.error.model_dump()
        method = f"{record.provider}/{each.method}"
        yield _Said(method=method, request=each.request, answers=each.answers, error=failure)


def _expectation(entry: _Said, services: Sequence[ServiceDescriptor]) -> Expectation:
    made = Expectation(_method(entry.method, services), (), Like(**entry.request))
    answers = entry.answers if entry.answer is None else (entry.answer, *entry.answers)
    if made.method.server_streaming and (answers or not entry.error):
        made.streams(*answers)
    elif len(answers) == 1:
        made.returns(**answers[0])
    elif answers:
        raise ContractTestError(f"{made.method.name} is no stream, and has {len(answers)} answers")
    if entry.error is not None:
        details = dict(entry.error)
        made.fails(str(details.pop("code", "")), str(details.pop("reason", "")), **details)
    if entry.hangs:
        made.hangs()
    if not made.outcome.said:
        raise ContractTestError(f"{entry.method} has neither `answer`, `answers`, `error` nor `hangs`")
    return made


def _method(name: str, services: Sequence[ServiceDescriptor]) -> MethodDescriptor:
    service, _, method = name.rpartition("/")
    among = [each for each in services if service in ("", each.name, each.full_name)]
    fitting = [each for each in among if method in each.methods_by_name]
    if len(fitting) > 1:
        raise ContractTestError(f"{name} is of {' and '.join(each.name for each in fitting)}: say <service>/{method}")
    if not among:
        raise ContractTestError(f"{name} is of no service that is mocked")
    return messages.method_of((fitting or among)[0], method)


@dataclass(frozen=True, slots=True)
class Places:
    """Where a mock stands."""

    grpc: str
    web: str
    token: str
    """That it takes, where it asks for one."""


class Standing:
    """Mocked services on one port."""

    def __init__(
        self, services: Sequence[ServiceDescriptor], answers: Sequence[Expectation] = (), *, scopes: Sequence[str] = ()
    ) -> None:
        """With `scopes` callers need a token that has those the contract names; one with all of `scopes` is made."""
        self._answers = answers
        made = [(service, Handlers(service, self)) for service in services]
        if scopes:
            issuer = Issuer()
            self._token = issuer.token(*scopes, subject=SUBJECT)
            self._server = Server(made, verifier=issuer.verifier, limits=LIMITS)
        else:
            self._token = ""
            self._server = Open(made, verifier=Anybody(), limits=LIMITS)
        self._web: WebServer | None = None

    def start(self, port: int = 0, web_port: int = 0) -> Places:
        """Serve gRPC and gRPC-web on loopback (0: on any port). Raises OSError."""
        try:
            address = f"127.0.0.1:{self._server.bind(Address('127.0.0.1', port))}"
        except RuntimeError as error:
            raise OSError(f"port {port} is taken: {error}") from error
        self._server.start()
        self._server.serving(True)
        self._web = WebServer(address, web_port)
        return Places(address, self._web.url, self._token)

    def answer(self, method: MethodDescriptor, request: Message, call: CallContext) -> Iterator[Message]:
        """What the file says, or an example."""
        for said in self._answers:
            if said.method is method and not said.differences(request):
                return ended(said, call)
        return iter([example(method, request)])

    def close(self) -> None:
        """Stop serving."""
        if self._web is not None:
            self._web.close()
        self._server.stop(_GRACE_S)


def example(method: MethodDescriptor, request: Message) -> Message:
    """An answer that the rules allow, with what the request says of it: its name, or the resource itself."""
    message = GetMessageClass(method.output_type)()
    samples.fill(message, samples.answered)
    for field, value in request.ListFields():
        same = message.DESCRIPTOR.fields_by_name.get(field.name)
        if field.message_type is not None and field.message_type is message.DESCRIPTOR and not field.is_repeated:
            _lay_over(message, value)
        elif same is not None and (same.type, same.is_repeated, same.message_type) == (
            field.type,
            field.is_repeated,
            field.message_type,
        ):
            message.ClearField(field.name)
            _take(message, field.name, value)
    return message


def _lay_over(message: Message, said: Message) -> None:
    for field, value in said.ListFields():
        message.ClearField(field.name)
        _take(message, field.name, value)


def _take(message: Message, name: str, value: Any) -> None:
    one = type(message)(**{name: value})
    message.MergeFrom(one)
