"""From gRPC's status, with its `google.rpc` details, to the exception of its reason."""

from collections.abc import Iterable
from typing import Any, Final

import grpc
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2

from weft_client.gen.errors import BY_REASON
from weft_client.kinds import (
    BY_CODE,
    Failure,
    FieldViolation,
    LimitViolation,
    Resource,
    StateViolation,
    Unknown,
    WeftError,
)

_DETAILS: Final = "grpc-status-details-bin"
#: gRFC A6: milliseconds until the next attempt; anything that is no such number forbids one.
_PUSHBACK: Final = "grpc-retry-pushback-ms"
_TRACE: Final = "x-trace-id"
_KINDS: Final[tuple[type[Message], ...]] = (
    error_details_pb2.ErrorInfo,
    error_details_pb2.BadRequest,
    error_details_pb2.PreconditionFailure,
    error_details_pb2.QuotaFailure,
    error_details_pb2.ResourceInfo,
    error_details_pb2.RetryInfo,
)


def error_of(error: Any, method: str) -> WeftError:
    """The exception for what gRPC raised, `grpc.RpcError` or `grpc.aio.AioRpcError`."""
    code: grpc.StatusCode = error.code()
    details = tuple(_details(error.trailing_metadata()))
    said: dict[str, Any] = {}
    for detail in details:
        if isinstance(detail, error_details_pb2.ErrorInfo):
            said |= {"reason": detail.reason, "metadata": dict(detail.metadata)}
        elif isinstance(detail, error_details_pb2.BadRequest):
            fields = detail.field_violations
            said["field_violations"] = tuple(FieldViolation(one.field, one.description) for one in fields)
        elif isinstance(detail, error_details_pb2.PreconditionFailure):
            states = detail.violations
            said["state_violations"] = tuple(StateViolation(one.type, one.subject, one.description) for one in states)
        elif isinstance(detail, error_details_pb2.QuotaFailure):
            limits = detail.violations
            said["limit_violations"] = tuple(LimitViolation(one.subject, one.description) for one in limits)
        elif isinstance(detail, error_details_pb2.ResourceInfo):
            said["resource"] = Resource(detail.resource_type, detail.resource_name)
        elif isinstance(detail, error_details_pb2.RetryInfo):
            said["retry_after"] = detail.retry_delay.ToNanoseconds() / 1e9
    trace_id = header(error.initial_metadata(), _TRACE) or header(error.trailing_metadata(), _TRACE)
    failure = Failure(
        method=method, code=code.name, message=error.details() or "", trace_id=trace_id, details=details, **said
    )
    kind = BY_REASON.get((failure.code, failure.reason)) or BY_CODE.get(failure.code, Unknown)
    return kind(failure)


def pushback_s(error: Any) -> float | None:
    """Seconds until the server wants the next attempt, infinity where it wants none; None where it does not say."""
    said = header(error.trailing_metadata(), _PUSHBACK)
    if not said:
        return None
    return int(said) / 1000 if said.isdecimal() else float("inf")


def header(metadata: Iterable[tuple[str, Any]] | None, key: str) -> str:
    """The first text value of a key; empty where there is none."""
    return next((str(value) for name, value in metadata or () if name == key and isinstance(value, str)), "")


def _details(metadata: Iterable[tuple[str, Any]] | None) -> Iterable[Message]:
    packed = next((value for key, value in metadata or () if key == _DETAILS), b"")
    try:
        status = status_pb2.Status.FromString(packed)
        for detail in status.details:
            for kind in _KINDS:
                message = kind()
                if detail.Unpack(message):
                    yield message
    except DecodeError:
        # The code alone still says what happened.
        return
