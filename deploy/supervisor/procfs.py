"""What Linux knows about processes: who they are, who their parents are, who listens on a port.

Read straight from /proc: a full psutil walk costs milliseconds per process, and readiness asks many times a second.
A pid alone is no identity, since it is used again; a pid with its start time (and the boot it counts from) is.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

PROC = Path("/proc")
LISTEN = "0A"


def boot_id() -> str:
    """Identity of this boot; start times count from it."""
    return (PROC / "sys/kernel/random/boot_id").read_text().strip()


def _stat(pid: int) -> list[str] | None:
    try:
        text = (PROC / str(pid) / "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name, in parentheses, may hold anything; fields count from behind its last parenthesis, `state` first.
    return text.rpartition(")")[2].split()


def start_time(pid: int) -> int | None:
    """Clock ticks from boot to the start of `pid`; None when it is gone or only a zombie is left of it."""
    fields = _stat(pid)
    return None if fields is None or fields[0] == "Z" else int(fields[19])


def _pids() -> Iterator[int]:
    return (int(name) for name in os.listdir(PROC) if name.isdigit())


def session_members(session: int) -> list[int]:
    """Live processes of a session: what a child started with `setsid` has left behind, whatever its parent is now."""
    found = []
    for pid in _pids():
        fields = _stat(pid)
        if fields is not None and fields[0] != "Z" and int(fields[3]) == session:
            found.append(pid)
    return found


def writing_to(folder: Path) -> dict[int, Path]:
    """Processes whose standard error is a file of `folder`, with that file; not those whose parent has the same one."""
    found, parents = {}, {}
    for pid in _pids():
        with contextlib.suppress(OSError):  # it ended meanwhile, or belongs to somebody else: then it is not ours
            target = Path(os.readlink(PROC / str(pid) / "fd" / "2"))
            fields = _stat(pid) if target.parent == folder else None
            if fields is not None and fields[0] != "Z":
                found[pid], parents[pid] = target, int(fields[1])
    return {pid: target for pid, target in found.items() if found.get(parents[pid]) != target}


def cpu_s(pid: int) -> float:
    """CPU time that all threads of a process have had; 0 when it is gone."""
    fields = _stat(pid)
    return 0.0 if fields is None else (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def is_stopped(pid: int) -> bool:
    """Whether a signal or a debugger holds the process still."""
    fields = _stat(pid)
    return fields is not None and fields[0] in "Tt"


def is_runnable(pid: int) -> bool:
    """Whether any thread of a process has, or waits for, a processor or a disk."""
    with contextlib.suppress(OSError):  # it ended meanwhile
        for thread in (PROC / str(pid) / "task").iterdir():
            if (thread / "stat").read_text().rpartition(")")[2].split()[0] in "RD":
                return True
    return False


def tree(*roots: int) -> list[int]:
    """`roots` and their descendants."""
    children: dict[int, list[int]] = {}
    for pid in _pids():
        fields = _stat(pid)
        if fields is not None:
            children.setdefault(int(fields[1]), []).append(pid)
    found, frontier = [], list(roots)
    while frontier:
        pid = frontier.pop()
        found.append(pid)
        frontier.extend(children.get(pid, ()))
    return found


def listener_inodes(port: int) -> set[str]:
    """Inodes of the TCP sockets that listen on `port`, on any address."""
    suffix = f":{port:04X}"
    found = set()
    for table in ("net/tcp", "net/tcp6"):
        try:
            lines = (PROC / table).read_text().splitlines()[1:]
        except FileNotFoundError:
            continue
        for line in lines:
            fields = line.split()
            if fields[3] == LISTEN and fields[1].endswith(suffix):
                found.add(fields[9])
    return found


def _sockets(pid: int) -> set[str]:
    folder = PROC / str(pid) / "fd"
    found = set()
    with contextlib.suppress(OSError):  # it ended meanwhile, or belongs to somebody else: then it is not ours
        for name in os.listdir(folder):
            target = os.readlink(folder / name)
            if target.startswith("socket:["):
                found.add(target[8:-1])
    return found


def owns_listener(port: int, *roots: int) -> bool | None:
    """True when one of `roots` or a descendant listens on `port`, False when only others do, None when nobody does."""
    inodes = listener_inodes(port)
    if not inodes:
        return None
    if any(inodes & _sockets(root) for root in roots):
        return True
    return any(inodes & _sockets(pid) for pid in tree(*roots) if pid not in roots)


def _name(pid: int) -> str:
    try:
        return (PROC / str(pid) / "comm").read_text().strip()
    except FileNotFoundError:
        return "a process that has just ended"


def listener_name(port: int) -> str:
    """Who listens on `port`, for an error message: `nginx (pid 17)`."""
    inodes = listener_inodes(port)
    for pid in _pids():
        if inodes & _sockets(pid):
            return f"{_name(pid)} (pid {pid})"
    return "another user's process"
