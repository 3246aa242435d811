"""Calls to other services of the mesh.

A peer call gives what is left of the caller's deadline, the caller's token, lane and trace to the next hop, and
turns its status back into an AppError. Retries of this hop are made here and nowhere else: as often as the contract's
`retry` says, within the deadline, and no more than `throttle` allows. A peer that is still unavailable after them
becomes ABORTED, which the gateway does not repeat.
"""

import importlib.metadata
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, cast

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2, status_pb2
from opentelemetry.trace import SpanKind

from svc.chassis import purity, telemetry, throttle
from svc.chassis.context import CallContext
from svc.chassis.criticality import Courier, Criticality
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
)
from weft_protos import consumer, lanes, policy, read_token

# What a caller keeps of its deadline to answer in after the peer has failed.
RESERVE_S: Final = 0.05
# After a peer stayed away through all attempts: long enough for a restart or a new endpoint.
PEER_RETRY_S: Final = 1.0

_DETAILS: Final = "grpc-status-details-bin"
_PUSHBACK: Final = "grpc-retry-pushback-ms"
_PLAIN: Final[dict[grpc.StatusCode, type[AppError]]] = {
    grpc.StatusCode.UNAUTHENTICATED: Unauthenticated,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDenied,
    grpc.StatusCode.ABORTED: Aborted,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
}
# Codes that gRPC makes by itself, so that nobody knows whether the peer is there.
_SILENT: Final = frozenset({grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED})
_AWAY: Final = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED})


class _Details:
    """The `google.rpc` details of a status; the defaults where there are none or they cannot be read."""

    def __init__(self, serialized: bytes) -> None:
        self.info = error_details_pb2.ErrorInfo()
        self.bad_request = error_details_pb2.BadRequest()
        self.precondition = error_details_pb2.PreconditionFailure()
        self.quota = error_details_pb2.QuotaFailure()
        self.resource = error_details_pb2.ResourceInfo()
        self.retry = error_details_pb2.RetryInfo()
        known: tuple[Message, ...] = (
            self.info,
            self.bad_request,
            self.precondition,
            self.quota,
            self.resource,
            self.retry,
        )
        try:
            status = status_pb2.Status.FromString(serialized)
            for packed in status.details:
                for message in known:
                    packed.Unpack(message)
        except DecodeError:
            # The code alone still says what happened.
            return

    @property
    def retry_after(self) -> float | None:
        """Seconds of RetryInfo."""
        if not self.retry.HasField("retry_delay"):
            return None
        return float(self.retry.retry_delay.ToTimedelta().total_seconds())


def _serialized_details(error: grpc.Call) -> bytes:
    for key, value in error.trailing_metadata() or ():
        if key == _DETAILS and isinstance(value, bytes):
            return value
    return b""


def error_of(error: grpc.Call, service: str) -> AppError:
    """The AppError that a peer's status stands for."""
    code = error.code()
    message = error.details() or ""
    details = _Details(_serialized_details(error))
    named: dict[str, Any] = {"reason": details.info.reason, "metadata": dict(details.info.metadata)}
    if code in _AWAY:
        return Aborted(
            f"The service {service} is not available; try again.",
            reason="PEER_UNAVAILABLE",
            metadata={"service": service},
            retry_after=PEER_RETRY_S if details.retry_after is None else details.retry_after,
        )
    if code is grpc.StatusCode.INVALID_ARGUMENT:
        fields = [(one.field, one.description) for one in details.bad_request.field_violations]
        return InvalidArgument(message, violations=fields, **named)
    if code is grpc.StatusCode.FAILED_PRECONDITION:
        states = [(one.type, one.subject, one.description) for one in details.precondition.violations]
        return FailedPrecondition(message, violations=states, **named)
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        limits = [(one.subject, one.description) for one in details.quota.violations]
        return ResourceExhausted(message, violations=limits, retry_after=details.retry_after, **named)
    if code in {grpc.StatusCode.NOT_FOUND, grpc.StatusCode.ALREADY_EXISTS}:
        resource = (details.resource.resource_type, details.resource.resource_name)
        kind = NotFound if code is grpc.StatusCode.NOT_FOUND else AlreadyExists
        return kind(message, resource=resource if any(resource) else None, **named)
    if code in _PLAIN:
        return _PLAIN[code](message, retry_after=details.retry_after, **named)
    # UNKNOWN, UNIMPLEMENTED, INTERNAL, DATA_LOSS, OUT_OF_RANGE: a fault between us; its text is not the caller's.
    return Internal(reason="PEER_FAILED", metadata={"service": service})


def _pushback_s(error: grpc.Call, attempt: int) -> float | None:
    """How long to wait before the next attempt: as the peer says (gRFC A6), or None where it says not to come back."""
    said = [value for key, value in error.trailing_metadata() or () if key == _PUSHBACK]
    if not said:
        return throttle.pause_s(attempt)
    try:
        wait_ms = int(said[0])
    except ValueError:
        return None
    return wait_ms / 1000 if wait_ms >= 0 else None


@dataclass(frozen=True, slots=True)
class _Method:
    """One method of the peer."""

    path: str
    send: Callable[..., Any]
    attempts: int
    """Attempts in all, as the contract says."""
    criticality: Criticality
    """How much its calls matter by themselves."""

    @classmethod
    def of(cls, channel: grpc.Channel, descriptor: MethodDescriptor) -> "_Method":
        path = f"/{descriptor.containing_service.full_name}/{descriptor.name}"
        send = channel.unary_unary(
            path,
            request_serializer=GetMessageClass(descriptor.input_type).SerializeToString,
            response_deserializer=GetMessageClass(descriptor.output_type).FromString,
        )
        rules = policy.effective(descriptor)
        return cls(path, send, max(1, rules.retry.max_attempts), Criticality.of(rules))


class Peer:
    """Unary methods of one service at another mesh service. One per peer and process, used by all threads."""

    def __init__(
        self, channel: grpc.Channel, service: ServiceDescriptor, *, courier: Courier | None = None, caller: str = ""
    ) -> None:
        """Opens nothing: the channel connects with the first call.

        `courier` tells the peer how much a call matters; without one, it can not be told that it matters more.
        `caller`: the service that calls; empty: unnamed.
        """
        self._named = [consumer.declare(caller, importlib.metadata.version("weft"))] if caller else []
        self._name = service.full_name
        self._owner = policy.service_owner(service.full_name)
        self._courier = courier or Courier()
        self._throttle = throttle.Throttle()
        self._methods = {
            method.name: _Method.of(channel, method)
            for method in service.methods
            if not method.server_streaming and not method.client_streaming
        }

    def call(self, method: str, request: Message, *, call: CallContext) -> Any:
        """Call a method for `call`'s caller, within its deadline less a reserve. Raises AppError.

        The answer is an instance of the method's response message.
        """
        purity.refuse(f"a call of {self._owner}")
        if call.deadline.less(RESERVE_S).expired():
            raise DeadlineExceeded("The deadline passed before a peer was called.", reason="DEADLINE_EXPIRED")
        attributes = {
            "rpc.system": "grpc",
            "rpc.service": self._name,
            "rpc.method": method,
            "peer.service": self._owner,
        }
        with telemetry.span(f"{self._name}/{method}", SpanKind.CLIENT, attributes=attributes) as current:
            wanted = self._methods[method]
            try:
                return self._attempt(wanted, request, call)
            except grpc.RpcError as error:
                ended = cast(grpc.Call, error)  # every error of a call on a channel is that call as well
                if current.is_recording():
                    current.set_attribute("rpc.response.status_code", ended.code().name)
                raise error_of(ended, self._owner) from error

    def _metadata(self, method: _Method, call: CallContext) -> list[tuple[str, str]]:
        authorization = "" if call.principal is None else f"Bearer {call.principal.token}"
        metadata = self._courier.send(
            call.criticality, method=method.path, own=method.criticality, authorization=authorization
        )
        metadata.extend(self._named)
        if call.lane:
            metadata.append((lanes.HEADER, call.lane))
        if call.session.token:
            metadata.append((read_token.HEADER, call.session.token))
        if telemetry.current_traceparent():
            metadata.append(("traceparent", telemetry.current_traceparent()))
        if authorization:
            metadata.append(("authorization", authorization))
        return metadata

    def _attempt(self, method: _Method, request: Message, call: CallContext) -> Any:
        """Send until it is answered, or until contract, throttle, peer, deadline or caller want no further attempt."""
        metadata, deadline, attempt = self._metadata(method, call), call.deadline.less(RESERVE_S), 1
        while True:
            try:
                answer = method.send(request, timeout=deadline.remaining(), metadata=metadata)
            except grpc.RpcError as error:
                ended = cast(grpc.Call, error)
                if ended.code() is not grpc.StatusCode.UNAVAILABLE:
                    if ended.code() not in _SILENT:
                        self._throttle.answered()
                    raise
                worth = self._throttle.failed() and attempt < method.attempts and call.is_active()
                wait_s = _pushback_s(ended, attempt) if worth else None
                if wait_s is None or wait_s >= deadline.remaining():
                    raise
                threading.Event().wait(wait_s)
                attempt += 1
            else:
                self._throttle.answered()
                return answer
