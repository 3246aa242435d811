"""Generated from the contracts by `make gen`; never edited."""

from collections.abc import Mapping
from typing import Final

from weft_client.kinds import (
    Aborted,
    AlreadyExists,
    DeadlineExceeded,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
    WeftError,
)


class UserSuspended(WeftError):
    """USER_SUSPENDED, whatever the code."""


class Contention(Aborted):
    """ABORTED CONTENTION."""


class EtagMismatch(Aborted):
    """ABORTED ETAG_MISMATCH: it was changed since `etag` was read."""


class PeerUnavailable(Aborted):
    """ABORTED PEER_UNAVAILABLE."""


class RequestInFlight(Aborted):
    """ABORTED REQUEST_IN_FLIGHT."""


class UserChanged(Aborted):
    """ABORTED USER_CHANGED: the user was changed meanwhile."""


class ProductExists(AlreadyExists):
    """ALREADY_EXISTS PRODUCT_EXISTS: the id is taken."""


class UserExists(AlreadyExists):
    """ALREADY_EXISTS USER_EXISTS: the id or the address is taken."""


class DeadlineExpired(DeadlineExceeded):
    """DEADLINE_EXCEEDED DEADLINE_EXPIRED."""


class AlreadyCancelled(FailedPrecondition):
    """FAILED_PRECONDITION ALREADY_CANCELLED: nothing of the order stands any more."""


class MixedCurrencies(FailedPrecondition):
    """FAILED_PRECONDITION MIXED_CURRENCIES: the products are priced in several currencies."""


class NotOrdered(FailedPrecondition):
    """FAILED_PRECONDITION NOT_ORDERED: the order does not hold that many."""


class OperatorNeeded(FailedPrecondition):
    """FAILED_PRECONDITION OPERATOR_NEEDED: the user is the operator."""


class OutOfStock(FailedPrecondition):
    """FAILED_PRECONDITION OUT_OF_STOCK: too little is left; PreconditionFailure names each such product."""


class ReportFinished(FailedPrecondition):
    """FAILED_PRECONDITION REPORT_FINISHED: it is done, or has failed: nothing is left to give up."""


class RequestIdReused(FailedPrecondition):
    """FAILED_PRECONDITION REQUEST_ID_REUSED: `request_id` belongs to a call with another body."""


class SelfSuspension(FailedPrecondition):
    """FAILED_PRECONDITION SELF_SUSPENSION: the user is the caller."""


class SupervisorRefused(FailedPrecondition):
    """FAILED_PRECONDITION SUPERVISOR_REFUSED: the supervisor does not do it now; the message says why; the
        supervisor does not do it now, or not with this number; the message says why.
    """


class TooManyKeys(FailedPrecondition):
    """FAILED_PRECONDITION TOO_MANY_KEYS: there are as many keys as verifiers take; wait until the oldest is
        retired.
    """


class TooManyReports(FailedPrecondition):
    """FAILED_PRECONDITION TOO_MANY_REPORTS: as many of the caller's reports are unfinished as may be."""


class TotalTooLarge(FailedPrecondition):
    """FAILED_PRECONDITION TOTAL_TOO_LARGE: the order costs more than one order may."""


class UserSuspendedFailedPrecondition(UserSuspended, FailedPrecondition):
    """FAILED_PRECONDITION USER_SUSPENDED: the password is right, the user suspended; the user is suspended."""


class PeerFailed(Internal):
    """INTERNAL PEER_FAILED."""


class FieldImmutable(InvalidArgument):
    """INVALID_ARGUMENT FIELD_IMMUTABLE: `update_mask` names a field that cannot be changed."""


class InvalidFields(InvalidArgument):
    """INVALID_ARGUMENT INVALID_FIELDS."""


class MalformedMessage(InvalidArgument):
    """INVALID_ARGUMENT MALFORMED_MESSAGE."""


class PeriodEmpty(InvalidArgument):
    """INVALID_ARGUMENT PERIOD_EMPTY: the period ends before it starts."""


class ProductUnknown(InvalidArgument):
    """INVALID_ARGUMENT PRODUCT_UNKNOWN: the catalog does not have a product."""


class ReadTokenInvalid(InvalidArgument):
    """INVALID_ARGUMENT READ_TOKEN_INVALID."""


class ScopeNotHeld(InvalidArgument):
    """INVALID_ARGUMENT SCOPE_NOT_HELD: the user does not have a scope of `scopes`."""


class ScopeUnknown(InvalidArgument):
    """INVALID_ARGUMENT SCOPE_UNKNOWN: no contract names a scope of `scopes`."""


class UserIdReserved(InvalidArgument):
    """INVALID_ARGUMENT USER_ID_RESERVED: the id is kept for the platform."""


class DeadLetterNotFound(NotFound):
    """NOT_FOUND DEAD_LETTER_NOT_FOUND: it does not lie there, or no longer."""


class MailNotFound(NotFound):
    """NOT_FOUND MAIL_NOT_FOUND: there is no such mail, or its text is kept no longer."""


class MethodNotFound(NotFound):
    """NOT_FOUND METHOD_NOT_FOUND: no contract has this method."""


class OrderNotFound(NotFound):
    """NOT_FOUND ORDER_NOT_FOUND: there is no such order, or it is another's."""


class ProcessNotFound(NotFound):
    """NOT_FOUND PROCESS_NOT_FOUND: no process has this name."""


class ProductNotFound(NotFound):
    """NOT_FOUND PRODUCT_NOT_FOUND: there is no such product; a product does not exist; ResourceInfo names the
        first.
    """


class QueueNotFound(NotFound):
    """NOT_FOUND QUEUE_NOT_FOUND: there is no such queue."""


class ReportNotFound(NotFound):
    """NOT_FOUND REPORT_NOT_FOUND: there is no such report, or it is another's."""


class ServiceNotFound(NotFound):
    """NOT_FOUND SERVICE_NOT_FOUND: no service has this name."""


class SessionNotFound(NotFound):
    """NOT_FOUND SESSION_NOT_FOUND: there is no such session, or it is another's."""


class SigningKeyNotFound(NotFound):
    """NOT_FOUND SIGNING_KEY_NOT_FOUND: there is no such key, or no longer."""


class StockNotFound(NotFound):
    """NOT_FOUND STOCK_NOT_FOUND: the product has no stock on record; a product has no stock on record;
        ResourceInfo names the first.
    """


class TraceNotFound(NotFound):
    """NOT_FOUND TRACE_NOT_FOUND: no span of it was kept."""


class UserNotFound(NotFound):
    """NOT_FOUND USER_NOT_FOUND: there is no such user; there is no such user, or not for the caller."""


class CallerUnknown(PermissionDenied):
    """PERMISSION_DENIED CALLER_UNKNOWN."""


class DelegationChain(PermissionDenied):
    """PERMISSION_DENIED DELEGATION_CHAIN: the caller acts for another itself."""


class ScopeInsufficient(PermissionDenied):
    """PERMISSION_DENIED SCOPE_INSUFFICIENT: the user has power over others that the caller does not have."""


class ScopeMissing(PermissionDenied):
    """PERMISSION_DENIED SCOPE_MISSING."""


class ScopeNotGrantable(PermissionDenied):
    """PERMISSION_DENIED SCOPE_NOT_GRANTABLE: the user would get a scope that the caller does not have."""


class Busy(ResourceExhausted):
    """RESOURCE_EXHAUSTED BUSY: too many passwords are being hashed; too many passwords are being checked."""


class Overloaded(ResourceExhausted):
    """RESOURCE_EXHAUSTED OVERLOADED."""


class RateLimited(ResourceExhausted):
    """RESOURCE_EXHAUSTED RATE_LIMITED."""


class RequestTooLarge(ResourceExhausted):
    """RESOURCE_EXHAUSTED REQUEST_TOO_LARGE."""


class SignInThrottled(ResourceExhausted):
    """RESOURCE_EXHAUSTED SIGN_IN_THROTTLED: too many wrong passwords; RetryInfo says how long to wait."""


class StreamBudgetExhausted(ResourceExhausted):
    """RESOURCE_EXHAUSTED STREAM_BUDGET_EXHAUSTED."""


class BadCredentials(Unauthenticated):
    """UNAUTHENTICATED BAD_CREDENTIALS: the address or the password is wrong."""


class RefreshTokenInvalid(Unauthenticated):
    """UNAUTHENTICATED REFRESH_TOKEN_INVALID: the token is not known."""


class RefreshTokenReused(Unauthenticated):
    """UNAUTHENTICATED REFRESH_TOKEN_REUSED: the token was used before; its session has ended."""


class SessionEnded(Unauthenticated):
    """UNAUTHENTICATED SESSION_ENDED: the session has ended."""


class TokenExpired(Unauthenticated):
    """UNAUTHENTICATED TOKEN_EXPIRED."""


class TokenInvalid(Unauthenticated):
    """UNAUTHENTICATED TOKEN_INVALID."""


class TokenMissing(Unauthenticated):
    """UNAUTHENTICATED TOKEN_MISSING."""


class TokenRevoked(Unauthenticated):
    """UNAUTHENTICATED TOKEN_REVOKED."""


class UserSuspendedUnauthenticated(UserSuspended, Unauthenticated):
    """UNAUTHENTICATED USER_SUSPENDED: the user is suspended."""


class CommitUnknown(Unavailable):
    """UNAVAILABLE COMMIT_UNKNOWN."""


class DatabaseBusy(Unavailable):
    """UNAVAILABLE DATABASE_BUSY."""


class DatabaseUnavailable(Unavailable):
    """UNAVAILABLE DATABASE_UNAVAILABLE."""


class Draining(Unavailable):
    """UNAVAILABLE DRAINING."""


class KeysNotLoaded(Unavailable):
    """UNAVAILABLE KEYS_NOT_LOADED."""


class NoSigningKey(Unavailable):
    """UNAVAILABLE NO_SIGNING_KEY: no key signs yet."""


class ServiceUnreachable(Unavailable):
    """UNAVAILABLE SERVICE_UNREACHABLE."""


class SourceUnavailable(Unavailable):
    """UNAVAILABLE SOURCE_UNAVAILABLE: whoever tells of alerts does not answer; the mailbox does not answer;
        whoever tells of queues does not answer; no supervisor answers; the trace store does not answer.
    """


#: By code and reason.
BY_REASON: Final[Mapping[tuple[str, str], type[WeftError]]] = {
    ("ABORTED", "CONTENTION"): Contention,
    ("ABORTED", "ETAG_MISMATCH"): EtagMismatch,
    ("ABORTED", "PEER_UNAVAILABLE"): PeerUnavailable,
    ("ABORTED", "REQUEST_IN_FLIGHT"): RequestInFlight,
    ("ABORTED", "USER_CHANGED"): UserChanged,
    ("ALREADY_EXISTS", "PRODUCT_EXISTS"): ProductExists,
    ("ALREADY_EXISTS", "USER_EXISTS"): UserExists,
    ("DEADLINE_EXCEEDED", "DEADLINE_EXPIRED"): DeadlineExpired,
    ("FAILED_PRECONDITION", "ALREADY_CANCELLED"): AlreadyCancelled,
    ("FAILED_PRECONDITION", "MIXED_CURRENCIES"): MixedCurrencies,
    ("FAILED_PRECONDITION", "NOT_ORDERED"): NotOrdered,
    ("FAILED_PRECONDITION", "OPERATOR_NEEDED"): OperatorNeeded,
    ("FAILED_PRECONDITION", "OUT_OF_STOCK"): OutOfStock,
    ("FAILED_PRECONDITION", "REPORT_FINISHED"): ReportFinished,
    ("FAILED_PRECONDITION", "REQUEST_ID_REUSED"): RequestIdReused,
    ("FAILED_PRECONDITION", "SELF_SUSPENSION"): SelfSuspension,
    ("FAILED_PRECONDITION", "SUPERVISOR_REFUSED"): SupervisorRefused,
    ("FAILED_PRECONDITION", "TOO_MANY_KEYS"): TooManyKeys,
    ("FAILED_PRECONDITION", "TOO_MANY_REPORTS"): TooManyReports,
    ("FAILED_PRECONDITION", "TOTAL_TOO_LARGE"): TotalTooLarge,
    ("FAILED_PRECONDITION", "USER_SUSPENDED"): UserSuspendedFailedPrecondition,
    ("INTERNAL", "PEER_FAILED"): PeerFailed,
    ("INVALID_ARGUMENT", "FIELD_IMMUTABLE"): FieldImmutable,
    ("INVALID_ARGUMENT", "INVALID_FIELDS"): InvalidFields,
    ("INVALID_ARGUMENT", "MALFORMED_MESSAGE"): MalformedMessage,
    ("INVALID_ARGUMENT", "PERIOD_EMPTY"): PeriodEmpty,
    ("INVALID_ARGUMENT", "PRODUCT_UNKNOWN"): ProductUnknown,
    ("INVALID_ARGUMENT", "READ_TOKEN_INVALID"): ReadTokenInvalid,
    ("INVALID_ARGUMENT", "SCOPE_NOT_HELD"): ScopeNotHeld,
    ("INVALID_ARGUMENT", "SCOPE_UNKNOWN"): ScopeUnknown,
    ("INVALID_ARGUMENT", "USER_ID_RESERVED"): UserIdReserved,
    ("NOT_FOUND", "DEAD_LETTER_NOT_FOUND"): DeadLetterNotFound,
    ("NOT_FOUND", "MAIL_NOT_FOUND"): MailNotFound,
    ("NOT_FOUND", "METHOD_NOT_FOUND"): MethodNotFound,
    ("NOT_FOUND", "ORDER_NOT_FOUND"): OrderNotFound,
    ("NOT_FOUND", "PROCESS_NOT_FOUND"): ProcessNotFound,
    ("NOT_FOUND", "PRODUCT_NOT_FOUND"): ProductNotFound,
    ("NOT_FOUND", "QUEUE_NOT_FOUND"): QueueNotFound,
    ("NOT_FOUND", "REPORT_NOT_FOUND"): ReportNotFound,
    ("NOT_FOUND", "SERVICE_NOT_FOUND"): ServiceNotFound,
    ("NOT_FOUND", "SESSION_NOT_FOUND"): SessionNotFound,
    ("NOT_FOUND", "SIGNING_KEY_NOT_FOUND"): SigningKeyNotFound,
    ("NOT_FOUND", "STOCK_NOT_FOUND"): StockNotFound,
    ("NOT_FOUND", "TRACE_NOT_FOUND"): TraceNotFound,
    ("NOT_FOUND", "USER_NOT_FOUND"): UserNotFound,
    ("PERMISSION_DENIED", "CALLER_UNKNOWN"): CallerUnknown,
    ("PERMISSION_DENIED", "DELEGATION_CHAIN"): DelegationChain,
    ("PERMISSION_DENIED", "SCOPE_INSUFFICIENT"): ScopeInsufficient,
    ("PERMISSION_DENIED", "SCOPE_MISSING"): ScopeMissing,
    ("PERMISSION_DENIED", "SCOPE_NOT_GRANTABLE"): ScopeNotGrantable,
    ("RESOURCE_EXHAUSTED", "BUSY"): Busy,
    ("RESOURCE_EXHAUSTED", "OVERLOADED"): Overloaded,
    ("RESOURCE_EXHAUSTED", "RATE_LIMITED"): RateLimited,
    ("RESOURCE_EXHAUSTED", "REQUEST_TOO_LARGE"): RequestTooLarge,
    ("RESOURCE_EXHAUSTED", "SIGN_IN_THROTTLED"): SignInThrottled,
    ("RESOURCE_EXHAUSTED", "STREAM_BUDGET_EXHAUSTED"): StreamBudgetExhausted,
    ("UNAUTHENTICATED", "BAD_CREDENTIALS"): BadCredentials,
    ("UNAUTHENTICATED", "REFRESH_TOKEN_INVALID"): RefreshTokenInvalid,
    ("UNAUTHENTICATED", "REFRESH_TOKEN_REUSED"): RefreshTokenReused,
    ("UNAUTHENTICATED", "SESSION_ENDED"): SessionEnded,
    ("UNAUTHENTICATED", "TOKEN_EXPIRED"): TokenExpired,
    ("UNAUTHENTICATED", "TOKEN_INVALID"): TokenInvalid,
    ("UNAUTHENTICATED", "TOKEN_MISSING"): TokenMissing,
    ("UNAUTHENTICATED", "TOKEN_REVOKED"): TokenRevoked,
    ("UNAUTHENTICATED", "USER_SUSPENDED"): UserSuspendedUnauthenticated,
    ("UNAVAILABLE", "COMMIT_UNKNOWN"): CommitUnknown,
    ("UNAVAILABLE", "DATABASE_BUSY"): DatabaseBusy,
    ("UNAVAILABLE", "DATABASE_UNAVAILABLE"): DatabaseUnavailable,
    ("UNAVAILABLE", "DRAINING"): Draining,
    ("UNAVAILABLE", "KEYS_NOT_LOADED"): KeysNotLoaded,
    ("UNAVAILABLE", "NO_SIGNING_KEY"): NoSigningKey,
    ("UNAVAILABLE", "SERVICE_UNREACHABLE"): ServiceUnreachable,
    ("UNAVAILABLE", "SOURCE_UNAVAILABLE"): SourceUnavailable,
}
