"""How costs are read from /proc and put side by side."""

import os
import subprocess
import sys
import threading
import time

import pytest

from bench import measure
from bench.measure import Usage

STAT = "4711 (a (strange) name) S 42 4711 4711 0 -1 4194304 100 0 0 0 {} {} {} {} 20 0 8 0 1000 0 0"


def test_own_time_and_that_of_children_waited_for_count_together() -> None:
    tick_ns = 10**9 // os.sysconf("SC_CLK_TCK")

    assert Usage(parent=42, cpu_ns=7 + 4300 * tick_ns) == measure.parse_stat(STAT.format(1, 20, 300, 4000), own_ns=7)


def test_a_tree_is_a_process_with_all_below_it_and_nobody_else() -> None:
    processes = {1: Usage(0, 1), 10: Usage(1, 2), 11: Usage(10, 4), 12: Usage(11, 8), 20: Usage(1, 16)}

    assert 2 + 4 + 8 == measure.tree_ns(processes, 10)
    assert 16 == measure.tree_ns(processes, 20)


def test_a_process_that_is_gone_costs_an_error_and_not_nothing() -> None:
    with pytest.raises(KeyError):
        measure.tree_ns({1: Usage(0, 1)}, 2)


def test_less_than_a_tick_is_seen_and_so_is_a_thread_that_has_ended() -> None:
    def burn() -> None:
        began = time.thread_time_ns()
        while time.thread_time_ns() - began < 3_000_000:
            pass

    before = measure.cpu_s(os.getpid())
    thread = threading.Thread(target=burn)
    thread.start()
    thread.join()
    after = measure.cpu_s(os.getpid())

    assert 0.003 <= after - before
    assert 0 != round(after * 1e9) % (10**9 // os.sysconf("SC_CLK_TCK"))


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


def test_noise_of_most_rounds_leaves_what_a_cost_is_undisturbed() -> None:
    assert 100.0 == measure.undisturbed([180.0, 100.0, 240.0, 99.0, 200.0, 190.0, 101.0, 300.0])
    assert 5.5 == measure.undisturbed([6.0, 5.0])
    with pytest.raises(ValueError, match="nothing"):
        measure.undisturbed([])


def test_a_slow_while_of_the_machine_leaves_the_ratios_of_its_rounds() -> None:
    """It begins between the sides of one round; a ratio of the medians would be double."""
    theirs = [100.0, 101.0, 99.0, 100.0, 100.0, 202.0, 198.0, 200.0, 199.0]
    ours = [120.0, 121.2, 118.8, 120.0, 240.0, 242.4, 237.6, 240.0, 238.8]

    assert pytest.approx(1.2) == measure.middle(measure.ratios(ours, theirs)).median


def test_the_interval_is_that_of_the_sign_test() -> None:
    """Of 24 figures the 7th and the 18th hold the median between them with 97.7 %, the 8th and the 17th with 93.6 %."""
    figures = [float(number) for number in range(24, 0, -1)]

    assert measure.Middle(median=12.5, low=7.0, high=18.0) == measure.middle(figures)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_few_figures_are_all_in_the_interval(count: int) -> None:
    found = measure.middle([float(number) for number in range(1, count + 1)])

    assert (1.0, float(count)) == (found.low, found.high)


def test_what_was_not_measured_has_no_middle_and_what_is_no_pair_no_ratio() -> None:
    with pytest.raises(ValueError, match="nothing"):
        measure.middle([])
    with pytest.raises(ValueError, match="shorter"):
        measure.ratios([1.0, 2.0], [1.0])
