"""Who waits, who is served first and who is refused: on a clock of the test's own."""

import random
from collections import Counter
from dataclasses import dataclass, field
from heapq import heappop, heappush

import pytest

from svc.chassis.admission import INTERVAL_S, PATIENCE_S, TARGET_S, Admission
from svc.chassis.criticality import Criticality

SHEDDABLE, DEFAULT, CRITICAL = Criticality


def admission(*, threads: int = 1, places: int = 100) -> Admission[str]:
    return Admission(threads=threads, places=places)


def served(queues: Admission[str], now: float) -> list[str]:
    """Everybody who waits, in the order in which free threads would take them."""
    found: list[str] = []
    while (work := queues.take(now=now)[0]) is not None:
        found.append(work)
    return found


def test_who_matters_more_is_served_first_and_equals_in_their_order() -> None:
    queues = admission()
    for work, level in (("s1", SHEDDABLE), ("d1", DEFAULT), ("c1", CRITICAL), ("s2", SHEDDABLE), ("c2", CRITICAL)):
        assert [] == queues.offer(work, level, now=0.0)

    assert ["c1", "c2", "d1", "s1", "s2"] == served(queues, 0.01)


def test_a_burst_that_passes_refuses_nobody() -> None:
    queues = admission(threads=2)
    for number in range(50):
        assert [] == queues.offer(f"d{number}", DEFAULT, now=0.0)

    assert 50 == len(served(queues, TARGET_S / 2))


def standing(level: Criticality) -> tuple[Admission[str], float]:
    """Queues whose calls of that class have waited too long for longer than a burst lasts, and the present moment."""
    queues, now = admission(threads=2, places=1000), 0.0
    for number in range(200):
        queues.offer(f"{level.word} {number}", level, now=now)
    while now < TARGET_S + INTERVAL_S + 0.02:
        now += 0.005
        queues.take(now=now)
    return queues, now


def test_a_standing_queue_closes_its_class_and_the_one_below() -> None:
    queues, now = standing(DEFAULT)

    assert ["d"] == queues.offer("d", DEFAULT, now=now)
    assert ["s"] == queues.offer("s", SHEDDABLE, now=now)
    assert [] == queues.offer("c", CRITICAL, now=now)


def test_a_standing_queue_of_the_least_class_harms_no_other() -> None:
    queues, now = standing(SHEDDABLE)

    assert ["s"] == queues.offer("s", SHEDDABLE, now=now)
    assert [] == queues.offer("d", DEFAULT, now=now)


def test_critical_calls_that_stand_close_everything_but_themselves() -> None:
    queues, now = standing(CRITICAL)

    assert ["d"] == queues.offer("d", DEFAULT, now=now)
    assert [] == queues.offer("c", CRITICAL, now=now)


def test_an_empty_queue_is_open_again_at_once() -> None:
    queues, now = standing(DEFAULT)
    served(queues, now)

    assert [] == queues.offer("d", DEFAULT, now=now)


def test_a_closed_class_still_keeps_every_thread_busy() -> None:
    queues, now = standing(DEFAULT)
    while queues.waiting > 2:
        queues.take(now=now)

    assert ["over"] == queues.offer("over", DEFAULT, now=now)
    queues.take(now=now)
    assert [] == queues.offer("next", DEFAULT, now=now)


@pytest.mark.parametrize("level", Criticality)
def test_who_has_waited_beyond_its_patience_is_refused_instead_of_served(level: Criticality) -> None:
    queues = admission()
    queues.offer("late", level, now=0.0)
    queues.offer("fresh", level, now=PATIENCE_S[level])

    assert ("fresh", ["late"]) == queues.take(now=PATIENCE_S[level] + 0.01)


def test_who_nobody_waits_for_any_more_is_refused_whatever_it_is() -> None:
    queues = admission()
    queues.offer("c", CRITICAL, now=0.0, until=0.05)

    assert (None, ["c"]) == queues.take(now=0.05)


def test_a_deadline_that_cannot_be_met_is_refused_when_the_call_comes() -> None:
    queues = admission(threads=2)
    queues.served(0.1)
    for number in range(4):
        queues.offer(f"d{number}", DEFAULT, now=0.0)

    assert ["tight"] == queues.offer("tight", DEFAULT, now=0.0, until=0.15)
    assert [] == queues.offer("easy", DEFAULT, now=0.0, until=0.25)
    assert [] == queues.offer("critical", CRITICAL, now=0.0, until=0.15)


def test_who_is_refused_for_its_own_deadline_alone_is_told_from_who_meets_too_much_to_do() -> None:
    queues = admission(threads=2)
    queues.served(0.1)
    for number in range(4):
        queues.offer(f"d{number}", DEFAULT, now=0.0)

    assert queues.hurried(DEFAULT, now=0.0, until=0.15)
    assert not queues.hurried(DEFAULT, now=0.0, until=0.25)
    for number in range(8):
        queues.offer(f"e{number}", DEFAULT, now=0.0)
    # Half a second and more: nobody of its class would wait that long.
    assert not queues.hurried(DEFAULT, now=0.0, until=0.15)


def test_a_hurried_call_before_a_closed_or_a_full_queue_meets_too_much_to_do() -> None:
    queues, now = standing(DEFAULT)
    queues.served(0.001)
    full = admission(places=1)
    full.served(0.1)
    full.offer("d", DEFAULT, now=0.0)

    assert not queues.hurried(DEFAULT, now=now, until=now)
    assert not full.hurried(DEFAULT, now=0.0, until=0.05)


def test_at_the_hard_bound_the_latest_of_the_least_class_makes_room() -> None:
    queues = admission(places=3)
    for work, level in (("s1", SHEDDABLE), ("s2", SHEDDABLE), ("d1", DEFAULT)):
        queues.offer(work, level, now=0.0)

    assert ["s2"] == queues.offer("c1", CRITICAL, now=0.0)
    assert ["s1"] == queues.offer("d2", DEFAULT, now=0.0)
    assert ["s3"] == queues.offer("s3", SHEDDABLE, now=0.0)
    assert ["d2"] == queues.offer("c2", CRITICAL, now=0.0)
    assert ["d1"] == queues.offer("c3", CRITICAL, now=0.0)
    assert ["c4"] == queues.offer("c4", CRITICAL, now=0.0)


def test_draining_leaves_nobody() -> None:
    queues = admission()
    for number in range(3):
        queues.offer(str(number), DEFAULT, now=0.0)

    assert {"0", "1", "2"} == set(queues.drain())
    assert (0, (None, [])) == (queues.waiting, queues.take(now=0.0))


THREADS, SERVICE_S, DEADLINE_S = 8, 0.02, 2.0
#: Calls per second that the threads can serve.
CAPACITY = THREADS / SERVICE_S
#: Of all calls, how many are of each class.
MIX = {CRITICAL: 0.06, DEFAULT: 0.44, SHEDDABLE: 0.5}


@dataclass
class Second:
    """What happened to the calls that came in during one second."""

    offered: Counter[Criticality] = field(default_factory=Counter)
    good: Counter[Criticality] = field(default_factory=Counter)
    """Answered before the deadline."""

    def kept(self, *levels: Criticality) -> float:
        return sum(self.good[level] for level in levels) / sum(self.offered[level] for level in levels)


def simulate(rates: list[float], *, seed: int) -> list[Second]:
    """Calls arrive at random, at each second's rate; every thread serves them one by one, in no constant time."""
    chance, seconds = random.Random(seed), [Second() for _ in rates]
    queues: Admission[tuple[int, Criticality, float]] = Admission(threads=THREADS, places=16 * THREADS)
    events: list[tuple[float, int]] = []  # (when a thread becomes free, which)
    idle = THREADS
    now, second = 0.0, 0
    arrival = chance.expovariate(rates[0])

    def start(now: float) -> int:
        """Give idle threads work; returns how many found some."""
        begun = 0
        while idle - begun:
            work, _ = queues.take(now=now)
            if work is None:
                break
            begun += 1
            took = SERVICE_S * chance.uniform(0.5, 1.5)
            queues.served(took)
            heappush(events, (now + took, begun))
            came, level, until = work
            seconds[came].good[level] += now + took < until
        return begun

    while second < len(rates) or events:
        if events and (second >= len(rates) or events[0][0] <= arrival):
            now = heappop(events)[0]
            idle += 1
        else:
            now = arrival
            level = chance.choices(list(MIX), list(MIX.values()))[0]
            seconds[second].offered[level] += 1
            queues.offer((second, level, now + DEADLINE_S), level, now=now, until=now + DEADLINE_S)
            second = int(now)
            arrival = now + chance.expovariate(rates[min(int(now), len(rates) - 1)])
            second = int(arrival)
        idle -= start(now)
    return seconds


@pytest.mark.parametrize("seed", range(5))
def test_at_ten_times_the_load_critical_calls_are_kept_and_the_rest_is_as_much_as_ever(seed: int) -> None:
    calm, storm, after = 0.7 * CAPACITY, 10 * CAPACITY, 0.7 * CAPACITY

    seconds = simulate([calm] * 5 + [storm] * 10 + [after] * 10, seed=seed)

    everybody = tuple(Criticality)
    assert all(one.kept(*everybody) > 0.95 for one in seconds[1:5])
    storming = seconds[5:15]
    critical = sum(one.good[CRITICAL] for one in storming) / sum(one.offered[CRITICAL] for one in storming)
    assert critical >= 0.99
    goodput = sum(sum(one.good.values()) for one in storming) / len(storming)
    assert goodput >= 0.8 * CAPACITY
    # From the first second after it, not only from the fifth.
    assert all(one.kept(*everybody) > 0.95 for one in seconds[16:])


def test_between_the_classes_the_least_gives_way_first() -> None:
    seconds = simulate([2 * CAPACITY] * 10, seed=1)[2:]

    kept = {
        level: sum(one.good[level] for one in seconds) / sum(one.offered[level] for one in seconds)
        for level in Criticality
    }
    assert kept[CRITICAL] >= 0.99
    assert kept[DEFAULT] >= 0.95
    assert kept[SHEDDABLE] < 0.3
