"""What an error says, for people and for programs: its code, its `google.rpc` details, its trace. Pure.

What a server has written is shown without its control characters, since a terminal would obey them.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from deploy.cli.terminal import printable
from weft_protos import grounds

TRACE_ID: Final = "x-trace-id"
_WIDTH: Final = 9

#: What to do about a code, where nothing better is known.
FIXES: Final[Mapping[str, str]] = {
    "CANCELLED": "call it again",
    "UNKNOWN": "look at its trace, and at `weft logs` of the instance",
    "INVALID_ARGUMENT": "mend the fields that are named",
    "DEADLINE_EXCEEDED": "give it more time with --timeout, up to the contract's own; `weft status` shows what is slow",
    "NOT_FOUND": "look up the name; it is taken whole, such as products/mug",
    "ALREADY_EXISTS": "choose another id, or read what is there",
    "PERMISSION_DENIED": "call with a token that has the scope: `weft call --scope ...`",
    "RESOURCE_EXHAUSTED": "wait as long as it says, then call again",
    "FAILED_PRECONDITION": "mend what it names first",
    "ABORTED": "call it again: somebody else was faster",
    "OUT_OF_RANGE": "ask for less",
    "UNIMPLEMENTED": "the mesh that runs does not serve it; `weft contracts publish` or `weft roll` may be missing",
    "INTERNAL": "look at its trace, and at `weft logs` of the instance",
    "UNAVAILABLE": "call it again; `weft check` says what is wrong",
    "DATA_LOSS": "`weft check` says what is wrong",
    "UNAUTHENTICATED": "call with a token: leave out --as '' and any authorization of your own",
}


@dataclass(frozen=True, slots=True)
class Named:
    """Something an error names, and what it says of it."""

    name: str
    says: str


@dataclass(frozen=True, slots=True)
class Failure:
    """An error, as far as it was said."""

    code: str
    """`NOT_FOUND`."""
    message: str
    reason: str = ""
    """Constant of `google.rpc.ErrorInfo`."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """Of ErrorInfo: the rule, the line of the contract, the hop, the instance, and what the reason brings."""
    fields: tuple[Named, ...] = ()
    """Of BadRequest."""
    conditions: tuple[Named, ...] = ()
    """Of PreconditionFailure and QuotaFailure."""
    resource: Named | None = None
    retry_after_s: float | None = None
    links: tuple[Named, ...] = ()
    others: tuple[str, ...] = ()
    """Types of details that nothing more is known of."""
    trace_id: str = ""


def of(error: Any) -> Failure:
    """What a call ended with; the grpc.RpcError is the call itself, with its metadata."""
    try:
        status = rpc_status.from_call(error)
    except ValueError:  # the details say another code than the call: whoever wrote them is not to be trusted
        status = None
    entries = (*(error.initial_metadata() or ()), *(error.trailing_metadata() or ()))
    trace = next((value for key, value in entries if key == TRACE_ID), "")
    return decoded(status or Status(message=error.details() or ""), code=error.code().name, trace_id=printable(trace))


def decoded(status: Status, *, code: str, trace_id: str = "") -> Failure:
    """The same of the status alone."""
    found: dict[str, Any] = {"fields": (), "conditions": (), "links": (), "others": ()}
    for packed in status.details:
        detail = _unpacked(packed)
        if detail is None:
            found["others"] += (printable(packed.TypeName()),)
            continue
        for key, value in _parts(detail):
            found[key] = found[key] + value if isinstance(value, tuple) else value
    return Failure(code=code, message=printable(status.message), trace_id=trace_id, **found)


def as_object(failure: Failure, *, explanation: str, fix: str, docs: str = "") -> dict[str, Any]:
    """What `--json` prints."""
    return {"error": asdict(failure) | {"explanation": explanation, "fix": fix, "docs": docs}}


def lines(failure: Failure, *, explanation: str, fix: str, docs: str = "") -> Iterator[str]:
    """What people are shown: the code and the message, and a line for everything else that was said.

    `docs`: where more is written about it.
    """
    yield f"{failure.code}: {failure.message}" if failure.message else failure.code
    if failure.reason:
        yield _row("reason", f"{failure.reason}: {explanation}" if explanation else failure.reason)
    for one in failure.fields:
        yield _row("field", _named(one))
    for one in failure.conditions:
        yield _row("because", _named(one))
    if failure.resource is not None:
        yield _row("resource", _named(failure.resource))
    told = dict(failure.metadata)
    rule, contract = told.pop(grounds.RULE, ""), told.pop(grounds.CONTRACT, "")
    if rule or contract:
        yield _row("rule", "  ".join(part for part in (rule, contract) if part))
    hop, instance = told.pop(grounds.HOP, ""), told.pop(grounds.INSTANCE, "")
    if hop or instance:
        yield _row("said by", instance or hop)
    told.pop(grounds.METHOD, "")
    for key, value in told.items():
        yield _row(key, value)
    if failure.retry_after_s is not None:
        yield _row("retry", f"after {failure.retry_after_s:g} s")
    for one in failure.links:
        yield _row("see", _named(one))
    for name in failure.others:
        yield _row("detail", name)
    yield _row("fix", fix)
    if docs:
        yield _row("docs", docs)


def fix_of(failure: Failure, scopes: tuple[str, ...]) -> str:
    """What to do about it; `scopes`: one of these the method asks for."""
    if failure.code == "PERMISSION_DENIED" and scopes:
        return f"call with a token that has one of its scopes: --scope {' or --scope '.join(scopes)}"
    if failure.retry_after_s is not None:
        return f"wait {failure.retry_after_s:g} s, then call again"
    return FIXES.get(failure.code, FIXES["UNKNOWN"])


def _unpacked(packed: Any) -> Message | None:
    name = packed.TypeName().removeprefix("google.rpc.")
    kind = getattr(error_details_pb2, name, None) if packed.TypeName().startswith("google.rpc.") else None
    if kind is None:
        return None
    detail: Message = kind()
    try:
        packed.Unpack(detail)
    except DecodeError:
        return None
    return detail


def _parts(detail: Any) -> Iterator[tuple[str, Any]]:
    """What one detail adds to a Failure."""
    match detail.DESCRIPTOR.name:
        case "ErrorInfo":
            yield "reason", printable(detail.reason)
            yield "metadata", {printable(key): printable(value) for key, value in sorted(detail.metadata.items())}
        case "BadRequest":
            yield "fields", _all((each.field, each.description) for each in detail.field_violations)
        case "PreconditionFailure" | "QuotaFailure":
            yield "conditions", _all((each.subject, each.description) for each in detail.violations)
        case "ResourceInfo":
            kind = f"{detail.resource_type} " if detail.resource_type else ""
            yield "resource", Named(printable(f"{kind}{detail.resource_name}"), printable(detail.description))
        case "RetryInfo":
            yield "retry_after_s", detail.retry_delay.ToNanoseconds() / 1e9
        case "Help":
            yield "links", _all((each.url, each.description) for each in detail.links)
        case "LocalizedMessage":
            yield "links", _all([(detail.locale, detail.message)])
        case name:
            yield "others", (name,)


def _all(pairs: Iterable[tuple[str, str]]) -> tuple[Named, ...]:
    return tuple(Named(printable(name), printable(says)) for name, says in pairs)


def _named(one: Named) -> str:
    return f"{one.name}: {one.says}" if one.name and one.says else one.name or one.says


def _row(key: str, text: str) -> str:
    return f"  {key:<{_WIDTH}} {text}"
