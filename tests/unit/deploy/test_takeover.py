"""Parts that come and go beside others: in changes that are made at once, and under the next supervisor."""

import asyncio
from dataclasses import astuple, replace
from pathlib import Path

import pytest

from deploy.supervisor.errors import RefusedError
from deploy.supervisor.messages import Event
from deploy.supervisor.part import Server
from deploy.supervisor.supervisor import Supervisor, cancel
from tests.unit.deploy.tiny_web import SERVER, host, supervise, until, web


def another(server: Server) -> Server:
    """The same part by a later release."""
    environ = {**server.command.env, "WEFT_LOG_LEVEL": "debug"}
    return replace(server, command=replace(server.command, env=environ))


async def dies(supervisor: Supervisor) -> None:
    """As if it had been killed: what it started runs on."""
    await cancel([*supervisor._lives.values(), *supervisor._chores])


@pytest.fixture
def quick_renewal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deploy.supervisor.supervisor.RENEW_INTERVAL_S", 0.02)


@pytest.mark.usefixtures("quick_renewal")
def test_what_would_be_started_otherwise_now_is_taken_over_and_replaced_one_by_one(folder: Path) -> None:
    servers = [replace(web(folder, name=f"web-{number}"), heavy=False) for number in (1, 2, 3)]
    events: list[Event] = []

    async def run() -> None:
        first = Supervisor(servers, host(folder, []))
        await first.start()
        await dies(first)
        before = [process.pid for process in first.processes()]
        second = Supervisor([another(server) for server in servers], host(folder, events, lenient=True))
        await second.start(resume=True)
        await until(lambda: [1, 1, 1] == [process.restarts for process in second.processes()])
        await until(lambda: all(process.state == "ready" for process in second.processes()))
        assert not {*before} & {process.pid for process in second.processes()}
        await second.stop()
        await asyncio.gather(*(slot._child.wait() for slot in first._slots.values() if slot._child is not None))

    asyncio.run(run())

    changes = [event.state for event in events]
    # All are taken over first; then each is ready again before the next one goes.
    assert ["ready"] * 3 + ["down", "starting", "ready"] * 3 == changes[:12]


@pytest.mark.usefixtures("quick_renewal")
def test_a_release_that_does_not_start_costs_one_process(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deploy.supervisor.supervisor.RESTART_TIMEOUT_S", 0.5)
    servers = [replace(web(folder, name=f"web-{number}"), heavy=False) for number in (1, 2)]
    broken = [
        replace(server, command=replace(server.command, argv=("/bin/false",)), service=server.name)
        for server in servers
    ]

    async def run() -> None:
        first = Supervisor(servers, host(folder, []))
        await first.start()
        await dies(first)
        before = [process.pid for process in first.processes()]
        second = Supervisor(broken, host(folder, [], lenient=True))
        await second.start(resume=True)
        renewal = second._chores[-1]
        await until(renewal.done)
        assert ["down", "ready"] == [process.state for process in second.processes()]
        assert before[1] == second.processes()[1].pid
        await second.stop()
        await asyncio.gather(*(slot._child.wait() for slot in first._slots.values() if slot._child is not None))

    asyncio.run(run())


def test_two_changes_at_once_have_each_what_they_asked_for(folder: Path) -> None:
    gate = folder / "open"
    waiting = f"import os, time\nwhile not os.path.exists({str(gate)!r}): time.sleep(0.01)\n{SERVER}"
    one = replace(web(folder), heavy=False)
    slow = replace(web(folder, source=waiting, name="slow-1"), heavy=False)
    quick = replace(web(folder, name="quick-1"), heavy=False)

    async def scenario(supervisor: Supervisor) -> None:
        adding = asyncio.create_task(supervisor.change([one, slow], {"slow-1"}))
        await until(lambda: len(supervisor.processes()) == 2)
        assert (("quick-1",), ()) == astuple(await supervisor.change([one, slow, quick], {"quick-1"}))
        assert ((), ("quick-1",)) == astuple(await supervisor.change([one, slow], {"quick-1"}))
        assert not adding.done()
        gate.touch()
        assert (("slow-1",), ()) == astuple(await adding)
        assert [("web-1", "ready"), ("slow-1", "ready")] == [(p.name, p.state) for p in supervisor.processes()]

    supervise(folder, [one], scenario)


def test_what_needs_a_part_that_another_change_gives_up_is_refused(folder: Path) -> None:
    gate = folder / "open"
    waiting = f"import os, time\nwhile not os.path.exists({str(gate)!r}): time.sleep(0.01)\n"
    one = replace(web(folder), heavy=False)
    never = replace(web(folder, source="import time; time.sleep(600)", name="never-1"), heavy=False)
    dying = replace(web(folder, source=f"{waiting}raise SystemExit(7)", name="dying-1"), heavy=False)
    late = replace(web(folder, name="late-1"), heavy=False, after=("never-1",))

    async def scenario(supervisor: Supervisor) -> None:
        adding = asyncio.create_task(supervisor.change([one, never, dying], {"never-1", "dying-1"}))
        await until(lambda: len(supervisor.processes()) == 3)
        needing = asyncio.create_task(supervisor.change([one, never, dying, late], {"late-1"}))
        await until(lambda: len(supervisor.processes()) == 4)
        gate.touch()
        for change, complaint in ((adding, "dying-1: exited early"), (needing, "late-1: never-1, which it needs")):
            with pytest.raises(RefusedError, match=complaint):
                await change
        assert ["web-1"] == [process.name for process in supervisor.processes()]

    supervise(folder, [one], scenario)
