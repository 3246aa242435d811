"""Whether a run kept the invariants: pure functions over its history and the books at its end.

Each names what it found, one line each; none found is what a check wants. A run in which a fault did not bite, or in
which nobody called while it did, has shown nothing: it is vacuous, and not passed.
"""

import enum
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tests.chaos.history import FAIL, INFO, OK, Books, Event, Operation, operations
from tests.chaos.observed import (
    events_of_a_key_leave_in_their_order,
    order_and_event_are_there_together_at_every_look,
    reads_are_as_new_as_declared,
    stock_is_conserved_at_every_look,
    the_cache_agrees_in_the_end,
    the_cache_is_no_older_than_it_may_be,
    transactions_are_serializable,
    unanswered,
    what_was_acknowledged_is_there_at_every_look,
)
from tests.chaos.schedule import Schedule

#: How long after a fault a call still shows what it did, in seconds.
AFTER_S: Final = 5.0
#: Of each of these a run needs some that were answered.
ANSWERED: Final = ("place", "read", "intrude", "look", "reprice", "quote", "cached", "balance", "lists")
REFUSALS: Final = frozenset({"UNAUTHENTICATED", "PERMISSION_DENIED"})
SHOWN_MAX: Final = 20


def stock_is_conserved(history: Sequence[Event], books: Books) -> Iterator[str]:
    """Opening stock is what is left and what stands in orders."""
    standing: Counter[str] = Counter()
    for order in books.orders.values():
        for product, quantity in order.items.items():
            standing[product] += quantity - order.taken_back.get(product, 0)
    for each in operations(history, "open"):
        product, opening = each.asked["product"], each.asked["quantity"]
        left = books.stock.get(product)
        if left is None or left + standing[product] != opening:
            yield f"{product}: opened with {opening}, {left} left, {standing[product]} in orders"


def what_was_acknowledged_is_there(history: Sequence[Event], books: Books) -> Iterator[str]:
    """An order that was answered is in the books as it was ordered, and can be read from then on."""
    for each in operations(history, "place"):
        if each.outcome != OK:
            continue
        name, order = each.said["order"], books.orders.get(each.said["order"])
        if order is None:
            yield f"{name} was acknowledged and is lost"
        elif (order.customer, dict(order.items)) != (each.asked["customer"], dict(each.asked["items"])):
            yield f"{name} is not what was ordered: {dict(order.items)} for {order.customer}"
    for each in operations(history, "read"):
        if each.outcome == FAIL:
            yield f"{each.asked['order']} was acknowledged, and reading it failed: {each.said.get('code')}"


def what_was_taken_back_is_there(history: Sequence[Event], books: Books) -> Iterator[str]:
    """Of each order so much is taken back as was acknowledged, and no more than was asked for."""
    least: dict[str, Counter[str]] = {}
    most: dict[str, Counter[str]] = {}
    for attempts in _by_key(operations(history, "cancel")).values():
        asked, outcomes = attempts[0].asked, {each.outcome for each in attempts}
        if OK in outcomes:
            least.setdefault(asked["order"], Counter()).update(asked["items"])
        if OK in outcomes or INFO in outcomes:
            most.setdefault(asked["order"], Counter()).update(asked["items"])
    for name, order in books.orders.items():
        for product in order.items:
            found = order.taken_back.get(product, 0)
            low, high = (bound.get(name, Counter())[product] for bound in (least, most))
            if not low <= found <= high:
                yield f"{name}: {found} of {product} taken back; {low} acknowledged, {high} asked for"


def nothing_is_there_that_nobody_asked_for(history: Sequence[Event], books: Books) -> Iterator[str]:
    """An order that was not acknowledged belongs to a call that nobody knows the end of, each call to one at most."""
    acknowledged, open_calls = set(), Counter[tuple[Any, ...]]()
    for attempts in _by_key(operations(history, "place")).values():
        outcomes = {each.outcome for each in attempts}
        acknowledged |= {each.said["order"] for each in attempts if each.outcome == OK}
        if OK not in outcomes and INFO in outcomes:
            open_calls[_shape(attempts[0].asked["customer"], attempts[0].asked["items"])] += 1
    for name, order in books.orders.items():
        if name in acknowledged:
            continue
        shape = _shape(order.customer, order.items)
        if open_calls[shape] == 0:
            yield f"{name} is there, and no call of {order.customer} is left that could have ordered it"
        open_calls[shape] -= 1


def a_repetition_gets_the_first_answer(history: Sequence[Event], books: Books) -> Iterator[str]:
    """One key, one order; one order, one key."""
    keys: dict[str, set[str]] = {}
    for key, attempts in _by_key(operations(history, "place")).items():
        orders = {each.said["order"] for each in attempts if each.outcome == OK}
        if len(orders) > 1:
            yield f"the key {key} was answered with {', '.join(sorted(orders))}"
        for order in orders:
            keys.setdefault(order, set()).add(key)
    for order, those in keys.items():
        if len(those) > 1:
            yield f"{order} was the answer to {len(those)} keys"


def every_event_is_audited_once(history: Sequence[Event], books: Books) -> Iterator[str]:
    """Each order has one event, each event one record, and there is no record of anything else."""
    placed = Counter(order for _, order in books.placed)
    for order in books.orders:
        if placed[order] != 1:
            yield f"{order} has {placed[order]} events that say it was placed"
    for order in placed.keys() - books.orders.keys():
        yield f"{order} was placed, says an event, and is not there"
    records = Counter(books.audited)
    for event in books.events:
        if records[event] != 1:
            yield f"the event {event} has {records[event]} audit records"
    for event in records.keys() - set(books.events):
        yield f"the audit log holds {event}, which is in no outbox"


def every_order_is_counted_once(history: Sequence[Event], books: Books) -> Iterator[str]:
    """The roll-up has as many orders as there are."""
    if books.counted != len(books.orders):
        yield f"{len(books.orders)} orders, {books.counted} in the roll-up"


def every_order_is_confirmed_once(history: Sequence[Event], books: Books) -> Iterator[str]:
    """One mail for each placed order. A second copy may be sent; it carries the same Message-ID, so it is the same."""
    expected, sent = {event for event, _ in books.placed}, set(books.mailed)
    yield from (f"the event {event} led to no mail" for event in sorted(expected - sent))
    yield from (f"a mail names {event}, which placed no order" for event in sorted(sent - expected))


def nobody_gets_in(history: Sequence[Event], books: Books) -> Iterator[str]:
    """Calls that nobody may make are refused, whatever is broken, and for the right reason."""
    for each in operations(history, "intrude"):
        if each.outcome == OK:
            yield f"a call {each.asked['how']} was let in"
        elif each.outcome == FAIL and each.said["code"] not in REFUSALS:
            yield f"a call {each.asked['how']} was answered with {each.said['code']}"


def endpoints_never_vanish(history: Sequence[Event], books: Books) -> Iterator[str]:
    """Whatever happens to the registry, no control plane says that a service that was there has no instance."""
    seen: set[str] = set()
    for each in operations(history, "look"):
        services: Mapping[str, int] = each.said.get("services", {}) if each.outcome == OK else {}
        for service, endpoints in services.items():
            if endpoints == 0 and service in seen:
                yield f"{service} had no endpoint after {each.ended_s:.1f} s"
            elif endpoints:
                seen.add(service)


Check = Callable[[Sequence[Event], Books], Iterator[str]]

#: What is wrong as soon as it was seen, however the run goes on.
DURING: Final[tuple[Check, ...]] = (
    stock_is_conserved_at_every_look,
    what_was_acknowledged_is_there_at_every_look,
    order_and_event_are_there_together_at_every_look,
    transactions_are_serializable,
    the_cache_is_no_older_than_it_may_be,
    reads_are_as_new_as_declared,
    a_repetition_gets_the_first_answer,
    nobody_gets_in,
    endpoints_never_vanish,
)
CHECKS: Final[tuple[Check, ...]] = (
    *DURING,
    the_cache_agrees_in_the_end,
    events_of_a_key_leave_in_their_order,
    stock_is_conserved,
    what_was_acknowledged_is_there,
    what_was_taken_back_is_there,
    nothing_is_there_that_nobody_asked_for,
    every_event_is_audited_once,
    every_order_is_counted_once,
    every_order_is_confirmed_once,
)


class State(enum.StrEnum):
    """What a run has shown."""

    PASSED = "passed"
    BROKEN = "broken"
    VACUOUS = "vacuous"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a run has shown, and why."""

    state: State
    broken: Mapping[str, Sequence[str]]
    """What each check that found anything found."""
    vacuous: Sequence[str]

    def lines(self) -> list[str]:
        """For people: what is wrong, at most SHOWN_MAX of each kind."""
        said = []
        for check, problems in self.broken.items():
            said.append(f"broken: {check.replace('_', ' ')}: {len(problems)}")
            said += [f"  {problem}" for problem in problems[:SHOWN_MAX]]
        return said + [f"vacuous: {reason}" for reason in self.vacuous[:SHOWN_MAX]]


def judge(schedule: Schedule, history: Sequence[Event], books: Books) -> Verdict:
    """Run every check. What is broken is broken, however little else the run has shown."""
    broken = find(history, books)
    vacuous = list(emptiness(schedule, history))
    state = State.BROKEN if broken else State.VACUOUS if vacuous else State.PASSED
    return Verdict(state, broken, vacuous)


def find(history: Sequence[Event], books: Books, checks: Sequence[Check] = CHECKS) -> Mapping[str, Sequence[str]]:
    """What each check that finds anything finds."""
    found = {check.__name__: list(check(history, books)) for check in checks}
    return {name: problems for name, problems in found.items() if problems}


def emptiness(schedule: Schedule, history: Sequence[Event]) -> Iterator[str]:
    """Why a run has shown nothing: faults that did not bite, or that nobody was there to notice."""
    if not schedule.faults:
        yield "nothing was done to the mesh"
    done = {each.asked["step"]: each for each in operations(history, "fault")}
    calls = operations(history, "place", "cancel", "read")
    for number, step in enumerate(schedule.faults):
        what, fault = f"{step.fault} of {step.target} at {step.at_s:g} s", done.get(number)
        if fault is None or fault.outcome != OK:
            yield f"{what} did not bite: {fault.said.get('why', 'nobody knows') if fault else 'it was not done'}"
        elif not any(call.began_s <= fault.ended_s + AFTER_S and call.ended_s >= fault.began_s for call in calls):
            yield f"{what}: nobody called"
    yield from unanswered(history, *ANSWERED)


def _by_key(found: Sequence[Operation]) -> Mapping[str, list[Operation]]:
    by_key: dict[str, list[Operation]] = {}
    for each in found:
        by_key.setdefault(each.asked["key"], []).append(each)
    return by_key


def _shape(customer: str, items: Mapping[str, int]) -> tuple[Any, ...]:
    return customer, *sorted(items.items())
