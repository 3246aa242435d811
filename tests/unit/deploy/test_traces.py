"""The trace sink as a whole, on ports of its own."""

import json
import math
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import TraceServiceStub
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from deploy.observability.config import Address, ConfigError, Settings
from deploy.observability.markup import element
from deploy.observability.span_store import Retention, Search, SpanReader, SpanWriter
from deploy.observability.span_tree import StoredSpan, arrivals, tree
from deploy.observability.traces import TraceSink, Writer

LOOPBACK = Address("127.0.0.1", 0)
TRACE = "0af7651916cd43dd8448eb211c80319c"
SECOND = 1_000_000_000
START = 1_700_000_000 * SECOND


def span_of(span_id: int, parent: int = 0, *, trace: str = TRACE, at_ms: int = 0, **fields: Any) -> Span:
    start = START + at_ms * 1_000_000
    return Span(
        trace_id=bytes.fromhex(trace),
        span_id=span_id.to_bytes(8, "big"),
        parent_span_id=parent.to_bytes(8, "big") if parent else b"",
        start_time_unix_nano=start,
        end_time_unix_nano=start + 10_000_000,
        **{"name": f"span {span_id}", **fields},
    )


def export_of(*spans: Span, service: str = "orders") -> ExportTraceServiceRequest:
    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    resource.resource.attributes.append(KeyValue(key="service.name", value=AnyValue(string_value=service)))
    resource.scope_spans.add().spans.extend(spans)
    return request


@pytest.fixture
def sink(tmp_path: Path) -> Iterator[TraceSink]:
    running = TraceSink(Settings(intake=LOOPBACK, http=LOOPBACK, store=tmp_path / "a #store?.sqlite", log_level="info"))
    running.start()
    yield running
    running.stop()


def send(sink: TraceSink, *requests: ExportTraceServiceRequest) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{sink.otlp_port}") as channel:
        for request in requests:
            TraceServiceStub(channel).Export(request, timeout=5, wait_for_ready=True)  # type: ignore[no-untyped-call]


def get(sink: TraceSink, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{sink.site.port}{path}", timeout=5) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def listed(sink: TraceSink, query: str = "", *, spans: int) -> list[dict[str, Any]]:
    """The list once that many spans are in it."""
    deadline = time.monotonic() + 5
    while True:
        traces: list[dict[str, Any]] = json.loads(get(sink, "/api/traces")[1])["traces"]
        if sum(trace["spans"] for trace in traces) == spans:
            return list(json.loads(get(sink, f"/api/traces{query}")[1])["traces"])
        assert time.monotonic() < deadline, traces
        threading.Event().wait(0.01)


def test_a_trace_of_several_services_is_shown_as_one_tree(sink: TraceSink) -> None:
    failed = span_of(4, 3, at_ms=3, status=Status(code=Status.STATUS_CODE_ERROR, message="40001"))
    send(sink, export_of(span_of(3, 2, at_ms=2), failed, service="catalog"))
    send(sink, export_of(span_of(2, 1, at_ms=1), span_of(5, 1, at_ms=9), service="orders"))
    send(sink, export_of(span_of(1, name="ingress"), service="gateway"))

    (summary,) = listed(sink, spans=5)
    status, body = get(sink, f"/api/traces/{TRACE.upper()}")

    assert (TRACE, "gateway", "ingress", 5, 1, 19.0) == tuple(
        summary[name] for name in ("trace_id", "service", "name", "spans", "errors", "duration_ms")
    )
    trace = json.loads(body)
    (root,) = trace["spans"]
    assert (200, ["catalog", "gateway", "orders"]) == (status, trace["services"])
    assert ["span 2", "span 5"] == [child["name"] for child in root["children"]]
    deepest = root["children"][0]["children"][0]["children"][0]
    assert ({"code": "error", "message": "40001"}, "catalog", 3.0) == (
        deepest["status"],
        deepest["service"],
        deepest["offset_ms"],
    )


def test_lists_narrow_by_service_error_and_number(sink: TraceSink) -> None:
    for number in range(5):
        trace = f"{number + 1:032x}"
        code = Status.STATUS_CODE_ERROR if number == 2 else Status.STATUS_CODE_UNSET
        spans = span_of(1, trace=trace, at_ms=number * 1000, status=Status(code=code))
        send(sink, export_of(spans, service="orders" if number % 2 else "catalog"))

    assert [5, 4, 3, 2, 1] == [int(trace["trace_id"], 16) for trace in listed(sink, spans=5)]
    assert [4, 2] == [int(trace["trace_id"], 16) for trace in listed(sink, "?service=orders", spans=5)]
    assert [3] == [int(trace["trace_id"], 16) for trace in listed(sink, "?error=true", spans=5)]
    assert [5, 4] == [int(trace["trace_id"], 16) for trace in listed(sink, "?limit=2", spans=5)]
    services = json.loads(get(sink, "/api/services")[1])["services"]
    assert [{"service": "catalog", "traces": 3}, {"service": "orders", "traces": 2}] == services


def test_lists_narrow_by_name_duration_and_time_and_go_on_where_they_ended(sink: TraceSink) -> None:
    for number in range(5):
        spans = span_of(
            1, trace=f"{number + 1:032x}", at_ms=number * 1000, name="PlaceOrder" if number % 2 else "GetOrder"
        )
        spans.end_time_unix_nano += number * 100_000_000
        send(sink, export_of(spans))
    listed(sink, spans=5)

    def ids(query: str) -> list[int]:
        return [int(trace["trace_id"], 16) for trace in json.loads(get(sink, f"/api/traces?{query}")[1])["traces"]]

    assert [4, 2] == ids("name=placeorder")
    assert [5, 4] == ids("min_ms=250")
    assert [3, 2] == ids(f"since={START + SECOND}&until={START + 3 * SECOND}")
    first = json.loads(get(sink, "/api/traces?limit=2")[1])
    assert [3, 2] == ids(f"limit=2&before={first['next']}")
    assert "" == json.loads(get(sink, "/api/traces?limit=10")[1])["next"]
    assert [] == ids("name='%20OR%201=1%20--")
    for wrong in ("before=x", "before=99999999999999999999-a", "since=-1", "min_ms=soon"):
        assert 400 == get(sink, f"/api/traces?{wrong}")[0]


def test_logs_of_a_trace_are_there_where_somebody_has_said_where_logs_lie(sink: TraceSink, tmp_path: Path) -> None:
    assert 404 == get(sink, f"/api/traces/{TRACE}/logs")[0]
    (tmp_path / "orders-1.log").write_text(json.dumps({"event": "late", "trace_id": TRACE}) + "\n")
    settings = Settings(LOOPBACK, LOOPBACK, tmp_path / "b.sqlite", "info", logs=tmp_path)
    told = TraceSink(settings)
    told.start()
    try:
        status, body = get(told, f"/api/traces/{TRACE}/logs?limit=5")
    finally:
        told.stop()

    assert (200, ["late"], False) == (
        status,
        [each["message"] for each in json.loads(body)["entries"]],
        json.loads(body)["truncated"],
    )


def test_a_span_exported_twice_counts_once(sink: TraceSink) -> None:
    send(sink, export_of(span_of(1)), export_of(span_of(1)), export_of(span_of(2, 1)))

    (summary,) = listed(sink, spans=2)

    assert 2 == summary["spans"]


def test_spans_without_a_valid_id_are_left_out(sink: TraceSink) -> None:
    bad = [Span(trace_id=b"short", span_id=b"12345678"), Span(trace_id=bytes(16), span_id=b"")]

    send(sink, export_of(*bad, span_of(1)))

    assert 1 == listed(sink, spans=1)[0]["spans"]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/traces?limit=0", 400),
        ("/api/traces?limit=x", 400),
        ("/api/traces?limit=1001", 400),
        ("/api/traces?error=perhaps", 400),
        (f"/api/traces/{TRACE}", 404),
        ("/api/traces/short", 404),
        (f"/traces/{TRACE}", 404),
        ("/../etc/passwd", 404),
        ("/healthz", 200),
        ("/", 200),
    ],
)
def test_each_question_has_its_status(sink: TraceSink, path: str, status: int) -> None:
    assert status == get(sink, path)[0]


def test_pages_show_what_spans_say_as_text(sink: TraceSink) -> None:
    hostile = '<script>alert("1")</script>'
    attribute = KeyValue(key=hostile, value=AnyValue(string_value=hostile))
    status = Status(code=Status.STATUS_CODE_ERROR, message=hostile)
    send(sink, export_of(span_of(1, name=hostile, attributes=[attribute], status=status), service=hostile))
    listed(sink, spans=1)

    for path in ("/", f"/traces/{TRACE}"):
        page = get(sink, path)[1]
        assert "<script" not in page
        assert "&lt;script&gt;" in page


def test_what_was_accepted_is_there_after_a_stop(tmp_path: Path) -> None:
    settings = Settings(intake=LOOPBACK, http=LOOPBACK, store=tmp_path / "spans.sqlite", log_level="info")
    first = TraceSink(settings)
    first.start()
    send(first, *(export_of(span_of(number + 1)) for number in range(50)))
    first.stop()

    second = TraceSink(settings)
    second.start()
    assert 50 == listed(second, spans=50)[0]["spans"]
    second.stop()


def test_a_full_queue_refuses_and_keeps_what_it_has(tmp_path: Path) -> None:
    store = SpanWriter(tmp_path / "spans.sqlite")
    writer = Writer(store, retention=Retention(), capacity=2)

    taken = [writer.offer(export_of(span_of(number + 1))) for number in range(3)]

    assert [True, True, False] == taken
    writer.start()
    writer.stop()
    store.close()
    assert 2 == len(SpanReader(tmp_path / "spans.sqlite").spans(TRACE))


def filled(path: Path, traces: int, *, body_bytes: int = 100) -> SpanWriter:
    store = SpanWriter(path)
    for number in range(traces):
        filler = KeyValue(key="filler", value=AnyValue(bytes_value=b"x" * body_bytes))
        store.add(arrivals(export_of(span_of(1, trace=f"{number + 1:032x}", at_ms=number, attributes=[filler]))))
    return store


def test_old_traces_go(tmp_path: Path) -> None:
    store = filled(tmp_path / "spans.sqlite", 3)

    assert 0 == store.prune(Retention(age_s=60))
    assert 3 == store.prune(Retention(age_s=0))

    reader = SpanReader(tmp_path / "spans.sqlite")
    assert ([], []) == (reader.latest(Search(), limit=9), reader.services())
    store.close()


def test_a_store_that_grows_too_large_shrinks_from_its_oldest_end(tmp_path: Path) -> None:
    store = filled(tmp_path / "spans.sqlite", 600, body_bytes=2000)

    assert 0 < store.prune(Retention(size_bytes=700_000)) < 600

    newest = SpanReader(tmp_path / "spans.sqlite").latest(Search(), limit=1)
    assert 600 == int(newest[0]["trace_id"], 16)
    store.close()


def rows(*spans: Span) -> list[StoredSpan]:
    return [arrival.span for arrival in arrivals(export_of(*spans))]


def test_a_span_whose_parent_is_missing_is_a_root() -> None:
    assert ["span 7", "span 8"] == [node["name"] for node in tree(TRACE, rows(span_of(7, 99), span_of(8, 98)))["spans"]]


def test_a_circle_of_parents_is_shown_once_and_ends() -> None:
    nodes = tree(TRACE, rows(span_of(1, 2), span_of(2, 1, at_ms=1), span_of(3, 3, at_ms=2)))["spans"]

    assert ["span 1", "span 3"] == [node["name"] for node in nodes]
    assert ["span 2"] == [node["name"] for node in nodes[0]["children"]]
    assert [] == nodes[0]["children"][0]["children"]


def test_a_chain_of_any_length_stays_readable() -> None:
    spans = [span_of(number + 1, number, at_ms=number) for number in range(3000)]

    trace = tree(TRACE, rows(*spans))

    assert 3000 == trace["span_count"]
    assert 3000 == json.dumps(trace).count('"span_id"')


def test_absurd_times_are_kept_and_shown(tmp_path: Path) -> None:
    late = span_of(1)
    late.start_time_unix_nano = late.end_time_unix_nano = 2**64 - 1
    backwards = span_of(2)
    backwards.end_time_unix_nano = 0

    store = SpanWriter(tmp_path / "spans.sqlite")
    store.add(arrivals(export_of(late, backwards)))
    store.close()

    assert 2 == SpanReader(tmp_path / "spans.sqlite").latest(Search(), limit=1)[0]["spans"]
    assert 0 <= tree(TRACE, rows(late, backwards))["duration_ms"]


def test_attributes_of_every_type_are_json() -> None:
    values = {
        "text": AnyValue(string_value="t"),
        "yes": AnyValue(bool_value=True),
        "number": AnyValue(int_value=7),
        "nan": AnyValue(double_value=math.nan),
        "bytes": AnyValue(bytes_value=b"\xff"),
        "list": AnyValue(array_value=ArrayValue(values=[AnyValue(int_value=1)])),
        "none": AnyValue(),
    }
    span = span_of(1, attributes=[KeyValue(key=key, value=value) for key, value in values.items()])

    shown = tree(TRACE, rows(span))["spans"][0]["attributes"]

    expected = {"text": "t", "yes": True, "number": 7, "nan": "nan", "bytes": "ff", "list": [1], "none": None}
    assert expected == shown
    json.dumps(shown, allow_nan=False)


def test_markup_escapes_children_and_attributes() -> None:
    assert '<a href="&quot;&gt;">&lt;b&gt;<i>x</i></a>' == element("a", "<b>", element("i", "x"), href='">')


@pytest.mark.parametrize("text", ["", "127.0.0.1", "127.0.0.1:", ":80", "h:99999", "h:x"])
def test_a_wrong_address_is_named(text: str) -> None:
    with pytest.raises(ConfigError, match="WEFT_LISTEN_HTTP"):
        Address.parse("WEFT_LISTEN_HTTP", text)
