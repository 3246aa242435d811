"""Writes a text that a regular expression matches, as close to a wished one as the expression lets it be. Pure.

For examples that people read: where the expression leaves a choice, the letters of the wish are taken in turn. The
parser is that of Python's `re`; an expression that only RE2 knows has no text here.
"""

import importlib
import re
from collections.abc import Callable, Iterator
from typing import Any, Final

_PARSER: Final = importlib.import_module("re._parser")
#: What is taken where the wish has no fitting letter.
_ALPHABET: Final = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ -_./@"
#: Pieces of an open repetition that the wish does not fill.
_FEW: Final = 4
#: More than this of one repetition is no example.
_REPEATS_MAX: Final = 10_000
_CATEGORIES: Final[dict[str, str]] = {
    "CATEGORY_DIGIT": r"[0-9]",
    "CATEGORY_NOT_DIGIT": r"[^0-9]",
    "CATEGORY_WORD": r"[0-9A-Za-z_]",
    "CATEGORY_NOT_WORD": r"[^0-9A-Za-z_]",
    "CATEGORY_SPACE": r"[\t\n\f\r ]",
    "CATEGORY_NOT_SPACE": r"[^\t\n\f\r ]",
}


def text(expression: str, wish: str) -> str:
    """A text that matches the whole expression; empty where none could be written, or the empty one is meant."""
    try:
        found = _Writer(wish).sequence(_PARSER.parse(expression))
        return found if re.search(expression, found) else ""
    except (re.error, UnwritableError):
        return ""


class UnwritableError(Exception):
    """The expression has a part that this writer knows no text for."""


class _Writer:
    def __init__(self, wish: str) -> None:
        self._left = list(wish)
        self._spare = 0

    def sequence(self, parts: Any) -> str:
        return "".join(self._part(str(kind), value) for kind, value in parts)

    def _part(self, kind: str, value: Any) -> str:
        if kind == "LITERAL":
            return chr(value)
        if kind == "AT":
            return ""
        if kind in ("IN", "ANY", "NOT_LITERAL"):
            return self._letter(_test(kind, value))
        if kind in ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"):
            return self._repeat(*value)
        if kind == "SUBPATTERN":
            return self.sequence(value[-1])
        if kind == "BRANCH":
            return self.sequence(value[1][0])
        raise UnwritableError(kind)

    def _repeat(self, least: int, most: int, parts: Any) -> str:
        if least > _REPEATS_MAX:
            raise UnwritableError("MAX_REPEAT")
        kind, value = str(parts[0][0]), parts[0][1]
        times = max(least, min(most, 1))
        if len(parts) == 1 and kind in ("IN", "ANY", "NOT_LITERAL"):
            fits = _test(kind, value)
            wished = sum(1 for _ in _while(fits, self._left))
            times = max(least, min(most, wished or _FEW))
        return "".join(self.sequence(parts) for _ in range(times))

    def _letter(self, fits: Callable[[str], bool]) -> str:
        if self._left and fits(self._left[0]):
            return self._left.pop(0)
        fitting = [letter for letter in _ALPHABET if fits(letter)]
        if not fitting:
            raise UnwritableError("IN")
        self._spare += 1
        return fitting[(self._spare - 1) % len(fitting)]


def _while(fits: Callable[[str], bool], letters: list[str]) -> Iterator[str]:
    for letter in letters:
        if not fits(letter):
            return
        yield letter


def _test(kind: str, value: Any) -> Callable[[str], bool]:
    if kind == "ANY":
        return lambda letter: letter != "\n"
    if kind == "NOT_LITERAL":
        return lambda letter: ord(letter) != value
    negated = str(value[0][0]) == "NEGATE"
    return lambda letter: any(_holds(str(one), said, letter) for one, said in value if str(one) != "NEGATE") != negated


def _holds(kind: str, said: Any, letter: str) -> bool:
    if kind == "LITERAL":
        return bool(ord(letter) == said)
    if kind == "RANGE":
        return bool(said[0] <= ord(letter) <= said[1])
    known = _CATEGORIES.get(str(said))
    if kind != "CATEGORY" or known is None:
        raise UnwritableError(kind)
    return re.fullmatch(known, letter) is not None
