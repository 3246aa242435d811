"""How words are looked for in names."""

import pytest

from svc.catalog.model import like_patterns, search_text


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("WHITE Mug", "white mug"),
        ("CAFÉ", "café"),
        ("cafe\u0301", "café"),
        ("STRASSE", "strasse"),
        ("Straße", "strasse"),
    ],
)
def test_names_are_compared_folded_and_composed(text: str, form: str) -> None:
    assert form == search_text(text)


def test_each_word_is_a_pattern_of_its_own() -> None:
    assert ("%white%", "%mug%") == like_patterns("  White\u00a0MUG ")


def test_no_words_are_no_patterns() -> None:
    assert () == like_patterns("  ")


def test_wildcards_in_a_word_are_ordinary_characters() -> None:
    assert (r"%50\%%", r"%a\_b%", r"%c\\d%") == like_patterns("50% a_b c\\d")
