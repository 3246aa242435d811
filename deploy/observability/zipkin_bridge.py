"""What takes the spans of the trace sink on to Zipkin, which has no door for OTLP.

The sink hands over and goes on: what waits is bounded, the oldest gives way, and what gave way is counted. While Zipkin
is away, what is at hand is tried again every second; what it cannot take is dropped, lest everything else waits for it.
"""

import http.client
import json
import threading
from collections import deque
from collections.abc import Iterator
from http import HTTPStatus
from typing import Final

import structlog
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from deploy.observability import zipkin
from deploy.observability.config import Address

_log: Final = structlog.get_logger(__name__)

#: Most of what waits, as OTLP writes it: some 30,000 spans.
WAITING_BYTES: Final = 16 * 1024 * 1024
_BATCH_BYTES: Final = 1024 * 1024
# Zipkin takes no body above 10 MiB, and answers a longer one as if it were itself at fault.
_BODY_BYTES: Final = 5 * 1024 * 1024
#: So often a body is sent to a Zipkin that is there and fails: it may be the body.
TRIES: Final = 5
_AGAIN_S: Final = 1.0
_TIMEOUT_S: Final = 5.0
_DRAIN_S: Final = 2.0


class Bridge:
    """The bounded queue and the one thread that empties it into Zipkin."""

    def __init__(self, address: Address, *, capacity: int = WAITING_BYTES, again_s: float = _AGAIN_S) -> None:
        """Starts nothing yet. `capacity`: in bytes."""
        self._connection = http.client.HTTPConnection(address.host, address.port, timeout=_TIMEOUT_S)
        self._capacity = capacity
        self._again_s = again_s
        self._waiting: deque[tuple[ExportTraceServiceRequest, int]] = deque()
        self._bytes = 0
        self._sent = 0
        self._dropped = 0
        self._away = False
        self._stopping = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="zipkin", daemon=True)

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def offer(self, request: ExportTraceServiceRequest) -> None:
        """Take an export for sending, in no time; where there is no room, the oldest gives way."""
        size = request.ByteSize()
        with self._changed:
            self._waiting.append((request, size))
            self._bytes += size
            while self._bytes > self._capacity:
                self._dropped += zipkin.count(self._take())
            self._changed.notify()

    def counts(self) -> dict[str, int]:
        """Spans so far: `sent`, and `dropped` for want of room or because Zipkin refused them."""
        with self._changed:
            return {"sent": self._sent, "dropped": self._dropped}

    def stop(self) -> None:
        """Send what is waiting, where Zipkin is there, and end."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join(_DRAIN_S)

    def _take(self) -> ExportTraceServiceRequest:
        request, size = self._waiting.popleft()
        self._bytes -= size
        return request

    def _work(self) -> None:
        while batch := self._batch():
            found = [json.dumps(span, ensure_ascii=False).encode() for one in batch for span in zipkin.spans(one)]
            sent = sum(len(spans) for spans in _bodies(found) if self._deliver(b"[" + b",".join(spans) + b"]"))
            with self._changed:
                self._sent += sent
                self._dropped += sum(zipkin.count(one) for one in batch) - sent
        self._connection.close()

    def _batch(self) -> list[ExportTraceServiceRequest]:
        """What is there, as much as goes into one body; waits for the first. Nothing: there will be none any more."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._stopping)
            batch: list[ExportTraceServiceRequest] = []
            size = 0
            while self._waiting and (not batch or size + self._waiting[0][1] <= _BATCH_BYTES):
                size += self._waiting[0][1]
                batch.append(self._take())
            return batch

    def _deliver(self, body: bytes) -> bool:
        """Whether Zipkin has taken it, however long it was away; not when it refuses it, or this stops before."""
        tries = 0
        while True:
            try:
                status, reason = self._post(body)
            except (OSError, http.client.HTTPException) as error:
                self._connection.close()
                self._say(away=True, reason=str(error) or type(error).__name__)
            else:
                self._say(away=False)
                if status < HTTPStatus.BAD_REQUEST:
                    return True
                tries += 1
                if status < HTTPStatus.INTERNAL_SERVER_ERROR or tries == TRIES:
                    _log.error("zipkin_refused_spans", status=status, reason=reason)
                    return False
            with self._changed:
                if self._changed.wait_for(lambda: self._stopping, timeout=self._again_s):
                    return False

    def _post(self, body: bytes) -> tuple[int, str]:
        """Status and first words of the answer. Raises OSError or HTTPException."""
        self._connection.request("POST", "/api/v2/spans", body, {"Content-Type": "application/json"})
        answer = self._connection.getresponse()
        return answer.status, answer.read().decode(errors="replace")[:200]

    def _say(self, *, away: bool, reason: str = "") -> None:
        """Once each time it goes, and once when it is back."""
        if away and not self._away:
            _log.warning("zipkin_away", reason=reason)
        elif self._away and not away:
            _log.info("zipkin_back", **self.counts())
        self._away = away


def _bodies(spans: list[bytes]) -> Iterator[list[bytes]]:
    """Runs of spans that each fit into one body; a span that alone does not is in none."""
    run: list[bytes] = []
    size = 0
    for span in spans:
        if len(span) > _BODY_BYTES:
            continue
        if size + len(span) > _BODY_BYTES:
            yield run
            run, size = [], 0
        run.append(span)
        size += len(span)
    if run:
        yield run
