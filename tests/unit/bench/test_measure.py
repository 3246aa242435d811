"""How costs are read from /proc and put side by side."""

import os
import subprocess
import sys
import time

import pytest

from bench import measure
from bench.measure import Usage

STAT = "4711 (a (strange) name) S 42 4711 4711 0 -1 4194304 100 0 0 0 {} {} {} {} 20 0 8 0 1000 0 0"


def test_own_time_and_that_of_children_waited_for_count_together() -> None:
    assert Usage(parent=42, ticks=1 + 20 + 300 + 4000) == measure.parse_stat(STAT.format(1, 20, 300, 4000))


def test_a_tree_is_a_process_with_all_below_it_and_nobody_else() -> None:
    processes = {1: Usage(0, 1), 10: Usage(1, 2), 11: Usage(10, 4), 12: Usage(11, 8), 20: Usage(1, 16)}

    assert 2 + 4 + 8 == measure.tree_ticks(processes, 10)
    assert 16 == measure.tree_ticks(processes, 20)


def test_a_process_that_is_gone_costs_an_error_and_not_nothing() -> None:
    with pytest.raises(KeyError):
        measure.tree_ticks({1: Usage(0, 1)}, 2)


def test_what_a_child_burns_is_seen_by_its_parent() -> None:
    loop = "import time\nwhile time.process_time() < 0.3: pass"
    before = measure.cpu_s(os.getpid())

    subprocess.run([sys.executable, "-c", loop], check=True)

    assert 0.2 < measure.cpu_s(os.getpid()) - before


def test_every_side_is_measured_once_a_round_and_each_begins_in_turn() -> None:
    order: list[str] = []

    def side(name: str, value: int) -> int:
        order.append(name)
        return value

    found = measure.in_turns({"a": lambda: side("a", 1), "b": lambda: side("b", 2), "c": lambda: side("c", 3)}, 4)

    assert {"a": [1] * 4, "b": [2] * 4, "c": [3] * 4} == found
    assert ["abc", "bca", "cab", "abc"] == ["".join(order[start : start + 3]) for start in range(0, 12, 3)]


def test_a_side_is_told_by_its_median_and_every_sample() -> None:
    assert {"median": 2.0, "min": 1.0, "samples": [9.0, 1.0, 2.0]} == measure.summary([9.0, 1.0, 2.0])


def test_a_ratio_is_the_median_of_what_the_rounds_say_and_not_of_the_sides() -> None:
    # A machine that is twice as slow in one round is so for both.
    assert 0.5 == measure.paired([1.0, 2.0, 1.0], [2.0, 4.0, 4.0])


def test_a_process_has_a_clock_of_its_own_finer_than_a_tick() -> None:
    before = measure.own_cpu_s(os.getpid())

    while measure.own_cpu_s(os.getpid()) - before < 0.001:
        continue

    assert abs(time.process_time() - measure.own_cpu_s(os.getpid())) < 1.0
