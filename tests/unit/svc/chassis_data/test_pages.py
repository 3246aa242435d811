import pytest
from hypothesis import given
from hypothesis import strategies as st

from svc.chassis.errors import InvalidArgument
from svc.chassis.pages import PageTokens

TOKENS = PageTokens(b"k" * 32)
# A string with a lone surrogate is no text that a client or a database can send.
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


@given(st.lists(TEXT, min_size=1, max_size=4).map(tuple), TEXT)
def test_a_token_brings_its_values_back(values: tuple[str, ...], scope: str) -> None:
    token = TOKENS.encode(values, scope=scope)

    assert values == TOKENS.decode(token, scope=scope)
    assert token.replace("-", "").replace("_", "").isalnum()


def test_the_first_page_has_no_token() -> None:
    assert () == TOKENS.decode("", scope="list")


@pytest.mark.parametrize(
    "token",
    [
        "x",
        "====",
        "é",
        "not a token",
        "A" * 64,
        "A" * 100_000,
        PageTokens(b"other" * 8).encode(("1",), scope="list"),
        TOKENS.encode(("1",), scope="another list"),
        TOKENS.encode(("1",), scope="list") + "A",
        TOKENS.encode(("1",), scope="list")[:-4],
    ],
)
def test_a_token_that_is_not_ours_is_refused_and_its_field_named(token: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        TOKENS.decode(token, scope="list")

    assert ["page_token"] == [field for field, _ in refused.value.violations]
