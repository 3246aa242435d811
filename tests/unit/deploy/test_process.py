"""Real child processes: spawned, watched, stopped, and nothing of them left."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.supervisor import process, procfs
from deploy.supervisor.account import server_account
from deploy.supervisor.config import child_environ
from deploy.supervisor.part import Command

DEADLINE_S = 10.0

STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('on', flush=True); time.sleep(60)"
FAMILY = "import subprocess, sys, time; subprocess.Popen(['/bin/sleep', '60']); print('on', flush=True); time.sleep(60)"


def command(*argv: str) -> Command:
    return Command(argv, child_environ(), Path("/"))


async def written(log: Path) -> None:
    """Wait until the child has written something."""
    async with asyncio.timeout(DEADLINE_S):
        while not (log.exists() and log.stat().st_size):
            await asyncio.sleep(0.01)


def test_a_child_writes_its_own_log_and_leads_its_own_session(tmp_path: Path) -> None:
    async def scenario() -> tuple[int, bool]:
        child = process.spawn(command("/bin/cat"), log=tmp_path / "x.log", dies_with_us=False)
        leads = os.getsid(child.pid) == child.pid if child.exit_code is None else True
        code = await child.wait()
        return code, leads

    assert (0, True) == asyncio.run(scenario())
    assert 0o600 == (tmp_path / "x.log").stat().st_mode & 0o777


def test_a_child_becomes_the_servers_user_alone_and_still_ends_with_us(tmp_path: Path) -> None:
    account, log = server_account(), tmp_path / "x.log"
    told = "import ctypes, os; signal = ctypes.c_int(); ctypes.CDLL(None).prctl(2, ctypes.byref(signal)); "
    told += "print(os.getuid(), os.getgid(), os.getgroups() if os.getuid() else [], signal.value)"
    # The system's: the one that runs this may lie where only its owner may look.
    who = Command(("/usr/bin/python3", "-c", told), child_environ(), Path("/"), account)

    assert 0 == asyncio.run(process.run(who, log=log, timeout_s=DEADLINE_S, dies_with_us=True))
    uid, gid = (os.getuid(), os.getgid()) if account is None else (account.uid, account.gid)
    assert [f"{uid} {gid} [] {signal.SIGKILL:d}"] == log.read_text().splitlines()


FORKS = """
import asyncio, ctypes, pathlib, sys
from deploy.supervisor import process
from deploy.supervisor.account import server_account
from deploy.supervisor.part import Command
told = ctypes.CFUNCTYPE(None)(lambda: print("forked"))
ctypes.CDLL(None).__register_atfork(told, None, None, None)  # as gRPC does
true = Command(("/bin/true",), {}, pathlib.Path("/"), server_account())
code = asyncio.run(process.run(true, log=pathlib.Path(sys.argv[1]), timeout_s=10.0, dies_with_us=True))
print("ended with", code)
"""


def test_no_child_is_forked_beside_the_threads_of_the_supervisor(tmp_path: Path) -> None:
    told = subprocess.run([sys.executable, "-c", FORKS, str(tmp_path / "x.log")], stdout=subprocess.PIPE, check=True)

    assert b"ended with 0\n" == told.stdout


def test_its_output_is_in_the_log(tmp_path: Path) -> None:
    async def scenario() -> int:
        return await process.run(
            command("/bin/sh", "-c", "echo out; echo err >&2; exit 3"),
            log=tmp_path / "x.log",
            timeout_s=DEADLINE_S,
            dies_with_us=True,
        )

    assert 3 == asyncio.run(scenario())
    assert "out\nerr\n" == (tmp_path / "x.log").read_text()


def test_a_child_that_ignores_the_polite_signal_is_killed_after_its_grace(tmp_path: Path) -> None:
    async def scenario() -> int:
        log = tmp_path / "x.log"
        child = process.spawn(command(sys.executable, "-c", STUBBORN), log=log, dies_with_us=True)
        await written(log)
        return await child.stop(signal.SIGTERM, grace_s=0.1)

    assert -signal.SIGKILL == asyncio.run(scenario())


def test_nothing_of_a_childs_session_outlives_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "REMAINS_GRACE_S", 0.1)

    async def scenario() -> list[int]:
        log = tmp_path / "x.log"
        child = process.spawn(command(sys.executable, "-c", FAMILY), log=log, dies_with_us=True)
        await written(log)
        before = procfs.session_members(child.pid)
        await child.stop(signal.SIGTERM, grace_s=DEADLINE_S)
        return [len(before), len(procfs.session_members(child.pid))]

    assert [2, 0] == asyncio.run(scenario())


def test_a_task_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    async def scenario() -> None:
        await process.run(command("/bin/sleep", "60"), log=tmp_path / "x.log", timeout_s=0.1, dies_with_us=True)

    with pytest.raises(TimeoutError):
        asyncio.run(scenario())


def test_a_program_that_is_not_there_is_an_os_error(tmp_path: Path) -> None:
    async def scenario() -> None:
        process.spawn(command("/no/such/program"), log=tmp_path / "x.log", dies_with_us=False)

    with pytest.raises(OSError, match="No such file"):
        asyncio.run(scenario())


def test_a_process_of_another_supervisor_is_stopped_by_its_identity(tmp_path: Path) -> None:
    async def scenario() -> int:
        child = process.spawn(command("/bin/sleep", "60"), log=tmp_path / "x.log", dies_with_us=True)
        assert child.start_time is not None
        await process.stop_foreign(child.pid, child.start_time, signal.SIGTERM, grace_s=DEADLINE_S)
        return await child.wait()

    assert -signal.SIGTERM == asyncio.run(scenario())


def test_a_pid_with_another_start_time_is_not_touched(tmp_path: Path) -> None:
    async def scenario() -> bool:
        child = process.spawn(command("/bin/sleep", "60"), log=tmp_path / "x.log", dies_with_us=True)
        assert child.start_time is not None
        still = procfs.start_time(child.pid)
        await process.stop_foreign(child.pid + 10_000_000, child.start_time, signal.SIGKILL, grace_s=0.1)
        untouched = procfs.start_time(child.pid) == still
        await child.stop(signal.SIGKILL, grace_s=0.0)
        return untouched

    assert asyncio.run(scenario())


def test_a_name_with_spaces_and_parentheses_does_not_confuse_the_reader() -> None:
    assert procfs.start_time(os.getpid()) is not None
    assert os.getpid() in procfs.session_members(os.getsid(0))


def test_no_core_is_kept_of_those_who_are_started_after_it_was_forbidden() -> None:
    program = (
        "import resource, subprocess, sys; from deploy.supervisor import process; process.forbid_core_files(); "
        "subprocess.run([sys.executable, '-c', 'import resource; print(resource.getrlimit(resource.RLIMIT_CORE))'])"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)

    # One byte, or none where whoever started us had forbidden it: both keep nothing.
    assert done.stdout.strip() in {"(1, 1)", "(0, 0)"}
