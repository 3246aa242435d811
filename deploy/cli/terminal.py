"""What people see: tables, and colours where they are wanted. Used by every verb that shows something."""

import sys
from collections.abc import Sequence
from enum import StrEnum
from typing import Final, TextIO

from deploy.supervisor import config

#: Into a pipe a line stays a line.
LINE_WIDTH: Final = 120
CLEAR: Final = "\x1b[2J\x1b[H"
_RESET: Final = "\x1b[0m"


class Tone(StrEnum):
    """A colour by what it means."""

    GOOD = "\x1b[32m"
    DOUBTFUL = "\x1b[33m"
    BAD = "\x1b[31m"


def colour(stream: TextIO | None = None) -> bool:
    """Whether to colour what goes there: to a terminal that can, and nobody has set NO_COLOR (no-color.org)."""
    return (stream or sys.stdout).isatty() and config.terminal_has_colour()


def toned(text: str, tone: Tone | None, *, wanted: bool) -> str:
    """The text in a colour."""
    return f"{tone}{text}{_RESET}" if tone is not None and wanted else text


def printable(text: str | bytes) -> str:
    """The text in one line, without what a terminal would obey."""
    plain = text.decode(errors="replace") if isinstance(text, bytes) else text
    return " ".join("".join(letter if letter.isprintable() else " " for letter in plain).split())


def table(
    head: Sequence[str], rows: Sequence[Sequence[str]], *, tones: Sequence[Tone | None] = (), wanted: bool = False
) -> str:
    """One line for each row, columns as wide as their widest entry, whatever the terminal's width.

    `tones`: of each row; `wanted`: whether there is colour at all.
    """
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in (head, *rows)
    ]
    for number, tone in enumerate(tones, 1):
        lines[number] = toned(lines[number], tone, wanted=wanted)
    return "\n".join(lines)
