"""Fenced blocks of a document, each with what its author says of running it.

A block of commands is fenced as `sh`, and the line before it says what becomes of it:

    <!-- run: here -->            in this clone, without a mesh, changing nothing
    <!-- run: copy -->            in a copy of the clone, which it may change
    <!-- run: mesh -->            against a mesh of the suite's own
    <!-- run: mesh, exits 1 -->   the same, and its last command ends so
    <!-- read: WHY -->            not run; WHY is the test that does the same, or what is missing here

Blocks of one document run in its order, in one shell for each kind. A block fenced as `text` right behind one is what
it prints: a line `...` stands for any lines, `...` within a line for any text.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
KINDS: Final = ("here", "copy", "mesh")

_SAYS: Final = re.compile(r"\s*<!-- (?:run: (?P<kind>\w+)(?:, exits (?P<code>\d+))?|read: (?P<why>[^>]+?)) -->\s*")
_FENCE: Final = re.compile(r"(?P<indent>\s*)(?P<marks>`{3,})(?P<language>[\w-]*)\s*")


@dataclass(frozen=True)
class Block:
    """One fenced block."""

    document: str
    """Path below the root."""
    line: int
    language: str
    text: str
    kind: str = ""
    """How it is run; empty: it is not."""
    code: int = 0
    """With which it ends."""
    why: str = ""
    """Why it is not run."""
    prints: str | None = None

    @property
    def place(self) -> str:
        return f"{self.document}:{self.line}"

    @property
    def commands(self) -> bool:
        return self.language in {"sh", "bash", "shell", "console"}


def documents() -> Sequence[Path]:
    """All whose commands somebody may follow, by name. Korean ones have those of the English (test_korean.py)."""
    return [ROOT / "README.md", ROOT / "ARCHITECTURE.md", *sorted((ROOT / "docs").rglob("*.md"))]


def of(path: Path) -> Sequence[Block]:
    """The blocks of a document, in their order. Raises ValueError where a fence is not closed."""
    return list(read(path.read_text(), path.relative_to(ROOT).as_posix()))


def read(text: str, document: str) -> Iterator[Block]:
    """The same of a text."""
    held: Block | None = None
    before = ""
    lines = iter(enumerate(text.splitlines(), 1))
    for number, line in lines:
        fence = _FENCE.fullmatch(line)
        if fence is None:
            if held is not None and line.strip():
                yield held
                held = None
            before = line if line.strip() else before if _SAYS.fullmatch(before) else ""
            continue
        body = "\n".join(_inside(lines, fence, f"{document}:{number}"))
        if held is not None:
            if fence["language"] == "text":
                yield Block(**{**vars(held), "prints": body})
                held = None
                continue
            yield held
        said = _SAYS.fullmatch(before)
        held, before = Block(document, number, fence["language"], body, **_words(said)), ""
    if held is not None:
        yield held


def _inside(lines: Iterator[tuple[int, str]], fence: re.Match[str], place: str) -> Iterator[str]:
    for _, line in lines:
        if line.strip() == fence["marks"]:
            return
        yield line.removeprefix(fence["indent"])
    raise ValueError(f"{place}: the block is not closed")


def _words(said: re.Match[str] | None) -> dict[str, str | int]:  # what `Block` takes by these names
    if said is None:
        return {}
    return {"kind": said["kind"] or "", "code": int(said["code"] or 0), "why": said["why"] or ""}


def matches(expected: str, printed: str) -> bool:
    """Whether that was printed, by the rules above. Space at the ends of lines and of all counts for nothing."""
    wanted = [line.rstrip() for line in expected.strip("\n").splitlines()]
    pattern = "".join(r"(?:.*\n)*?" if line.strip() == "..." else f"{_line(line)}\n" for line in wanted)
    said = "".join(f"{line.rstrip()}\n" for line in printed.strip("\n").splitlines())
    return re.fullmatch(pattern, said) is not None


def _line(line: str) -> str:
    return ".*".join(re.escape(piece) for piece in line.split("..."))
