"""What a call may fail with: one exception for each gRPC code, below them one for each reason of the contracts.

    WeftError
    ├── NotFound, AlreadyExists         resource
    ├── InvalidArgument                 violations: field, description
    ├── FailedPrecondition              violations: kind, subject, description
    ├── ResourceExhausted               violations: subject, description
    └── Unauthenticated, PermissionDenied, Aborted, Unavailable, DeadlineExceeded, Internal, ...

`weft_client.errors` has them all. `retry_after` says when the same call is worth another try; the client has waited and
tried by itself where the contract allows it and the deadline left room.
"""
# ruff: noqa: N818 - the names are those of google.rpc.Code, which every reader of a gRPC API knows.

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

from google.protobuf.message import Message


class FieldViolation(NamedTuple):
    """A field that breaks a rule of the contract."""

    field: str
    """Path in the request: `items[1].quantity`."""
    description: str


class StateViolation(NamedTuple):
    """What must change before the call can succeed."""

    kind: str
    """For instance `STOCK`."""
    subject: str
    """For instance `stock/mug`."""
    description: str


class LimitViolation(NamedTuple):
    """A limit that is used up."""

    subject: str
    description: str


class Resource(NamedTuple):
    """What a call is about."""

    kind: str
    """For instance `product`."""
    name: str
    """For instance `products/mug`."""


@dataclass(frozen=True)
class Failure:
    """How a call ended, as the wire tells it."""

    method: str
    """`/weft.orders.v1.OrderService/PlaceOrder`"""
    code: str
    """Name of the gRPC code: `NOT_FOUND`."""
    message: str
    """For people."""
    reason: str = ""
    """Constant of `google.rpc.ErrorInfo`: `PRODUCT_NOT_FOUND`; empty where nobody gave one."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """Of `google.rpc.ErrorInfo`: the rule, the line of the contract, the hop and the instance that refused."""
    retry_after: float | None = None
    """Seconds after which the same call is worth another try; None where nobody says."""
    trace_id: str = ""
    """Names the trace of the call; empty where it did not reach the mesh."""
    details: tuple[Message, ...] = field(default=(), repr=False)
    """The messages of `google.rpc` that came along, for whatever the exceptions do not show."""
    field_violations: tuple[FieldViolation, ...] = ()
    state_violations: tuple[StateViolation, ...] = ()
    limit_violations: tuple[LimitViolation, ...] = ()
    resource: Resource | None = None


class WeftError(Exception):
    """A call that failed."""

    code: ClassVar[str] = "UNKNOWN"

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure)
        self.failure = failure
        self.message = failure.message
        self.reason = failure.reason
        self.metadata = failure.metadata
        self.retry_after = failure.retry_after
        self.trace_id = failure.trace_id

    def __str__(self) -> str:
        """One line: code, reason, message, what exactly is wrong, and where to look."""
        said = self.failure
        head = f"{said.code} {said.reason}".rstrip()
        exact = [*said.field_violations, *said.state_violations, *said.limit_violations]
        parts = [f"{head}: {said.message}", *(": ".join(filter(None, each)) for each in exact)]
        if self.trace_id:
            parts.append(f"trace {self.trace_id}")
        return "; ".join(parts)


class Cancelled(WeftError):
    """The caller gave it up."""

    code = "CANCELLED"


class Unknown(WeftError):
    """Nobody says what happened."""

    code = "UNKNOWN"


class InvalidArgument(WeftError):
    """The request can never work, whatever the state."""

    code = "INVALID_ARGUMENT"

    @property
    def violations(self) -> tuple[FieldViolation, ...]:
        """The fields that are wrong."""
        return self.failure.field_violations


class DeadlineExceeded(WeftError):
    """Time ran out; a write may have taken effect. With the same `request_id` it is safe to repeat."""

    code = "DEADLINE_EXCEEDED"


class _AboutResource(WeftError):
    @property
    def resource(self) -> Resource | None:
        """What it is about; None where nobody says."""
        return self.failure.resource


class NotFound(_AboutResource):
    """No such resource, or none of the caller's."""

    code = "NOT_FOUND"


class AlreadyExists(_AboutResource):
    """The resource is there already."""

    code = "ALREADY_EXISTS"


class PermissionDenied(WeftError):
    """The caller is known and may not."""

    code = "PERMISSION_DENIED"


class ResourceExhausted(WeftError):
    """A limit is used up; `retry_after` says until when."""

    code = "RESOURCE_EXHAUSTED"

    @property
    def violations(self) -> tuple[LimitViolation, ...]:
        """The limits."""
        return self.failure.limit_violations


class FailedPrecondition(WeftError):
    """The present state forbids it."""

    code = "FAILED_PRECONDITION"

    @property
    def violations(self) -> tuple[StateViolation, ...]:
        """What would have to change."""
        return self.failure.state_violations


class Aborted(WeftError):
    """Lost against another call."""

    code = "ABORTED"


class OutOfRange(WeftError):
    """Beyond the end."""

    code = "OUT_OF_RANGE"


class Unimplemented(WeftError):
    """The service does not have the method: it may be older than this client."""

    code = "UNIMPLEMENTED"


class Internal(WeftError):
    """A fault of the mesh; its trace says more."""

    code = "INTERNAL"


class Unavailable(WeftError):
    """Nobody answers."""

    code = "UNAVAILABLE"


class DataLoss(WeftError):
    """Something is lost for good."""

    code = "DATA_LOSS"


class Unauthenticated(WeftError):
    """Nobody knows who calls."""

    code = "UNAUTHENTICATED"


#: By name of the code.
BY_CODE: Mapping[str, type[WeftError]] = {
    kind.code: kind
    for kind in (
        Cancelled,
        Unknown,
        InvalidArgument,
        DeadlineExceeded,
        NotFound,
        AlreadyExists,
        PermissionDenied,
        ResourceExhausted,
        FailedPrecondition,
        Aborted,
        OutOfRange,
        Unimplemented,
        Internal,
        Unavailable,
        DataLoss,
        Unauthenticated,
    )
}
