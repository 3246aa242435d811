"""Answers of the trace store, the mailbox and the door of dead letters, in the contract's words. Pure.

Every function raises ValueError where an answer is not what was agreed.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import wraps
from typing import Any, Final, ParamSpec, TypeVar

from svc.operations import mesh
from weft.operations.v1 import mails_pb2, queues_pb2, traces_pb2

P = ParamSpec("P")
T = TypeVar("T")

TRACES: Final = "traces/"
MAILS: Final = "mails/"
LETTERS: Final = "/deadLetters/"
_MS: Final = 0.001
_STATUSES: Final = {"ok": traces_pb2.Span.STATUS_OK, "error": traces_pb2.Span.STATUS_ERROR}


def _agreed(parse: Callable[P, T]) -> Callable[P, T]:
    @wraps(parse)
    def parsed(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return parse(*args, **kwargs)
        except (KeyError, TypeError, AttributeError, IndexError) as error:
            raise ValueError(f"its answer is not what was agreed: {type(error).__name__}") from error

    return parsed


@_agreed
def summaries(answer: Any) -> list[traces_pb2.TraceSummary]:
    """Traces in a line each."""
    return [
        traces_pb2.TraceSummary(
            name=TRACES + said["trace_id"],
            service=said["service"],
            operation=said["name"],
            start_time=mesh.stamp(said["start"]),
            duration_seconds=said["duration_ms"] * _MS,
            spans=said["spans"],
            errors=said["errors"],
        )
        for said in answer["traces"]
    ]


@_agreed
def trace(answer: Any) -> traces_pb2.Trace:
    """A trace, its tree made flat in the order of a waterfall."""
    return traces_pb2.Trace(
        name=TRACES + answer["trace_id"],
        start_time=mesh.stamp(answer["start"]),
        duration_seconds=answer["duration_ms"] * _MS,
        services=answer["services"],
        spans=[_span(said, depth) for said, depth in _walk(answer["spans"])],
    )


def _walk(roots: Sequence[Mapping[str, Any]]) -> Iterator[tuple[Mapping[str, Any], int]]:
    waiting = [(span, 0) for span in reversed(roots)]
    while waiting:
        span, depth = waiting.pop()
        yield span, depth
        waiting += [(child, depth + 1) for child in reversed(span["children"])]


def _span(said: Mapping[str, Any], depth: int) -> traces_pb2.Span:
    return traces_pb2.Span(
        span_id=said["span_id"],
        parent_span_id=said["parent_span_id"],
        depth=depth,
        service=said["service"],
        operation=said["name"],
        kind=said["kind"],
        start_time=mesh.stamp(said["start"]),
        offset_seconds=said["offset_ms"] * _MS,
        duration_seconds=said["duration_ms"] * _MS,
        status=_STATUSES.get(said["status"]["code"], traces_pb2.Span.STATUS_UNSPECIFIED),
        status_message=said["status"]["message"],
        attributes=texts(said["attributes"]),
        events=[
            traces_pb2.SpanEvent(
                event=event["name"], event_time=mesh.stamp(event["time"]), attributes=texts(event["attributes"])
            )
            for event in said["events"]
        ],
        links=[TRACES + link["trace_id"] for link in said["links"]],
    )


@_agreed
def log_entries(answer: Any) -> traces_pb2.ListTraceLogsResponse:
    """Lines of logs."""
    return traces_pb2.ListTraceLogsResponse(
        entries=[
            traces_pb2.LogEntry(
                log_time=mesh.stamp(said["time"]),
                process=said["process"],
                level=said["level"],
                message=said["message"],
                span_id=said["span_id"],
                attributes=texts(said["attributes"]),
            )
            for said in answer["entries"]
        ],
        truncated=answer["truncated"],
    )


def texts(values: Mapping[str, Any]) -> dict[str, str]:
    """Values as text; what is none, as JSON."""
    return {
        str(name): value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for name, value in values.items()
    }


@_agreed
def mails(answer: Any, count: Any) -> mails_pb2.ListMailsResponse:
    """Mail without its text."""
    found = [_mail(said) for said in answer["messages"]]
    return mails_pb2.ListMailsResponse(mails=found, total_size=count["unique"], deliveries=count["messages"])


@_agreed
def mail(answer: Any) -> mails_pb2.Mail:
    """One mail with its text."""
    made = _mail(answer)
    made.text = answer["text"]
    made.headers.extend(mails_pb2.MailHeader(header=name, value=value) for name, value in answer["headers"])
    return made


def _mail(said: Mapping[str, Any]) -> mails_pb2.Mail:
    return mails_pb2.Mail(
        name=f"{MAILS}{int(said['id'])}",
        message_id=said["message_id"],
        kind=said["kind"],
        sender=said["from"],
        recipients=said["to"],
        subject=said["subject"],
        receive_time=mesh.stamp(said["received"]),
    )


@_agreed
def letters(answer: Any) -> queues_pb2.ListDeadLettersResponse:
    """Dead letters in a line each."""
    found = [_letter(said) for said in answer["letters"]]
    return queues_pb2.ListDeadLettersResponse(dead_letters=found, total_size=answer["chosen"])


@_agreed
def letter(answer: Any) -> queues_pb2.DeadLetter | None:
    """One dead letter whole; None where it does not lie there."""
    for said in answer["letters"]:
        made = _letter(said)
        made.sha256 = said["sha256"]
        made.copies = said["copies"]
        made.unreadable_reason = said.get("unreadable", "")
        if said["event"] is not None:
            made.event_json = json.dumps(said["event"], ensure_ascii=False, indent=1)
        trace_id = str(said["traceparent"] or "").split("-")[1:2]
        made.trace = TRACES + trace_id[0] if trace_id else ""
        return made
    return None


@_agreed
def replayed(answer: Any) -> queues_pb2.ReplayDeadLettersResponse:
    """What was sent back."""
    sent = [_letter_name(queue, letter_id) for queue, ids in answer["replayed"].items() for letter_id in ids]
    return queues_pb2.ReplayDeadLettersResponse(replayed=sent, missing_letter_ids=answer["missing"])


def _letter(said: Mapping[str, Any]) -> queues_pb2.DeadLetter:
    return queues_pb2.DeadLetter(
        name=_letter_name(said["queue"], said["id"]),
        type=said["type"],
        reason=said["reason"],
        deliveries=said["deliveries"],
        park_time=mesh.stamp(said["parked"]),
        size_bytes=said["bytes"],
    )


def _letter_name(queue: str, letter_id: str) -> str:
    return f"{mesh.QUEUES}{queue.removeprefix('weft.')}{LETTERS}{letter_id}"


@_agreed
def depths(answer: Any) -> Mapping[str, int]:
    """Messages by queue of the broker."""
    return {str(name): int(depth) for name, depth in answer["depths"].items()}
