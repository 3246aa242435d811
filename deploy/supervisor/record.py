"""What a supervisor has done, on disk, so that the next one continues it: processes by name, and tasks that are done.

Written at every start and exit. A process is known again by its pid together with its start time and the boot that
both count from, so that a pid that was given to somebody else meanwhile is left alone; and it is what is wanted, and
not to be replaced in its turn, only if its command, as a digest, is the one that would be started now.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import structlog

from deploy.supervisor import procfs

log = structlog.get_logger()

STANDBY = "standby"
"""The name of the process that waits to take over from its supervisor: no part of the mesh, but kept here like one."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One process we started."""

    name: str
    pid: int
    start_time: int
    digest: str
    """Of its command, see `Command.digest`."""
    ports: tuple[int, ...]
    """Where it listens, now or soon."""
    starts: int
    """How many times the part has been started, this time included."""
    since: str
    """When, RFC 3339."""
    stop_rank: int
    stop_signal: int
    grace_s: float

    def alive(self) -> bool:
        """Whether exactly this process still runs."""
        return procfs.start_time(self.pid) == self.start_time


class Record:
    """The file. Who makes one takes over what is in it; `survivors` are the processes that were not put in since."""

    def __init__(self, path: Path) -> None:
        self._path = path
        stored = _read(path)
        entries = [Entry(**{**fields, "ports": tuple(fields["ports"])}) for fields in stored.get("processes", ())]
        self._entries = {entry.name: entry for entry in entries if entry.alive()}
        self._inherited = set(self._entries)
        # Without a process there is nothing to continue: data may be gone, code may be new, so tasks run again.
        continued = any(name != STANDBY for name in self._entries)
        self._tasks: dict[str, str] = dict(stored.get("tasks", {})) if continued else {}
        self._up = continued and bool(stored.get("up"))

    @property
    def up(self) -> bool:
        """Whether the mesh that is recorded had once been ready as a whole."""
        return self._up

    def mark_up(self) -> None:
        """Everything is ready: from now on a supervisor continues, and ends nothing because one part fails."""
        self._up = True
        self._write()

    def put(self, entry: Entry) -> None:
        """Remember a process that was just started, or taken over."""
        self._entries[entry.name] = entry
        self._inherited.discard(entry.name)
        self._write()

    def remove(self, name: str) -> None:
        """Forget a process that is gone."""
        if self._entries.pop(name, None) is not None:
            self._inherited.discard(name)
            self._write()

    def survivor(self, name: str) -> Entry | None:
        """The process of an earlier supervisor under this name, where it still runs."""
        entry = self._entries.get(name)
        return entry if entry is not None and name in self._inherited and entry.alive() else None

    def survivors(self) -> tuple[Entry, ...]:
        """All of them, the stand-by too."""
        return tuple(entry for name in sorted(self._inherited) if (entry := self.survivor(name)) is not None)

    def names(self) -> frozenset[str]:
        """Parts whose process is known and runs."""
        return frozenset(name for name, entry in self._entries.items() if entry.alive())

    def finish(self, task: str, digest: str) -> None:
        """Remember that a task is done."""
        self._tasks[task] = digest
        self._write()

    def finished(self, task: str, digest: str) -> bool:
        """Whether exactly this task was done since the mesh began to run."""
        return self._tasks.get(task) == digest

    def _write(self) -> None:
        stored = {
            "boot": procfs.boot_id(),
            "up": self._up,
            "tasks": self._tasks,
            "processes": [asdict(entry) for entry in self._entries.values()],
        }
        temporary = self._path.with_suffix(".new")
        try:
            temporary.write_text(json.dumps(stored, indent=1))
            temporary.replace(self._path)
        except OSError as error:
            # A full disk must not end what runs. Whatever is not recorded is found by the log it writes (`orphans`).
            log.error("record_not_written", reason=str(error))


def _read(path: Path) -> dict[str, Any]:
    try:
        stored = json.loads(path.read_text())
        same = stored["boot"] == procfs.boot_id()
        complete = all(set(fields) == set(Entry.__slots__) for fields in stored["processes"])
    except FileNotFoundError:
        return {}  # never started
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        log.warning("record_unreadable", reason=repr(error))
        return {}
    return stored if same and complete else {}
