"""A supervisor that is killed leaves everything running, and the next one takes it over. Real daemons, real servers.

The servers are memcacheds, which cost nothing to start.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from deploy.supervisor import logfile, procfs
from deploy.supervisor.errors import NotRunningError, RefusedError
from deploy.supervisor.layout import Layout
from deploy.supervisor.mesh import Mesh
from deploy.supervisor.messages import Status
from deploy.supervisor.record import STANDBY, Entry, Record
from tests.waiting import eventually

NAMES = ("memcached-1", "memcached-2")


@pytest.fixture
def mesh(folder: Path) -> Iterator[Mesh]:
    """Two caches under a supervisor whose processes outlive it."""
    with Mesh(folder, ports="free", only=NAMES) as started:
        started.start()
        yield started


def pids(status: Status) -> dict[str, int | None]:
    return {process.name: process.pid for process in status.processes}


def standby(folder: Path) -> Entry:
    found = next(entry for entry in Record(Layout(folder).processes).survivors() if entry.name == STANDBY)
    assert found.alive()
    return found


def answers(ask: Callable[[], Status]) -> Status | None:
    try:
        return ask()
    except (NotRunningError, RefusedError):
        return None


def successor_of(mesh: Mesh, killed: int) -> Status:
    """The status as the next supervisor tells it, when everything is ready."""

    def found() -> bool:
        status = answers(mesh.status)
        return status is not None and status.supervisor != killed and status.ready

    eventually(found)
    return mesh.status()


def kill_supervisor(mesh: Mesh) -> int:
    killed = mesh.status().supervisor
    os.kill(killed, signal.SIGKILL)
    return killed


def kill(*victims: int) -> None:
    """SIGKILL, and wait until it has taken effect."""
    for victim in victims:
        os.kill(victim, signal.SIGKILL)
    eventually(lambda: not [pid for pid in victims if procfs.start_time(pid)])


def test_a_killed_supervisor_is_replaced_and_its_processes_run_on(mesh: Mesh, folder: Path) -> None:
    before = mesh.status()
    eventually(lambda: STANDBY in Layout(folder).processes.read_text())

    after = successor_of(mesh, kill_supervisor(mesh))

    assert pids(before) == pids(after)
    assert [0, 0] == [process.restarts for process in after.processes]
    assert after.supervisor != standby(folder).pid
    assert mesh.stop()
    assert [] == [pid for pid in pids(after).values() if pid and procfs.start_time(pid)]
    eventually(lambda: not procfs.writing_to(Layout(folder).log))


def test_the_monitor_finds_the_next_supervisor_where_it_found_the_last_one(mesh: Mesh, folder: Path) -> None:
    def exposed() -> str:
        port = json.loads(Layout(folder).ports.read_text())["supervisor"]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            return f"{port} {answer.read().decode().count('weft_process_ready{')}"

    eventually(lambda: STANDBY in Layout(folder).processes.read_text())
    before = exposed()

    successor_of(mesh, kill_supervisor(mesh))

    assert before == exposed()
    assert before.endswith(f" {len(NAMES)}")


def test_what_died_meanwhile_is_started_and_what_dies_later_too(mesh: Mesh) -> None:
    first = pids(mesh.status())
    os.kill(mesh.status().supervisor, signal.SIGSTOP)
    victim = first["memcached-1"]
    assert victim is not None
    os.kill(victim, signal.SIGKILL)

    second = successor_of(mesh, kill_supervisor_that_is_stopped(mesh, first))

    assert first["memcached-2"] == pids(second)["memcached-2"]
    assert first["memcached-1"] != pids(second)["memcached-1"]
    mesh.kill("memcached-2")
    eventually(lambda: mesh.status().process("memcached-2").restarts == 1 and mesh.status().ready)


def kill_supervisor_that_is_stopped(mesh: Mesh, children: dict[str, int | None]) -> int:
    parent = int(Path(f"/proc/{children['memcached-2']}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(parent, signal.SIGKILL)
    return parent


def test_both_supervisors_killed_and_started_by_hand(mesh: Mesh, folder: Path) -> None:
    before = mesh.status()
    eventually(lambda: STANDBY in Layout(folder).processes.read_text())
    kill(standby(folder).pid, before.supervisor)
    wanted = Layout(folder).desired.read_text()

    # Asked for in another way, it goes on as it was: a running mesh is changed by `scale`.
    with Mesh(folder, ports="free", only=NAMES, sizes={"orders": 7}) as again:
        assert pids(before) == pids(again.start())
        assert wanted == Layout(folder).desired.read_text()


def test_a_supervisor_killed_while_the_mesh_starts_is_replaced_by_one_that_finishes(folder: Path) -> None:
    # PostgreSQL makes its directory first, which takes a while.
    with Mesh(folder, ports="free", only=("postgres-1", "memcached-1")) as mesh:
        failures: list[BaseException] = []

        def start() -> None:
            try:
                mesh.start()
            except BaseException as error:  # noqa: BLE001 - told by the test
                failures.append(error)

        starting = threading.Thread(target=start)
        starting.start()
        eventually(lambda: answers(mesh.status) is not None)
        eventually(lambda: STANDBY in Layout(folder).processes.read_text())
        killed = kill_supervisor(mesh)
        starting.join(120)

        assert [] == failures
        assert {"postgres-1", "memcached-1"} == set(pids(successor_of(mesh, killed)))


def test_a_standby_that_cannot_begin_says_so_and_tries_until_it_can(mesh: Mesh, folder: Path) -> None:
    before = mesh.status()
    eventually(lambda: STANDBY in Layout(folder).processes.read_text())
    desired = Layout(folder).desired.read_text()
    Layout(folder).desired.write_text('{"sizes": ')

    killed = kill_supervisor(mesh)

    eventually(lambda: "cannot take over" in "\n".join(mesh.log_tail("supervisor", 50)))
    Layout(folder).desired.write_text(desired)
    assert pids(before) == pids(successor_of(mesh, killed))


def test_what_nobody_can_take_over_can_be_stopped(mesh: Mesh, folder: Path) -> None:
    eventually(lambda: STANDBY in Layout(folder).processes.read_text())
    Layout(folder).desired.write_text("{}")
    kill_supervisor(mesh)
    eventually(lambda: "cannot take over" in "\n".join(mesh.log_tail("supervisor", 50)))

    assert mesh.stop()

    eventually(lambda: not procfs.writing_to(Layout(folder).log))


def test_a_standby_that_is_killed_is_replaced(mesh: Mesh, folder: Path) -> None:
    eventually(lambda: STANDBY in Layout(folder).processes.read_text())
    first = standby(folder)
    os.kill(first.pid, signal.SIGKILL)

    def another() -> bool:
        found = [entry for entry in Record(Layout(folder).processes).survivors() if entry.name == STANDBY]
        return bool(found) and found[0].pid != first.pid

    eventually(another)


def test_a_process_that_nobody_recorded_is_found_by_the_log_it_writes(mesh: Mesh, folder: Path) -> None:
    eventually(lambda: STANDBY in Layout(folder).processes.read_text())
    output = logfile.open_for_append(Layout(folder).log_of("memcached-9"))
    try:
        stray = subprocess.Popen(
            (sys.executable, "-S", "-c", "import time; time.sleep(600)"),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    finally:
        os.close(output)

    successor_of(mesh, kill_supervisor(mesh))

    assert -signal.SIGTERM == stray.wait(60)


def test_everything_killed_at_once_comes_back(mesh: Mesh, folder: Path) -> None:
    before = mesh.status()
    eventually(lambda: STANDBY in Layout(folder).processes.read_text())
    victims = [standby(folder).pid, before.supervisor, *(pid for pid in pids(before).values() if pid)]
    kill(*victims)

    with Mesh(folder, ports="free", only=NAMES) as again:
        after = again.start()

        assert after.ready
        assert set() == {*pids(before).values()} & {*pids(after).values()}
        assert [process.address for process in before.processes] == [process.address for process in after.processes]


def test_a_start_that_met_a_dying_supervisor_begins_again(folder: Path) -> None:
    layout = Layout(folder)
    layout.prepare(None)
    dying = socket.socket(socket.AF_UNIX)
    dying.bind(str(layout.socket))
    dying.listen()

    def die() -> None:
        # The first caller asks whether somebody runs, the second one for what happens.
        for _ in range(2):
            dying.accept()[0].close()
        dying.close()

    thread = threading.Thread(target=die)
    thread.start()
    with Mesh(folder, ports="free", only=NAMES) as mesh:
        assert mesh.start().ready
    thread.join()


def test_stopping_while_nobody_supervises_leaves_nothing(mesh: Mesh, folder: Path) -> None:
    before = mesh.status()
    os.kill(before.supervisor, signal.SIGKILL)

    assert mesh.stop()

    eventually(lambda: not procfs.writing_to(Layout(folder).log))
    assert not mesh.stop()


FAULTY = """
import asyncio, random, sys
from datetime import UTC, datetime
from pathlib import Path
from deploy.supervisor.config import Settings
from deploy.supervisor.daemon import Daemon
from deploy.supervisor.desired import Desired
from deploy.supervisor.layout import Layout

class Faulty(Daemon):
    async def _start_and_wait(self):
        if sys.argv[2] == "up":
            self._record.mark_up()
        raise ZeroDivisionError

layout = Layout(Path(sys.argv[1]))

async def run():
    desired = Desired.of(Settings(data=layout.root))
    return await Faulty(layout, desired, now=lambda: datetime.now(UTC), rng=random.Random(1)).run()

sys.exit(asyncio.run(run()))
"""


@pytest.mark.parametrize(("mesh_is", "code"), [("up", 70), ("starting", 1)])
def test_a_fault_of_the_supervisor_stops_nothing_that_was_up(folder: Path, mesh_is: str, code: int) -> None:
    Layout(folder).prepare(None)

    ended = subprocess.run(
        (sys.executable, "-c", FAULTY, str(folder), mesh_is), capture_output=True, text=True, timeout=60, check=False
    )

    assert code == ended.returncode
    assert "ZeroDivisionError" in ended.stdout + ended.stderr
    # Whoever says goodbye stops; who fails while the mesh is up leaves its socket to the next one.
    assert (mesh_is == "up") == Layout(folder).socket.exists()
