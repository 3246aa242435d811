"""One operating-system process: spawned in a session of its own, watched through a pidfd, stopped without remains.

The child writes its own log and knows nothing of us. With `dies_with_us` (tests, and tasks that belong to one start)
the kernel kills it when we die; otherwise it survives, and the next supervisor adopts it from the record.
"""

import asyncio
import contextlib
import os
import resource
import signal
import subprocess
from pathlib import Path

from deploy.supervisor import logfile, procfs
from deploy.supervisor.account import Account
from deploy.supervisor.part import Command

SETPRIV = "/usr/bin/setpriv"
POLL_S = 0.02
REMAINS_GRACE_S = 3.0
"""How long the descendants of a process that ended get to notice."""
KILL_GRACE_S = 5.0
"""How long the kernel gets to end what was killed; a process stuck in a system call for longer is left to it."""


class Child:
    """A process that is kept: one we started, or one that a supervisor before us did. `wait()` may be awaited by many.

    Its end is seen through the pidfd, which works for a process of any parent; the exit code is told to parents only.
    """

    def __init__(self, pid: int, *, pidfd: int, process: "subprocess.Popen[bytes] | None" = None) -> None:
        self.pid = pid
        self.start_time = procfs.start_time(pid)
        self.ended = False
        self._process = process
        self._exited = asyncio.Event()
        self._pidfd = pidfd
        asyncio.get_running_loop().add_reader(pidfd, self._reap)

    def _reap(self) -> None:
        asyncio.get_running_loop().remove_reader(self._pidfd)
        os.close(self._pidfd)
        if self._process is not None:
            self._process.wait()
        self.ended = True
        self._exited.set()

    @property
    def exit_code(self) -> int | None:
        """Exit code, negative for a signal; None while it runs, and for a process that was not our child."""
        return None if self._process is None else self._process.returncode

    async def wait(self) -> int | None:
        """Wait for its end; its exit code, where that is known."""
        await self._exited.wait()
        return self.exit_code

    async def ended_within(self, seconds: float) -> bool:
        """Whether it ends within this time."""
        try:
            await asyncio.wait_for(self._exited.wait(), seconds)
        except TimeoutError:
            return False
        return True

    def send(self, number: int) -> None:
        """Send a signal to the process itself; nothing happens when it is already gone."""
        if not self.ended:
            with contextlib.suppress(ProcessLookupError):  # it ended, and the loop has not heard of it yet
                signal.pidfd_send_signal(self._pidfd, number)

    async def end(self, number: int, *, grace_s: float) -> None:
        """Ask it to end with signal `number`, and insist with SIGKILL after the grace."""
        self.send(number)
        if not await self.ended_within(grace_s):
            self.send(signal.SIGKILL)
            await self.wait()

    async def stop(self, number: int, *, grace_s: float) -> int | None:
        """End it; its session is empty afterwards."""
        await self.end(number, grace_s=grace_s)
        await clear_session(self.pid)
        return self.exit_code


def adopt(pid: int, start_time: int) -> Child | None:
    """Keep a process that somebody else started; None where it is gone, or its pid was given to another."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    # In this order: the descriptor holds on to whatever has the pid now, and only then it is asked who that is.
    if procfs.start_time(pid) != start_time:
        os.close(pidfd)
        return None
    return Child(pid, pidfd=pidfd)


def forbid_core_files() -> None:
    """Let the kernel keep nothing of the memory of this process and of those it starts: passwords and tokens are in it.

    One byte instead of none: of a limit of zero a handler in `core_pattern` takes no notice, and one is what the kernel
    takes as a refusal to call it (core(5), `do_coredump`).
    """
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    limit = 1 if hard == resource.RLIM_INFINITY else min(1, hard)
    resource.setrlimit(resource.RLIMIT_CORE, (limit, limit))


def spawn(command: Command, *, log: Path, dies_with_us: bool) -> Child:
    """Start a process. Raises OSError when nothing can be executed."""
    output = logfile.open_for_append(log)
    try:
        process = subprocess.Popen(
            (*become(command.account, dies_with_us=dies_with_us), *command.argv),
            env=dict(command.env),
            cwd=command.cwd,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            umask=0o077,
        )
    finally:
        os.close(output)
    return Child(process.pid, pidfd=os.pidfd_open(process.pid), process=process)


def become(account: Account | None, *, dies_with_us: bool = False) -> tuple[str, ...]:
    """What to put before a program's arguments: it changes the user and arranges for its end, and then is the program.

    Popen must not change the user itself: for that it would fork instead of vfork, and run gRPC's fork handlers beside
    the threads of the probes' channels; a child that crashes there never gets as far as the program.
    """
    user = () if account is None else (f"--reuid={account.uid}", f"--regid={account.gid}", "--clear-groups")
    switches = (*user, *(("--pdeathsig=KILL",) if dies_with_us else ()))
    return (SETPRIV, *switches, "--") if switches else ()


async def run(command: Command, *, log: Path, timeout_s: float, dies_with_us: bool) -> int | None:
    """Run a process to its end and return its exit code. Raises TimeoutError; nothing of it is left behind."""
    child = spawn(command, log=log, dies_with_us=dies_with_us)
    try:
        async with asyncio.timeout(timeout_s):
            return await child.wait()
    finally:
        await child.stop(signal.SIGKILL, grace_s=0.0)


async def clear_session(session: int) -> None:
    """Make sure nothing of a session whose leader has ended goes on: wait a little, then kill."""
    loop = asyncio.get_running_loop()
    polite_until = loop.time() + REMAINS_GRACE_S
    while (members := procfs.session_members(session)) and loop.time() < polite_until + KILL_GRACE_S:
        if loop.time() > polite_until:
            for pid in members:
                _kill(pid, signal.SIGKILL)
        await asyncio.sleep(POLL_S)


def _kill(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):  # it ended between the look and the signal, as was wanted
        os.kill(pid, number)


async def stop_foreign(pid: int, start_time: int, number: int, *, grace_s: float) -> None:
    """Stop a process that is not our child (an earlier supervisor's), identified by pid and start time."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + grace_s
    if procfs.start_time(pid) == start_time:
        _kill(pid, number)
    while procfs.start_time(pid) == start_time and loop.time() < deadline + KILL_GRACE_S:
        if loop.time() > deadline:
            _kill(pid, signal.SIGKILL)
        await asyncio.sleep(POLL_S)
    await clear_session(pid)
