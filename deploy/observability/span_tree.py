"""Spans as values: what is read from OTLP, and a trace as the tree that people and programs are shown. Pure.

Spans come from anybody who can reach the port: parents may be missing, repeated or in a circle, times absurd.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

TRACE_ID_BYTES: Final = 16
SPAN_ID_BYTES: Final = 8
# What an integer column and most readers of JSON can hold.
_NANOS_MAX: Final = 2**63 - 1
_NANOS_PER_S: Final = 1_000_000_000
_MS_PER_NANO: Final = 1e-6
# Deeper spans are shown at this depth: nested JSON must stay readable by every parser.
_DEPTH_MAX: Final = 100
_UNKNOWN: Final = "unknown_service"


@dataclass(frozen=True, slots=True)
class StoredSpan:
    """One span as it is kept."""

    trace_id: str
    span_id: str
    service: str
    body: bytes
    """The span's own OTLP serialization."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """One span of a request, with what the trace's summary needs."""

    span: StoredSpan
    name: str
    start: int
    finish: int
    root: bool
    failed: bool


def arrivals(request: ExportTraceServiceRequest) -> list[Arrival]:
    """The spans of a request that have valid ids."""
    found: list[Arrival] = []
    for resource in request.resource_spans:
        service = _service(resource.resource.attributes)
        for scope in resource.scope_spans:
            found += [
                _arrival(span, service)
                for span in scope.spans
                if len(span.trace_id) == TRACE_ID_BYTES and len(span.span_id) == SPAN_ID_BYTES
            ]
    return found


def _service(attributes: Iterable[KeyValue]) -> str:
    for attribute in attributes:
        if attribute.key == "service.name" and attribute.value.string_value:
            return str(attribute.value.string_value)
    return _UNKNOWN


def _arrival(span: Span, service: str) -> Arrival:
    start = min(span.start_time_unix_nano, _NANOS_MAX)
    return Arrival(
        span=StoredSpan(span.trace_id.hex(), span.span_id.hex(), service, span.SerializeToString()),
        name=span.name,
        start=start,
        finish=max(start, min(span.end_time_unix_nano, _NANOS_MAX)),
        root=not span.parent_span_id,
        failed=span.status.code == Status.STATUS_CODE_ERROR,
    )


def moment(nanos: int) -> str:
    """RFC 3339 of a Unix time in nanoseconds."""
    try:
        return datetime.fromtimestamp(nanos / _NANOS_PER_S, UTC).isoformat(timespec="milliseconds")
    except (ValueError, OverflowError, OSError):
        return ""


def duration_ms(nanos: int) -> float:
    """A duration for people."""
    return round(nanos * _MS_PER_NANO, 3)


@dataclass(frozen=True, slots=True)
class _Trace:
    spans: Mapping[str, tuple[str, Span]]
    """Service and span, by span id."""
    children: Mapping[str, list[str]]
    """Span ids by their parent's, each list by start."""
    begin: int
    """When the first span began."""


def tree(trace_id: str, stored: Iterable[StoredSpan]) -> dict[str, Any]:
    """The whole trace: its roots, each with its children by start. A span without a known parent is a root."""
    spans = {row.span_id: (row.service, Span.FromString(row.body)) for row in stored}
    ordered = sorted(spans, key=lambda span_id: (spans[span_id][1].start_time_unix_nano, span_id))
    begin = min((span.start_time_unix_nano for _, span in spans.values()), default=0)
    end = max((span.end_time_unix_nano for _, span in spans.values()), default=begin)
    children: dict[str, list[str]] = {}
    for span_id in ordered:
        children.setdefault(spans[span_id][1].parent_span_id.hex(), []).append(span_id)
    trace = _Trace(spans, children, begin)
    roots = [span_id for span_id in ordered if spans[span_id][1].parent_span_id.hex() not in spans]
    shown: set[str] = set()
    # Who is only reachable through a circle of parents comes last, and is shown from its first span on.
    nodes = [_branch(trace, root, shown) for root in [*roots, *ordered] if root not in shown]
    return {
        "trace_id": trace_id,
        "start": moment(begin),
        "duration_ms": duration_ms(max(0, end - begin)),
        "services": sorted({service for service, _ in spans.values()}),
        "span_count": len(spans),
        "spans": nodes,
    }


def _branch(trace: _Trace, root: str, shown: set[str]) -> dict[str, Any]:
    """A node with everything below it; each span is shown once."""
    top = _node(trace, root)
    shown.add(root)
    waiting: list[tuple[str, list[dict[str, Any]], int]] = [(root, top["children"], 1)]
    while waiting:
        parent_id, below, depth = waiting.pop()
        for span_id in trace.children.get(parent_id, []):
            if span_id not in shown:
                shown.add(span_id)
                node = _node(trace, span_id)
                below.append(node)
                waiting.append((span_id, node["children"] if depth < _DEPTH_MAX else below, depth + 1))
    return top


def _node(trace: _Trace, span_id: str) -> dict[str, Any]:
    service, span = trace.spans[span_id]
    return {
        "span_id": span_id,
        "parent_span_id": span.parent_span_id.hex(),
        "service": service,
        "name": span.name,
        "kind": Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_").lower()
        if span.kind in Span.SpanKind.values()
        else "unspecified",
        "start": moment(span.start_time_unix_nano),
        "offset_ms": duration_ms(span.start_time_unix_nano - trace.begin),
        "duration_ms": duration_ms(max(0, span.end_time_unix_nano - span.start_time_unix_nano)),
        "status": {
            "code": {1: "ok", 2: "error"}.get(span.status.code, "unset"),
            "message": span.status.message,
        },
        "attributes": plain(span.attributes),
        "events": [
            {"name": event.name, "time": moment(event.time_unix_nano), "attributes": plain(event.attributes)}
            for event in span.events
        ],
        "links": [{"trace_id": link.trace_id.hex(), "span_id": link.span_id.hex()} for link in span.links],
        "children": [],
    }


def plain(attributes: Iterable[KeyValue]) -> dict[str, Any]:
    """Attributes as JSON values."""
    return {attribute.key: _plain(attribute.value) for attribute in attributes}


def _plain(value: AnyValue) -> Any:
    match value.WhichOneof("value"):
        case "string_value":
            return value.string_value
        case "bool_value":
            return value.bool_value
        case "int_value":
            return value.int_value
        case "double_value":
            number = value.double_value
            # JSON has no word for the others.
            return number if abs(number) < float("inf") else str(number)
        case "bytes_value":
            return value.bytes_value.hex()
        case "array_value":
            return [_plain(item) for item in value.array_value.values]
        case "kvlist_value":
            return plain(value.kvlist_value.values)
        case _:
            return None
