import random

from hypothesis import given
from hypothesis import strategies as st

from lb.endpoint import Endpoint
from lb.registry.backoff import MAXIMUM_S, MINIMUM_S, Backoff
from lb.registry.etcd import Change, Listing, Record
from lb.registry.keys import endpoint_key
from lb.registry.retention import Retention
from lb.registry.view import View
from tests.unit.lb import sample


def registered(*instances: str) -> dict[bytes, Endpoint]:
    """`orders-1` and so on, by their keys."""
    found = {}
    for name in instances:
        service = name.rpartition("-")[0]
        found[endpoint_key(service, name)] = sample.endpoint(name, 4711, service)
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


@given(st.lists(st.frozensets(st.sampled_from(["a-1", "a-2", "b-1"])), min_size=1, max_size=10))
def test_a_service_is_never_left_without_endpoints_by_one_step(steps: list[frozenset[str]]) -> None:
    retention = Retention(hold_s=10)
    before: set[str] = set()
    for now, step in enumerate(steps):
        after = {name.split("-")[0] for name in announced(retention, now / 10, *step)}
        assert before <= after
        before = after


def record(key: bytes, value: bytes, revision: int) -> Record:
    return Record(key, value, revision, lease=1)


def test_an_event_the_list_already_knew_changes_nothing() -> None:
    view = View()
    view.adopt(Listing((record(b"a", b"2", 7),), revision=7, cluster=1))

    assert not view.apply([Change(b"a", record(b"a", b"1", 6), 6), Change(b"a", None, 5)])
    assert b"2" == view.records()[b"a"].value


def test_events_after_the_list_are_applied_in_order() -> None:
    view = View()
    view.adopt(Listing((), revision=7, cluster=1))

    assert view.apply([Change(b"a", record(b"a", b"1", 8), 8), Change(b"b", record(b"b", b"1", 9), 9)])
    assert view.apply([Change(b"a", None, 10)])
    assert [b"b"] == list(view.records())
    assert 10 == view.revision


def test_a_list_from_another_history_is_recognised() -> None:
    view = View()
    first = Listing((), revision=23, cluster=1)
    assert not view.lost_by(first, since=0)
    view.adopt(first)

    assert view.lost_by(Listing((), revision=2, cluster=1), since=view.revision)
    assert view.lost_by(Listing((), revision=40, cluster=2), since=view.revision)
    assert not view.lost_by(Listing((), revision=23, cluster=1), since=view.revision)


def test_a_list_that_events_have_overtaken_says_nothing_about_the_watch() -> None:
    view = View()
    view.adopt(Listing((), revision=7, cluster=1))
    view.apply([Change(b"a", record(b"a", b"1", 9), 9)])

    assert not view.missed(Listing((), revision=8, cluster=1))
    assert view.missed(Listing((), revision=9, cluster=1))
    assert not view.missed(Listing((record(b"a", b"1", 9),), revision=12, cluster=1))


@given(st.integers())
def test_waits_are_bounded_and_grow_from_the_shortest(seed: int) -> None:
    backoff = Backoff(random.Random(seed))
    waits = [backoff.next() for _ in range(20)]
    backoff.reset()

    assert all(MINIMUM_S <= wait <= MAXIMUM_S for wait in waits)
    assert MINIMUM_S == waits[0] == backoff.next()
