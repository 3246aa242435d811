"""The animated picture shows what a terminal was told, when it was told, and nothing else."""

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from docs.capture import picture, recording
from docs.capture.recording import Recording

TRANSCRIPT = Path(__file__).parent / "testdata" / "explain.cast"
SVG = "{http://www.w3.org/2000/svg}"


def drawn(*events: tuple[float, str]) -> ElementTree.Element:
    return ElementTree.fromstring(picture.draw(Recording(40, 6, events, 10.0)))


def texts(element: ElementTree.Element) -> list[str]:
    return [str(each.text) for each in element.iter(f"{SVG}text")]


def test_a_recording_is_the_same_when_it_is_read_again() -> None:
    text = TRANSCRIPT.read_text()

    assert text == recording.written(recording.read(text))


def test_what_is_no_recording_is_refused() -> None:
    with pytest.raises(ValueError, match="no asciicast"):
        recording.read('{"version": 1}\n')


def test_every_line_of_a_recorded_run_is_in_its_picture() -> None:
    seen = recording.read(TRANSCRIPT.read_text())
    element = ElementTree.fromstring(picture.draw(seen))

    shown = " ".join(texts(element))
    for said in ("weft explain --as catalog.read PlaceOrder", "refused", "scopes: orders.write"):
        assert said in shown


def test_the_picture_asks_for_nothing_and_runs_nothing() -> None:
    text = picture.draw(recording.read(TRANSCRIPT.read_text()))

    assert [] == re.findall(r"<script|href|url\(|@import|foreignObject", text)
    assert [] == [each for each in re.findall(r"https?://[^\"]*", text) if each != "http://www.w3.org/2000/svg"]


def test_a_line_is_visible_as_long_as_it_stood_there() -> None:
    element = drawn((1.0, "one\r\n"), (2.0, "two"), (3.0, "\r\x1b[Kthree"))
    (style,) = element.iter(f"{SVG}style")
    frames = {
        number: (float(at), until)
        for number, at, until in re.findall(
            r"@keyframes k(\d+)\{0%\{visibility:hidden\}([\d.]+)%\{visibility:visible\}(?:([\d.]+)%)?", str(style.text)
        )
    }

    lines = {str(each.get("id"))[1:]: "".join(texts(each)) for each in element.iter(f"{SVG}g")}
    # Three seconds of events, and the last screen stands for four more.
    assert {"one": (14.286, ""), "two": (28.571, "42.857"), "three": (42.857, "")} == {
        lines[number]: frame for number, frame in frames.items()
    }


def test_a_long_wait_is_cut_short() -> None:
    slow, quick = (picture.draw(Recording(40, 6, ((0.0, "a"), (wait, "b")), 200.0)) for wait in (100.0, picture.WAIT_S))

    assert quick == slow


def test_colours_and_markup_are_shown_and_not_obeyed() -> None:
    element = drawn((0.5, "\x1b[1;31m<b>&\x1b[0m plain"))

    first, second = element.iter(f"{SVG}text")
    assert ("<b>&", "b", "#ff958a") == (first.text, first.get("class"), first.get("fill"))
    assert ("plain", None, "#e8e6e1") == (second.text, second.get("class"), second.get("fill"))


def test_commands_are_recorded_as_a_terminal_shows_them(tmp_path: Path) -> None:
    seen = recording.record(["printf 'one\\n'; test -t 1 && echo terminal", "exit 3", "echo never"], tmp_path)

    said = "".join(text for _, text in seen.events)
    assert "one\r\nterminal\r\n" in said
    assert "never" not in said
    assert ("exit 3", 3) == seen.failed
    assert sorted(at for at, _ in seen.events) == [at for at, _ in seen.events]


def test_a_character_that_comes_in_two_pieces_is_one(tmp_path: Path) -> None:
    seen = recording.record(["printf '\\303'; sleep 0.2; printf '\\251'"], tmp_path)

    assert "\r\n\u00e9" in "".join(text for _, text in seen.events)
