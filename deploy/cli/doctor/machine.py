"""Whether this machine can run a mesh: all that can be said before the first `weft up`."""

import ctypes
import importlib.metadata
import os
import re
import resource
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import psutil

from deploy.cli.doctor.finding import Finding, Group
from deploy.supervisor import ports, procfs
from deploy.supervisor.account import server_account
from deploy.supervisor.config import PROJECT, Settings, child_environ
from deploy.supervisor.errors import ConfigError
from deploy.supervisor.layout import MARKER
from deploy.supervisor.process import SETPRIV
from deploy.supervisor.servers import alertmanager, envoy, etcd, memcached, patroni, postgres, prometheus, rabbitmq

GROUP: Final = Group("this machine")
SETUP: Final = "run `make setup`, which installs what is missing"
VERSION_S: Final = 20.0
#: The mesh takes some 1.5 GB, and PostgreSQL and the page cache want a little beside it.
MEMORY_LEAST: Final = 1 << 30
MEMORY_GOOD: Final = 2 << 30
DISK_LEAST: Final = 1 << 30
DISK_GOOD: Final = 5 << 30
#: Envoy and PostgreSQL open one for each connection.
FILES_LEAST: Final = 1024
FILES_GOOD: Final = 4096
#: Parts of the usual mesh that have ports of their own, and some for instances that load adds.
PORTS: Final = 120
_VERSION: Final = re.compile(r"(?<![\w.])(\d+)\.(\d+)(?:\.(\d+))?")
_PINNED: Final = re.compile(r"([A-Za-z0-9._-]+)(?:\[[^]]*])?==([^\s;]+)")
_UNSYNCHRONIZED: Final = 0x40


@dataclass(frozen=True, slots=True)
class Program:
    """A server that is installed, not built."""

    name: str
    place: Callable[[], Path]
    asks: tuple[str, ...]
    """Arguments by which it says its version; none: its path does."""
    least: tuple[int, int]


def _rabbitmq() -> Path:
    """Its directory, which has the version in its name; asking the server itself would start a virtual machine."""
    found = sorted(Path("/usr/lib/rabbitmq/lib").glob("rabbitmq_server-*"))
    if not found or not Path(rabbitmq.BINARY).exists():
        raise ConfigError(f"{rabbitmq.BINARY} is not there")
    return found[-1]


def _path(path: str | Path) -> Callable[[], Path]:
    return lambda: Path(path)


PROGRAMS: Final = (
    Program("Envoy", envoy.binary, ("--version",), (1, 30)),
    Program("etcd", _path(etcd.BINARY), ("--version",), (3, 4)),
    Program("PostgreSQL", lambda: postgres.binary("postgres"), ("--version",), (13, 0)),
    Program("RabbitMQ", _rabbitmq, (), (3, 10)),
    Program("Memcached", _path(memcached.BINARY), ("-V",), (1, 5)),
    Program("Prometheus", _path(prometheus.BINARY), ("--version",), (2, 30)),
    Program("Alertmanager", _path(alertmanager.BINARY), ("--version",), (0, 22)),
    Program("Patroni", _path(patroni.BINARY), ("--version",), (2, 1)),
    Program("setpriv", _path(SETPRIV), ("--version",), (2, 30)),
)


def look(settings: Settings, *, running: bool) -> Iterator[Finding]:
    """Everything about this machine. `running`: the mesh has its ports and its memory already."""
    yield python(sys.version_info[:2])
    yield packages(_pinned(PROJECT / "pyproject.toml"), _installed())
    yield generated(PROJECT)
    for program in PROGRAMS:
        yield version(program, _asked(program))
    yield account()
    yield data(settings.data)
    yield disk(shutil.disk_usage(_existing(settings.data)).free)
    yield memory(_memory_free(), running=running)
    yield open_files(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    yield clock(_clock_is_kept(), behind_s=_newest(PROJECT) - _now())
    yield from edge_ports(settings, running=running, owner=_owner)
    yield block(settings.port_base, running=running, free=ports.is_free)


def python(found: tuple[int, ...]) -> Finding:
    """The interpreter."""
    text = ".".join(map(str, found))
    if (3, 11) <= found < (3, 13):
        return GROUP.ok("Python", text)
    return GROUP.fail("Python", f"{text} is neither 3.11 nor 3.12", "make .venv anew: rm -r .venv && make setup")


def packages(pinned: Mapping[str, str], installed: Mapping[str, str]) -> Finding:
    """Whether what is installed is what the project pins."""
    wrong = [
        f"{name} {installed.get(name, 'missing')} instead of {wanted}"
        for name, wanted in pinned.items()
        if installed.get(name) != wanted
    ]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        return GROUP.fail("packages", f"{', '.join(wrong[:3])}{more}", SETUP)
    return GROUP.ok("packages", f"{len(pinned)} as pinned")


def generated(clone: Path) -> Finding:
    """Whether the code that is made from contracts is there."""
    for name in ("contracts.binpb", "xds.binpb"):
        if not (clone / "protos" / "gen" / name).is_file():
            return GROUP.fail("generated code", f"protos/gen/{name} is not there", SETUP)
    return GROUP.ok("generated code")


def version(program: Program, said: str | None) -> Finding:
    """A server's version; `said`: its own words, None where it is not there."""
    if said is None:
        return GROUP.fail(program.name, "is not installed", SETUP)
    least = ".".join(map(str, program.least))
    found = _VERSION.search(said)
    if found is None:
        return GROUP.warn(program.name, "does not say its version", f"it has to be {least} or newer")
    text = ".".join(part for part in found.groups() if part)
    if (int(found[1]), int(found[2])) < program.least:
        return GROUP.fail(program.name, f"{text} is older than {least}", "install a newer one")
    return GROUP.ok(program.name, text)


def account() -> Finding:
    """Whom servers run as."""
    try:
        found = server_account()
    except ConfigError as error:
        return GROUP.fail("account", str(error), SETUP)
    return GROUP.ok("account", "servers run as you" if found is None else f"servers run as {found.name}")


def data(root: Path) -> Finding:
    """Whether the data directory is ours, or could be."""
    try:
        if (root / MARKER).exists():
            return GROUP.ok("data", f"{root} is used")
        if root.is_dir() and any(root.iterdir()):
            return GROUP.fail(
                "data", f"{root} holds files that are not Weft's", "choose an empty directory with WEFT_DATA"
            )
    except PermissionError:
        return GROUP.fail("data", f"{root} belongs to another user", "run as that user, or choose another WEFT_DATA")
    above = _existing(root)
    if not os.access(above, os.W_OK | os.X_OK):
        return GROUP.fail("data", f"{above} cannot be written to", "choose another WEFT_DATA")
    return GROUP.ok("data", f"{root} will be made")


def disk(free: int) -> Finding:
    """Free space where the data lies."""
    return _amount("disk", free, (DISK_LEAST, DISK_GOOD), "make room, or choose another WEFT_DATA")


def memory(free: int, *, running: bool) -> Finding:
    """Memory that is free; a mesh that runs has had its own already."""
    bounds = (MEMORY_LEAST // 8, MEMORY_LEAST // 4) if running else (MEMORY_LEAST, MEMORY_GOOD)
    return _amount("memory", free, bounds, "end other programs, or give this machine more")


def open_files(limit: int) -> Finding:
    """How many files a process may have open."""
    hint = "raise it: ulimit -n 65536, or LimitNOFILE of the unit that starts the mesh"
    if limit == resource.RLIM_INFINITY or limit >= FILES_GOOD:
        return GROUP.ok("open files", "no limit" if limit == resource.RLIM_INFINITY else f"{limit} each process")
    told = f"{limit} each process"
    return GROUP.fail("open files", told, hint) if limit < FILES_LEAST else GROUP.warn("open files", told, hint)


def clock(kept: bool | None, *, behind_s: float) -> Finding:
    """Whether the clock can be right: it is not before the files of this clone, and somebody may keep it in step."""
    if behind_s > 0:
        return GROUP.fail(
            "clock", f"is {behind_s:.0f} s before the newest file of this clone", "set it, such as with chrony"
        )
    return GROUP.ok("clock", "kept in step" if kept else "is not kept in step by anybody" if kept is False else "")


def edge_ports(settings: Settings, *, running: bool, owner: Callable[[int], str | None]) -> Iterator[Finding]:
    """Ports that have to be exactly these. `owner`: who listens on one."""
    for variable, port in (
        ("WEFT_GATEWAY_PORT", settings.gateway_port),
        ("WEFT_GATEWAY_TLS_PORT", settings.gateway_tls_port),
    ):
        if port is None:
            continue
        name, who = f"port {port}", owner(port)
        if running:
            yield GROUP.ok(name, "the mesh runs")
        elif who is None:
            yield GROUP.ok(name, "free")
        else:
            yield GROUP.fail(name, f"is taken by {who}", f"stop that, or set {variable} to another port")


def block(base: int, *, running: bool, free: Callable[[int], bool]) -> Finding:
    """Ports that everything else is given."""
    name = f"ports from {base}"
    if running:
        return GROUP.ok(name, "the mesh runs")
    end = min(base + ports.BLOCK, 65536)
    found = 0
    for port in range(base, end):
        found += free(port)
        if found == PORTS:
            return GROUP.ok(name, f"{PORTS} or more are free")
    return GROUP.fail(name, f"only {found} of them are free", "set WEFT_PORT_BASE to another block")


def _amount(name: str, free: int, bounds: tuple[int, int], hint: str) -> Finding:
    told = f"{free / (1 << 30):.1f} GB free"
    least, good = bounds
    if free >= good:
        return GROUP.ok(name, told)
    return GROUP.fail(name, told, hint) if free < least else GROUP.warn(name, told, hint)


def _pinned(path: Path) -> dict[str, str]:
    wanted = tomllib.loads(path.read_text())["project"]["dependencies"]
    return {_plain(found[1]): found[2] for found in map(_PINNED.fullmatch, wanted) if found}


def _installed() -> dict[str, str]:
    return {_plain(each.name): each.version for each in importlib.metadata.distributions() if each.name}


def _plain(name: str) -> str:
    """A package's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _asked(program: Program) -> str | None:
    try:
        path = program.place()
        if not program.asks:
            return path.name.rpartition("-")[2]
        done = subprocess.run(
            [str(path), *program.asks],
            env=child_environ(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=VERSION_S,
            check=False,
        )
    except (ConfigError, OSError):
        return None
    except subprocess.TimeoutExpired:
        return ""
    return f"{done.stdout}\n{done.stderr}"


def _existing(path: Path) -> Path:
    return next(each for each in (path, *path.parents) if each.exists())


def _memory_free() -> int:
    """Of the machine, or of the control group we are in, where that is less."""
    free = psutil.virtual_memory().available
    try:
        most = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        used = int(Path("/sys/fs/cgroup/memory.current").read_text())
    except (OSError, ValueError):
        return free
    return free if most == "max" else min(free, max(0, int(most) - used))


def _clock_is_kept() -> bool | None:
    """Whether somebody disciplines the kernel's clock, by adjtimex(2); None where the kernel does not say."""
    state = (ctypes.c_char * 256)()
    status = ctypes.c_int.from_buffer(state, 5 * ctypes.sizeof(ctypes.c_long))
    if ctypes.CDLL(None, use_errno=True).adjtimex(state) < 0:
        return None
    return not status.value & _UNSYNCHRONIZED


def _newest(clone: Path) -> float:
    return (clone / "uv.lock").stat().st_mtime


def _now() -> float:
    return datetime.now(UTC).timestamp()


def _owner(port: int) -> str | None:
    return None if ports.is_free(port) else procfs.listener_name(port)
