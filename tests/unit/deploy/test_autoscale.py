"""How many instances a load needs: quick to grow, slow to shrink, unmoved by noise, never out of bounds."""

import asyncio
import subprocess
import sys
from collections.abc import Mapping, Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.supervisor import autoscale, autoscaler, load
from deploy.supervisor.autoscale import IN_AT, IN_FOR_S, OUT_AT, OUT_FOR_S, Bounds, Sample
from deploy.supervisor.autoscaler import Autoscaler
from deploy.supervisor.errors import RefusedError
from deploy.supervisor.load import Instance, Loads

BOUNDS = Bounds(2, 8)
loads = st.floats(min_value=0.0, max_value=20.0, allow_nan=False)
bounds = st.tuples(st.integers(1, 10), st.integers(0, 10)).map(lambda pair: Bounds(pair[0], pair[0] + pair[1]))


def play(measured: Sequence[float], *, start: int = 2, within: Bounds = BOUNDS) -> list[int]:
    """One measurement a second; the size after each."""
    samples: list[Sample] = []
    sizes, size = [], start
    for at, value in enumerate(measured):
        samples = autoscale.recent([*samples, Sample(float(at), value)], now=float(at))
        size = autoscale.size(samples, current=size, bounds=within, now=float(at))
        sizes.append(size)
    return sizes


def test_ten_times_the_load_brings_instances_within_seconds() -> None:
    quiet, busy = [0.3] * 60, [3.0] * 10
    sizes = play(quiet + busy)

    assert [2] * 60 == sizes[:60]
    assert 5 == sizes[60 + int(OUT_FOR_S)]


def test_they_go_when_the_load_has_gone_and_not_before() -> None:
    sizes = play([3.0] * 10 + [0.3] * 60)

    assert {5} == set(sizes[10 : 10 + int(IN_FOR_S) - 1])
    assert 2 == sizes[-1]


def test_a_peak_that_is_over_is_not_chased() -> None:
    assert {2} == set(play([0.3] * 20 + [9.0] * int(OUT_FOR_S) + [0.3] * 20))


def test_the_first_moment_decides_nothing() -> None:
    assert [2] == play([20.0])
    assert [8] == play([0.0], start=8)


def test_a_queue_is_shared_among_as_many_as_it_takes() -> None:
    sizes = [play([autoscale.backlog_load(waiting, each=200)] * 5)[-1] for waiting in (0, 200, 601, 5000)]

    assert [2, 2, 4, 8] == sizes


@given(st.lists(loads, max_size=120), bounds, st.integers(0, 40))
def test_it_never_leaves_its_bounds(measured: list[float], within: Bounds, start: int) -> None:
    assert all(within.least <= size <= within.most for size in play(measured, start=start, within=within))


@given(st.lists(st.tuples(loads, st.floats(0.0, 5.0)), max_size=120))
def test_more_load_never_means_fewer_instances(measured: list[tuple[float, float]]) -> None:
    lower = play([value for value, _ in measured])
    higher = play([value + more for value, more in measured])

    assert all(few <= many for few, many in zip(lower, higher, strict=True))


@given(st.floats(0.1, 8.0), st.lists(st.floats(0.0, 1.0), min_size=80, max_size=200))
def test_noise_between_the_thresholds_does_not_make_it_flap(least: float, noise: list[float]) -> None:
    measured = [least * (1 + (OUT_AT / IN_AT - 1) * each) for each in noise]
    sizes = play(measured, within=Bounds(1, 40))
    changes = [after - before for before, after in pairwise(sizes) if after != before]

    # It settles in one direction, and never goes back on it.
    assert all(change > 0 for change in changes) or all(change < 0 for change in changes)


@pytest.mark.parametrize(("least", "most"), [(0, 2), (3, 2)])
def test_bounds_that_make_no_sense_are_refused(least: int, most: int) -> None:
    with pytest.raises(ValueError, match="is no range"):
        Bounds(least, most)


EXPOSITION = """\
# HELP weft_rpc_busy_seconds_total Seconds
# TYPE weft_rpc_busy_seconds_total counter
weft_rpc_busy_seconds_total 12.5
weft_rpc_threads 12.0
weft_queue_depth{queue="weft.email"} 400.0
weft_queue_depth{queue="weft.email.dead"} 7.0
weft_outbox_pending{database="orders"} 1500.0
weft_outbox_pending{database="catalog"} 500.0
"""


def measured(service: str, answers: Mapping[int, str], monkeypatch: pytest.MonkeyPatch) -> float | None:
    def scrape(port: int) -> list[load.Metric] | None:
        return load.parse(answers[port]) if port in answers else None

    monkeypatch.setattr(load, "_scrape", scrape)
    instances = [Instance("one-1", 1, 1), Instance("one-2", 1, 2)]
    return asyncio.run(Loads().of(service, instances))


def test_the_backlog_of_a_worker_is_its_queue_and_nobody_elses(monkeypatch: pytest.MonkeyPatch) -> None:
    found = measured("email", {1: EXPOSITION, 2: EXPOSITION}, monkeypatch)

    assert autoscale.backlog_load(400, each=load.BACKLOG_EACH["email"]) == found


def test_the_backlog_of_the_relay_is_that_of_all_databases(monkeypatch: pytest.MonkeyPatch) -> None:
    assert autoscale.backlog_load(2000, each=load.BACKLOG_EACH["relay"]) == measured(
        "relay", {1: EXPOSITION}, monkeypatch
    )


def test_nothing_is_known_of_who_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    assert measured("email", {}, monkeypatch) is None


def test_threads_that_are_busy_and_calls_that_wait_are_load() -> None:
    async def scenario() -> float | None:
        loads = Loads()
        one = Instance("orders-1", 10_000_000, 1)
        await asyncio.sleep(0)
        assert loads._busy(one, load.parse("weft_rpc_busy_seconds_total 10\nweft_rpc_threads 12\n"), 0.0) is None
        at, busy_s = loads._before[one.pid]
        loads._before[one.pid] = (at - 10.0, busy_s)
        text = "weft_rpc_busy_seconds_total 70\nweft_rpc_threads 12\nweft_rpc_waiting 6\n"
        return loads._busy(one, load.parse(text), 0.2)

    # Sixty seconds of work in ten are six of twelve threads, and six calls wait.
    assert 1.0 == pytest.approx(asyncio.run(scenario()), abs=0.05)


IDLE = "weft_rpc_busy_seconds_total 0\nweft_rpc_threads 12\n"


@pytest.mark.parametrize(
    ("shares", "answering", "found"),
    [
        ([0.95], [], 0.95),  # alone, and too busy to answer
        ([0.95, 0.9], [], 1.85),
        ([0.5], [], None),  # may be more, but what is known asks for nothing
        ([0.0, 0.0], [], None),  # of which nobody may conclude that there is nothing to do
        ([0.95, 0.1], [1], 1.05),
        ([0.05, 0.1], [1], 0.2),  # as busy as the other, at least
    ],
)
def test_who_is_too_busy_to_answer_is_as_busy_as_its_processor_says(
    shares: list[float], answering: list[int], found: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def scrape(number: int) -> list[load.Metric] | None:
        return load.parse(IDLE) if number in answering else None

    async def scenario() -> float | None:
        loads = Loads()
        instances = [Instance(f"orders-{number}", 10_000_000 + number, number) for number in range(len(shares))]
        for one in instances:
            loads._before[one.pid] = (0.0, 0.0)
        return await loads.of("orders", instances)

    monkeypatch.setattr(load, "_scrape", scrape)
    monkeypatch.setattr(Loads, "_processor", lambda _, pid: shares[pid - 10_000_000])

    assert pytest.approx(found) == asyncio.run(scenario())


def test_the_processor_of_a_process_that_answers_nobody_is_measured() -> None:
    spinning = subprocess.Popen((sys.executable, "-S", "-c", "while True: pass"))

    async def scenario() -> None:
        loads = Loads()
        async with asyncio.timeout(60):
            while not loads._processor(spinning.pid):
                await asyncio.sleep(0.05)

    try:
        asyncio.run(scenario())
    finally:
        spinning.kill()
        spinning.wait()


def test_what_was_decided_is_done_and_work_by_hand_starts_the_clock_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> list[Mapping[str, int]]:
        async def of(_: Loads, service: str, __: Sequence[Instance]) -> float:
            return 0.0

        async def resize(service: str, size: int) -> None:
            raise AssertionError((service, size))

        monkeypatch.setattr(Loads, "of", of)
        monkeypatch.setattr(autoscale, "IN_FOR_S", 0.2)
        one = Autoscaler(wanted=lambda: {"orders": (4, BOUNDS)}, instances=lambda _: [], resize=resize)
        found = [await one.look()]
        async with asyncio.timeout(30):
            while not found[-1]:
                await asyncio.sleep(0.02)
                found.append(await one.look())
        one.hold("orders")
        return [found[0], found[-1], await one.look()]

    assert [{}, {"orders": 2}, {}] == asyncio.run(scenario())


def test_a_service_that_is_resized_slowly_or_refused_keeps_no_other_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    resized: list[tuple[str, int]] = []
    wanted = {"slow": (4, BOUNDS), "refused": (4, BOUNDS), "broken": (4, BOUNDS)}
    looks = 0

    def instances(_: str) -> list[Instance]:
        nonlocal looks
        looks += 1
        if looks == 1:
            raise OSError("no file is left to open")
        return []

    async def of(_: Loads, __: str, ___: Sequence[Instance]) -> float:
        return 0.0

    async def resize(service: str, size: int) -> None:
        resized.append((service, size))
        match service:
            case "slow":
                await asyncio.Event().wait()
            case "refused":
                raise RefusedError("it does not start")
            case "broken":
                raise ZeroDivisionError

    async def scenario() -> None:
        one = Autoscaler(wanted=lambda: wanted, instances=instances, resize=resize)
        running = asyncio.create_task(one.run())
        async with asyncio.timeout(30):
            while len(resized) < 3:
                await asyncio.sleep(0.01)
            wanted["quick"] = (4, BOUNDS)
            while ("quick", 2) not in resized:
                await asyncio.sleep(0.01)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    monkeypatch.setattr(Loads, "of", of)
    monkeypatch.setattr(autoscale, "IN_FOR_S", 0.1)
    monkeypatch.setattr(autoscaler, "EVERY_S", 0.01)
    asyncio.run(scenario())

    # Each of the others was tried once: it is at it still, or has a pause.
    assert [("broken", 2), ("refused", 2), ("slow", 2)] == sorted(one for one in resized if one[0] != "quick")


def test_one_more_than_the_bounds_for_the_time_of_a_roll_is_not_sent_away_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scenario() -> list[Mapping[str, int]]:
        async def of(_: Loads, service: str, __: Sequence[Instance]) -> float:
            return 20.0

        async def resize(service: str, size: int) -> None:
            raise AssertionError(service, size)

        monkeypatch.setattr(Loads, "of", of)
        one = Autoscaler(wanted=lambda: {"orders": (9, BOUNDS)}, instances=lambda _: [], resize=resize)
        held = [await one.look(), await one.look()]
        monkeypatch.setattr(autoscale, "IN_FOR_S", 0.2)
        async with asyncio.timeout(30):
            while not (found := await one.look()):
                await asyncio.sleep(0.02)
        return [*held, found]

    assert [{}, {}, {"orders": 8}] == asyncio.run(scenario())
