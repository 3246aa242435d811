"""One server span and the RED metrics (rate, errors, duration) of every call.

Written by hand, because the ready-made instrumentation costs three times as much. The parent comes from the
`traceparent` the gateway or a peer sent. An unsampled parent becomes the current span as it is: it costs almost
nothing, and everything below sees the decision and makes no spans of its own.
"""

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, SpanKind

from svc.chassis import metrics, telemetry
from svc.chassis.call import Call, Interceptor, Method, Refusal, Verifier
from weft_protos import grounds

# Codes that say something about the server; the others are the caller's doing (OpenTelemetry's rule for servers).
_SERVER_FAULTS: Final = frozenset(
    {"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"}
)

_GROUNDS: Final = (grounds.METHOD, grounds.RULE, grounds.CONTRACT, grounds.HOP, grounds.INSTANCE)


def _server_span(name: str, parent: SpanContext | None, attributes: dict[str, str]) -> AbstractContextManager[Span]:
    if parent is not None and not parent.trace_flags.sampled:
        return trace.use_span(NonRecordingSpan(parent))
    above = Context() if parent is None else trace.set_span_in_context(NonRecordingSpan(parent), Context())
    started = telemetry.tracer().start_span(name, above, SpanKind.SERVER, attributes)
    return trace.use_span(started, end_on_exit=True, record_exception=False, set_status_on_exception=False)


def _grounds(refusal: Refusal) -> dict[str, str]:
    """Why, as the caller was told; of the metadata only what every refusal has, for the rest may quote the request."""
    told = {key: refusal.grounds.get(key, "") for key in _GROUNDS} | {grounds.REASON: refusal.reason}
    return {f"{grounds.SPAN_PREFIX}{key}": value for key, value in told.items() if value}


def build(method: Method, _verifier: Verifier) -> Interceptor:
    """Bind names and label values once."""
    name = method.name.removeprefix("/")
    service, _, rpc = name.rpartition("/")
    attributes = {"rpc.system": "grpc", "rpc.service": service, "rpc.method": rpc}
    in_flight = metrics.RPC_IN_FLIGHT.labels(service=method.owner)
    duration = metrics.RPC_DURATION.labels(service=method.owner, method=name)

    def outcome(call: Call) -> str:
        if call.refusal is not None:
            return call.refusal.code
        if call.is_active():
            return "OK"
        # The answer is ready and nobody takes it.
        late = call.deadline is not None and call.time_left_s is not None and call.deadline.expired()
        return "DEADLINE_EXCEEDED" if late else "CANCELLED"

    @contextmanager
    def observe(call: Call) -> Iterator[None]:
        started = time.perf_counter()
        in_flight.inc()
        parent = telemetry.parse_traceparent(call.header("traceparent"))
        try:
            with _server_span(name, parent, attributes) as current:
                try:
                    yield
                finally:
                    code = outcome(call)
                    if current.is_recording():
                        current.set_attribute("rpc.response.status_code", code)
                        if call.lane:
                            current.set_attribute(telemetry.LANE, call.lane)
                        if call.shown is not None:
                            current.set_attribute(telemetry.PEER, call.shown)
                        if call.principal is not None:
                            current.set_attribute("enduser.id", call.principal.subject)
                        if call.refusal is not None:
                            current.set_attributes(_grounds(call.refusal))
                        if code in _SERVER_FAULTS:
                            telemetry.fail(current, code)
        finally:
            in_flight.dec()
            duration.observe(time.perf_counter() - started)
            metrics.RPC_REQUESTS.labels(service=method.owner, method=name, code=code).inc()
            if call.refusal is not None:
                # Reasons are constants of the code, ours or a peer's.
                metrics.RPC_REFUSALS.labels(service=method.owner, method=name, reason=call.refusal.reason).inc()

    return observe
