"""Every way in which a call of one method can be refused, by its policy, its rules and its comment. Pure."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from gateway.policy import Rpc

#: gRPC codes with the status that JSON callers see, in the order of google/rpc/code.proto.
HTTP: Final[dict[str, int]] = {
    "CANCELLED": 499,
    "UNKNOWN": 500,
    "INVALID_ARGUMENT": 400,
    "DEADLINE_EXCEEDED": 504,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "PERMISSION_DENIED": 403,
    "RESOURCE_EXHAUSTED": 429,
    "FAILED_PRECONDITION": 400,
    "ABORTED": 409,
    "OUT_OF_RANGE": 400,
    "UNIMPLEMENTED": 501,
    "INTERNAL": 500,
    "UNAVAILABLE": 503,
    "DATA_LOSS": 500,
    "UNAUTHENTICATED": 401,
}
_WORD: Final = re.compile(r"\b[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+\b|\b(?:CANCELLED|ABORTED|INTERNAL|UNAVAILABLE|UNKNOWN)\b")
_SENTENCE: Final = re.compile(r"(?<=[.;])\s+")


@dataclass(frozen=True, slots=True)
class Refusal:
    """One code that a caller has to expect."""

    code: str
    http: int
    reasons: tuple[str, ...]
    """Constants of its `google.rpc.ErrorInfo`; none where only the service knows."""
    when: str


def of(rpc: Rpc, comment: str) -> tuple[Refusal, ...]:
    """What the comment declares comes first: it is the method's own."""
    return (*_declared(comment), *_by_policy(rpc))


def expected(rpc: Rpc) -> tuple[Refusal, ...]:
    """What the method's `errors` declare, then what its policy makes possible and nothing before has named."""
    declared = tuple(
        Refusal(error.code, HTTP[error.code], (error.reason,), error.comment) for error in rpc.policy.errors
    )
    known = {(one.code, one.reasons) for one in declared}
    return (*declared, *(one for one in _by_policy(rpc) if (one.code, one.reasons) not in known))


def _declared(comment: str) -> Iterator[Refusal]:
    for sentence in _SENTENCE.split(comment):
        words = _WORD.findall(sentence)
        reasons = tuple(dict.fromkeys(word for word in words if word not in HTTP))
        for code in dict.fromkeys(word for word in words if word in HTTP):
            yield Refusal(code, HTTP[code], reasons, sentence)


def _by_policy(rpc: Rpc) -> Iterator[Refusal]:
    policy, method = rpc.policy, rpc.method
    reasons: tuple[str, ...] = ("INVALID_FIELDS", "MALFORMED_MESSAGE")
    if method.bindings:
        reasons += ("JSON_INVALID", "JSON_FIELD_UNKNOWN", "JSON_FIELD_REPEATED", "JSON_QUERY_UNEXPECTED")
    if any(binding.body for binding in method.bindings):
        reasons += ("JSON_TYPE", "JSON_NUMBER")
    when = "The request breaks a rule of a field; BadRequest names each field."
    yield Refusal("INVALID_ARGUMENT", HTTP["INVALID_ARGUMENT"], reasons, when)
    if not policy.public:
        tokens = ("TOKEN_MISSING", "TOKEN_EXPIRED", "TOKEN_INVALID", "TOKEN_REVOKED", "USER_SUSPENDED")
        yield Refusal("UNAUTHENTICATED", HTTP["UNAUTHENTICATED"], tokens, "The call has no access token that is good.")
        when = f"The token has none of the scopes {', '.join(policy.scopes)}."
        yield Refusal("PERMISSION_DENIED", HTTP["PERMISSION_DENIED"], ("SCOPE_MISSING",), when)
    if policy.rate_limit is not None:
        when = f"More calls than {policy.rate_limit}; RetryInfo says how long to wait."
        yield Refusal("RESOURCE_EXHAUSTED", HTTP["RESOURCE_EXHAUSTED"], ("RATE_LIMITED",), when)
    when = f"The request is larger than {policy.request_bytes} bytes."
    yield Refusal("RESOURCE_EXHAUSTED", 413, ("REQUEST_TOO_LARGE",), when)
    if "request_id" in method.request_fields:
        when = "The request_id was used before for another request."
        yield Refusal("FAILED_PRECONDITION", HTTP["FAILED_PRECONDITION"], ("REQUEST_ID_REUSED",), when)
        when = "A call with this request_id is still being served; RetryInfo says when to come back."
        yield Refusal("ABORTED", HTTP["ABORTED"], ("REQUEST_IN_FLIGHT",), when)
    if policy.timeout:
        when = f"No answer within {policy.timeout.total_seconds():g} s, or within the caller's own deadline."
        yield Refusal("DEADLINE_EXCEEDED", HTTP["DEADLINE_EXCEEDED"], ("DEADLINE_EXCEEDED", "DEADLINE_EXPIRED"), when)
    when = f"No instance of {rpc.owner} can be reached, or what it stands on cannot."
    yield Refusal("UNAVAILABLE", HTTP["UNAVAILABLE"], ("SERVICE_UNREACHABLE",), when)
