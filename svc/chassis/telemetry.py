"""Traces and logs of a process: set up once by `lifecycle`, used by everything that does work.

Spans go to a bounded queue that one background thread exports by OTLP/gRPC; a full queue or a dead collector
loses spans and never delays a call. Sampling is decided where a trace begins and obeyed by everyone below,
so a trace is kept whole or not at all. Spans and logs carry names, ids and codes, never request contents:
a span records an exception by its type, because its text may hold what a caller sent. Should a message get into a
log all the same, `redaction.clean` takes out of it what its contract marks sensitive.
"""

import logging
import re
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Final

import structlog
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import (
    NonRecordingSpan,
    NoOpTracerProvider,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    Tracer,
)
from opentelemetry.util.types import AttributeValue
from structlog.tracebacks import ExceptionDictTransformer

from svc.chassis import metrics
from svc.chassis.config import Process, Settings
from weft_protos import redaction

# Spans waiting for export: about 10 MB at the most. More are dropped.
QUEUE_SPANS: Final = 8192
BATCH_SPANS: Final = 512
EXPORT_EVERY_MS: Final = 1000
# A collector that takes longer is as good as none.
EXPORT_TIMEOUT_S: Final = 2
# The last spans at the end of a process may take this long; the supervisor waits longer before it kills.
FLUSH_MS: Final = 2000

#: The attribute that names the lane of a call, or of the call that caused an event.
LANE: Final = "weft.lane"
#: The attribute that says which part of the mesh made the hop, as its certificate says.
PEER: Final = "weft.peer"

_log: Final = structlog.get_logger(__name__)

_TRACEPARENT: Final = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")


class _Stderr:
    """Writes finished lines to stderr. A full disk or a closed pipe loses the line, never the call that logs it."""

    def msg(self, line: str) -> None:
        try:
            sys.stderr.write(line + "\n")
            sys.stderr.flush()
        except (OSError, ValueError):
            metrics.UNEXPECTED_ERRORS.labels(place="log").inc()

    debug = info = warning = error = critical = exception = msg


class _Records(logging.Handler):
    """Takes the libraries' log records the same way."""

    def emit(self, record: logging.LogRecord) -> None:
        _Stderr().msg(self.format(record))


class _Current:
    """The tracer of this process. Before `setup` and after `shutdown` it makes no spans."""

    tracer: Tracer = NoOpTracerProvider().get_tracer("weft")


class Telemetry:
    """What `setup` started."""

    def __init__(self, provider: TracerProvider) -> None:
        """Belongs to `setup`."""
        self._provider = provider

    def shutdown(self) -> None:
        """Export what is left, for FLUSH_MS at the most, and stop."""
        _Current.tracer = NoOpTracerProvider().get_tracer("weft")
        self._provider.shutdown()


class _BoundedFlush(BatchSpanProcessor):
    """The library waits 30 s for a dead collector at the end of a process; ours waits FLUSH_MS."""

    def shutdown(self) -> None:
        self._batch_processor.shutdown(timeout_millis=FLUSH_MS)


def setup(settings: Settings, *, service: str, exporter: SpanExporter | None = None) -> Telemetry:
    """Start traces and logs. `exporter` takes the place of the OTLP exporter, for tests."""
    configure_logging(settings.process, service=service)
    provider = TracerProvider(
        resource=Resource.create(
            {
                "service.namespace": "weft",
                "service.name": service,
                "service.instance.id": settings.process.instance,
            }
        ),
        sampler=ParentBased(TraceIdRatioBased(settings.telemetry.trace_ratio)),
        shutdown_on_exit=False,
    )
    endpoint = settings.telemetry.otlp_endpoint
    if exporter is None and endpoint:
        exporter = OTLPSpanExporter(
            endpoint=endpoint, insecure=endpoint.startswith("http://"), timeout=EXPORT_TIMEOUT_S
        )
    if exporter is not None:
        provider.add_span_processor(
            _BoundedFlush(
                exporter,
                max_queue_size=QUEUE_SPANS,
                schedule_delay_millis=EXPORT_EVERY_MS,
                max_export_batch_size=BATCH_SPANS,
            )
        )
    _Current.tracer = provider.get_tracer("weft")
    return Telemetry(provider)


def tracer() -> Tracer:
    """The tracer of this process."""
    return _Current.tracer


@contextmanager
def span(
    name: str,
    kind: SpanKind = SpanKind.INTERNAL,
    *,
    attributes: Mapping[str, AttributeValue] | None = None,
    parent: str = "",
) -> Iterator[Span]:
    """Do the block as one span. `parent`: a traceparent from a message; else the current span is the parent.

    An exception marks the span as failed and goes on.
    """
    context = context_of(parent) if parent else None
    current = _Current.tracer.start_span(name, context, kind, attributes)
    with trace.use_span(current, end_on_exit=True, record_exception=False, set_status_on_exception=False):
        try:
            yield current
        except Exception as error:
            fail(current, type(error).__name__)
            raise


def fail(failed: Span, error_type: str) -> None:
    """Mark a span as failed."""
    failed.set_attribute("error.type", error_type)
    failed.set_status(Status(StatusCode.ERROR, error_type))


def parse_traceparent(traceparent: str) -> SpanContext | None:
    """The span a W3C traceparent (version 00) names; None where it is malformed."""
    match = _TRACEPARENT.fullmatch(traceparent)
    if match is None:
        return None
    context = SpanContext(
        trace_id=int(match[1], 16),
        span_id=int(match[2], 16),
        is_remote=True,
        trace_flags=TraceFlags(int(match[3], 16) & TraceFlags.SAMPLED),
    )
    return context if context.is_valid else None


def context_of(traceparent: str) -> Context:
    """A context whose current span is the one that a traceparent names; an empty one where it is malformed."""
    parent = parse_traceparent(traceparent)
    return Context() if parent is None else trace.set_span_in_context(NonRecordingSpan(parent), Context())


def current_traceparent() -> str:
    """W3C traceparent of the current span; empty outside of any."""
    return traceparent_of(trace.get_current_span())


def traceparent_of(span: trace.Span) -> str:
    """W3C traceparent of a span; empty where it belongs to no trace."""
    context = span.get_span_context()
    if not context.is_valid:
        return ""
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def current_trace_id() -> str:
    """Id of the current trace as 32 hexadecimal digits; empty outside of any."""
    context = trace.get_current_span().get_span_context()
    return f"{context.trace_id:032x}" if context.is_valid else ""


def _add_trace(_logger: Any, _method: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        event["trace_id"] = f"{context.trace_id:032x}"
        event["span_id"] = f"{context.span_id:016x}"
    return event


# Without local variables: they hold passwords and tokens.
_WITHOUT_LOCALS: Final = ExceptionDictTransformer(show_locals=False)


def _stacks(exc_info: Any) -> list[dict[str, Any]]:
    """The stacks of an exception and its causes, each with the first line of its text.

    What a database adds in the lines below is the statement and the row that it refused, with every value.
    """
    stacks = _WITHOUT_LOCALS(exc_info)
    for stack in stacks:
        stack["exc_value"] = stack["exc_value"].partition("\n")[0]
    return stacks


#: How every record of every process ends: fit to be written.
_RENDERED: Final[tuple[structlog.types.Processor, ...]] = (
    structlog.processors.ExceptionRenderer(_stacks),
    redaction.clean,
    structlog.processors.JSONRenderer(),
)


def log_for_commands() -> None:
    """Write the log of a short-lived command to stderr. What the library does by itself shows local variables."""
    structlog.configure(processors=[structlog.stdlib.add_log_level, *_RENDERED], logger_factory=lambda *_: _Stderr())


def log_uncaught() -> None:
    """Log exceptions that nobody caught as all others are; Python prints their whole text. For `__main__` alone."""

    def uncaught(kind: type[BaseException], error: BaseException, stack: TracebackType | None) -> None:
        _log.critical("uncaught", exc_info=(kind, error, stack))

    def uncaught_in_thread(arguments: threading.ExceptHookArgs) -> None:
        if arguments.exc_value is not None and arguments.exc_type is not SystemExit:
            name = arguments.thread.name if arguments.thread is not None else ""
            found = (arguments.exc_type, arguments.exc_value, arguments.exc_traceback)
            _log.critical("uncaught", thread=name, exc_info=found)

    sys.excepthook = uncaught
    threading.excepthook = uncaught_in_thread


def configure_logging(process: Process, *, service: str) -> None:
    """Write every log record of the process, the libraries' too, as one JSON line to stderr."""

    def add_process(_logger: Any, _method: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
        event.setdefault("service", service)
        event.setdefault("instance", process.instance)
        return event

    common: list[structlog.types.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _add_trace,
        add_process,
    ]
    level = logging.getLevelNamesMapping()[process.log_level.upper()]
    structlog.configure(
        processors=[*common, *_RENDERED],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: _Stderr(),
    )
    handler = _Records()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*common, structlog.stdlib.add_logger_name],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *_RENDERED,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    # Libraries speak from warnings upwards; their debug output would show statements and contents.
    root.setLevel(max(level, logging.WARNING))
