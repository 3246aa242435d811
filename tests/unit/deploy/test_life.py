"""The life of a part, as a pure machine, and the wait before it starts again."""

import random
from datetime import UTC, datetime

import pytest

from deploy.supervisor import backoff
from deploy.supervisor.life import (
    DEATHS_MAX,
    DEATHS_WITHIN_S,
    MISSES_MAX,
    REFUSING_MAX_S,
    SILENCE_S,
    SOON_S,
    Life,
    State,
    Verdict,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATER = datetime(2026, 1, 1, 0, 1, tzinfo=UTC)


def ready(at: float = 0.0) -> Life:
    return Life(since=NOW).started(7, now=NOW).ready(at=at, now=NOW)


def test_a_part_is_down_then_starting_then_ready() -> None:
    life = Life(since=NOW)
    states = [life.state, life.started(7, now=NOW).state, ready().state]

    assert [State.DOWN, State.STARTING, State.READY] == states


def test_the_first_start_is_no_restart() -> None:
    once = ready()
    twice = once.exited(at=1.0, now=NOW).started(8, now=NOW)

    assert (0, 1) == (once.restarts, twice.restarts)


def test_a_part_that_is_gone_has_no_pid() -> None:
    gone = ready().exited(at=1.0, now=LATER)

    assert (State.DOWN, None, LATER) == (gone.state, gone.pid, gone.since)


def test_since_does_not_move_while_the_state_stays() -> None:
    assert NOW == ready().ready(at=60.0, now=LATER).since


def test_deaths_in_a_row_are_counted() -> None:
    life = Life(since=NOW)
    for pid in (1, 2, 3):
        life = life.started(pid, now=NOW).exited(at=0.0, now=NOW)

    assert 3 == life.failures


def test_a_death_after_a_long_good_time_starts_counting_afresh() -> None:
    shaky = ready().exited(at=1.0, now=NOW).started(8, now=NOW).ready(at=2.0, now=NOW)

    assert 2 == shaky.exited(at=2.0 + backoff.STABLE_S - 1, now=NOW).failures
    assert 1 == shaky.exited(at=2.0 + backoff.STABLE_S, now=NOW).failures


def test_who_makes_place_as_asked_has_not_failed() -> None:
    shaky = ready().exited(at=1.0, now=NOW).started(8, now=NOW).ready(at=2.0, now=NOW)

    assert 0 == shaky.exited(at=3.0, now=NOW, asked=True).failures


def test_refusing_work_is_draining_and_ends_when_it_takes_work_again() -> None:
    refusing = ready().refusing(at=1.0, now=LATER)

    assert (State.DRAINING, LATER) == (refusing.state, refusing.since)
    assert State.READY is refusing.ready(at=2.0, now=LATER).state


def test_silence_counts_as_hung_only_when_it_lasts() -> None:
    life = ready()
    verdicts = []
    for _ in range(MISSES_MAX):
        life = life.missed(asked=1.0)
        verdicts.append(life.verdict(at=1.0 + SILENCE_S))

    assert [Verdict.KEEP, Verdict.KEEP, Verdict.HUNG] == verdicts


@pytest.mark.parametrize("answer", ["ready", "refusing"])
def test_any_answer_forgives_earlier_silence(answer: str) -> None:
    silent = ready().missed(asked=1.0).missed(asked=2.0)
    heard = silent.ready(at=1.0, now=NOW) if answer == "ready" else silent.refusing(at=1.0, now=NOW)

    assert Verdict.KEEP is heard.missed(asked=3.0).verdict(at=9.0)


def test_refusing_work_for_too_long_counts_as_stuck() -> None:
    refusing = ready().refusing(at=10.0, now=NOW).refusing(at=20.0, now=NOW)

    assert Verdict.KEEP is refusing.verdict(at=10.0 + REFUSING_MAX_S)
    assert Verdict.STUCK is refusing.verdict(at=10.1 + REFUSING_MAX_S)


def test_a_new_process_is_not_blamed_for_the_old_one() -> None:
    hung = ready().missed(asked=1.0).missed(asked=2.0).missed(asked=3.0)

    assert Verdict.KEEP is hung.exited(at=1.0, now=NOW).started(8, now=NOW).verdict(at=1000.0)


def test_the_wait_doubles_up_to_a_ceiling_and_is_anything_below() -> None:
    rng = random.Random(1)
    for failures in range(1, 40):
        bound = min(backoff.CEILING_S, backoff.FIRST_S * 2 ** (failures - 1))
        delays = [backoff.delay_s(failures, rng) for _ in range(200)]

        assert 0.0 <= min(delays) < bound / 10
        assert bound * 0.9 < max(delays) <= bound


def looping(times: int, *, every: float = 1.0) -> Life:
    """A part that died so often, each time soon after its start."""
    life = Life(since=NOW)
    for number in range(times):
        life = life.started(7, now=NOW).exited(at=number * every, now=NOW, reason="exit code 1")
    return life


def test_a_part_that_dies_again_and_again_is_in_quarantine_and_says_why() -> None:
    assert (False, True) == (looping(DEATHS_MAX - 1).quarantined, looping(DEATHS_MAX).quarantined)
    assert "exit code 1" == looping(DEATHS_MAX).reason


def test_deaths_far_from_each_other_are_no_loop() -> None:
    assert not looping(3 * DEATHS_MAX, every=DEATHS_WITHIN_S / (DEATHS_MAX - 1) + 1).quarantined


def test_a_part_that_served_for_a_while_does_not_loop() -> None:
    life = looping(DEATHS_MAX - 1).started(7, now=NOW).ready(at=10.0, now=NOW)

    assert not life.exited(at=10.0 + SOON_S, now=NOW).started(8, now=NOW).exited(at=22.0, now=NOW).quarantined


def test_what_an_operator_ends_is_not_held_against_it() -> None:
    life = Life(since=NOW)
    for at in range(2 * DEATHS_MAX):
        life = life.started(7, now=NOW).exited(at=float(at), now=NOW, asked=True)

    assert (0, False) == (life.failures, life.quarantined)


def test_quarantine_ends_when_it_has_been_ready_for_long_enough() -> None:
    tried = looping(DEATHS_MAX).started(7, now=NOW).ready(at=100.0, now=NOW)

    assert tried.ready(at=99.0 + backoff.STABLE_S, now=NOW).quarantined
    assert not tried.ready(at=100.0 + backoff.STABLE_S, now=NOW).quarantined


def test_one_more_death_in_quarantine_keeps_it_there() -> None:
    again = looping(DEATHS_MAX).started(7, now=NOW).ready(at=100.0, now=NOW).exited(at=101.0, now=NOW)

    assert again.quarantined


def test_quarantine_ends_when_an_operator_says_so() -> None:
    assert (False, 0, ()) == (
        looping(DEATHS_MAX).forgiven().quarantined,
        looping(DEATHS_MAX).forgiven().failures,
        looping(DEATHS_MAX).forgiven().deaths,
    )


def test_refused_connections_are_quick_and_need_some_time_to_count() -> None:
    life = ready()
    for number in range(MISSES_MAX):
        life = life.missed(asked=1.0 + number / 100)

    assert Verdict.KEEP is life.verdict(at=1.1)
    assert Verdict.HUNG is life.verdict(at=1.0 + SILENCE_S)


def test_a_process_that_leaves_closes_its_port_and_is_not_hung() -> None:
    leaving = ready().refusing(at=1.0, now=NOW)
    for _ in range(MISSES_MAX):
        leaving = leaving.missed(asked=2.0)

    assert Verdict.KEEP is leaving.verdict(at=2.0 + SILENCE_S)


def test_nothing_failed_means_no_wait() -> None:
    assert 0.0 == backoff.delay_s(0, random.Random(1))
