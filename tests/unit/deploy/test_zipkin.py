"""Spans of OTLP as Zipkin has them, and the bridge that takes them there."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, InstrumentationScope, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from deploy.observability import zipkin
from deploy.observability.config import Address, Settings
from deploy.observability.traces import TraceSink
from deploy.observability.zipkin_bridge import TRIES, Bridge
from tests.unit.deploy.test_traces import LOOPBACK, START, TRACE, export_of, get, listed, send, span_of
from tests.waiting import eventually, free_port

MICROS = START // 1000


def said(**attributes: str | bool | int | float | list[str]) -> list[KeyValue]:
    """Attributes; a double underscore stands for a dot."""
    return [KeyValue(key=name.replace("__", "."), value=_value(value)) for name, value in attributes.items()]


def _value(value: str | bool | int | float | list[str]) -> AnyValue:
    match value:
        case bool():
            return AnyValue(bool_value=value)
        case int():
            return AnyValue(int_value=value)
        case float():
            return AnyValue(double_value=value)
        case str():
            return AnyValue(string_value=value)
        case _:
            return AnyValue(array_value=ArrayValue(values=[AnyValue(string_value=one) for one in value]))


def converted(span: Span) -> dict[str, Any]:
    (found,) = zipkin.spans(export_of(span))
    return found


def test_a_span_has_its_ids_in_hex_and_its_times_in_microseconds() -> None:
    assert {
        "traceId": TRACE,
        "parentId": "0000000000000001",
        "id": "0000000000000002",
        "name": "GetOrder",
        "kind": "SERVER",
        "timestamp": MICROS + 3000,
        "duration": 10_000,
        "localEndpoint": {"serviceName": "orders"},
    } == converted(span_of(2, 1, at_ms=3, name="GetOrder", kind=Span.SPAN_KIND_SERVER))


@pytest.mark.parametrize(
    ("kind", "named"),
    [
        (Span.SPAN_KIND_CLIENT, "CLIENT"),
        (Span.SPAN_KIND_SERVER, "SERVER"),
        (Span.SPAN_KIND_PRODUCER, "PRODUCER"),
        (Span.SPAN_KIND_CONSUMER, "CONSUMER"),
        (Span.SPAN_KIND_INTERNAL, None),
        (Span.SPAN_KIND_UNSPECIFIED, None),
    ],
)
def test_kinds_are_those_that_zipkin_knows(kind: Span.SpanKind, named: str | None) -> None:
    assert named == converted(span_of(1, kind=kind)).get("kind")


@pytest.mark.parametrize(("nanos", "micros"), [(1234, 1), (999, 1), (0, 1), (-5, None), (7_000_000_999, 7_000_000)])
def test_a_duration_is_whole_microseconds_and_never_zero(nanos: int, micros: int | None) -> None:
    span = span_of(1)
    span.end_time_unix_nano = START + nanos

    assert micros == converted(span).get("duration")


def test_a_span_that_has_not_ended_has_no_duration() -> None:
    span = span_of(1)
    span.end_time_unix_nano = 0

    assert "duration" not in converted(span)


@pytest.mark.parametrize(
    ("attributes", "endpoint"),
    [
        (said(peer__service="catalog", server__address="10.0.0.1"), {"serviceName": "catalog"}),
        (said(server__address="10.0.0.1", server__port=80, db__name="x"), {"ipv4": "10.0.0.1", "port": 80}),
        (said(server__address="db.example", server__port=5432), {"serviceName": "db.example", "port": 5432}),
        (said(network__peer__address="::1", network__peer__port=443), {"ipv6": "::1", "port": 443}),
        (said(peer__address="127.0.0.1:21044"), {"ipv4": "127.0.0.1", "port": 21044}),
        (said(peer__address="[::1]:21044"), {"ipv6": "::1", "port": 21044}),
        (said(db__name="orders"), {"serviceName": "orders"}),
        (said(server__address="10.0.0.1", server__port=65536), {"ipv4": "10.0.0.1"}),
        (said(other="x"), None),
    ],
)
def test_who_was_called_is_the_best_that_the_caller_says(
    attributes: list[KeyValue], endpoint: dict[str, Any] | None
) -> None:
    calling = converted(span_of(1, kind=Span.SPAN_KIND_CLIENT, attributes=attributes))
    called = converted(span_of(1, kind=Span.SPAN_KIND_SERVER, attributes=attributes))

    assert (endpoint, None) == (calling.get("remoteEndpoint"), called.get("remoteEndpoint"))


def test_attributes_become_tags_of_text() -> None:
    found = converted(span_of(1, attributes=said(a="x", b=True, c=7, d=1.5, e=["p", "ö"], f=float("nan"))))

    assert {"a": "x", "b": "true", "c": "7", "d": "1.5", "e": '["p", "ö"]', "f": "nan"} == found["tags"]


def test_what_the_resource_and_the_scope_say_is_on_every_span_of_theirs() -> None:
    request = export_of(span_of(1, attributes=said(zone="of the span")), span_of(2))
    request.resource_spans[0].resource.attributes.extend(said(service__instance__id="orders-1", zone="a"))
    request.resource_spans[0].scope_spans[0].scope.CopyFrom(InstrumentationScope(name="weft", version="1"))

    first, second = zipkin.spans(request)

    shared = {"service.instance.id": "orders-1", "otel.scope.name": "weft", "otel.scope.version": "1"}
    assert (shared | {"zone": "of the span"}, shared | {"zone": "a"}) == (first["tags"], second["tags"])


def test_spans_of_nobody_are_of_an_unknown_service() -> None:
    request = export_of(span_of(1))
    request.resource_spans[0].resource.Clear()

    assert [{"serviceName": "unknown_service"}] == [span["localEndpoint"] for span in zipkin.spans(request)]


@pytest.mark.parametrize(
    ("status", "tags"),
    [
        (Status(code=Status.STATUS_CODE_UNSET, message="x"), None),
        (Status(code=Status.STATUS_CODE_OK), {"otel.status_code": "OK"}),
        (Status(code=Status.STATUS_CODE_ERROR, message="40001"), {"otel.status_code": "ERROR", "error": "40001"}),
        (Status(code=Status.STATUS_CODE_ERROR), {"otel.status_code": "ERROR", "error": ""}),
    ],
)
def test_only_what_failed_has_the_tag_error(status: Status, tags: dict[str, str] | None) -> None:
    assert tags == converted(span_of(1, status=status, attributes=said(error=False))).get("tags")


def test_events_become_annotations_with_what_they_say() -> None:
    events = [
        Span.Event(name="retry", time_unix_nano=START + 1999),
        Span.Event(name='a "b"', time_unix_nano=START, attributes=said(n=1, ok=True)),
    ]

    assert [
        {"timestamp": MICROS + 1, "value": "retry"},
        {"timestamp": MICROS, "value": '"a \\"b\\"": {"n": 1, "ok": true}'},
    ] == converted(span_of(1, events=events))["annotations"]


def test_what_was_left_out_before_is_counted() -> None:
    found = converted(span_of(1, dropped_attributes_count=1, dropped_events_count=2, dropped_links_count=3))

    assert {f"otel.dropped_{what}_count": f"{n + 1}" for n, what in enumerate(("attributes", "events", "links"))} == (
        found["tags"]
    )


def test_a_span_without_valid_ids_is_left_out_and_takes_no_other_with_it() -> None:
    zero = span_of(3)
    zero.trace_id = bytes(16)
    short = span_of(4)
    short.span_id = b"1234"
    stray = span_of(2)
    stray.parent_span_id = bytes(8)
    request = export_of(zero, short, span_of(0), stray)

    assert (["0000000000000002"], 4) == ([span["id"] for span in zipkin.spans(request)], zipkin.count(request))
    assert "parentId" not in zipkin.spans(request)[0]


class Zipkin(ThreadingHTTPServer):
    """Keeps what it is sent, and answers as it is told to."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Door)
        self.status = 202
        self.posts: list[tuple[str, str | None, list[dict[str, Any]]]] = []
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def address(self) -> Address:
        return Address("127.0.0.1", self.server_address[1])

    def ids(self) -> list[int]:
        return [int(span["id"], 16) for _, _, spans in self.posts for span in spans]


class Door(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Zipkin

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.posts.append((self.path, self.headers["Content-Type"], body))
        self.send_response(self.server.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the inherited name
        """Says nothing."""


@pytest.fixture
def server() -> Iterator[Zipkin]:
    running = Zipkin()
    yield running
    running.shutdown()
    running.server_close()


def test_what_the_bridge_is_offered_is_posted_as_zipkin_wants_it(server: Zipkin) -> None:
    bridge = Bridge(server.address)
    bridge.start()
    bridge.offer(export_of(span_of(1), span_of(2)))
    bridge.offer(export_of(span_of(3)))

    eventually(lambda: bridge.counts() == {"sent": 3, "dropped": 0})
    assert [1, 2, 3] == server.ids()
    assert {("/api/v2/spans", "application/json")} == {(path, kind) for path, kind, _ in server.posts}
    bridge.stop()


def test_while_nobody_takes_any_the_oldest_spans_give_way_and_are_counted(server: Zipkin) -> None:
    exports = [export_of(span_of(number + 1)) for number in range(10)]
    bridge = Bridge(server.address, capacity=sum(export.ByteSize() for export in exports[-3:]))

    for export in exports:
        bridge.offer(export)
    assert {"sent": 0, "dropped": 7} == bridge.counts()
    bridge.start()

    eventually(lambda: bridge.counts() == {"sent": 3, "dropped": 7})
    assert [8, 9, 10] == server.ids()
    bridge.stop()


def test_one_export_that_is_larger_than_all_room_is_dropped_and_nothing_else(server: Zipkin) -> None:
    bridge = Bridge(server.address, capacity=100)
    bridge.offer(export_of(*(span_of(number + 1) for number in range(50))))

    assert {"sent": 0, "dropped": 50} == bridge.counts()


def test_spans_wait_for_a_zipkin_that_is_not_there_yet() -> None:
    port = free_port()
    bridge = Bridge(Address("127.0.0.1", port), again_s=0.01)
    bridge.start()
    bridge.offer(export_of(span_of(1)))
    eventually(lambda: bridge._away)
    late = Zipkin(port)
    try:
        eventually(lambda: bridge.counts() == {"sent": 1, "dropped": 0})
        assert [1] == late.ids()
    finally:
        bridge.stop()
        late.shutdown()
        late.server_close()


@pytest.mark.parametrize(("status", "tries"), [(400, 1), (500, TRIES)])
def test_spans_that_zipkin_cannot_take_are_dropped_and_hold_up_no_others(
    server: Zipkin, status: int, tries: int
) -> None:
    server.status = status
    bridge = Bridge(server.address, again_s=0.01)
    bridge.start()
    bridge.offer(export_of(span_of(1)))
    eventually(lambda: bridge.counts() == {"sent": 0, "dropped": 1})
    assert [1] * tries == server.ids()
    server.status = 202
    bridge.offer(export_of(span_of(2)))
    eventually(lambda: bridge.counts() == {"sent": 1, "dropped": 1})
    bridge.stop()


def test_an_export_that_json_makes_long_goes_in_several_bodies(server: Zipkin) -> None:
    bridge = Bridge(server.address)
    # One byte of OTLP that is six of JSON.
    long = [span_of(number + 1, attributes=said(text="\x01" * 300_000)) for number in range(4)]
    bridge.offer(export_of(*long, span_of(9, attributes=said(text="\x01" * 1_000_000)), span_of(10)))
    bridge.start()
    eventually(lambda: bridge.counts() == {"sent": 5, "dropped": 1})
    bridge.stop()

    assert [[1, 2], [3, 4, 10]] == [[int(span["id"], 16) for span in spans] for _, _, spans in server.posts]


def test_what_zipkin_never_took_is_counted_at_the_end() -> None:
    bridge = Bridge(Address("127.0.0.1", free_port()))
    bridge.start()
    bridge.offer(export_of(span_of(1), span_of(2)))
    bridge.stop()

    eventually(lambda: bridge.counts() == {"sent": 0, "dropped": 2})


def test_what_waits_at_the_end_is_sent_before_it(server: Zipkin) -> None:
    bridge = Bridge(server.address)
    bridge.offer(export_of(span_of(1), span_of(2)))
    bridge.start()
    bridge.stop()

    eventually(lambda: bridge.counts() == {"sent": 2, "dropped": 0})


def test_many_exports_go_in_bodies_that_zipkin_can_hold(server: Zipkin) -> None:
    bridge = Bridge(server.address)
    text = "x" * 300_000
    for number in range(6):
        bridge.offer(export_of(span_of(number + 1, attributes=said(text=text))))
    bridge.start()
    eventually(lambda: bridge.counts() == {"sent": 6, "dropped": 0})
    bridge.stop()

    assert [[1, 2, 3], [4, 5, 6]] == [[int(span["id"], 16) for span in spans] for _, _, spans in server.posts]


def test_the_trace_sink_keeps_spans_and_takes_them_on(server: Zipkin, tmp_path: Path) -> None:
    settings = Settings(LOOPBACK, LOOPBACK, tmp_path / "spans.sqlite", "info", zipkin=server.address)
    sink = TraceSink(settings)
    sink.start()
    try:
        send(sink, export_of(span_of(1), span_of(2, 1)))

        (summary,) = listed(sink, spans=2)
        eventually(lambda: server.ids() == [1, 2])
        told = {"status": "serving", "zipkin": {"sent": 2, "dropped": 0}}
        eventually(lambda: json.loads(get(sink, "/healthz")[1]) == told)
        assert TRACE == summary["trace_id"]
    finally:
        sink.stop()


def test_the_trace_sink_works_as_ever_while_zipkin_is_away(tmp_path: Path) -> None:
    settings = Settings(LOOPBACK, LOOPBACK, tmp_path / "spans.sqlite", "info", zipkin=Address("127.0.0.1", free_port()))
    sink = TraceSink(settings)
    sink.start()
    try:
        send(sink, export_of(span_of(1)))

        assert [TRACE] == [trace["trace_id"] for trace in listed(sink, spans=1)]
        assert {"status": "serving", "zipkin": {"sent": 0, "dropped": 0}} == json.loads(get(sink, "/healthz")[1])
    finally:
        sink.stop()


def test_a_request_of_the_wire_is_converted_as_it_was_meant() -> None:
    request = export_of(span_of(1, attributes=said(a="x")))

    assert zipkin.spans(request) == zipkin.spans(ExportTraceServiceRequest.FromString(request.SerializeToString()))
