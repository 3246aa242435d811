"""The checks pass what is right, catch five bugs of a simulated shop, and each names its own kind of damage."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from tests.chaos import schedule
from tests.chaos.check import CHECKS, State, judge
from tests.chaos.history import FAIL, INFO, INVOKE, OK, Books, Event, Order
from tests.chaos.observed import HEALED_S
from tests.chaos.schedule import Schedule
from tests.unit.chaos.simulated import PRICED, Bug, simulated

SECONDS = 60.0
SEEDS = range(25)

#: The check that has to find each bug; others may find it as well.
FOUND_BY = {
    Bug.DELETED_BEFORE_COMMIT: "every_event_is_audited_once",
    Bug.ANSWERED_BEFORE_COMMIT: "what_was_acknowledged_is_there",
    Bug.STOCK_TAKEN_TWICE: "stock_is_conserved",
    Bug.OUTBOX_ROW_LOST: "every_event_is_audited_once",
    Bug.ENDPOINTS_EMPTIED: "endpoints_never_vanish",
}


def planned(seed: int) -> Schedule:
    return schedule.make(seed, seconds=SECONDS)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_shop_that_only_crashes_passes(seed: int) -> None:
    verdict = judge(planned(seed), *simulated(planned(seed), Bug.NONE))

    assert ([], State.PASSED) == (verdict.lines(), verdict.state)


@pytest.mark.parametrize("bug", FOUND_BY)
def test_every_planted_bug_is_caught_by_every_seed(bug: Bug) -> None:
    verdicts = [judge(planned(seed), *simulated(planned(seed), bug)) for seed in SEEDS]

    assert {State.BROKEN} == {verdict.state for verdict in verdicts}
    assert all(FOUND_BY[bug] in verdict.broken for verdict in verdicts)


History = Sequence[Event]
Damage = Callable[[History, Books], tuple[History, Books]]


def _changed(**changes: Callable[[Books], object]) -> Damage:
    return lambda history, books: (history, replace(books, **{name: make(books) for name, make in changes.items()}))


def _more(*events: tuple[str, dict[str, object], str, dict[str, object]]) -> Damage:
    """The history goes on with these operations."""

    def damage(history: History, books: Books) -> tuple[History, Books]:
        at_s, number, added = history[-1].at_s, history[-1].op, list[Event]()
        for name, asked, outcome, said in events:
            number += 1
            added += [Event(at_s, number, INVOKE, name, asked), Event(at_s, number, outcome, name, said)]
        return [*history, *added], books

    return damage


def _without_first_order(books: Books) -> dict[str, Order]:
    return dict(list(books.orders.items())[1:])


def _with_stranger(books: Books) -> dict[str, Order]:
    return {**books.orders, "orders/x": Order("carl", {"p-1": 1}, {})}


def _placed(key: str, order: str) -> tuple[str, dict[str, object], str, dict[str, object]]:
    return "place", {"customer": "ann", "key": key, "items": {"p-1": 1}}, OK, {"order": order}


def _cancelled(outcome: str, quantity: int) -> Damage:
    def damage(history: History, books: Books) -> tuple[History, Books]:
        name, order = next(iter(books.orders.items()))
        product = next(iter(order.items))
        asked: dict[str, object] = {"customer": "ann", "key": "c", "order": name, "items": {product: 1}}
        taken = replace(order, taken_back={product: quantity})
        stock = {**books.stock, product: books.stock[product] + quantity}
        changed = replace(books, orders={**books.orders, name: taken}, stock=stock)
        return _more(("cancel", asked, outcome, {}))(history, changed)

    return damage


NOTHING_SEEN: dict[str, object] = {"off": {}, "new": [], "gone": [], "eventless": [], "orderless": []}


def _seen(**said: object) -> Damage:
    return _more(("balance", {}, OK, {**NOTHING_SEEN, **said}))


def _gone(history: History, books: Books) -> tuple[History, Books]:
    return _seen(gone=[next(iter(books.orders))])(history, books)


def _transactions(*steps: list[list[object]]) -> Damage:
    return _more(*(("lists", {"steps": each}, OK, {"steps": each}) for each in steps))


def _entry_left_behind(history: History, books: Books) -> tuple[History, Books]:
    """A price changes, and long afterwards the entry of before is still there."""
    history, books = _more(("reprice", {"product": PRICED}, OK, {"version": 1000}))(history, books)
    at_s, number = history[-1].at_s + HEALED_S + 1, history[-1].op + 1
    said = {"entries": [["c", PRICED, "version 1"]]}
    return [*history, Event(at_s, number, INVOKE, "cached"), Event(at_s, number, OK, "cached", said)], books


def _read(version: int, least: int) -> Damage:
    return _more(("quote", {"product": PRICED, "bound_s": 65, "least": least}, OK, {"version": version}))


@pytest.mark.parametrize(
    ("check", "damage"),
    [
        ("stock_is_conserved_at_every_look", _seen(off={"p-1": -1})),
        ("what_was_acknowledged_is_there_at_every_look", _gone),
        ("order_and_event_are_there_together_at_every_look", _seen(eventless=["orders/x"])),
        ("order_and_event_are_there_together_at_every_look", _seen(orderless=["orders/x"])),
        (
            "transactions_are_serializable",
            _transactions(
                [["read", "x", []], ["append", "y", 1]],
                [["read", "y", []], ["append", "x", 2]],
                [["read", "x", [2]], ["read", "y", [1]]],
            ),
        ),
        ("transactions_are_serializable", _changed(lists=lambda books: {"a": books.lists["a"][1:]})),
        ("the_cache_is_no_older_than_it_may_be", _entry_left_behind),
        ("the_cache_is_no_older_than_it_may_be", _more(("cached", {}, OK, {"entries": [["c", PRICED, "foreign"]]}))),
        ("reads_are_as_new_as_declared", _read(6, least=7)),
        ("the_cache_agrees_in_the_end", _changed(cached=lambda books: [("c", PRICED, "version 1")])),
        ("the_cache_agrees_in_the_end", _changed(cached=lambda books: [("c", PRICED, "absent")])),
        ("events_of_a_key_leave_in_their_order", _changed(left=lambda books: [("orders/1", 2), ("orders/1", 1)])),
        ("stock_is_conserved", _changed(stock=lambda books: {**books.stock, "p-1": books.stock["p-1"] + 1})),
        ("stock_is_conserved", _changed(stock=lambda books: {"p-1": books.stock["p-1"]})),
        ("what_was_acknowledged_is_there", _changed(orders=_without_first_order)),
        ("what_was_acknowledged_is_there", _more(("read", {"order": "orders/1"}, FAIL, {"code": "NOT_FOUND"}))),
        ("what_was_taken_back_is_there", _cancelled(OK, 0)),
        ("what_was_taken_back_is_there", _cancelled(INFO, 2)),
        ("what_was_taken_back_is_there", _cancelled(FAIL, 1)),
        ("nothing_is_there_that_nobody_asked_for", _changed(orders=_with_stranger)),
        ("a_repetition_gets_the_first_answer", _more(_placed("k", "orders/y"), _placed("k", "orders/z"))),
        ("a_repetition_gets_the_first_answer", _more(_placed("k", "orders/y"), _placed("l", "orders/y"))),
        ("every_event_is_audited_once", _changed(audited=lambda books: books.audited[1:])),
        ("every_event_is_audited_once", _changed(audited=lambda books: [*books.audited, books.audited[0]])),
        ("every_event_is_audited_once", _changed(audited=lambda books: [*books.audited, "stranger"])),
        ("every_event_is_audited_once", _changed(placed=lambda books: [*books.placed, books.placed[0]])),
        ("every_order_is_counted_once", _changed(counted=lambda books: books.counted + 1)),
        ("every_order_is_confirmed_once", _changed(mailed=lambda books: list(set(books.mailed))[1:])),
        ("every_order_is_confirmed_once", _changed(mailed=lambda books: [*books.mailed, "stranger"])),
        ("nobody_gets_in", _more(("intrude", {"how": "without a token"}, OK, {}))),
        ("nobody_gets_in", _more(("intrude", {"how": "without a token"}, FAIL, {"code": "INTERNAL"}))),
        ("endpoints_never_vanish", _more(("look", {}, OK, {"services": {"orders": 0}}))),
    ],
)
def test_each_check_finds_its_own_kind_of_damage(check: str, damage: Damage) -> None:
    verdict = judge(planned(1), *damage(*simulated(planned(1), Bug.NONE)))

    assert State.BROKEN is verdict.state
    assert check in verdict.broken, verdict.lines()


@pytest.mark.parametrize("outcome", [OK, INFO])
def test_pieces_that_were_taken_back_are_in_stock_again(outcome: str) -> None:
    verdict = judge(planned(1), *_cancelled(outcome, 1)(*simulated(planned(1), Bug.NONE)))

    assert ([], State.PASSED) == (verdict.lines(), verdict.state)


def test_every_check_is_shown_to_find_something() -> None:
    marks = test_each_check_finds_its_own_kind_of_damage.pytestmark  # type: ignore[attr-defined]

    assert {check.__name__ for check in CHECKS} == {check for check, _ in marks[0].args[1]}


def _unbitten(event: Event) -> Event:
    return replace(event, event=FAIL, value={"why": "it was gone"}) if event.event == OK else event


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda history: [_unbitten(each) if each.name == "fault" else each for each in history], "it was gone"),
        (lambda history: [each for each in history if each.name != "fault"], "it was not done"),
        (lambda history: [each for each in history if each.name not in ("place", "read")], "nobody called"),
        (lambda history: [each for each in history if each.name != "intrude"], "no `intrude` was answered"),
        (lambda history: [each for each in history if each.name != "look"], "no `look` was answered"),
        (lambda history: [each for each in history if each.name != "cached"], "no `cached` was answered"),
        (lambda history: [each for each in history if each.name != "lists"], "no `lists` was answered"),
    ],
)
def test_a_run_that_shows_nothing_is_not_passed(change: Callable[[History], History], says: str) -> None:
    history, books = simulated(planned(1), Bug.NONE)
    nothing = replace(books, orders={}, placed=[], events=[], audited=[], mailed=[], counted=0)
    history = change(history)
    called = any(each.name == "place" for each in history)
    stock = books.stock if called else dict.fromkeys(books.stock, 500)

    verdict = judge(planned(1), history, books if called else replace(nothing, stock=stock))

    assert State.VACUOUS is verdict.state, verdict.lines()
    assert any(says in reason for reason in verdict.vacuous)


def test_what_is_broken_is_broken_though_a_fault_did_not_bite() -> None:
    history, books = simulated(planned(1), Bug.STOCK_TAKEN_TWICE)

    verdict = judge(planned(1), [each for each in history if each.name != "fault"], books)

    assert State.BROKEN is verdict.state
    assert any(line.startswith("broken: stock is conserved: ") for line in verdict.lines())
    assert any(line.startswith("vacuous: ") for line in verdict.lines())
