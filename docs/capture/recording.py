"""What a terminal was told, and when: recorded from commands, kept as asciicast v2."""

import codecs
import fcntl
import json
import os
import pty
import select
import struct
import subprocess
import termios
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

COLUMNS: Final = 100
ROWS: Final = 28
#: Longer than any command that is worth a picture.
COMMAND_S: Final = 300.0
_TYPING_S: Final = 0.04
_BETWEEN_S: Final = 1.0
_CHUNK: Final = 1 << 16
PROMPT: Final = "\x1b[1;36m$\x1b[0m "


@dataclass(frozen=True)
class Recording:
    """Output with its seconds since the beginning."""

    columns: int
    rows: int
    events: Sequence[tuple[float, str]]
    ended: float
    """When the last command was done."""
    failed: tuple[str, int] | None = None
    """The first command that did not end with 0, and its code; it is the last."""


class _Tape:
    """A recording in the making, whose clock also counts what is only shown."""

    def __init__(self) -> None:
        self.events: list[tuple[float, str]] = []
        self.now = 0.0

    def say(self, text: str, *, after: float = 0.0) -> None:
        self.now += after
        self.events.append((round(self.now, 3), text))


def record(commands: Sequence[str], root: Path) -> Recording:
    """Run commands in a terminal of their own, one after another, up to the first that fails."""
    tape = _Tape()
    failed = None
    for command in commands:
        tape.say(PROMPT, after=_BETWEEN_S)
        for letter in command:
            tape.say(letter, after=_TYPING_S)
        tape.say("\r\n", after=_TYPING_S)
        code = _run(command, root, tape)
        if code != 0:
            failed = (command, code)
            break
    return Recording(COLUMNS, ROWS, tape.events, tape.now + _BETWEEN_S, failed)


def _run(command: str, root: Path, tape: _Tape) -> int:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    path = f"{root / '.venv/bin'}:{os.environ.get('PATH', '')}"  # noqa: TID251 - what a shell in the clone would have
    environ = {**os.environ, "PATH": path, "TERM": "xterm-256color", "COLUMNS": str(COLUMNS)}  # noqa: TID251
    began = time.monotonic()
    first = tape.now
    # A character of several bytes may come in two pieces.
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    with subprocess.Popen(
        ["bash", "-c", command], cwd=root, env=environ, stdin=theirs, stdout=theirs, stderr=theirs, close_fds=True
    ) as process:
        os.close(theirs)
        try:
            while True:
                left = COMMAND_S - (time.monotonic() - began)
                if left <= 0 or not select.select([ours], [], [], left)[0]:
                    process.kill()
                    break
                try:
                    piece = os.read(ours, _CHUNK)
                except OSError:  # Linux says so when nobody has the other end any more
                    break
                if not piece:
                    break
                tape.now = first + time.monotonic() - began
                tape.say(decoder.decode(piece))
        finally:
            os.close(ours)
    tape.now = max(tape.now, first + time.monotonic() - began)
    return process.returncode


def written(recording: Recording) -> str:
    """As asciicast v2: a header, and a line for each event."""
    head = {"version": 2, "width": recording.columns, "height": recording.rows, "duration": recording.ended}
    return "".join(f"{json.dumps(line)}\n" for line in (head, *([at, "o", text] for at, text in recording.events)))


def read(text: str) -> Recording:
    """The opposite. Raises ValueError where it is no asciicast v2."""
    head, *lines = [json.loads(line) for line in text.splitlines() if line.strip()]
    if not isinstance(head, dict) or head.get("version") != 2:
        raise ValueError("this is no asciicast of version 2")
    events = [(float(at), str(said)) for at, kind, said in lines if kind == "o"]
    last = events[-1][0] if events else 0.0
    return Recording(int(head["width"]), int(head["height"]), events, float(head.get("duration", last)))
