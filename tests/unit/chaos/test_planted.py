"""Bugs that others have made, planted in the real code on real stores: the checks find each, and name what it broke."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from svc.chassis.crash import Point
from tests.unit.chaos import planted
from tests.unit.chaos.acts import (
    Act,
    cancel_order,
    meanwhile,
    open_shop,
    place_order,
    quote,
    relay,
    relay_one,
    reprice,
    sound,
    work,
)
from tests.unit.chaos.small_mesh import SmallMesh

KEY = "11111111-1111-4111-8111-111111111111"
OPEN: Act = (open_shop, [{"mug": 50, "tea": 50}, ["ann"]])
PLACE: Act = (place_order, ["ann", KEY, {"mug": 2}])
OTHER: Act = (place_order, ["ann", KEY, {"tea": 1}])
CANCEL: Act = (cancel_order, ["ann", KEY.replace("1", "2"), {"mug": 1}])
REPRICE: Act = (reprice, [175])
QUOTE: Act = (quote, [])
RELAY: Act = (relay, ["orders"])
CATALOG: Act = (relay, ["catalog"])
AUDIT, ANALYTICS, EMAIL = ((work, [name]) for name in ("audit", "analytics", "email"))
EVERYTHING = (PLACE, RELAY, AUDIT, ANALYTICS, EMAIL)

#: Refuses the first order as PostgreSQL does that has seen a conflict.
CONFLICT = """
CREATE SEQUENCE conflicts;
CREATE FUNCTION conflict() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF nextval('conflicts') = 1 THEN RAISE EXCEPTION 'could not serialize access' USING ERRCODE = '40001'; END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER conflict BEFORE INSERT ON orders FOR EACH ROW EXECUTE FUNCTION conflict();
"""
NO_CONFLICT = "DROP TRIGGER conflict ON orders; DROP FUNCTION conflict; DROP SEQUENCE conflicts"

Plant = Callable[[], None]


@dataclass(frozen=True)
class Scenario:
    """Where somebody dies, if anybody does, and what everybody does afterwards; the bug is in all of them."""

    found_by: str
    dies: tuple[Point, Sequence[Act]] | None = None
    then: Sequence[Act] = EVERYTHING
    conflict: bool = False

    def play(self, mesh: SmallMesh, plant: Plant) -> Mapping[str, Sequence[str]]:
        """What is broken at the end."""
        mesh.fresh()
        assert 0 == mesh.run(OPEN)
        with self._conflict(mesh):
            if self.dies is not None:
                mesh.dies(self.dies[0], *self.dies[1], plant=plant)
            assert 0 == mesh.run(*self.then, plant=plant)
        return mesh.broken()

    @contextmanager
    def _conflict(self, mesh: SmallMesh) -> Iterator[None]:
        if not self.conflict:
            yield
            return
        mesh.execute("orders", CONFLICT)
        try:
            yield
            assert mesh.number("orders", "SELECT last_value FROM conflicts") > 1
        finally:
            mesh.execute("orders", NO_CONFLICT)


BUGS: dict[Plant, Scenario] = {
    planted.acknowledged_before_commit: Scenario(
        "every_event_is_audited_once", (Point.TRANSACTION_BEGUN, [PLACE, RELAY, AUDIT])
    ),
    planted.no_inbox: Scenario("every_order_is_counted_once", (Point.BATCH_HANDLED, [PLACE, RELAY, ANALYTICS])),
    planted.inbox_apart: Scenario("every_order_is_counted_once", (Point.COMMITTED, [PLACE, RELAY, ANALYTICS])),
    planted.outbox_row_apart: Scenario("every_event_is_audited_once", (Point.COMMITTED, [PLACE])),
    planted.key_kept_after_the_effect: Scenario("nothing_is_there_that_nobody_asked_for", (Point.COMMITTED, [PLACE])),
    planted.key_without_the_body: Scenario("what_was_acknowledged_is_there", then=[PLACE, OTHER, *EVERYTHING]),
    planted.stock_taken_beside_the_transaction: Scenario("stock_is_conserved", conflict=True),
    planted.marked_before_it_is_confirmed: Scenario(
        "every_event_is_audited_once", (Point.ROWS_PUBLISHED, [PLACE, RELAY])
    ),
    planted.nobody_asks_for_older_rows: Scenario(
        "events_of_a_key_leave_in_their_order",
        then=[PLACE, CANCEL, (meanwhile, [Point.ROWS_CLAIMED, (relay_one, []), RELAY]), *EVERYTHING],
    ),
    planted.a_mail_has_a_random_id: Scenario("every_order_is_confirmed_once", (Point.MAIL_SENT, [PLACE, RELAY, EMAIL])),
    planted.filled_without_a_lease: Scenario(
        "the_cache_agrees_in_the_end", then=[(meanwhile, [Point.ENTRY_LOADED, QUOTE, REPRICE, CATALOG])]
    ),
    planted.forgotten_before_the_commit: Scenario(
        "the_cache_agrees_in_the_end", then=[(meanwhile, [Point.WORK_DONE, REPRICE, QUOTE])]
    ),
    planted.the_relay_has_nothing_forgotten: Scenario(
        "the_cache_agrees_in_the_end", (Point.COMMITTED, [QUOTE, REPRICE]), then=[CATALOG]
    ),
}


def named(bug: Plant) -> str:
    return bug.__name__


@pytest.mark.parametrize("bug", BUGS, ids=named)
def test_without_the_bug_nothing_is_found(small: SmallMesh, bug: Plant) -> None:
    assert {} == BUGS[bug].play(small, sound)


@pytest.mark.parametrize("bug", BUGS, ids=named)
def test_every_planted_bug_is_found_and_what_it_broke_is_named(small: SmallMesh, bug: Plant) -> None:
    broken = BUGS[bug].play(small, bug)

    assert BUGS[bug].found_by in broken, broken


def test_every_bug_that_there_is_was_planted() -> None:
    there = {name for name, each in vars(planted).items() if callable(each) and each.__module__ == planted.__name__}

    assert there - {"_replaced"} == {bug.__name__ for bug in BUGS}
