"""The Korean README says what the English one says: the same sections, blocks, lists, names and figures."""

import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

from tests.documents.blocks import ROOT

ENGLISH, KOREAN = ((ROOT / name).read_text() for name in ("README.md", "README.ko.md"))
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def prose(text: str) -> str:
    return FENCED.sub("", re.sub(r"^<!-- .*? -->$", "", text, flags=re.MULTILINE))


def sections(text: str) -> Sequence[str]:
    """Each heading with what follows it, without blocks."""
    places = [*(found.start() for found in re.finditer(r"^#+ ", prose(text), re.MULTILINE)), None]
    return [prose(text)[begin:end] for begin, end in pairwise(places)]


def levels(text: str) -> Sequence[int]:
    return [len(marks) for marks in re.findall(r"^(#+) ", prose(text), re.MULTILINE)]


def commands(text: str) -> Sequence[tuple[str, str]]:
    """Blocks without their comments, which are in the reader's language."""
    return [
        (language, "\n".join(re.sub(r"(^|\s+)# .*", "", line).rstrip() for line in body.splitlines()).strip())
        for language, body in FENCED.findall(text)
    ]


def code(text: str) -> Counter[str]:
    return Counter(re.sub(r"\s+", " ", said) for said in re.findall(r"`([^`]+)`", text))


def figures(text: str) -> Counter[str]:
    bare = re.sub(r"`[^`]+`|\]\([^)]*\)", "", text)
    return Counter(re.findall(r"\d+(?:[.,]\d+)*", bare))


def test_it_has_the_same_sections() -> None:
    assert levels(ENGLISH) == levels(KOREAN)


def test_it_has_the_same_blocks() -> None:
    assert commands(ENGLISH) == commands(KOREAN)


def test_each_section_has_as_many_points_and_rows() -> None:
    def shape(text: str) -> Sequence[int]:
        return [len(re.findall(mark, text, re.MULTILINE)) for mark in (r"^- ", r"^\|", r"^\*\*")]

    assert [shape(one) for one in sections(ENGLISH)] == [shape(one) for one in sections(KOREAN)]


def test_each_section_names_the_same_things() -> None:
    for english, korean in zip(sections(ENGLISH), sections(KOREAN), strict=True):
        assert code(english) == code(korean), korean[:60]


def test_each_section_leads_to_the_same_files() -> None:
    def targets(text: str) -> Counter[str]:
        found = re.findall(r"\]\(([^)#]+)\)", text)
        return Counter(target for target in found if target not in {"README.md", "README.ko.md"})

    assert [targets(one) for one in sections(ENGLISH)] == [targets(one) for one in sections(KOREAN)]


def test_no_figure_of_the_english_is_missing() -> None:
    # More of them are in the Korean, where small numbers are written in digits.
    for english, korean in zip(sections(ENGLISH), sections(KOREAN), strict=True):
        assert {} == dict(figures(english) - figures(korean)), korean[:60]


def test_it_is_korean() -> None:
    for one in sections(KOREAN):
        said = re.sub(r"`[^`]+`", "", one)
        assert "Apache-2.0" in one or len(re.findall(r"[가-힣]", said)) > len(re.findall(r"[A-Za-z]", said)) / 3, one[
            :80
        ]


def test_each_leads_to_the_other() -> None:
    assert "](README.ko.md)" in ENGLISH.partition("```")[0]
    assert "](README.md)" in KOREAN.partition("```")[0]
