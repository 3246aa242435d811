"""Spans of OTLP as Zipkin's v2 JSON has them. Pure.

After OpenTelemetry's transformation to Zipkin (specification/trace/sdk_exporters/zipkin.md). What that leaves open:
attributes of the resource become tags, and links are left out, since Zipkin has nothing like them.
"""

import json
from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, ip_address
from typing import Any, Final

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from deploy.observability.span_tree import SPAN_ID_BYTES, TRACE_ID_BYTES, plain

_SERVICE: Final = "service.name"
_UNKNOWN: Final = "unknown_service"
_ERROR: Final = "error"
_NANOS_PER_MICRO: Final = 1000
#: Kinds that Zipkin knows; an internal span has none.
_KINDS: Final[Mapping[int, str]] = {
    Span.SPAN_KIND_CLIENT: "CLIENT",
    Span.SPAN_KIND_SERVER: "SERVER",
    Span.SPAN_KIND_PRODUCER: "PRODUCER",
    Span.SPAN_KIND_CONSUMER: "CONSUMER",
}
#: Who was called, the best first: the attribute, and the one that holds its port.
_REMOTE: Final = (
    ("peer.service", ""),
    ("server.address", "server.port"),
    ("net.peer.name", "net.peer.port"),
    ("network.peer.address", "network.peer.port"),
    ("server.socket.domain", ""),
    ("server.socket.address", "server.socket.port"),
    ("net.sock.peer.name", ""),
    ("net.sock.peer.addr", "net.sock.peer.port"),
    ("peer.hostname", ""),
    ("peer.address", ""),
    ("db.name", ""),
)
_PORT_MAX: Final = 65535


def spans(request: ExportTraceServiceRequest) -> list[dict[str, Any]]:
    """The spans of a request that have valid ids, as values of JSON."""
    found: list[dict[str, Any]] = []
    for resource in request.resource_spans:
        of_resource = plain(resource.resource.attributes)
        service = _text(of_resource.pop(_SERVICE, "")) or _UNKNOWN
        for scope in resource.scope_spans:
            of_scope = {"otel.scope.name": scope.scope.name, "otel.scope.version": scope.scope.version}
            shared = {**of_resource, **{key: value for key, value in of_scope.items() if value}}
            found += [_span(span, service, shared) for span in scope.spans if _has_ids(span)]
    return found


def count(request: ExportTraceServiceRequest) -> int:
    """How many spans there are in a request, valid or not."""
    return sum(len(scope.spans) for resource in request.resource_spans for scope in resource.scope_spans)


def _has_ids(span: Span) -> bool:
    """Zipkin refuses everything that comes with a span without."""
    return (len(span.trace_id), len(span.span_id)) == (TRACE_ID_BYTES, SPAN_ID_BYTES) and (
        any(span.trace_id) and any(span.span_id)
    )


def _span(span: Span, service: str, shared: Mapping[str, Any]) -> dict[str, Any]:
    attributes = plain(span.attributes)
    kind = _KINDS.get(span.kind, "")
    whole = {
        "traceId": span.trace_id.hex(),
        "parentId": _parent(span),
        "id": span.span_id.hex(),
        "name": span.name,
        "kind": kind,
        "timestamp": span.start_time_unix_nano // _NANOS_PER_MICRO,
        "duration": _duration(span),
        "localEndpoint": {"serviceName": service},
        "remoteEndpoint": _remote(attributes) if kind in ("CLIENT", "PRODUCER") else {},
        "annotations": [
            {"timestamp": event.time_unix_nano // _NANOS_PER_MICRO, "value": _annotation(event.name, event.attributes)}
            for event in span.events
        ],
        "tags": _tags(span, {**shared, **attributes}),
    }
    return {key: value for key, value in whole.items() if value}


def _parent(span: Span) -> str:
    known = len(span.parent_span_id) == SPAN_ID_BYTES and any(span.parent_span_id)
    return span.parent_span_id.hex() if known else ""


def _duration(span: Span) -> int:
    """In microseconds. One that is shorter counts as one: to Zipkin zero means that the span has not ended."""
    nanos = span.end_time_unix_nano - span.start_time_unix_nano
    return max(1, nanos // _NANOS_PER_MICRO) if span.end_time_unix_nano and nanos >= 0 else 0


def _remote(attributes: Mapping[str, Any]) -> dict[str, Any]:
    for name, port_name in _REMOTE:
        if found := _text(attributes.get(name, "")):
            return _endpoint(found, _text(attributes.get(port_name, "")))
    return {}


def _endpoint(host: str, port: str) -> dict[str, Any]:
    """An address where it is one, else the name of a service. Envoy writes address and port as one."""
    address, _, behind = host.rpartition(":")
    for text, number in ((host, port), (address, behind)):
        try:
            parsed = ip_address(text.strip("[]"))
        except ValueError:
            continue
        family = "ipv4" if isinstance(parsed, IPv4Address) else "ipv6"
        return {family: str(parsed), **_port(number)}
    return {"serviceName": host, **_port(port)}


def _port(text: str) -> dict[str, int]:
    valid = text.isascii() and text.isdigit() and len(text) <= len(str(_PORT_MAX)) and 0 < int(text) <= _PORT_MAX
    return {"port": int(text)} if valid else {}


def _annotation(name: str, attributes: Iterable[KeyValue]) -> str:
    said = plain(attributes)
    return f"{json.dumps(name, ensure_ascii=False)}: {json.dumps(said, ensure_ascii=False)}" if said else name


def _tags(span: Span, attributes: Mapping[str, Any]) -> dict[str, str]:
    """Everything else. A tag `error` means to Zipkin that the span failed, whatever its value."""
    tags = {key: _text(value) for key, value in attributes.items() if key}
    if tags.get(_ERROR, "").lower() == "false":
        del tags[_ERROR]
    if span.status.code in (Status.STATUS_CODE_OK, Status.STATUS_CODE_ERROR):
        tags["otel.status_code"] = "OK" if span.status.code == Status.STATUS_CODE_OK else "ERROR"
    if span.status.code == Status.STATUS_CODE_ERROR:
        tags[_ERROR] = span.status.message
    for what, dropped in (
        ("attributes", span.dropped_attributes_count),
        ("events", span.dropped_events_count),
        ("links", span.dropped_links_count),
    ):
        if dropped:
            tags[f"otel.dropped_{what}_count"] = str(dropped)
    return tags


def _text(value: Any) -> str:
    """A value of JSON as a tag has it: text as it is, everything else as JSON writes it."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
