"""Silence on a machine that has too much to do proves nothing."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from deploy.supervisor import procfs, starvation
from deploy.supervisor.starvation import LAG_MAX_S, SHARE_MIN, Lag
from tests.waiting import eventually


@pytest.fixture
def idle() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        (sys.executable, "-S", "-c", "import time; print(flush=True); time.sleep(600)"), stdout=-1
    )
    with process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


@pytest.fixture
def spinning() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen((sys.executable, "-S", "-c", "while True: pass"))
    with process:
        yield process
        process.kill()


@pytest.mark.parametrize(
    ("lag_s", "runnable", "share", "excused"),
    [
        (0.0, False, 0.0, False),  # asleep, or held still: nobody keeps it from answering
        (0.0, True, SHARE_MIN * 2, False),  # it has had its share, and spent it on something else
        (0.0, True, SHARE_MIN / 2, True),  # it waits for a processor
        (LAG_MAX_S * 2, False, 0.0, True),  # we were late ourselves
    ],
)
def test_silence_counts_where_both_sides_could_run(lag_s: float, runnable: bool, share: float, excused: bool) -> None:
    assert excused == starvation.excuses(lag_s=lag_s, runnable=runnable, cpu_s=share * 1.0, watched_s=1.0)


def test_a_loop_that_was_held_up_knows_it() -> None:
    async def scenario() -> tuple[float, float]:
        loop, lag = asyncio.get_running_loop(), Lag()
        task = asyncio.create_task(lag.run())
        await asyncio.sleep(0)
        began = loop.time()
        while loop.time() - began < 0.5:  # what a starved process looks like from inside
            pass
        at_once = lag.worst_s(since=began, now=loop.time())
        await asyncio.sleep(0.01)
        afterwards = lag.worst_s(since=began, now=loop.time())
        task.cancel()
        return at_once, afterwards

    assert all(late > LAG_MAX_S for late in asyncio.run(scenario()))


def test_a_process_that_sleeps_wants_no_processor(idle: subprocess.Popen[bytes]) -> None:
    eventually(lambda: not procfs.is_runnable(idle.pid))
    assert not procfs.is_stopped(idle.pid)


def test_a_process_that_is_held_still_is_seen_to_be(idle: subprocess.Popen[bytes]) -> None:
    os.kill(idle.pid, signal.SIGSTOP)

    eventually(lambda: procfs.is_stopped(idle.pid))
    assert not procfs.is_runnable(idle.pid)


def test_a_process_in_an_endless_loop_wants_one_and_gets_it(spinning: subprocess.Popen[bytes]) -> None:
    eventually(lambda: procfs.is_runnable(spinning.pid))
    eventually(lambda: procfs.cpu_s(spinning.pid) > 0.1)


def test_a_process_that_is_gone_has_nothing() -> None:
    assert (0.0, False, False) == (procfs.cpu_s(9_999_999), procfs.is_runnable(9_999_999), procfs.is_stopped(9_999_999))
