"""Turns what a call raised into one gRPC status with `google.rpc` details: the only table of its kind.

An AppError keeps its message, reason and details. Anything else is a fault of ours: the caller gets INTERNAL and
the trace id, the log gets the stack, the counter goes up, and the exception's text goes nowhere else.
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

import structlog
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2

from svc.chassis import metrics, telemetry
from svc.chassis.call import Call, Interceptor, Method, Refusal, Verifier
from svc.chassis.errors import (
    Aborted,
    AlreadyExists,
    AppError,
    DeadlineExceeded,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
)
from weft_protos import redaction

DOMAIN: Final = "weft"

CODES: Final[dict[type[AppError], str]] = {
    InvalidArgument: "INVALID_ARGUMENT",
    Unauthenticated: "UNAUTHENTICATED",
    PermissionDenied: "PERMISSION_DENIED",
    NotFound: "NOT_FOUND",
    AlreadyExists: "ALREADY_EXISTS",
    FailedPrecondition: "FAILED_PRECONDITION",
    Aborted: "ABORTED",
    ResourceExhausted: "RESOURCE_EXHAUSTED",
    Unavailable: "UNAVAILABLE",
    DeadlineExceeded: "DEADLINE_EXCEEDED",
    Internal: "INTERNAL",
    AppError: "INTERNAL",
}

# Trailers travel in one header block; its limit at the gateway and in clients is 8 to 16 KB.
VIOLATIONS: Final = 20

log = structlog.get_logger(__name__)


def code_of(error: AppError) -> str:
    """Name of the gRPC code of an error, by the nearest class of the table."""
    return next(CODES[kind] for kind in type(error).__mro__ if kind in CODES)


def _details(error: AppError, grounds: Mapping[str, str]) -> Iterator[Message]:
    yield error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=grounds)
    match error:
        case InvalidArgument(violations=violations) if violations:
            yield error_details_pb2.BadRequest(
                field_violations=[
                    error_details_pb2.BadRequest.FieldViolation(field=field, description=description)
                    for field, description in violations[:VIOLATIONS]
                ]
            )
        case FailedPrecondition(violations=violations) if violations:
            yield error_details_pb2.PreconditionFailure(
                violations=[
                    error_details_pb2.PreconditionFailure.Violation(type=kind, subject=subject, description=description)
                    for kind, subject, description in violations[:VIOLATIONS]
                ]
            )
        case ResourceExhausted(violations=violations) if violations:
            yield error_details_pb2.QuotaFailure(
                violations=[
                    error_details_pb2.QuotaFailure.Violation(subject=subject, description=description)
                    for subject, description in violations[:VIOLATIONS]
                ]
            )
        case NotFound(resource=resource) | AlreadyExists(resource=resource) if resource is not None:
            yield error_details_pb2.ResourceInfo(resource_type=resource[0], resource_name=resource[1])
    if error.retry_after is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromNanoseconds(int(error.retry_after * 1e9))
        yield retry


def _status(code: str, message: str, details: Iterator[Message] | tuple[Message, ...]) -> bytes:
    status = status_pb2.Status(code=code_pb2.Code.Value(code), message=message)
    for detail in details:
        status.details.add().Pack(detail)
    serialized: bytes = status.SerializeToString()
    return serialized


def refuse(call: Call, error: AppError) -> Refusal:
    """The status of an error that the caller may see."""
    code = code_of(error)
    grounds = call.method.grounds.of(error, call.progress)
    pushback = None if error.retry_after is None else math.ceil(error.retry_after * 1000)
    details = _status(code, error.message, _details(error, grounds))
    return Refusal(code, error.message, details, error.reason, grounds, pushback)


def refuse_unexpected(call: Call) -> Refusal:
    """The status of a fault of ours: who failed, and the id under which it can be looked up; not a word of why."""
    reason, message = Internal.default_reason, Internal.default_message
    grounds = call.method.grounds.of_fault(reason)
    info = error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN, metadata=grounds)
    request = error_details_pb2.RequestInfo(request_id=telemetry.current_trace_id())
    return Refusal("INTERNAL", message, _status("INTERNAL", message, (info, request)), reason, grounds)


def build(method: Method, _verifier: Verifier) -> Interceptor:
    """Count faults under the method's service."""
    faults = metrics.UNEXPECTED_ERRORS.labels(place=f"rpc.{method.owner}")

    @contextmanager
    def translate(call: Call) -> Iterator[None]:
        try:
            yield
        except AppError as error:
            call.refusal = refuse(call, error)
        except Exception:
            # The last resort: counted, logged with its stack, answered INTERNAL.
            faults.inc()
            log.exception("call_failed", method=call.method.name, without=redaction.values(call.message))
            call.refusal = refuse_unexpected(call)

    return translate
