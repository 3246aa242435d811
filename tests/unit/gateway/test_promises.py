"""The table of promises says what the contract says, and another word makes another row."""

from collections.abc import Callable, Mapping

import pytest

from gateway import breaking, plan
from gateway.docs import promises
from gateway.policy import PolicySet

from .conftest import TESTDATA

SHOP = (TESTDATA / "shop.proto").read_text()
READ = '{scopes: "shop.read"};'
LOOK = "weft.shop.v1.ShopService/Look"
Plant = Callable[[str], PolicySet]


def said(consistency: str, more: str = "") -> str:
    return SHOP.replace(READ, f'{{scopes: "shop.read" {more} consistency: {{{consistency}}}}};')


def row(policies: PolicySet, name: str) -> Mapping[str, str]:
    found = next(promises.of(rpc) for rpc in policies.rpcs if rpc.method.name == name)
    return {"says": found.says, **dict(zip(promises.FAILURES, found.fails, strict=True))}


LEADER, REPLICAS, CACHE, DEATH, COMMIT, BROKER = promises.FAILURES


@pytest.mark.parametrize(
    ("contract", "says", "without_leader"),
    [
        (SHOP, "Strong:", "`UNAVAILABLE` at once"),
        (
            said("level: LEVEL_BOUNDED_STALENESS max_staleness: {seconds: 9}"),
            "no more than 9 s ago",
            "answered by a replica until 9 s have passed, then `UNAVAILABLE`",
        ),
        (said("level: LEVEL_EVENTUAL"), "Eventual:", "answered by a replica"),
        (
            said("level: LEVEL_EVENTUAL", "cache: {ttl: {seconds: 30}}"),
            "Eventual:",
            "answered by the cache or a replica",
        ),
    ],
    ids=["strong", "bounded", "eventual", "eventual and cached"],
)
def test_a_read_is_answered_as_its_word_says(plant: Plant, contract: str, says: str, without_leader: str) -> None:
    found = row(plant(contract), "Look")

    assert says in found["says"]
    assert without_leader == found[LEADER]
    assert "nothing changes" == found[BROKER]


def test_a_cache_without_a_word_is_a_bound_of_its_own(plant: Plant) -> None:
    found = row(plant(SHOP.replace(READ, '{scopes: "shop.read" cache: {ttl: {seconds: 30}}};')), "Look")

    assert "no more than 35 s ago" in found["says"]
    assert "slower, never wrong" == found[CACHE]


def test_a_write_with_a_key_takes_effect_once_whatever_is_lost(plant: Plant) -> None:
    keyed, bare = row(plant(SHOP), "Buy"), row(plant(SHOP), "Enter")

    assert "once for each `request_id`" in keyed["says"]
    assert "looked up under the `request_id`" in keyed[COMMIT]
    assert "tried at another instance, up to 3 times in all" == keyed[DEATH]
    assert "read before you call again" in bare[COMMIT]


def test_the_plan_shows_the_change_of_the_word(plant: Plant) -> None:
    changed = plan.make(plant(SHOP), plant(said("level: LEVEL_EVENTUAL")))

    assert [(LOOK, "consistency", ("strong",), ("eventual",))] == [
        (change.name, each.part, each.before, each.after) for change in changed.changes for each in change.differences
    ]


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ("level: LEVEL_EVENTUAL", "level: LEVEL_STRONG", []),
        ("level: LEVEL_EVENTUAL", "level: LEVEL_BOUNDED_STALENESS max_staleness: {seconds: 9}", []),
        (
            "level: LEVEL_BOUNDED_STALENESS max_staleness: {seconds: 9}",
            "level: LEVEL_BOUNDED_STALENESS max_staleness: {seconds: 10}",
            ["keep a `max_staleness` of 9 s or less"],
        ),
        ("level: LEVEL_STRONG", "level: LEVEL_EVENTUAL", ["keep the level"]),
    ],
)
def test_a_weaker_word_is_told_and_a_stronger_one_is_not(
    plant: Plant, before: str, after: str, told: list[str]
) -> None:
    assert told == [violation.fix for violation in breaking.check(plant(said(before)), plant(said(after)))]
