"""Errors on the wire: each class one code, its details whole, and nothing of an unforeseen one."""

from collections.abc import Callable, Iterator

import pytest
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2
from opentelemetry import trace
from prometheus_client import REGISTRY

from svc.chassis import errors
from svc.chassis.context import CallContext
from svc.chassis.errors import AppError
from svc.chassis.interceptors import status
from tests.unit.svc.chassis.instance import CREATE_SESSION, Failure, Instance
from weft.identity.v1 import identity_pb2

SIMPLE: dict[type[AppError], str] = {
    errors.InvalidArgument: "INVALID_ARGUMENT",
    errors.Unauthenticated: "UNAUTHENTICATED",
    errors.PermissionDenied: "PERMISSION_DENIED",
    errors.NotFound: "NOT_FOUND",
    errors.AlreadyExists: "ALREADY_EXISTS",
    errors.FailedPrecondition: "FAILED_PRECONDITION",
    errors.Aborted: "ABORTED",
    errors.ResourceExhausted: "RESOURCE_EXHAUSTED",
    errors.Unavailable: "UNAVAILABLE",
    errors.DeadlineExceeded: "DEADLINE_EXCEEDED",
    errors.Internal: "INTERNAL",
}


def raising(error: Exception) -> Callable[[Message, CallContext], Message]:
    def handler(_request: Message, _call: CallContext) -> Message:
        raise error

    return handler


def failure(instance: Instance, error: Exception) -> Failure:
    instance.behaviour.do = raising(error)
    with pytest.raises(Failure) as caught:
        instance.get_stock()
    return caught.value


@pytest.mark.parametrize(("kind", "code"), SIMPLE.items(), ids=SIMPLE.values())
def test_each_error_has_one_code_and_names_its_reason(instance: Instance, kind: type[AppError], code: str) -> None:
    failed = failure(instance, kind("Said to people.", reason="SAID_TO_PROGRAMS", metadata={"stock": "a"}))

    assert (code, "Said to people.") == (failed.code, failed.message)
    info = failed.detail(error_details_pb2.ErrorInfo)
    assert ("SAID_TO_PROGRAMS", "weft", "a") == (info.reason, info.domain, info.metadata["stock"])
    assert (code_pb2.Code.Value(code), "Said to people.") == (failed.status.code, failed.status.message)


def test_every_error_of_the_tree_is_in_the_table() -> None:
    def below(kind: type[AppError]) -> Iterator[type[AppError]]:
        for child in kind.__subclasses__():
            yield child
            yield from below(child)

    public = {kind for kind in below(AppError) if kind.__module__ == errors.__name__ and kind.__name__[0] != "_"}
    assert public | {AppError} == set(status.CODES)


def test_an_error_of_a_service_takes_the_code_of_the_nearest_class() -> None:
    class SoldOut(errors.FailedPrecondition):
        pass

    assert "FAILED_PRECONDITION" == status.code_of(SoldOut())


def test_an_invalid_argument_names_its_fields(instance: Instance) -> None:
    failed = failure(instance, errors.InvalidArgument(violations=[("items[1].quantity", "must be positive")]))

    assert {"items[1].quantity": "must be positive"} == failed.fields


def test_a_failed_precondition_names_what_must_change(instance: Instance) -> None:
    failed = failure(instance, errors.FailedPrecondition(violations=[("STOCK", "stock/a", "3 left")]))

    (violation,) = failed.detail(error_details_pb2.PreconditionFailure).violations
    assert ("STOCK", "stock/a", "3 left") == (violation.type, violation.subject, violation.description)


@pytest.mark.parametrize("kind", [errors.NotFound, errors.AlreadyExists])
def test_a_missing_or_existing_resource_is_named(instance: Instance, kind: type[errors.NotFound]) -> None:
    failed = failure(instance, kind(resource=("product", "products/1")))

    resource = failed.detail(error_details_pb2.ResourceInfo)
    assert ("product", "products/1") == (resource.resource_type, resource.resource_name)


def test_a_retry_time_reaches_programs_and_client_libraries(instance: Instance) -> None:
    failed = failure(instance, errors.Aborted(retry_after=1.25))

    assert 1250 == failed.detail(error_details_pb2.RetryInfo).retry_delay.ToMilliseconds()
    assert "1250" == failed.trailers["grpc-retry-pushback-ms"]


def test_without_a_retry_time_nothing_is_said_about_retries(instance: Instance) -> None:
    failed = failure(instance, errors.NotFound())

    assert not failed.has(error_details_pb2.RetryInfo)
    assert "grpc-retry-pushback-ms" not in failed.trailers


def test_many_violations_do_not_burst_the_trailers(instance: Instance) -> None:
    many = [(f"items[{index}].quantity", "x" * 80) for index in range(500)]

    failed = failure(instance, errors.InvalidArgument(violations=many))

    assert status.VIOLATIONS == len(failed.fields)


def test_an_unforeseen_exception_says_nothing_but_its_trace(
    capsys: pytest.CaptureFixture[str], instance: Instance, spans: object
) -> None:
    place = {"place": "rpc.orders"}
    before = REGISTRY.get_sample_value("weft_unexpected_errors_total", place) or 0.0
    seen: list[int] = []

    def handler(_request: Message, _call: CallContext) -> Message:
        seen.append(trace.get_current_span().get_span_context().trace_id)
        raise RuntimeError("password=hunter2")

    instance.behaviour.do = handler
    with pytest.raises(Failure) as caught:
        instance.get_stock()

    failed = caught.value
    assert ("INTERNAL", "internal error") == (failed.code, failed.message)
    assert f"{seen[0]:032x}" == failed.detail(error_details_pb2.RequestInfo).request_id
    info = failed.detail(error_details_pb2.ErrorInfo)
    assert ("INTERNAL", "service: INTERNAL", "orders-7") == (
        info.reason,
        info.metadata["rule"],
        info.metadata["instance"],
    )
    assert not failed.has(error_details_pb2.DebugInfo)
    assert "hunter2" not in str(failed.status) + str(failed.trailers)
    assert before + 1 == REGISTRY.get_sample_value("weft_unexpected_errors_total", place)
    assert "call_failed" in capsys.readouterr().err


def test_a_handler_that_returns_another_type_is_a_fault_of_ours(instance: Instance) -> None:
    instance.behaviour.do = lambda _request, _call: error_details_pb2.ErrorInfo()

    with pytest.raises(Failure) as caught:
        instance.get_stock()

    assert ("INTERNAL", "internal error") == (caught.value.code, caught.value.message)


def test_an_unforeseen_exception_that_quotes_the_request_is_logged_without_what_is_sensitive(
    capsys: pytest.CaptureFixture[str], instance: Instance, spans: object
) -> None:
    request = identity_pb2.CreateSessionRequest(email="ada@example.org", password="correct horse")
    instance.behaviour.do = raising(KeyError(request.email, request.password))

    with pytest.raises(Failure):
        instance.call(CREATE_SESSION, request, token="")

    written = capsys.readouterr().err
    assert "call_failed" in written
    assert [] == [secret for secret in (request.email, request.password) if secret in written]
