import random
import zlib
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from lb.endpoint import Endpoint
from lb.registry.backoff import MAXIMUM_S, MINIMUM_S, Backoff
from lb.registry.etcd import Change, Listing, News, Record
from lb.registry.keys import endpoint_key
from lb.registry.retention import Retention
from lb.registry.view import View
from tests.unit.lb import sample


def registered(*instances: str) -> dict[bytes, Endpoint]:
    """`orders-1` and so on, by their keys, each with a port of its own; `-orders-1` is about to leave."""
    found = {}
    for word in instances:
        name = word.removeprefix("-")
        service = name.rpartition("-")[0]
        endpoint = sample.endpoint(name, 4000 + zlib.crc32(name.encode()) % 10_000, service)
        found[endpoint_key(service, name)] = replace(endpoint, leaving=word != name)
    return found


def announced(retention: Retention, now: float, *instances: str) -> list[str]:
    return sorted(each.instance for each in retention.settle(registered(*instances), now).values())


def test_an_instance_that_leaves_others_behind_is_gone_at_once() -> None:
    retention = Retention(hold_s=10)
    announced(retention, 0, "orders-1", "orders-2")

    assert ["orders-2"] == announced(retention, 1, "orders-2")
    assert retention.next_deadline() is None


def test_the_last_instances_of_a_service_stay_for_a_while() -> None:
    retention = Retention(hold_s=10)
    announced(retention, 0, "orders-1", "orders-2", "catalog-1")

    assert ["catalog-1", "orders-1", "orders-2"] == announced(retention, 1, "catalog-1")
    assert 11 == retention.next_deadline()
    assert ["catalog-1", "orders-1", "orders-2"] == announced(retention, 10.9, "catalog-1")
    assert ["catalog-1"] == announced(retention, 11, "catalog-1")


def test_nothing_vanishes_while_etcd_is_not_trusted() -> None:
    retention = Retention(hold_s=10)
    announced(retention, 0, "orders-1", "orders-2")
    retention.distrust(5)

    assert ["orders-1", "orders-2"] == announced(retention, 6, "orders-2")
    assert ["orders-2"] == announced(retention, 16, "orders-2")


def test_what_comes_back_is_no_longer_on_a_clock() -> None:
    retention = Retention(hold_s=10)
    announced(retention, 0, "orders-1")
    announced(retention, 1)
    announced(retention, 5, "orders-1")

    assert ["orders-1"] == announced(retention, 100, "orders-1")
    assert retention.next_deadline() is None


def test_who_said_goodbye_is_gone_at_once_however_many_they_are() -> None:
    retention = Retention(hold_s=10)
    announced(retention, 0, "orders-1", "orders-2", "orders-3", "orders-4")
    retention.distrust(1)

    assert ["orders-4"] == announced(retention, 2, "-orders-1", "-orders-2", "-orders-3", "orders-4")
    assert ["orders-4"] == announced(retention, 3, "orders-4")


def test_the_last_one_is_still_called_after_its_goodbye_until_another_is_there() -> None:
    retention = Retention(hold_s=10)
    announced(retention, 0, "orders-1")

    assert ["orders-1"] == announced(retention, 1, "-orders-1")
    assert ["orders-1"] == announced(retention, 2)
    assert ["orders-2"] == announced(retention, 3, "orders-2")
    assert retention.next_deadline() is None


def test_the_goodbye_of_the_last_one_ends_after_a_while() -> None:
    retention = Retention(hold_s=10)
    announced(retention, 0, "orders-1")
    announced(retention, 1, "-orders-1")
    retention.answered(endpoint_key("orders", "orders-1"), 9)

    assert [] == announced(retention, 11)


def test_half_of_a_service_may_end_without_a_word_and_more_than_half_may_not() -> None:
    retention = Retention(hold_s=10)
    announced(retention, 0, "orders-1", "orders-2", "orders-3", "orders-4")

    assert ["orders-3", "orders-4"] == announced(retention, 1, "orders-3", "orders-4")
    assert ["orders-3", "orders-4"] == announced(retention, 2, "orders-4")
    assert 12 == retention.next_deadline()


def test_losses_one_by_one_add_up() -> None:
    retention = Retention(hold_s=10)
    names = [f"orders-{number}" for number in range(1, 5)]
    announced(retention, 0, *names)
    announced(retention, 1, *names[1:])
    announced(retention, 2, *names[2:])

    assert ["orders-3", "orders-4"] == announced(retention, 3, *names[3:])
    assert ["orders-3", "orders-4"] == announced(retention, 4)


def test_a_loss_that_is_long_past_does_not_count() -> None:
    retention = Retention(hold_s=10)
    announced(retention, 0, "orders-1", "orders-2", "orders-3")
    announced(retention, 1, "orders-2", "orders-3")

    assert ["orders-3"] == announced(retention, 20, "orders-3")


def test_what_answers_at_its_address_is_held_for_as_long_as_it_does() -> None:
    retention = Retention(hold_s=10, doubt_s=30)
    key = endpoint_key("orders", "orders-1")
    announced(retention, 0, "orders-1", "catalog-1")
    announced(retention, 1, "catalog-1")
    for now in range(5, 1000, 5):
        retention.answered(key, now)
        assert ["catalog-1", "orders-1"] == announced(retention, now, "catalog-1")

    assert ["catalog-1", "orders-1"] == announced(retention, 1004.9, "catalog-1")
    assert ["catalog-1"] == announced(retention, 1005, "catalog-1")


def test_what_nobody_can_tell_of_is_held_for_longer_but_not_for_ever() -> None:
    retention = Retention(hold_s=10, doubt_s=30)
    key = endpoint_key("orders", "orders-1")
    announced(retention, 0, "orders-1")
    announced(retention, 1)
    for now in range(5, 60, 5):
        retention.unclear(key, now)
        assert (["orders-1"] if now < 31 else []) == announced(retention, now)


def test_an_address_that_another_instance_has_is_not_held() -> None:
    retention = Retention(hold_s=10)
    one, two = sample.endpoint("orders-1", 4711), sample.endpoint("catalog-1", 4711, "catalog")
    retention.settle({endpoint_key("orders", "orders-1"): one}, 0)

    assert [two] == list(retention.settle({endpoint_key("catalog", "catalog-1"): two}, 1).values())


def test_what_was_announced_in_an_earlier_life_is_held_until_the_registry_had_its_time() -> None:
    retention = Retention(hold_s=10)
    retention.remember(registered("orders-1", "orders-2"), 0)

    assert ["orders-1", "orders-2"] == announced(retention, 1, "orders-2")
    assert ["orders-2"] == announced(retention, 11, "orders-2")


def test_the_last_ones_of_a_service_stay_while_etcd_is_not_trusted_and_go_once_it_is() -> None:
    retention = Retention(hold_s=10)
    retention.remember(registered("orders-1", "orders-2", "catalog-1", "catalog-2"), 0)
    announced(retention, 0)
    retention.answered(endpoint_key("catalog", "catalog-2"), 5)
    for now in range(1, 1000, 4):
        retention.distrust(now)
        announced(retention, now)

    assert ["catalog-2", "orders-1", "orders-2"] == announced(retention, 1000)
    assert 1007 == retention.next_deadline()
    assert [] == announced(retention, 1007)


def test_the_last_one_of_a_lane_is_not_kept_for_want_of_another() -> None:
    retention = Retention(hold_s=10)
    key = endpoint_key("orders", "orders-1")
    retention.remember({key: replace(sample.endpoint("orders-1", 4711), lane="blue")}, 0)
    announced(retention, 0)
    retention.distrust(9)

    assert [] == announced(retention, 10)


NAMES = ["a-1", "a-2", "a-3", "a-4", "b-1"]
STEPS = st.lists(st.tuples(st.frozensets(st.sampled_from(NAMES)), st.booleans()), min_size=1, max_size=12)


@given(STEPS)
def test_no_service_is_emptied_or_halved_within_the_time_of_the_hold(
    steps: list[tuple[frozenset[str], bool]],
) -> None:
    retention = Retention(hold_s=10)
    most: dict[str, int] = {}
    for now, (step, trouble) in enumerate(steps):
        if trouble:
            retention.distrust(now / 10)
        seen = announced(retention, now / 10, *step)
        assert step <= set(seen)
        for service in ("a", "b"):
            count = sum(name.startswith(service) for name in seen)
            most[service] = max(most.get(service, 0), count)
            assert 2 * count >= most[service]


@given(STEPS)
def test_what_is_not_registered_and_not_there_is_gone_in_the_end(steps: list[tuple[frozenset[str], bool]]) -> None:
    retention = Retention(hold_s=10)
    for now, (step, trouble) in enumerate(steps):
        if trouble:
            retention.distrust(now)
        announced(retention, now, *step)
    end = len(steps) + 100
    announced(retention, end - 50, "b-1")
    announced(retention, end - 25, "b-1")

    assert ["b-1"] == announced(retention, end, "b-1")
    assert retention.next_deadline() is None


@given(STEPS)
def test_a_goodbye_is_obeyed_while_others_serve_whatever_the_registry_does(
    steps: list[tuple[frozenset[str], bool]],
) -> None:
    retention = Retention(hold_s=10)
    for now, (step, trouble) in enumerate(steps):
        if trouble:
            retention.distrust(now)
        seen = announced(retention, now, *({*step, "a-2"} - {"a-1"}), "-a-1")
        assert "a-1" not in seen


@given(STEPS)
def test_what_nobody_can_tell_of_is_never_gone_before_the_doubt_has_ended(
    steps: list[tuple[frozenset[str], bool]],
) -> None:
    retention = Retention(hold_s=10, doubt_s=100)
    announced(retention, 0, *NAMES)
    for now, (step, _) in enumerate(steps, 1):
        retention.distrust(8 * now)
        for key in retention.held():
            retention.unclear(key, 8 * now)

        assert NAMES == announced(retention, 8 * now, *step)


def record(key: bytes, value: bytes, revision: int) -> Record:
    return Record(key, value, revision, lease=1)


def put_at(revision: int, key: bytes = b"a") -> Change:
    return Change(key, record(key, b"1", revision), revision, term=1)


def deleted_at(revision: int) -> Change:
    return Change(b"a", None, revision, term=1)


def test_an_event_the_list_already_knew_changes_nothing() -> None:
    view = View()
    view.adopt(Listing((record(b"a", b"2", 7),), revision=7, cluster=1, term=1))

    assert not view.apply([put_at(6), deleted_at(5)])
    assert b"2" == view.records()[b"a"].value


def test_events_after_the_list_are_applied_in_order() -> None:
    view = View()
    view.adopt(Listing((), revision=7, cluster=1, term=1))

    assert view.apply([put_at(8), put_at(9, b"b")])
    assert view.apply([deleted_at(10)])
    assert [b"b"] == list(view.records())
    assert 10 == view.revision


def test_a_list_from_another_history_is_recognised() -> None:
    view = View()
    first = Listing((), revision=23, cluster=1, term=1)
    assert not view.lost_by(first, since=0)
    view.adopt(first)

    assert view.lost_by(Listing((), revision=2, cluster=1, term=1), since=view.revision)
    assert view.lost_by(Listing((), revision=40, cluster=2, term=1), since=view.revision)
    assert not view.lost_by(Listing((), revision=23, cluster=1, term=1), since=view.revision)


def test_an_election_is_told_once_and_the_first_leader_known_is_none() -> None:
    view = View()

    assert [False, False, True, False, True] == [view.elected(term) for term in (4, 4, 5, 5, 4)]


def test_a_look_agrees_where_nothing_was_put_and_as_many_keys_are_there() -> None:
    view = View()
    view.adopt(Listing((record(b"a", b"1", 7),), revision=7, cluster=1, term=1))

    assert not view.agrees(News(changed=1, count=1, revision=9, cluster=1, term=1))
    assert not view.agrees(News(changed=0, count=0, revision=9, cluster=1, term=1))
    assert 7 == view.revision
    assert view.agrees(News(changed=0, count=1, revision=12, cluster=1, term=1))
    assert 12 == view.revision


def test_an_event_from_before_a_look_that_agreed_still_counts() -> None:
    view = View()
    view.adopt(Listing((), revision=7, cluster=1, term=1))
    view.agrees(News(changed=0, count=0, revision=10, cluster=1, term=1))  # put and deleted meanwhile

    assert view.apply([put_at(8)])
    assert view.apply([deleted_at(9)])
    assert {} == dict(view.records())
    assert 10 == view.revision


@given(st.integers())
def test_waits_are_bounded_and_grow_from_the_shortest(seed: int) -> None:
    backoff = Backoff(random.Random(seed))
    waits = [backoff.next() for _ in range(20)]
    backoff.reset()

    assert all(MINIMUM_S <= wait <= MAXIMUM_S for wait in waits)
    assert MINIMUM_S == waits[0] == backoff.next()
