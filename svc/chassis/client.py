"""Calls to other services of the mesh.

A peer call gives what is left of the caller's deadline, the caller's token and the trace to the next hop, and
turns its status back into an AppError. Retries belong to the channel (the xDS route says which methods and how
often), never to this module: a peer that is still unavailable after them becomes ABORTED, which the gateway does
not repeat.
"""

import importlib.metadata
from collections.abc import Callable
from typing import Any, Final, cast

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2, status_pb2
from opentelemetry.trace import SpanKind

from svc.chassis import telemetry
from svc.chassis.context import CallContext
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
from weft_protos import consumer, policy

# What a caller keeps of its deadline to answer in after the peer has failed.
RESERVE_S: Final = 0.05
# After a peer stayed away through the channel's retries: long enough for a restart or a new endpoint.
PEER_RETRY_S: Final = 1.0

_DETAILS: Final = "grpc-status-details-bin"
_PLAIN: Final[dict[grpc.StatusCode, type[AppError]]] = {
    grpc.StatusCode.UNAUTHENTICATED: Unauthenticated,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDenied,
    grpc.StatusCode.RESOURCE_EXHAUSTED: ResourceExhausted,
    grpc.StatusCode.ABORTED: Aborted,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
}
_AWAY: Final = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED})


class _Details:
    """The `google.rpc` details of a status; the defaults where there are none or they cannot be read."""

    def __init__(self, serialized: bytes) -> None:
        self.info = error_details_pb2.ErrorInfo()
        self.bad_request = error_details_pb2.BadRequest()
        self.precondition = error_details_pb2.PreconditionFailure()
        self.resource = error_details_pb2.ResourceInfo()
        self.retry = error_details_pb2.RetryInfo()
        known: tuple[Message, ...] = (self.info, self.bad_request, self.precondition, self.resource, self.retry)
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
    if code in {grpc.StatusCode.NOT_FOUND, grpc.StatusCode.ALREADY_EXISTS}:
        resource = (details.resource.resource_type, details.resource.resource_name)
        kind = NotFound if code is grpc.StatusCode.NOT_FOUND else AlreadyExists
        return kind(message, resource=resource if any(resource) else None, **named)
    if code in _PLAIN:
        return _PLAIN[code](message, retry_after=details.retry_after, **named)
    # UNKNOWN, UNIMPLEMENTED, INTERNAL, DATA_LOSS, OUT_OF_RANGE: a fault between us; its text is not the caller's.
    return Internal(reason="PEER_FAILED", metadata={"service": service})


class Peer:
    """Unary methods of one service at another mesh service. One per peer and process, used by all threads."""

    def __init__(self, channel: grpc.Channel, service: ServiceDescriptor, *, caller: str = "") -> None:
        """Opens nothing: the channel connects with the first call. `caller`: the service that calls; empty: unnamed."""
        self._name_of_caller = consumer.declare(caller, importlib.metadata.version("weft")) if caller else None
        self._name = service.full_name
        self._owner = policy.service_owner(service.full_name)
        self._methods: dict[str, Callable[..., Any]] = {
            method.name: self._bind(channel, method)
            for method in service.methods
            if not method.server_streaming and not method.client_streaming
        }

    def _bind(self, channel: grpc.Channel, method: MethodDescriptor) -> Callable[..., Any]:
        return channel.unary_unary(
            f"/{self._name}/{method.name}",
            request_serializer=GetMessageClass(method.input_type).SerializeToString,
            response_deserializer=GetMessageClass(method.output_type).FromString,
        )

    def call(self, method: str, request: Message, *, call: CallContext) -> Any:
        """Call a method for `call`'s caller, within its deadline less a reserve. Raises AppError.

        The answer is an instance of the method's response message.
        """
        timeout_s = call.deadline.less(RESERVE_S).remaining()
        if timeout_s <= 0:
            raise DeadlineExceeded("The deadline passed before a peer was called.", reason="DEADLINE_EXPIRED")
        attributes = {
            "rpc.system": "grpc",
            "rpc.service": self._name,
            "rpc.method": method,
            "peer.service": self._owner,
        }
        with telemetry.span(f"{self._name}/{method}", SpanKind.CLIENT, attributes=attributes) as current:
            metadata = [self._name_of_caller] if self._name_of_caller else []
            if telemetry.current_traceparent():
                metadata.append(("traceparent", telemetry.current_traceparent()))
            if call.principal is not None:
                metadata.append(("authorization", f"Bearer {call.principal.token}"))
            try:
                return self._methods[method](request, timeout=timeout_s, metadata=metadata)
            except grpc.RpcError as error:
                ended = cast(grpc.Call, error)  # every error of a call on a channel is that call as well
                if current.is_recording():
                    current.set_attribute("rpc.response.status_code", ended.code().name)
                raise error_of(ended, self._owner) from error
