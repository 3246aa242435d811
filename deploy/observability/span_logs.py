"""What the processes of a mesh have logged for one trace: looked for in their log files, where they are.

Nothing is indexed: a trace id is a text that nothing else holds, and the last megabytes of each file are searched for
it faster than anybody reads. Lines are what their processes wrote, and so without whatever must not be printed.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

#: Of each file, from its end: some ten minutes of a busy gateway. What lies further back is not looked at.
FILE_BYTES_MAX: Final = 16 << 20
LINES_MAX: Final = 1000
#: A line that is longer is no record of ours.
LINE_BYTES_MAX: Final = 64 << 10
#: What is told of every line; all else is an attribute.
_TOLD: Final = frozenset({"time", "timestamp", "event", "level", "trace_id", "span_id", "instance"})


def lines(
    folder: Path, trace_id: str, *, span_id: str = "", since_s: float = 0.0, limit: int
) -> tuple[list[dict[str, Any]], bool]:
    """Up to `limit` lines of a trace, or of one span of it, the earliest first; whether there may be more.

    `since_s`: when the trace began, in seconds since 1970; files that nobody has written to since are not read.
    """
    found: list[dict[str, Any]] = []
    truncated = False
    for path in sorted(folder.glob("*.log*")):
        try:
            status = path.stat()
            if status.st_mtime < since_s:
                continue
            # Read and not mapped: the supervisor shortens files under whoever looks.
            with path.open("rb") as file:
                file.seek(max(0, status.st_size - FILE_BYTES_MAX))
                content = file.read(FILE_BYTES_MAX)
        except OSError:
            continue  # rotated away just now
        truncated = truncated or status.st_size > FILE_BYTES_MAX
        entries = (_entry(line, path, trace_id) for line in _holding(content, trace_id.encode()))
        found += [entry for entry in entries if entry is not None and span_id in ("", entry["span_id"])][:LINES_MAX]
    found.sort(key=lambda each: str(each["time"]))
    return found[:limit], truncated or len(found) > limit


def _holding(content: bytes, wanted: bytes) -> Iterator[bytes]:
    """The whole lines that hold some bytes."""
    at = content.find(wanted)
    while at >= 0:
        first, last = content.rfind(b"\n", 0, at) + 1, content.find(b"\n", at)
        if last < 0:
            return  # it is still being written
        if last - first <= LINE_BYTES_MAX:
            yield content[first:last]
        at = content.find(wanted, last)


def _entry(line: bytes, path: Path, trace_id: str) -> dict[str, Any] | None:
    """One line, where it is a record of this trace."""
    try:
        said = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(said, dict) or said.get("trace_id") != trace_id:
        return None
    return {
        "time": str(said.get("timestamp") or said.get("time") or ""),
        "process": str(said.get("instance") or path.name.partition(".log")[0]),
        "level": str(said.get("level") or _level(said)),
        "message": _message(said),
        "span_id": str(said.get("span_id") or ""),
        "attributes": {str(name): value for name, value in said.items() if name not in _TOLD and value is not None},
    }


def _level(said: Mapping[str, Any]) -> str:
    """A gateway writes no level: its line is as grave as what it tells."""
    status = said.get("http_status")
    return "error" if isinstance(status, int) and status >= 500 else "info"


def _message(said: Mapping[str, Any]) -> str:
    if said.get("event") == "request":
        return f"{said.get('http_method', '')} {said.get('path', '')} {said.get('http_status', '')}".strip()
    return str(said.get("event") or "")
