"""A slot keeps one process alive: a tiny real HTTP server, killed, stopped and told to refuse in many ways."""

import asyncio
import os
import signal
import socket
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from deploy.supervisor import backoff, life, probe, process, procfs, readiness, slot
from deploy.supervisor.errors import RefusedError, StartError
from deploy.supervisor.life import State
from deploy.supervisor.messages import Event
from deploy.supervisor.part import Command, Part, Server, Task
from deploy.supervisor.slot import Slot
from deploy.supervisor.supervisor import Supervisor
from tests.unit.deploy.tiny_web import DEADLINE_S, SERVER, host, supervise, until, web


def live(folder: Path, server: Server, scenario: Callable[[Slot], Awaitable[None]]) -> list[Event]:
    """Run one slot around a scenario and stop it; what it said."""
    events: list[Event] = []

    async def run() -> None:
        one = Slot(server, host(folder, events))
        life = asyncio.create_task(one.run())
        try:
            await scenario(one)
        finally:
            await one.stop()
            await life

    asyncio.run(run())
    return events


def test_a_process_that_is_killed_is_started_again(folder: Path) -> None:
    async def scenario(one: Slot) -> None:
        await one.ready_once
        first = one.life.pid
        one.send(signal.SIGKILL)
        await until(lambda: one.life.restarts == 1 and one.life.state is State.READY)
        assert first != one.life.pid

    states = [event.state for event in live(folder, web(folder), scenario)]

    assert ["starting", "ready", "down", "starting", "ready", "down"] == states


def test_a_process_that_is_gone_is_down_although_what_it_has_started_is_not(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "REMAINS_GRACE_S", DEADLINE_S)
    # It has a child, which stays until somebody lets it go.
    staying = """
import os, sys, threading

if os.fork() == 0:
    while not os.path.exists(sys.argv[2] + ".go"):
        threading.Event().wait(0.01)
    os._exit(0)
"""

    async def scenario(one: Slot) -> None:
        await one.ready_once
        first = one.life.pid
        assert first is not None
        one.send(signal.SIGKILL)
        await until(lambda: one.life.state is State.DOWN)
        assert (None, "ended with signal 9") == (one.life.pid, one.life.reason)
        assert procfs.session_members(first)

        (folder / "refuse.go").touch()
        await until(lambda: one.life.restarts == 1 and one.life.state is State.READY)
        assert not procfs.session_members(first)

    live(folder, web(folder, source=staying + SERVER), scenario)


def test_a_process_that_hangs_is_killed_and_started_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (probe, readiness, slot):
        monkeypatch.setattr(module, "TIMEOUT_S", 0.2)
    monkeypatch.setattr(slot, "WATCH_INTERVAL_S", 0.05)

    async def scenario(one: Slot) -> None:
        await one.ready_once
        one.send(signal.SIGSTOP)
        await until(lambda: one.life.restarts == 1 and one.life.state is State.READY)

    details = [event.detail for event in live(folder, web(folder), scenario) if event.detail]

    assert ["does not answer any more"] == details


def test_a_server_nobody_asks_is_replaced_when_it_is_held_still(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slot, "WATCH_INTERVAL_S", 0.05)
    monkeypatch.setattr(life, "SILENCE_S", 0.2)

    async def scenario(one: Slot) -> None:
        await one.ready_once
        one.send(signal.SIGSTOP)
        await until(lambda: one.life.restarts == 1 and one.life.state is State.READY)

    details = [event.detail for event in live(folder, replace(web(folder), watched=False), scenario) if event.detail]

    assert ["does not answer any more"] == details


def test_a_process_that_says_it_does_no_work_any_more_is_as_good_as_silent(folder: Path) -> None:
    stuck = asyncio.Event()

    class Honest:
        async def check(self) -> probe.Answer:
            if stuck.is_set():
                raise probe.NoAnswerError("answers, but does no work any more")
            return probe.Answer.READY

        async def close(self) -> None:
            return None

    async def scenario(one: Slot) -> None:
        await one.ready_once
        first = one.life.pid
        stuck.set()
        await until(lambda: one.life.restarts == 1)
        stuck.clear()
        await until(lambda: one.life.state is State.READY)
        assert first != one.life.pid

    live(folder, replace(web(folder), probe=Honest()), scenario)


def test_a_process_that_leaves_by_itself_has_time_to_end_what_it_is_at(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slot, "WATCH_INTERVAL_S", 0.02)
    monkeypatch.setattr(slot, "RETRY_INTERVAL_S", 0.02)
    monkeypatch.setattr(life, "SILENCE_S", 0.0)
    # It closes its port when told, and lives on until somebody lets it go.
    leaving = """
import os, signal, sys, threading

def leave(*_):
    server.socket.close()
    while not os.path.exists(sys.argv[2]):
        threading.Event().wait(0.01)
    os._exit(0)

class Server(http.server.HTTPServer):
    pass

server = Server(("127.0.0.1", int(sys.argv[1])), Handler)
signal.signal(signal.SIGUSR1, leave)
server.serve_forever()
"""
    source = SERVER.rpartition("http.server.HTTPServer(")[0] + leaving

    async def scenario(one: Slot) -> None:
        await one.ready_once
        one.send(signal.SIGUSR1)
        looks = 0

        async def closed() -> None:
            nonlocal looks
            while looks < 20:
                await asyncio.sleep(0.02)
                looks += not await slot.accepts(one.server.ports[0])

        await asyncio.wait_for(closed(), DEADLINE_S)
        assert 0 == one.life.misses
        (folder / "refuse").touch()
        await until(lambda: one.life.starts == 2)
        (folder / "refuse").unlink()

    details = [event.detail for event in live(folder, web(folder, source=source), scenario) if event.detail]

    assert ["ended with exit code 0"] == details


def test_a_crash_loop_ends_in_quarantine_with_its_last_words_and_a_restart_ends_that(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backoff, "CEILING_S", 0.05)
    source = f"import os, sys\nif os.path.exists(sys.argv[2]): print('out of order'); sys.exit(9)\n{SERVER}"

    async def scenario(one: Supervisor) -> None:
        (folder / "refuse").touch()
        one.kill("web-1", signal.SIGKILL)
        await until(lambda: one.processes()[0].quarantined)
        found = one.processes()[0]
        assert ("down", "exited early with exit code 9", ("out of order",)) == (found.state, found.reason, found.log)

        (folder / "refuse").unlink()
        await one.restart("web-1")
        again = one.processes()[0]
        assert ("ready", False, ()) == (again.state, again.quarantined, again.log)

    supervise(folder, [web(folder, source=source)], scenario)


def test_a_part_that_cannot_live_does_not_end_a_mesh_that_was_up(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backoff, "CEILING_S", 0.01)
    dying = web(folder, source="import sys; sys.exit(7)", name="web-2")

    async def run() -> None:
        supervisor = Supervisor([dying, web(folder)], host(folder, [], lenient=True))
        try:
            await supervisor.start(resume=True)
            await until(lambda: [True, False] == [found.quarantined for found in supervisor.processes()])
            await until(lambda: supervisor.processes()[1].state == "ready")
        finally:
            await supervisor.stop()

    asyncio.run(run())


def test_a_process_is_taken_over_by_the_next_slot_unless_it_is_somewhere_else(folder: Path) -> None:
    async def run() -> None:
        server = web(folder)
        first = Slot(server, host(folder, []))
        lives = [asyncio.create_task(first.run())]
        await first.ready_once

        second = Slot(server, host(folder, []))
        lives.append(asyncio.create_task(second.run()))
        await second.ready_once
        assert (first.life.pid, 0, False) == (second.life.pid, second.life.restarts, second.outdated)
        for each in lives:  # as if its supervisor had died: the process runs on
            each.cancel()

        third = Slot(web(folder), host(folder, []))
        lives.append(asyncio.create_task(third.run()))
        await third.ready_once
        assert (True, False) == (first.life.pid != third.life.pid, third.outdated)
        await third.stop()
        await asyncio.gather(*lives, return_exceptions=True)

    asyncio.run(run())


def test_a_task_that_is_done_is_not_done_again_by_the_next_supervisor(folder: Path) -> None:
    done: list[int] = []

    async def work() -> None:
        done.append(1)

    parts: list[Part] = [Task(name="once", run=work), web(folder)]

    async def run() -> None:
        first = Supervisor(parts, host(folder, []))
        await first.start()
        second = Supervisor(parts, host(folder, []))
        await second.start()
        await second.stop()
        await first.stop()

    asyncio.run(run())

    assert [1] == done


def test_a_process_that_refuses_work_is_draining_and_left_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slot, "WATCH_INTERVAL_S", 0.05)

    async def scenario(one: Slot) -> None:
        await one.ready_once
        (folder / "refuse").touch()
        await until(lambda: one.life.state is State.DRAINING)
        (folder / "refuse").unlink()
        await until(lambda: one.life.state is State.READY)
        assert 0 == one.life.restarts

    live(folder, web(folder), scenario)


def test_a_process_that_dies_early_fails_with_its_last_words(folder: Path) -> None:
    async def scenario(one: Slot) -> None:
        with pytest.raises(StartError, match="exited early with exit code 7") as caught:
            await one.ready_once
        assert ("no luck today",) == caught.value.log

    live(folder, web(folder, source="import sys; print('no luck today'); sys.exit(7)"), scenario)


def test_a_process_that_never_answers_times_out_with_the_obstacle(folder: Path) -> None:
    server = web(folder, source="import time; time.sleep(60)")
    impatient = Server(
        server.name, server.kind, server.service, server.command, server.probe, server.ports, start_timeout_s=0.3
    )

    async def scenario(one: Slot) -> None:
        with pytest.raises(StartError, match=rf"timed out after 0 s: nothing listens on port {server.ports[0]}"):
            await one.ready_once

    live(folder, impatient, scenario)


def test_a_port_that_belongs_to_somebody_else_is_not_taken_for_ours(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as foreign:
        server = web(folder, port=foreign.getsockname()[1], source="import time; time.sleep(60)")
        impatient = Server(
            server.name, server.kind, server.service, server.command, server.probe, server.ports, start_timeout_s=0.3
        )

        async def scenario(one: Slot) -> None:
            with pytest.raises(StartError, match=r"belongs to .* \(pid \d+\)"):
                await one.ready_once

        live(folder, impatient, scenario)


def test_a_program_that_cannot_be_started_is_said_to_be_so(folder: Path) -> None:
    server = web(folder)
    missing = Server(
        server.name, server.kind, server.service, Command(("/no/such",), {}, folder), server.probe, server.ports
    )

    async def scenario(one: Slot) -> None:
        with pytest.raises(StartError):
            await one.ready_once

    live(folder, missing, scenario)


async def nothing(_: Supervisor) -> None:
    return None


def test_what_a_part_needs_is_done_before_it_starts(folder: Path) -> None:
    order: list[str] = []

    async def prepare() -> None:
        order.append("prepared")

    first = Task(name="first", run=prepare)
    second = Task(name="second", run=Command(("/bin/true",), {}, Path("/")), after=("first",))
    events = supervise(folder, [second, first], nothing)

    assert ["prepared"] == order
    assert ["first", "second"] == [event.part for event in events if event.state == "done"]


def test_a_task_that_fails_fails_the_start_and_what_waits_for_it_never_starts(folder: Path) -> None:
    broken = Task(name="broken", run=Command(("/bin/sh", "-c", "echo why; exit 4"), {}, Path("/")))
    waiting = Task(name="waiting", run=Command(("/bin/touch", str(folder / "ran")), {}, Path("/")), after=("broken",))

    with pytest.raises(StartError, match="broken: ended with exit code 4") as caught:
        supervise(folder, [broken, waiting], nothing)
    assert "why" in caught.value.log
    assert not (folder / "ran").exists()


def test_a_task_gets_a_second_try(folder: Path) -> None:
    tries: list[int] = []

    async def shaky() -> None:
        tries.append(1)
        if len(tries) == 1:
            raise ConnectionRefusedError("not yet")

    supervise(folder, [Task(name="shaky", run=shaky)], nothing)

    assert 2 == len(tries)


def test_a_restart_waits_for_the_successor(folder: Path) -> None:
    async def scenario(supervisor: Supervisor) -> None:
        before = supervisor.processes()[0]
        killed = await supervisor.restart("web-1")
        after = supervisor.processes()[0]
        assert (before.pid, "ready", 1) == (killed.pid, after.state, after.restarts)

    supervise(folder, [web(folder)], scenario)


def test_the_successor_of_a_process_that_dies_while_it_drains_is_left_alone(folder: Path) -> None:
    async def scenario(supervisor: Supervisor) -> None:
        [one] = supervisor._slots.values()

        async def die() -> None:
            assert one.life.pid is not None
            os.kill(one.life.pid, signal.SIGKILL)
            await until(lambda: one.life.starts == 2 and one.life.state is State.READY)

        one.server = replace(one.server, drain=die)
        before = one.life.pid
        killed = await supervisor.restart("web-1")
        assert (before, "ready") == (killed.pid, one.life.state)
        # A signal that it had been sent would have ended it before it could answer.
        assert probe.Answer.READY == await one.server.probe.check()
        assert 1 == one.life.restarts

    supervise(folder, [web(folder)], scenario)


def test_restarts_that_were_asked_for_are_no_crash_loop(folder: Path) -> None:
    async def scenario(supervisor: Supervisor) -> None:
        for _ in range(3):
            await supervisor.restart("web-1")
        [slot] = supervisor._slots.values()
        assert (0, 3) == (slot.life.failures, slot.life.restarts)
        supervisor.kill("web-1", signal.SIGKILL)
        await until(lambda: slot.life.restarts == 4)
        assert 0 == slot.life.failures
        assert slot.life.pid is not None
        os.kill(slot.life.pid, signal.SIGKILL)
        await until(lambda: slot.life.restarts == 5)
        assert 1 == slot.life.failures

    supervise(folder, [web(folder)], scenario)


@pytest.mark.parametrize(("name", "hint"), [("web", "its instances are web-1"), ("w", "known are web-1")])
def test_an_unknown_name_is_refused_with_the_names_there_are(folder: Path, name: str, hint: str) -> None:
    async def scenario(supervisor: Supervisor) -> None:
        with pytest.raises(RefusedError, match=hint):
            supervisor.kill(name, signal.SIGTERM)

    supervise(folder, [web(folder)], scenario)
