"""What a test expects of a consumer, and what the mock answers to it.

Whatever is written down is compared with the contract at once, so that a mistake is reported on the test's own line.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message

from svc.chassis.errors import AppError
from svc.chassis.interceptors.status import CODES
from svc.contract_tests import messages
from svc.contract_tests.errors import ContractTestError
from svc.contract_tests.records import Failure, Given, Interaction
from weft_protos import declared
from weft_protos.declared import Error

_KINDS: Final[dict[str, type[AppError]]] = {code: kind for kind, code in CODES.items() if kind is not AppError}


class Like:
    """Any request that has these fields, whatever else it has."""

    def __init__(self, **fields: Any) -> None:
        self.fields = fields


class Where:
    """Any request of which a predicate is true; `description` stands for it in reports."""

    def __init__(self, predicate: Callable[[Any], bool], description: str = "a predicate") -> None:
        self.predicate = predicate
        self.description = description


@dataclass(frozen=True, slots=True)
class _Pattern:
    """The requests that an expectation is for."""

    stated: Mapping[str, Any]
    exact: bool
    predicate: Where | None = None

    def differences(self, request: Message) -> list[str]:
        """Why a request is not one of them; empty where it is."""
        if self.predicate is not None:
            return self._doubts(self.predicate, request)
        found = list(messages.differences(self.stated, messages.complete(request)))
        if self.exact:
            found += messages.surplus(self.stated, messages.stated(request, request))
        return found

    def _doubts(self, where: Where, request: Message) -> list[str]:
        try:
            return [] if where.predicate(request) else [f"{where.description} is not true of it"]
        except Exception as error:  # noqa: BLE001 - the test's own code, on a thread of the server: reported as a doubt
            return [f"{where.description} raised {error!r}"]


@dataclass(slots=True)
class _Outcome:
    """How a call ends."""

    answers: tuple[tuple[Message, dict[str, Any]], ...] = ()
    """Each with what the test states of it."""
    error: AppError | None = None
    hangs: bool = False
    said: bool = False


class Expectation:
    """One call that the consumer makes. `Mock.expects` makes them."""

    def __init__(
        self, method: MethodDescriptor, given: tuple[Given, ...], request: Message | Like | Where | None, **fields: Any
    ) -> None:
        """`request` or `fields` say which requests; neither: the empty one."""
        __tracebackhide__ = True
        self.method = method
        self.given = given
        self.place = _place()
        self.expected = 1
        self.uses = 0
        self.recorded = True
        self.outcome = _Outcome()
        self._pattern = self._pattern_of(request, fields)

    def _pattern_of(self, request: Message | Like | Where | None, fields: Mapping[str, Any]) -> _Pattern:
        __tracebackhide__ = True
        what = f"the request of {self.method.name}"
        if request is not None and fields:
            raise ContractTestError(f"{what} is said twice: give a message, like(), where() or fields")
        if isinstance(request, Where):
            return _Pattern({}, exact=False, predicate=request)
        exact = not isinstance(request, Like)
        given = request.fields if isinstance(request, Like) else fields if request is None else request
        message = messages.build(self.method.input_type, given, what=what)
        if exact:
            messages.refuse_invalid(message, what=f"{what} could never be answered: it")
        said = messages.stated(message, message) if exact else messages.stated(message, given)
        return _Pattern(said, exact=exact)

    def returns(self, answer: Message | None = None, /, **fields: Any) -> Self:
        """Answer with a message, or with one that has these fields; on a stream, with this one alone."""
        __tracebackhide__ = True
        return self.streams(fields if answer is None else answer, _only=not self.method.server_streaming)

    def streams(self, *answers: Message | Mapping[str, Any], _only: bool = False) -> Self:
        """Answer with these messages, one after the other."""
        __tracebackhide__ = True
        what = f"the answer of {self.method.name}"
        if not self.method.server_streaming and not _only:
            raise ContractTestError(f"{self.method.name} is no stream: use returns()")
        self._refuse_second()
        built = []
        for given in answers:
            message = messages.build(self.method.output_type, given, what=what)
            messages.refuse_invalid(message, what=what)
            built.append((message, messages.stated(message, given)))
        self.outcome.answers = tuple(built)
        self.outcome.said = True
        return self

    def besides(self, **fields: Any) -> Self:
        """Fill in fields of every answer on whose values the consumer does not rely: ids, times, tokens."""
        __tracebackhide__ = True
        filled = []
        for message, said in self.outcome.answers:
            whole = messages.build(self.method.output_type, fields, what=f"the answer of {self.method.name}")
            whole.MergeFrom(message)
            filled.append((whole, said))
        if not filled:
            raise ContractTestError("besides() comes after returns() or streams()")
        self.outcome.answers = tuple(filled)
        return self

    def fails(self, code: str, reason: str = "", *, message: str = "", **details: Any) -> Self:
        """End the call with an error that the method declares, or that any call may meet; a stream, after its answers.

        `details`: what the chassis' error of that code takes, such as `resource=("product", "products/none")`,
        `violations=[("names[0]", "is unknown")]`, `retry_after=1.0` or `metadata={}`.
        """
        __tracebackhide__ = True
        self._refuse_second()
        error = self._possible(code, reason)
        try:
            self.outcome.error = _KINDS[code](message, reason=error.reason, **details)
        except TypeError:
            raise ContractTestError(f"{code} takes no {' or '.join(sorted(details))}") from None
        self.outcome.said = True
        self.recorded = self.recorded and error in declared.errors(self.method)
        return self

    def _refuse_second(self) -> None:
        __tracebackhide__ = True
        if self.outcome.said and not self.method.server_streaming:
            raise ContractTestError(f"{self.method.name} has an outcome already, and is no stream")

    def _possible(self, code: str, reason: str) -> Error:
        __tracebackhide__ = True
        own = declared.errors(self.method)
        fitting = [error for error in own if error.code == code and reason in ("", error.reason)]
        if len(fitting) == 1:
            return fitting[0]
        if not fitting and code in declared.ANY_CALL:
            default = _KINDS[code].default_reason
            chosen = reason or (default if default in declared.ANY_CALL[code] else sorted(declared.ANY_CALL[code])[0])
            if chosen in declared.ANY_CALL[code]:
                return Error(code, chosen)
        said = ", ".join(map(str, own)) or "no error"
        if fitting:
            raise ContractTestError(f"name the reason: {self.method.name} declares {said}")
        asked = f"{code} {reason}".strip()
        raise ContractTestError(
            f"{self.method.full_name} does not declare {asked}: it declares {said}; "
            "declare it in the contract (`errors` of its policy), or let the mock fail with what the service can give"
        )

    def hangs(self) -> Self:
        """Answer nothing until the caller's deadline or the contract's timeout has passed. Not recorded."""
        self.outcome.hangs = self.outcome.said = True
        self.recorded = False
        return self

    def times(self, count: int) -> Self:
        """Expect the call so many times instead of once."""
        __tracebackhide__ = True
        if count < 1:
            raise ContractTestError("times() takes 1 or more: what must not be called is simply not expected")
        self.expected = count
        return self

    def off_record(self) -> Self:
        """Do not record it: the answer is one that the real provider never gives."""
        self.recorded = False
        return self

    def differences(self, request: Message) -> list[str]:
        """Why a request is not the expected one."""
        return self._pattern.differences(request)

    def interaction(self, request: Message) -> Interaction:
        """What is recorded of a call that was answered."""
        error = self.outcome.error
        return Interaction(
            method=self.method.name,
            given=self.given,
            request=messages.stated(request, request),
            answers=tuple(said for _, said in self.outcome.answers),
            error=None if error is None else Failure(code=CODES[type(error)], reason=error.reason),
        )

    def __str__(self) -> str:
        pattern = self._pattern
        asked = pattern.predicate.description if pattern.predicate else messages.shown(pattern.stated)
        return f"{self.method.name} {'' if pattern.exact or pattern.predicate else 'like '}{asked} ({self.place})"


def given_of(state: str, parameters: Mapping[str, Any]) -> Given:
    """A state of the provider, its parameters plain enough for a file. Raises ContractTestError."""
    __tracebackhide__ = True
    try:
        text = messages.shown(parameters)
    except TypeError as error:
        raise ContractTestError(f"the parameters of {state!r} must be plain JSON values: {error}") from None
    return Given.model_validate_json(f'{{"state": {messages.shown(state)}, "parameters": {text}}}')


def contradiction(one: Interaction, known: Sequence[Interaction]) -> Interaction | None:
    """An interaction that asks the same and ends otherwise."""
    return next((each for each in known if each.question == one.question and each != one), None)


def _place() -> str:
    """File and line of the test that is being written: the first frame that is not of this package."""
    frame = sys._getframe(1)
    while frame.f_back is not None and Path(frame.f_code.co_filename).parent == Path(__file__).parent:
        frame = frame.f_back
    return f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"
