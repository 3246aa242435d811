"""Errors that callers may rely on: what a method of the linked contracts declares, and what any call may meet.

Consumer contract tests let a mock fail with nothing else, and a test holds services and chassis to both.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from google.protobuf.descriptor import MethodDescriptor

from weft_protos import policy

#: Reasons by code that no method declares, because gateway and instances give them by policy or by their condition.
ANY_CALL: Final[Mapping[str, frozenset[str]]] = {
    "INVALID_ARGUMENT": frozenset({"INVALID_FIELDS", "MALFORMED_MESSAGE", "READ_TOKEN_INVALID"}),
    "UNAUTHENTICATED": frozenset(
        {"TOKEN_MISSING", "TOKEN_INVALID", "TOKEN_EXPIRED", "TOKEN_REVOKED", "USER_SUSPENDED"}
    ),
    "PERMISSION_DENIED": frozenset({"CALLER_UNKNOWN", "SCOPE_MISSING"}),
    "RESOURCE_EXHAUSTED": frozenset(
        {"OVERLOADED", "RATE_LIMITED", "REQUEST_TOO_LARGE", "RESOURCE_EXHAUSTED", "STREAM_BUDGET_EXHAUSTED"}
    ),
    "ABORTED": frozenset({"CONTENTION", "PEER_UNAVAILABLE", "REQUEST_IN_FLIGHT"}),
    "UNAVAILABLE": frozenset(
        {
            "COMMIT_UNKNOWN",
            "DATABASE_BUSY",
            "DATABASE_UNAVAILABLE",
            "DRAINING",
            "KEYS_NOT_LOADED",
            "SERVICE_UNREACHABLE",
            "UNAVAILABLE",
        }
    ),
    "DEADLINE_EXCEEDED": frozenset({"DEADLINE_EXCEEDED", "DEADLINE_EXPIRED"}),
    "INTERNAL": frozenset({"INTERNAL", "PEER_FAILED"}),
}


@dataclass(frozen=True, slots=True, order=True)
class Error:
    """What programs test of an error."""

    code: str
    """Name of the gRPC code: `NOT_FOUND`."""
    reason: str
    """Constant of `google.rpc.ErrorInfo`: `PRODUCT_NOT_FOUND`."""

    def __str__(self) -> str:
        return f"{self.code} {self.reason}"


def errors(method: MethodDescriptor) -> tuple[Error, ...]:
    """What a method of the linked contracts declares, its service's errors first."""
    return tuple(Error(each.code, each.reason) for each in policy.effective(method).errors)
