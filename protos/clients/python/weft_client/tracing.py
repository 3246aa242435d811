"""The trace that calls belong to (W3C Trace Context).

Where the program has OpenTelemetry, each call is a client span below the current one and tells the mesh so. Where it
has not, `continued` hands on the trace of whoever called the program. With neither the gateway begins a trace, whose id
is in each error.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

from weft_client.calling import Method
from weft_client.kinds import WeftError

try:
    from opentelemetry import propagate, trace
    from opentelemetry.trace import SpanKind, StatusCode
except ImportError:  # an optional part of the wheel: weft-client[tracing]
    _TRACED = False
else:
    _TRACED = True

_HEADER: Final = "traceparent"
_parent: ContextVar[str] = ContextVar("weft_client_traceparent", default="")


@contextmanager
def continued(traceparent: str) -> Iterator[None]:
    """Make the calls of this context part of a trace: `with tracing.continued(request.headers["traceparent"]):`."""
    kept = _parent.set(traceparent)
    try:
        yield
    finally:
        _parent.reset(kept)


@contextmanager
def call(method: Method) -> Iterator[list[tuple[str, str]]]:
    """The metadata that carries the trace, and a span around the call where there is OpenTelemetry."""
    handed = [(_HEADER, _parent.get())] if _parent.get() else []
    if not _TRACED:
        yield handed
        return
    service = method.descriptor.containing_service.full_name
    # Not made the current one: an iterator over a stream is read in whatever context its reader has.
    span = trace.get_tracer("weft_client").start_span(
        f"{service}/{method.descriptor.name}",
        kind=SpanKind.CLIENT,
        attributes={"rpc.system": "grpc", "rpc.service": service, "rpc.method": method.descriptor.name},
    )
    carrier: dict[str, str] = {}
    propagate.inject(carrier, context=trace.set_span_in_context(span))
    try:
        yield [(key.lower(), value) for key, value in carrier.items()] if _HEADER in carrier else handed
    except WeftError as error:
        span.set_attribute("rpc.response.status_code", error.failure.code)
        span.set_attribute("error.type", error.reason or error.failure.code)
        span.set_status(StatusCode.ERROR)
        raise
    finally:
        span.end()
