"""A part whose process runs the real server in a session of its own, as Patroni does: the two live and end together."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from deploy.supervisor import procfs
from deploy.supervisor.config import child_environ
from deploy.supervisor.layout import Layout
from deploy.supervisor.life import State
from deploy.supervisor.part import Command, Server
from deploy.supervisor.slot import Slot
from tests.unit.deploy.test_slot import DEADLINE_S, live, until, web

CONTROLLER = """
import subprocess, sys, time
server = subprocess.Popen([sys.executable, "-S", "-c", *sys.argv[2:]], start_new_session=True)
open(sys.argv[1], "w").write(str(server.pid))
time.sleep(600)
"""


def controlled(folder: Path) -> Server:
    """A server that is run, in a session of its own, by the process that the slot starts."""
    note, server = folder / "pid", web(folder)
    argv = (sys.executable, "-S", "-c", CONTROLLER, str(note), *server.command.argv[3:])

    def companion() -> int | None:
        pid = int(note.read_text() or 0) if note.exists() else 0
        return pid if pid and procfs.start_time(pid) else None

    return replace(server, command=Command(argv, child_environ(), folder), companion=companion)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_what_a_process_has_started_apart_is_gone_before_its_successor_starts(
    folder: Path, number: signal.Signals
) -> None:
    server = controlled(folder)
    assert server.companion is not None
    companion = server.companion
    seen: list[int | None] = []

    async def scenario(one: Slot) -> None:
        await one.ready_once
        seen.append(companion())
        assert one.life.pid is not None
        if number is signal.SIGKILL:
            os.kill(one.life.pid, number)  # behind the slot's back: nobody tells the other one
        else:
            one.send(number)
        await until(lambda: one.life.restarts == 1 and one.life.state is State.READY)
        seen.append(companion())

    live(folder, server, scenario)

    first, second = seen
    assert first is not None
    assert second is not None
    assert first != second
    assert [None, None] == [procfs.start_time(first), procfs.start_time(second)]


def test_a_kill_by_name_ends_both_at_once(folder: Path) -> None:
    server = controlled(folder)
    assert server.companion is not None
    companion = server.companion

    async def scenario(one: Slot) -> None:
        await one.ready_once
        first = companion()
        assert first is not None
        one.send(signal.SIGKILL)
        await until(lambda: procfs.start_time(first) is None)
        await until(lambda: one.life.restarts == 1 and one.life.state is State.READY)

    live(folder, server, scenario)

    assert companion() is None


def test_what_a_dead_process_left_while_nobody_supervised_does_not_stay(folder: Path) -> None:
    server = controlled(folder)
    assert server.companion is not None
    # Whoever runs the tests in the background of a shell has them ignore SIGINT, and so would this.
    left = subprocess.Popen(("env", "--default-signal=INT", "sleep", "600"), start_new_session=True)
    Layout(folder).prepare(None)
    (folder / "pid").write_text(str(left.pid))

    async def scenario(one: Slot) -> None:
        await one.ready_once

    live(folder, server, scenario)

    assert -signal.SIGINT == left.wait(DEADLINE_S)
