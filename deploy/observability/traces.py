"""The trace sink: takes OTLP over gRPC, keeps spans in SQLite, answers over HTTP.

    GET /api/traces?service=&name=&error=true&min_ms=&since=&until=&before=&limit=
                                                 summaries, the newest first; `next` goes into `before`
    GET /api/traces/<trace id>                   the spans as a tree
    GET /api/traces/<trace id>/logs?span=&limit= what the mesh's processes logged for it (WEFT_LOGS)
    GET /api/services                            names that spans came under
    GET /, /traces/<trace id>                    the same for people        GET /healthz

Run as `python -m deploy.observability.traces` with WEFT_LISTEN_OTLP, WEFT_LISTEN_HTTP and WEFT_STORE. What senders
see: an export is accepted once it is in the bounded queue, and refused with RESOURCE_EXHAUSTED while that is full;
memory is bounded, telemetry is what gives way. What was accepted is written before the process ends. With WEFT_ZIPKIN
a Zipkin there gets it as well (`zipkin_bridge.py`), and `/healthz` says how many spans it has had.
"""

import queue
import sqlite3
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import grpc
import structlog
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from deploy.observability import trace_pages
from deploy.observability.config import Settings
from deploy.observability.process import run
from deploy.observability.span_logs import LINES_MAX, lines
from deploy.observability.span_store import Retention, Search, SpanReader, SpanWriter
from deploy.observability.span_tree import arrivals, tree
from deploy.observability.web import Query, QueryError, Response, Site, as_html, as_json, not_found
from deploy.observability.zipkin_bridge import Bridge

_log: Final = structlog.get_logger(__name__)

_SERVICE: Final = "opentelemetry.proto.collector.trace.v1.TraceService"
# Exports that wait for the writer; an exporter sends up to 512 spans in one.
QUEUE_EXPORTS: Final = 256
_EXPORT_BYTES_MAX: Final = 4 * 1024 * 1024
# Exports written in one transaction.
_BATCH: Final = 100
_PRUNE_EVERY_S: Final = 30.0
_GRACE_S: Final = 2.0
_DRAIN_S: Final = 5.0
_LIMIT_DEFAULT: Final = 50
_LIMIT_MAX: Final = 1000
_LINES_DEFAULT: Final = 200
_NANOS_PER_MS: Final = 1_000_000
_NANOS_PER_S: Final = 1_000_000_000
_MS_MAX: Final = 2**31 - 1
#: What SQLite can compare.
_NANOS_MAX: Final = 2**63 - 1


class Writer:
    """The bounded queue and the one thread that empties it into the store."""

    def __init__(self, store: SpanWriter, *, retention: Retention, capacity: int = QUEUE_EXPORTS) -> None:
        """Starts nothing yet."""
        self._store = store
        self._retention = retention
        self._queue: queue.Queue[ExportTraceServiceRequest | None] = queue.Queue(capacity)
        self._thread = threading.Thread(target=self._work, name="writer", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def offer(self, request: ExportTraceServiceRequest) -> bool:
        """Take an export for writing; False where the queue is full."""
        try:
            self._queue.put_nowait(request)
        except queue.Full:
            return False
        return True

    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """Write what is waiting, and end."""
        self._queue.put(None)
        self._thread.join(_DRAIN_S)

    def _work(self) -> None:
        prune_at = time.monotonic()
        while True:
            batch = self._batch()
            running = None not in batch
            try:
                self._write(batch)
                if time.monotonic() >= prune_at:
                    prune_at = time.monotonic() + _PRUNE_EVERY_S
                    self._store.prune(self._retention)
            except sqlite3.Error as error:
                # A full disk loses these spans and no others: the next batch tries again.
                _log.error("spans_lost", error=str(error))
            if not running:
                return

    def _batch(self) -> list[ExportTraceServiceRequest | None]:
        """What is there; nothing where nothing comes before pruning is due. None at the end asks to stop."""
        batch: list[ExportTraceServiceRequest | None] = []
        try:
            batch.append(self._queue.get(timeout=_PRUNE_EVERY_S))
            while len(batch) < _BATCH and batch[-1] is not None:
                batch.append(self._queue.get_nowait())
        except queue.Empty:
            pass  # all of it is here
        return batch

    def _write(self, batch: list[ExportTraceServiceRequest | None]) -> None:
        found = [arrival for request in batch if request is not None for arrival in arrivals(request)]
        if found:
            self._store.add(found)


def _receiver(writer: Writer, bridge: Bridge | None) -> grpc.GenericRpcHandler:
    """OTLP's TraceService: accepts an export, or refuses it while the writer is behind."""

    def export(request: ExportTraceServiceRequest, context: grpc.ServicerContext) -> ExportTraceServiceResponse:
        if not writer.offer(request):
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "the trace store is behind")
        if bridge is not None:
            bridge.offer(request)
        return ExportTraceServiceResponse()

    method = grpc.unary_unary_rpc_method_handler(
        export,
        request_deserializer=ExportTraceServiceRequest.FromString,
        response_serializer=ExportTraceServiceResponse.SerializeToString,
    )
    return grpc.method_handlers_generic_handler(_SERVICE, {"Export": method})


class TraceSink:
    """Receiver, writer and site of one store."""

    def __init__(self, settings: Settings, *, retention: Retention | None = None) -> None:
        """Opens the store and nothing else yet."""
        self._intake = settings.intake
        self._logs = settings.logs
        self._store = SpanWriter(settings.store)
        self._reader = SpanReader(settings.store)
        self._writer = Writer(self._store, retention=retention or Retention())
        self._bridge = None if settings.zipkin is None else Bridge(settings.zipkin)
        self._grpc = grpc.server(
            ThreadPoolExecutor(max_workers=2, thread_name_prefix="otlp"),
            options=[("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", _EXPORT_BYTES_MAX)],
        )
        self._grpc.add_generic_rpc_handlers((_receiver(self._writer, self._bridge),))
        self.site = Site(
            settings.http,
            [
                (r"/healthz", self._healthz),
                (r"/api/traces", self._list),
                (r"/api/traces/([0-9a-fA-F]{32})", self._trace),
                (r"/api/traces/([0-9a-fA-F]{32})/logs", self._log_lines),
                (r"/api/services", self._services),
                (r"/traces/([0-9a-fA-F]{32})", self._waterfall),
                (r"/", self._index),
            ],
        )
        self.otlp_port = 0

    def start(self) -> None:
        """Listen. Raises OSError where an address is not to be had."""
        try:
            self.otlp_port = self._grpc.add_insecure_port(f"{self._intake.host}:{self._intake.port}")
        except RuntimeError as error:
            raise OSError(f"{self._intake}: {error}") from error
        self.site.start()
        self._writer.start()
        if self._bridge is not None:
            self._bridge.start()
        self._grpc.start()

    def stop(self) -> None:
        """Stop taking, write what was taken, close."""
        self._grpc.stop(_GRACE_S).wait()
        self._writer.stop()
        if self._bridge is not None:
            self._bridge.stop()
        self.site.stop()
        self._store.close()

    def _healthz(self, query: Query) -> Response:
        alive = self._writer.alive()
        told = {} if self._bridge is None else {"zipkin": self._bridge.counts()}
        return as_json({"status": "serving" if alive else "not serving", **told}, status=200 if alive else 503)

    def _latest(self, query: Query) -> list[dict[str, Any]]:
        search = Search(
            service=query.text("service"),
            name=query.text("name"),
            errors=query.flag("error"),
            least_nanos=query.number("min_ms", default=0, most=_MS_MAX) * _NANOS_PER_MS,
            since=query.number("since", default=0, most=_NANOS_MAX),
            until=query.number("until", default=0, most=_NANOS_MAX),
            before=_position(query.text("before")),
        )
        return self._reader.latest(search, limit=query.number("limit", default=_LIMIT_DEFAULT, most=_LIMIT_MAX))

    def _list(self, query: Query) -> Response:
        found = self._latest(query)
        full = len(found) == query.number("limit", default=_LIMIT_DEFAULT, most=_LIMIT_MAX)
        onward = f"{found[-1]['start_nanos']}-{found[-1]['trace_id']}" if full else ""
        return as_json({"traces": found, "next": onward})

    def _log_lines(self, query: Query, trace_id: str) -> Response:
        if self._logs is None:
            return not_found("log")
        limit = query.number("limit", default=_LINES_DEFAULT, most=LINES_MAX)
        began_s = self._reader.began(trace_id.lower()) / _NANOS_PER_S
        found, truncated = lines(self._logs, trace_id.lower(), span_id=query.text("span"), since_s=began_s, limit=limit)
        return as_json({"entries": found, "truncated": truncated})

    def _trace(self, query: Query, trace_id: str) -> Response:
        found = self._find(trace_id)
        return not_found("trace") if found is None else as_json(found)

    def _services(self, query: Query) -> Response:
        return as_json({"services": self._reader.services()})

    def _index(self, query: Query) -> Response:
        return as_html(trace_pages.trace_list(self._latest(query), self._reader.services()))

    def _waterfall(self, query: Query, trace_id: str) -> Response:
        found = self._find(trace_id)
        return not_found("trace") if found is None else as_html(trace_pages.waterfall(found))

    def _find(self, trace_id: str) -> dict[str, Any] | None:
        spans = self._reader.spans(trace_id.lower())
        return tree(trace_id.lower(), spans) if spans else None


def _position(text: str) -> tuple[int, str] | None:
    """Where a list goes on, as `next` of the page before says it."""
    if not text:
        return None
    start, _, trace_id = text.partition("-")
    if not start.isascii() or not start.isdigit() or int(start[:20]) > _NANOS_MAX or len(trace_id) > len(text):
        raise QueryError(f"before: {text[:64]!r} is not what `next` says")
    return int(start), trace_id


if __name__ == "__main__":
    sys.exit(run("traces", "WEFT_LISTEN_OTLP", TraceSink))
