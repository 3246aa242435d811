"""Lines of a trace are found in the logs of all processes, whatever else is in there."""

import json
import os
from pathlib import Path

from deploy.observability import span_logs
from deploy.observability.span_logs import lines

TRACE = "ab" * 16
SPAN = "1" * 16


def record(event: str, second: int, **more: object) -> str:
    said = {"event": event, "level": "warning", "timestamp": f"2026-06-01T12:00:{second:02}Z", "trace_id": TRACE}
    return json.dumps(said | more) + "\n"


def test_lines_of_all_processes_come_in_the_order_of_their_time(tmp_path: Path) -> None:
    (tmp_path / "orders-1.log").write_text(record("second", 2, instance="orders-1", span_id=SPAN, pieces=3))
    (tmp_path / "catalog-1.log.1").write_text(record("first", 1) + record("other", 1, trace_id="cd" * 16))
    gateway = {"time": "2026-06-01T12:00:03.1Z", "event": "request", "trace_id": TRACE, "http_status": 503}
    gateway |= {"http_method": "POST", "path": "/v1/orders", "refusal": None}
    (tmp_path / "gateway-1.log").write_text(json.dumps(gateway) + "\n")

    found, truncated = lines(tmp_path, TRACE, limit=10)

    assert not truncated
    assert [("catalog-1", "first"), ("orders-1", "second"), ("gateway-1", "POST /v1/orders 503")] == [
        (each["process"], each["message"]) for each in found
    ]
    assert ["warning", "warning", "error"] == [each["level"] for each in found]
    assert {"pieces": 3} == found[1]["attributes"]
    assert "refusal" not in found[2]["attributes"]


def test_a_span_has_its_own_lines_alone(tmp_path: Path) -> None:
    (tmp_path / "a-1.log").write_text(record("of it", 1, span_id=SPAN) + record("of another", 2, span_id="2" * 16))

    assert ["of it"] == [each["message"] for each in lines(tmp_path, TRACE, span_id=SPAN, limit=10)[0]]


def test_what_only_mentions_the_trace_or_is_no_record_or_half_written_is_no_line(tmp_path: Path) -> None:
    odd = f'{{"event": "x", "link": "{TRACE}"}}\n{TRACE}\n["{TRACE}"]\n{{"trace_id": "{TRACE}\n\n'
    (tmp_path / "a-1.log").write_text(odd + record("whole", 1) + record("half", 2).rstrip("\n"))
    (tmp_path / "b-1.log").write_bytes(b"\xff\xfe" + TRACE.encode() + b"\n")
    (tmp_path / "c-1.log").touch()

    assert ["whole"] == [each["message"] for each in lines(tmp_path, TRACE, limit=10)[0]]


def test_more_than_was_asked_for_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "a-1.log").write_text("".join(record(f"n{number}", number) for number in range(5)))

    found, truncated = lines(tmp_path, TRACE, limit=2)

    assert (["n0", "n1"], True) == ([each["message"] for each in found], truncated)


def test_of_a_long_file_the_end_is_looked_at(tmp_path: Path) -> None:
    bound = span_logs.FILE_BYTES_MAX
    (tmp_path / "a-1.log").write_text(record("long ago", 1) + "x" * bound + "\n" + record("just now", 2))

    found, truncated = lines(tmp_path, TRACE, limit=10)

    assert (["just now"], True) == ([each["message"] for each in found], truncated)


def test_a_file_that_nobody_has_written_to_since_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "a-1.log").write_text(record("long ago", 1))
    os.utime(tmp_path / "a-1.log", (1000, 1000))

    assert [] == lines(tmp_path, TRACE, since_s=1001, limit=10)[0]
    assert 1 == len(lines(tmp_path, TRACE, since_s=999, limit=10)[0])
