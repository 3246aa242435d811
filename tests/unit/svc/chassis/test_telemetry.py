"""Traces and logs: one format, ids on every line, and no harm from whoever does not take them."""

import json
import logging
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import structlog
from opentelemetry import trace
from opentelemetry.trace import SpanKind, StatusCode
from prometheus_client import REGISTRY

from svc.chassis import telemetry
from svc.chassis.config import Settings
from tests.unit.svc.chassis.conftest import Spans
from weft.identity.v1 import identity_pb2
from weft_protos import redaction

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_before_setup_nothing_is_traced() -> None:
    with telemetry.span("early") as span:
        assert not span.is_recording()

    assert "" == telemetry.current_traceparent()


def test_a_span_has_kind_attributes_and_the_process(spans: Spans) -> None:
    with telemetry.span("work", SpanKind.PRODUCER, attributes={"queue": "weft.audit"}):
        pass

    span = spans.one("work")
    assert (SpanKind.PRODUCER, {"queue": "weft.audit"}) == (span.kind, dict(span.attributes or {}))
    resource = span.resource.attributes
    assert ("orders", "orders-1") == (resource["service.name"], resource["service.instance.id"])


def test_a_traceparent_goes_out_and_comes_back_as_parent(spans: Spans) -> None:
    with telemetry.span("first"):
        traceparent = telemetry.current_traceparent()
    with telemetry.span("second", SpanKind.CONSUMER, parent=traceparent):
        pass

    first, second = spans.one("first"), spans.one("second")
    assert first.context is not None
    assert second.parent is not None
    assert first.context.span_id == second.parent.span_id
    assert f"00-{first.context.trace_id:032x}-{first.context.span_id:016x}" == traceparent[:-3]
    assert telemetry.parse_traceparent(traceparent) is not None


def test_a_malformed_parent_begins_a_new_trace_instead_of_joining_the_present_one(spans: Spans) -> None:
    with telemetry.span("outer"), telemetry.span("inner", parent="nonsense"):
        pass

    assert spans.one("inner").parent is None


def test_an_exception_marks_the_span_by_its_type_only(spans: Spans) -> None:
    with pytest.raises(ValueError, match="hunter2"), telemetry.span("work"):
        raise ValueError("password=hunter2")

    span = spans.one("work")
    assert (StatusCode.ERROR, "ValueError") == (span.status.status_code, span.status.description)
    assert "hunter2" not in span.to_json()


def test_a_ratio_of_zero_keeps_only_what_a_caller_keeps(environ: pytest.MonkeyPatch, settings: Settings) -> None:
    environ.setenv("WEFT_TRACE_RATIO", "0")
    running = telemetry.setup(Settings.read(), service="orders")
    try:
        with telemetry.span("own") as own, telemetry.span("below own") as below:
            assert (False, False) == (own.is_recording(), below.is_recording())
            assert own.get_span_context().trace_id == below.get_span_context().trace_id
        with telemetry.span("sampled above", parent=PARENT) as kept:
            assert kept.is_recording()
    finally:
        running.shutdown()
        structlog.reset_defaults()


def test_logs_are_json_lines_with_the_ids_of_the_call(spans: Spans, capsys: pytest.CaptureFixture[str]) -> None:
    with telemetry.span("work") as span:
        structlog.get_logger().info("stock_taken", product="a")
        context = span.get_span_context()

    (line,) = lines(capsys)
    expected = {
        "event": "stock_taken",
        "level": "info",
        "product": "a",
        "service": "orders",
        "instance": "orders-1",
        "trace_id": f"{context.trace_id:032x}",
        "span_id": f"{context.span_id:016x}",
    }
    assert expected == {name: value for name, value in line.items() if name != "timestamp"}


def test_the_stack_in_a_log_shows_no_local_variables(spans: Spans, capsys: pytest.CaptureFixture[str]) -> None:
    secret = "hunter2"
    try:
        raise ValueError(f"{len(secret)} characters")
    except ValueError:
        structlog.get_logger().exception("failed")

    output = capsys.readouterr().err
    assert "ValueError" in output
    assert secret not in output


@pytest.mark.parametrize("logger", [structlog.get_logger, logging.getLogger])
def test_the_text_of_an_exception_in_a_log_ends_before_the_row_that_the_database_refused(
    spans: Spans, capsys: pytest.CaptureFixture[str], logger: Callable[[], Any]
) -> None:
    try:
        try:
            raise ValueError('violates check constraint "users_named"\nDETAIL:  Failing row contains (ada, hunter2).')
        except ValueError as error:
            raise RuntimeError("not stored\n[parameters: hunter2]") from error
    except RuntimeError:
        logger().exception("failed")

    output = capsys.readouterr().err
    assert "users_named" in output
    assert "not stored" in output
    assert "hunter2" not in output


def test_libraries_log_in_the_same_form_from_warnings_up(capsys: pytest.CaptureFixture[str], spans: Spans) -> None:
    logging.getLogger("library").info("chatter")
    logging.getLogger("library").warning("pool is %s", "full")

    (line,) = lines(capsys)
    assert ("pool is full", "warning", "library", "orders-1") == (
        line["event"],
        line["level"],
        line["logger"],
        line["instance"],
    )


def test_a_log_that_cannot_be_written_costs_the_line_and_nothing_else(
    spans: Spans, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full:
        def write(self, _text: str) -> int:
            raise OSError(28, "No space left on device")

        def flush(self) -> None:
            return None

    before = REGISTRY.get_sample_value("weft_unexpected_errors_total", {"place": "log"}) or 0.0
    monkeypatch.setattr(sys, "stderr", Full())

    structlog.get_logger().error("lost")

    assert before + 1 == REGISTRY.get_sample_value("weft_unexpected_errors_total", {"place": "log"})


def test_a_collector_that_never_answers_delays_nothing(environ: pytest.MonkeyPatch, settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        environ.setenv("WEFT_OTLP_ENDPOINT", f"http://127.0.0.1:{deaf.getsockname()[1]}")
        running = telemetry.setup(Settings.read(), service="orders")
        began = time.monotonic()
        for _ in range(telemetry.QUEUE_SPANS + 1000):
            with telemetry.span("work"):
                pass
        worked_s = time.monotonic() - began
        running.shutdown()
        ended_s = time.monotonic() - began - worked_s
    structlog.reset_defaults()

    assert worked_s < 10
    assert ended_s < 2 * telemetry.FLUSH_MS / 1000 + 1
    assert trace.get_current_span().get_span_context().trace_id == 0
    assert threading.active_count() < 50


REQUEST = identity_pb2.CreateUserRequest(user_id="ada", email="ada@example.org", password="correct horse battery")


def test_a_message_in_a_log_shows_nothing_that_its_contract_hides(
    spans: Spans, capsys: pytest.CaptureFixture[str]
) -> None:
    structlog.get_logger().info("asked", request=REQUEST, password="correct horse battery")

    (line,) = lines(capsys)
    hidden = {"user_id": "ada", "email": "[redacted]", "password": "[redacted]"}
    assert (hidden, "[redacted]") == (line["request"], line["password"])


@pytest.mark.parametrize("text", ["cannot hash {!r}", "{}"])
def test_the_text_of_an_exception_is_rid_of_what_the_request_holds(
    spans: Spans, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    try:
        raise ValueError(text.format(REQUEST.password))
    except ValueError:
        structlog.get_logger().exception("failed", without=redaction.values(REQUEST))

    written = capsys.readouterr().err
    assert "ValueError" in written
    assert REQUEST.password not in written
    assert "without" not in written


@pytest.mark.parametrize("thread", [False, True], ids=["main", "thread"])
@pytest.mark.parametrize("setting", ["log_for_commands()", "configure_logging(process, service='orders')"])
def test_what_nobody_caught_is_logged_without_locals_and_without_details(setting: str, thread: bool) -> None:
    raising = "threading.Thread(target=fail).start()" if thread else "fail()"
    program = f"""
import threading
from svc.chassis import telemetry
from svc.chassis.config import Address, Process
process = Process(instance="orders-1", listen=Address("127.0.0.1", 1), metrics_port=0)
telemetry.{setting}
telemetry.log_uncaught()
def fail():
    secret = "".join(["hun", "ter2"])
    raise ValueError("not stored" + chr(10) + "DETAIL: " + secret)
{raising}
"""

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)

    (line,) = [json.loads(line) for line in done.stderr.splitlines()]
    assert ("uncaught", "critical") == (line["event"], line["level"])
    assert "not stored" in done.stderr
    assert "hunter2" not in done.stderr + done.stdout
