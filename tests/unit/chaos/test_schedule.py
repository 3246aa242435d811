"""A schedule is its seed's, whole, and always ends in the same way."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.chaos import schedule
from tests.chaos.schedule import ENDING, FREEZE_S, FREEZE_SINGLE_S, SINGLE, Fault, Target


@given(st.integers(0, 1 << 32), st.floats(schedule.SECONDS_MIN, 600))
def test_a_schedule_hurts_in_bounds_and_ends_with_healing_and_reading(seed: int, seconds: float) -> None:
    made = schedule.make(seed, seconds=seconds)

    assert made == schedule.make(seed, seconds=seconds)
    assert made.faults
    assert list(ENDING) == [step.fault for step in made.steps[-4:]]
    assert all(step.at_s == seconds and step.target is None for step in made.steps[-4:])
    assert (*made.faults, *made.steps[-4:]) == made.steps
    assert sorted(step.at_s for step in made.faults) == [step.at_s for step in made.faults]
    for step in made.faults:
        longest = FREEZE_SINGLE_S if step.target in SINGLE else FREEZE_S
        assert (0 < step.duration_s <= longest) if step.fault is Fault.FREEZE else step.duration_s == 0
        assert step.at_s + step.duration_s <= seconds


def test_another_process_makes_the_same_schedule_of_a_seed() -> None:
    program = "from tests.chaos import schedule; print(schedule.make(7, seconds=60))"
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)

    assert f"{schedule.make(7, seconds=60)}\n" == said.stdout


def test_seeds_differ_and_together_do_everything_to_everything() -> None:
    made = [schedule.make(seed, seconds=120) for seed in range(40)]

    assert len(made) == len({each.steps for each in made})
    done = {(step.fault, step.target) for each in made for step in each.faults}
    assert {(fault, target) for fault in schedule.FAULTS for target in set(Target) - {Target.LEADER}} == done


def test_leaders_are_killed_where_there_are_any_and_never_otherwise() -> None:
    made = [schedule.make(seed, seconds=120, ha=True) for seed in range(40)]

    assert {Fault.KILL} == {step.fault for each in made for step in each.faults if step.target is Target.LEADER}
    assert set(Target) == {step.target for each in made for step in each.faults}


def test_a_schedule_too_short_for_a_fault_is_refused() -> None:
    with pytest.raises(ValueError, match="give 15 or more"):
        schedule.make(1, seconds=14.9)
