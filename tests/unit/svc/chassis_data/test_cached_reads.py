"""What a call may have from the cache, and what is kept there when a replica had to answer."""

from collections.abc import Callable

import pytest

from svc.chassis.cached_reads import cached
from svc.chassis.consistency import Consistency, Level, Session
from svc.chassis.context import Deadline
from svc.chassis.errors import NotFound, Unavailable

EVENTUAL = Session(Consistency(Level.EVENTUAL))
STRONG = Session()


class Kept:
    """A cache that keeps everything, for 60 seconds as far as it knows."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}

    def serves(self, max_age_s: float) -> bool:
        return max_age_s >= 60

    def get_or_load(self, key: str, load: Callable[[], str]) -> str:
        if key not in self.values:
            self.values[key] = load()
        return self.values[key]


def from_leader(_deadline: Deadline, session: Session | None) -> str:
    return "leader" if session is None else "anywhere"


def leader_away(_deadline: Deadline, session: Session | None) -> str:
    if session is None:
        raise Unavailable
    return "replica"


def read(kept: Kept, how: Callable[[Deadline, Session | None], str], session: Session = EVENTUAL) -> str:
    return cached(kept, "mug", how, deadline=Deadline.after(5), session=session)


def test_a_miss_is_loaded_from_the_leader_and_kept() -> None:
    kept = Kept()

    assert ["leader", "leader"] == [read(kept, from_leader), read(kept, leader_away)]


def test_without_the_leader_a_replica_answers_and_nothing_is_kept() -> None:
    kept = Kept()

    assert "replica" == read(kept, leader_away)
    assert {} == kept.values
    assert "leader" == read(kept, from_leader)


def test_a_call_that_the_cache_is_too_old_for_goes_past_it() -> None:
    kept = Kept()
    kept.values["mug"] = "old"

    assert "anywhere" == read(kept, from_leader, STRONG)
    assert "anywhere" == read(kept, from_leader, Session(Consistency(Level.BOUNDED, 30.0)))
    assert {"mug": "old"} == kept.values


def test_what_a_replica_does_not_have_is_not_kept_as_missing() -> None:
    def nowhere(_deadline: Deadline, session: Session | None) -> str:
        raise Unavailable if session is None else NotFound(resource=("product", "products/mug"))

    class Negative(Kept):
        def get_or_load(self, key: str, load: Callable[[], str]) -> str:
            try:
                return super().get_or_load(key, load)
            except NotFound:
                self.values[key] = "nothing"
                raise

    kept = Negative()
    with pytest.raises(NotFound):
        read(kept, nowhere)

    assert {} == kept.values
