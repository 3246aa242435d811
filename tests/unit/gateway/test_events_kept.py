"""Events that are written stay events, and stay valid: what takes that away is named with its line."""

from collections.abc import Callable

import pytest

from gateway import breaking
from gateway.policy import PolicySet

from .conftest import TESTDATA

Plant = Callable[[str], PolicySet]
EVENT = "weft.shop.v1.ThingSold"
THING = "  string thing = 1;\n  // What was paid for it."
REQUIRED = THING.replace("= 1;", "= 1 [(buf.validate.field).required = true];")


@pytest.fixture(scope="module")
def text() -> str:
    return (TESTDATA / "counter.proto").read_text()


def changed(text: str, old: str, new: str) -> str:
    after = text.replace(old, new)
    assert text != after
    return after


def test_an_event_that_is_removed_is_named(text: str, plant: Plant) -> None:
    without = text[: text.index("// A thing was sold.")]

    (found,) = breaking.check(plant(text), plant(without))
    assert f"{EVENT} is no event any more" in found.message


def test_an_event_that_is_no_longer_marked_is_named(text: str, plant: Plant) -> None:
    start = text.index("  option (weft.options.v1.event)")
    unmarked = text[:start] + text[text.index("  // The thing.\n", start) :]

    (found,) = breaking.check(plant(text), plant(unmarked))
    assert f"{EVENT} is no event any more" in found.message


def test_a_field_of_an_event_that_becomes_required_is_named_with_its_line(text: str, plant: Plant) -> None:
    after = changed(text, THING, REQUIRED)

    (found,) = breaking.check(plant(text), plant(after))
    assert f"{EVENT} has other rules for thing:" in found.message
    assert "(buf.validate.field).required = true" in after.splitlines()[found.location.line - 1]


def test_a_rule_inside_an_event_is_named_by_its_path(text: str, plant: Plant) -> None:
    after = changed(
        text,
        "int64 change = 3 [(buf.validate.field).int64.gte = 0];",
        "int64 change = 3 [(buf.validate.field).int64.gte = 1];",
    )

    assert [f"{EVENT} has other rules for payments.change: events written before may break them"] == [
        found.message for found in breaking.check(plant(text), plant(after))
    ]


def test_a_rule_of_a_whole_message_counts_as_well(text: str, plant: Plant) -> None:
    after = changed(text, "this.way == 1 || this.change == 0", "this.change == 0")

    assert ["payments"] == [
        found.message.split("rules for ")[1].split(":")[0] for found in breaking.check(plant(text), plant(after))
    ]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (" [(buf.validate.field).int64.gte = 0]", ""),
        ("  repeated Payment payments = 2;\n}", "  repeated Payment payments = 2;\n  // More.\n  string more = 3;\n}"),
        ("[(buf.validate.field).int32.gte = 0]", "[(buf.validate.field).int32.gte = 1]"),
    ],
)
def test_a_rule_less_a_field_more_and_rules_of_requests_break_no_event(
    text: str, plant: Plant, old: str, new: str
) -> None:
    assert () == breaking.check(plant(text), plant(changed(text, old, new)))


def test_a_new_event_may_have_any_rule(text: str, plant: Plant) -> None:
    before = text[: text.index("// A thing was sold.")]

    assert () == breaking.check(plant(before), plant(changed(text, THING, REQUIRED)))
