"""What a call may have from the cache, and what is kept there when a replica had to answer."""

from collections.abc import Callable

import pytest

from svc.chassis.cached_reads import cached
from svc.chassis.clock import SystemClock
from svc.chassis.consistency import Consistency, Level, Mark, Session
from svc.chassis.context import CallContext, Deadline
from svc.chassis.errors import NotFound, Unavailable

EVENTUAL = Session(Consistency(Level.EVENTUAL))
STRONG = Session()


class Kept:
    """A cache whose values are a minute old."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}

    def get_or_load(self, call: CallContext, load: Callable[[], str], *, max_age_s: float) -> str:
        if call.cache_key not in self.values or max_age_s < 60:
            self.values[call.cache_key] = load()
        return self.values[call.cache_key]


def from_leader(_deadline: Deadline, session: Session | None) -> str:
    return "leader" if session is None else "anywhere"


def leader_away(_deadline: Deadline, session: Session | None) -> str:
    if session is None:
        raise Unavailable
    return "replica"


def read(kept: Kept, how: Callable[[Deadline, Session | None], str], session: Session = EVENTUAL) -> str:
    call = CallContext("/x", None, Deadline.after(5), b"", lambda: True, session=session, cache_key="mug")
    return cached(kept, call, how)


def test_a_miss_is_loaded_from_the_leader_and_kept() -> None:
    kept = Kept()

    assert ["leader", "leader"] == [read(kept, from_leader), read(kept, leader_away)]


def test_without_the_leader_a_replica_answers_and_nothing_is_kept() -> None:
    kept = Kept()

    assert "replica" == read(kept, leader_away)
    assert {} == kept.values
    assert "leader" == read(kept, from_leader)


def test_a_strong_read_goes_past_the_cache() -> None:
    kept = Kept()
    kept.values["mug"] = "old"

    assert "anywhere" == read(kept, from_leader, STRONG)
    assert {"mug": "old"} == kept.values


@pytest.mark.parametrize(("max_s", "expected"), [(30.0, "leader"), (65.0, "old")])
def test_the_cache_is_asked_for_what_is_new_enough(max_s: float, expected: str) -> None:
    kept = Kept()
    kept.values["mug"] = "old"

    assert expected == read(kept, from_leader, Session(Consistency(Level.BOUNDED, max_s)))


@pytest.mark.parametrize(("seconds_ago", "expected"), [(0, "anywhere"), (30, "leader"), (3600, "old")])
def test_who_has_written_is_not_served_what_may_be_older_than_the_write(seconds_ago: int, expected: str) -> None:
    kept = Kept()
    kept.values["mug"] = "old"
    written = Mark(position=1, time=int(SystemClock().now().timestamp()) - seconds_ago)

    session = Session(Consistency(Level.EVENTUAL), home="catalog", seen={"catalog": written})

    assert expected == read(kept, from_leader, session)


def test_what_a_replica_does_not_have_is_not_kept_as_missing() -> None:
    def nowhere(_deadline: Deadline, session: Session | None) -> str:
        raise Unavailable if session is None else NotFound(resource=("product", "products/mug"))

    class Negative(Kept):
        def get_or_load(self, call: CallContext, load: Callable[[], str], *, max_age_s: float) -> str:
            try:
                return super().get_or_load(call, load, max_age_s=max_age_s)
            except NotFound:
                self.values[call.cache_key] = "nothing"
                raise

    kept = Negative()
    with pytest.raises(NotFound):
        read(kept, nowhere)

    assert {} == kept.values
