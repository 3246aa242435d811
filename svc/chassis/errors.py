"""Errors that a caller may see, in the words of `google.rpc.Code`. No wire in here.

    AppError
    ├── InvalidArgument      the request can never work; names the fields
    ├── Unauthenticated      no token, or not a valid one
    ├── PermissionDenied     a valid token without the scope
    ├── NotFound             no such resource, or not the caller's
    ├── AlreadyExists
    ├── FailedPrecondition   the state forbids it; names what must change first
    ├── Aborted              lost against another call, or a peer failed after its retries: try the whole again later
    ├── ResourceExhausted    a limit or a budget is used up
    ├── Unavailable          nothing was done or nothing is known of it: safe to retry with the same `request_id`
    ├── DeadlineExceeded
    └── Internal             ours to mend

Domain code raises them; `interceptors/status.py` holds the one table that turns them into gRPC status, and
`client.py` turns a peer's status back. `reason` is the constant of `google.rpc.ErrorInfo` that programs test;
the message is for people. Metadata and messages reach the caller: no secret, no SQL, no stack in them.
"""
# ruff: noqa: N818 - the names are those of google.rpc.Code, which every reader of a gRPC API knows.

from collections.abc import Mapping, Sequence
from typing import ClassVar


class AppError(Exception):
    """Something the caller is told about."""

    default_reason: ClassVar[str] = "INTERNAL"
    default_message: ClassVar[str] = "internal error"

    def __init__(
        self,
        message: str = "",
        *,
        reason: str = "",
        metadata: Mapping[str, str] | None = None,
        retry_after: float | None = None,
    ) -> None:
        """`retry_after`: seconds after which the same call is worth another try; None says nothing about it."""
        super().__init__(message or self.default_message)
        self.message = message or self.default_message
        self.reason = reason or self.default_reason
        self.metadata = dict(metadata or {})
        self.retry_after = retry_after


class InvalidArgument(AppError):
    """The request can never work, whatever the state."""

    default_reason = "INVALID_FIELDS"
    default_message = "The request is not valid."

    def __init__(
        self,
        message: str = "",
        *,
        violations: Sequence[tuple[str, str]] = (),
        reason: str = "",
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        """`violations`: (field path as in the request, `items[1].quantity`; what is wrong with it)."""
        super().__init__(message, reason=reason, metadata=metadata)
        self.violations = tuple(violations)


class Unauthenticated(AppError):
    """Nobody knows who calls."""

    default_reason = "TOKEN_INVALID"
    default_message = "A valid token is required."


class PermissionDenied(AppError):
    """The caller is known and may not."""

    default_reason = "PERMISSION_DENIED"
    default_message = "The caller may not do this."


class _AboutResource(AppError):
    def __init__(
        self,
        message: str = "",
        *,
        resource: tuple[str, str] | None = None,
        reason: str = "",
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        """`resource`: (type, name), for instance `("product", "products/22423")`."""
        super().__init__(message, reason=reason, metadata=metadata)
        self.resource = resource


class NotFound(_AboutResource):
    """No such resource, or none of the caller's: the two look the same."""

    default_reason = "NOT_FOUND"
    default_message = "There is no such resource."


class AlreadyExists(_AboutResource):
    """The resource is there already."""

    default_reason = "ALREADY_EXISTS"
    default_message = "The resource exists already."


class FailedPrecondition(AppError):
    """The present state forbids it; a repeat alone does not help."""

    default_reason = "FAILED_PRECONDITION"
    default_message = "The present state does not allow this."

    def __init__(
        self,
        message: str = "",
        *,
        violations: Sequence[tuple[str, str, str]] = (),
        reason: str = "",
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        """`violations`: (type, subject, description), for instance `("STOCK", "stock/22423", "3 left")`."""
        super().__init__(message, reason=reason, metadata=metadata)
        self.violations = tuple(violations)


class Aborted(AppError):
    """Lost against another call, or a peer stayed away through its retries. The whole call may be tried later.

    A gateway does not repeat it: an inner hop that has been retried must not be retried again by the outer one.
    """

    default_reason = "ABORTED"
    default_message = "The call was aborted; try again."


class ResourceExhausted(AppError):
    """A limit is used up."""

    default_reason = "RESOURCE_EXHAUSTED"
    default_message = "A limit is used up; try again later."

    def __init__(
        self,
        message: str = "",
        *,
        violations: Sequence[tuple[str, str]] = (),
        reason: str = "",
        metadata: Mapping[str, str] | None = None,
        retry_after: float | None = None,
    ) -> None:
        """`violations`: (subject, which limit), for instance `("request", "requests of up to 1024 bytes")`."""
        super().__init__(message, reason=reason, metadata=metadata, retry_after=retry_after)
        self.violations = tuple(violations)


class Unavailable(AppError):
    """Not now. With the same `request_id` the call is safe to repeat, and the gateway repeats it."""

    default_reason = "UNAVAILABLE"
    default_message = "The service is not available; try again."


class DeadlineExceeded(AppError):
    """Time ran out."""

    default_reason = "DEADLINE_EXCEEDED"
    default_message = "The deadline passed."


class Internal(AppError):
    """An error of ours that is named on purpose; anything unexpected becomes the same without its text."""

    default_reason = "INTERNAL"
    default_message = "internal error"
