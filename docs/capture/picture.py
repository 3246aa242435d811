"""An animated SVG of a recording. A terminal's own rules (pyte) make screens of output; CSS shows one after another.

The picture runs no script and asks for nothing, so a README may show it. Each line of the terminal is drawn once for
each content it has, and is visible as long as it had that.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby
from typing import Any, Final

import pyte

from docs.capture.recording import Recording

#: A wait is shown no longer than this.
WAIT_S: Final = 2.0
#: Screens closer together than this are one: nobody sees the difference.
STEP_S: Final = 0.08
#: The last screen stands so long, before all begins again.
REST_S: Final = 4.0
_CELL: Final = 8.4
_LINE: Final = 18
_EDGE: Final = 16
_SIZE: Final = 14
_COLOURS: Final[Mapping[str, str]] = {
    "default": "#e8e6e1",
    "black": "#757b85",
    "red": "#ff958a",
    "green": "#6ec795",
    "brown": "#e2b05c",
    "yellow": "#e2b05c",
    "blue": "#8ab4f8",
    "magenta": "#d7a6e8",
    "cyan": "#7cc9d6",
    "white": "#e8e6e1",
}
_GROUND: Final = "#131519"


@dataclass(frozen=True)
class Span:
    """Characters beside each other that look alike."""

    column: int
    text: str
    colour: str
    bold: bool


@dataclass(frozen=True)
class Showing:
    """One line of the terminal, from when to when."""

    row: int
    spans: tuple[Span, ...]
    begins: float
    ends: float


def draw(recording: Recording) -> str:
    """The picture, as text."""
    screens = list(_screens(recording))
    total = screens[-1][0] + REST_S
    width, height = recording.columns * _CELL + 2 * _EDGE, recording.rows * _LINE + 2 * _EDGE
    shown = list(_showings(screens, total))
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" role="img">',
            "<title>Commands on a running mesh, as they were recorded; waits are cut to two seconds</title>",
            f"<style>{_style(shown, total)}</style>",
            f'<rect width="100%" height="100%" rx="8" fill="{_GROUND}"/>',
            *(_line(each, number) for number, each in enumerate(shown)),
            "</svg>\n",
        ]
    )


def _screens(recording: Recording) -> Iterator[tuple[float, Sequence[tuple[Span, ...]]]]:
    """Each screen and when it is shown, waits cut."""
    screen = pyte.Screen(recording.columns, recording.rows)
    stream = pyte.Stream(screen)
    now = before = shown = 0.0
    yield 0.0, _lines(screen)
    for index, (at, text) in enumerate(recording.events):
        now += min(at - before, WAIT_S)
        before = at
        stream.feed(text)
        last = index == len(recording.events) - 1
        if last or now - shown >= STEP_S:
            shown = now
            yield now, _lines(screen)


def _lines(screen: Any) -> Sequence[tuple[Span, ...]]:
    return [tuple(_spans(screen.buffer[row], screen.columns)) for row in range(screen.lines)]


def _spans(line: Mapping[int, Any], columns: int) -> Iterator[Span]:
    cells = [(column, line[column]) for column in range(columns)]
    for (colour, bold), run in groupby(cells, key=lambda cell: (_COLOURS.get(cell[1].fg), bool(cell[1].bold))):
        found = list(run)
        text = "".join(cell.data for _, cell in found)
        if text.strip():
            column = found[0][0] + len(text) - len(text.lstrip())
            yield Span(column, text.strip(), colour or _COLOURS["default"], bold)


def _showings(screens: Sequence[tuple[float, Sequence[tuple[Span, ...]]]], total: float) -> Iterator[Showing]:
    for row in range(len(screens[0][1])):
        begins = 0
        for index in range(1, len(screens) + 1):
            spans = screens[begins][1][row]
            if index < len(screens) and screens[index][1][row] == spans:
                continue
            if spans:
                yield Showing(row, spans, screens[begins][0], screens[index][0] if index < len(screens) else total)
            begins = index


def _style(shown: Sequence[Showing], total: float) -> str:
    always = (
        f"text{{font:{_SIZE}px ui-monospace,'Cascadia Mono','DejaVu Sans Mono',monospace;white-space:pre}}"
        ".b{font-weight:700}"
        # Who wants no motion sees how it ended.
        "@media (prefers-reduced-motion:reduce){g{animation:none!important}}"
    )
    frames = []
    for number, each in enumerate(shown):
        if each.begins == 0 and each.ends == total:
            continue
        begins, ends = 100 * each.begins / total, 100 * each.ends / total
        last = each.ends == total
        frames.append(
            f"#l{number}{{{'' if last else 'visibility:hidden;'}animation:k{number} {total:.2f}s step-end infinite}}"
            f"@keyframes k{number}{{0%{{visibility:{'visible' if begins == 0 else 'hidden'}}}"
            f"{begins:.3f}%{{visibility:visible}}" + ("" if last else f"{ends:.3f}%{{visibility:hidden}}") + "}"
        )
    return always + "".join(frames)


def _line(each: Showing, number: int) -> str:
    bottom = _EDGE + each.row * _LINE + _SIZE
    return f'<g id="l{number}">{"".join(_text(span, bottom) for span in each.spans)}</g>'


def _text(span: Span, bottom: int) -> str:
    place = f'x="{_EDGE + span.column * _CELL:g}" y="{bottom}" textLength="{len(span.text) * _CELL:g}"'
    bold = ' class="b"' if span.bold else ""
    return f'<text {place} lengthAdjust="spacingAndGlyphs" fill="{span.colour}"{bold}>{escape(span.text)}</text>'
