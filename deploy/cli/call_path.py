"""The path of a call and what ended it, from its trace and from what gateways logged. Values in, values out.

`explain.py` fetches both and prints the result. The trace has every hop that was reached; a refusal of the gateway
itself is in its access log alone. Both may be missing: unsampled calls have no trace, logs are cut when they grow.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import grpc

from weft_protos import grounds

_CODES: Final = {code.value[0]: code.name for code in grpc.StatusCode}
#: Envoy writes codes in camel case, `PermissionDenied`; two of them have other words.
_NAMES: Final = {name.title().replace("_", ""): name for name in _CODES.values()} | {
    "OK": "OK",
    "Canceled": "CANCELLED",
    "InvalidCode": "UNKNOWN",
}
#: Where spans say how a call ended: services, then Envoy.
_SERVED: Final = "rpc.response.status_code"
_GRPC_CODE: Final = "grpc.status_code"
_STATUS: Final = (_SERVED, _GRPC_CODE, "http.status_code")
_GATEWAY: Final = "gateway"
_HTTP_REFUSED: Final = 400


@dataclass(frozen=True, slots=True)
class Step:
    """One span."""

    depth: int
    """0 for the first hop."""
    service: str
    span: str
    duration_ms: float
    status: str


@dataclass(frozen=True, slots=True)
class Call:
    """One request, as a gateway logged it."""

    gateway: str
    method: str
    """`weft.orders.v1.OrderService/PlaceOrder`; the path where no method was found."""
    status: str
    """Name of the gRPC code, or the HTTP status."""
    duration_ms: float
    refused: bool


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why one hop said no."""

    reason: str
    rule: str
    contract: str
    """`weft/orders/v1/orders.proto:32`; empty where no contract says it."""
    method: str
    hop: str
    instance: str


@dataclass(frozen=True, slots=True)
class Path:
    """Everything that is known of a trace."""

    trace_id: str
    calls: tuple[Call, ...]
    steps: tuple[Step, ...]
    refusals: tuple[Refusal, ...]
    """Every refusal on the way once, also those that a retry made good."""
    refused: bool
    decided_by: Refusal | None
    """The refusal that callers saw; None where the call was not refused, or nobody recorded why."""


def records(lines: Iterable[str], trace_id: str) -> Iterator[Mapping[str, Any]]:
    """The access log's records of one trace. Other lines are Envoy's own warnings."""
    for line in lines:
        if trace_id not in line:
            continue
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and record.get("trace_id") == trace_id:
            yield record


def path_of(trace_id: str, trace: Mapping[str, Any] | None, logged: Sequence[tuple[str, Mapping[str, Any]]]) -> Path:
    """Put together. `trace`: as the trace store answers, None where it has none; `logged`: gateway and record."""
    roots = trace["spans"] if trace is not None else ()
    spans = list(_walk(roots))
    ordered = sorted(logged, key=lambda one: _text(one[1], "time"))
    calls = tuple(_call(gateway, record) for gateway, record in ordered)
    own = [_logged_refusal(gateway, record) for gateway, record in ordered if _text(record, "refusal")]
    answers = [refusal for span in _last_attempts(roots) if (refusal := _span_refusal(span)) is not None]
    refused = any(call.refused for call in calls) or bool(answers)
    on_the_way = [refusal for span, _ in spans if (refusal := _span_refusal(span)) is not None]
    # What a gateway says by itself is said last.
    told = [*answers, *own]
    return Path(
        trace_id=trace_id,
        calls=calls,
        steps=tuple(_step(span, depth) for span, depth in spans),
        refusals=tuple(dict.fromkeys([*on_the_way, *own])),
        refused=refused,
        decided_by=told[-1] if told else None,
    )


def as_object(path: Path) -> dict[str, Any]:
    """What `--json` prints."""
    return asdict(path)


def lines(path: Path) -> Iterator[str]:
    """What people are shown."""
    for call in path.calls:
        yield f"{call.gateway}  {call.method}  {call.status}  {call.duration_ms:.1f} ms"
    if path.steps:
        width = max(len(step.status) for step in path.steps)
        for step in path.steps:
            place = f"{'  ' * step.depth}{step.service}  {step.span}"
            yield f"{step.duration_ms:>10.2f} ms  {step.status:<{width}}  {place}"
    else:
        yield "the trace store has no span of it"
    for refusal in path.refusals:
        verdict = "refused by" if refusal == path.decided_by else "on the way"
        who = refusal.instance or refusal.hop
        parts = (refusal.rule, refusal.contract, refusal.reason, refusal.method, f"at {who}" if who else "")
        yield f"{verdict}  {'  '.join(part for part in parts if part)}"
    if not path.refused:
        yield "allowed"
    elif path.decided_by is None:
        yield "refused; nobody recorded a rule"


def _walk(spans: Iterable[Mapping[str, Any]], depth: int = 0) -> Iterator[tuple[Mapping[str, Any], int]]:
    """Every span with its depth, in the order of the calls."""
    for span in spans:
        yield span, depth
        yield from _walk(span["children"], depth + 1)


def _last_attempts(spans: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """Of each call that came from outside, the span of the instance that answered last: what it said was the answer.

    Attempts before it were made good by a retry, and what was refused below it is in its own words where it counts.
    """
    for span in spans:
        if span["service"] == _GATEWAY or _SERVED in span["attributes"]:
            attempts = list(_attempts([span]))
            yield from attempts[-1:]
        else:
            yield from _last_attempts(span["children"])


def _attempts(spans: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    for span in spans:
        if span["service"] != _GATEWAY and _SERVED in span["attributes"]:
            yield span
        else:
            yield from _attempts(span["children"])


def _step(span: Mapping[str, Any], depth: int) -> Step:
    attributes = span["attributes"]
    status = "ERROR" if span["status"]["code"] == "error" else "-"
    for key in _STATUS:
        if key in attributes:
            status = _code(str(attributes[key])) if key == _GRPC_CODE else str(attributes[key])
            break
    return Step(depth, span["service"], span["name"], span["duration_ms"], status)


def _code(text: str) -> str:
    return _CODES.get(int(text), text) if text.isascii() and text.isdigit() else text


def _span_refusal(span: Mapping[str, Any]) -> Refusal | None:
    attributes = span["attributes"]

    def said(key: str) -> str:
        return str(attributes.get(f"{grounds.SPAN_PREFIX}{key}", ""))

    if not said(grounds.REASON):
        return None
    return Refusal(
        reason=said(grounds.REASON),
        rule=said(grounds.RULE),
        contract=said(grounds.CONTRACT),
        method=said(grounds.METHOD),
        hop=said(grounds.HOP),
        instance=said(grounds.INSTANCE),
    )


def _call(gateway: str, record: Mapping[str, Any]) -> Call:
    grpc_status, http_status = _text(record, "grpc_status"), _text(record, "http_status")
    failed_http = http_status.isdigit() and int(http_status) >= _HTTP_REFUSED
    code = _NAMES.get(grpc_status, grpc_status)
    return Call(
        gateway=gateway,
        method=_method(record) or _text(record, "path"),
        status=code or http_status or "-",
        duration_ms=float(_text(record, "duration_ms") or 0),
        refused=bool(_text(record, "refusal")) or code not in ("", "OK") or failed_http,
    )


def _logged_refusal(gateway: str, record: Mapping[str, Any]) -> Refusal:
    return Refusal(
        reason=_text(record, "refusal"),
        rule=_text(record, grounds.RULE),
        contract=_text(record, grounds.CONTRACT),
        method=_method(record),
        hop=_GATEWAY,
        instance=gateway,
    )


def _method(record: Mapping[str, Any]) -> str:
    """The method of a record's route: those of JSON have verb and path behind it."""
    method = _text(record, "route").partition(" ")[0]
    return method if "/" in method else ""


def _text(record: Mapping[str, Any], key: str) -> str:
    """A field of a record; empty where Envoy knew none."""
    value = record.get(key)
    return "" if value is None or value == "-" else str(value)
