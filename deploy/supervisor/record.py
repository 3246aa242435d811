"""Which processes were started, on disk, so that a supervisor that died leaves nothing nobody knows about.

Written at every start and exit. The next supervisor asks `orphans()`; start time and boot make sure that a pid
that was given to somebody else meanwhile is left alone.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from deploy.supervisor import procfs


@dataclass(frozen=True, slots=True)
class Entry:
    """One process we started."""

    name: str
    pid: int
    start_time: int
    stop_rank: int
    stop_signal: int
    grace_s: float

    def alive(self) -> bool:
        """Whether exactly this process still runs."""
        return procfs.start_time(self.pid) == self.start_time


class Record:
    """The file of entries, by name."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._entries: dict[str, Entry] = {}

    def put(self, entry: Entry) -> None:
        """Remember a process that was just started."""
        self._entries[entry.name] = entry
        self._write()

    def remove(self, name: str) -> None:
        """Forget a process that is gone."""
        if self._entries.pop(name, None) is not None:
            self._write()

    def orphans(self) -> list[Entry]:
        """Processes of an earlier supervisor on this record that still run."""
        return [entry for entry in self._read().values() if entry.name not in self._entries and entry.alive()]

    def _read(self) -> Mapping[str, Entry]:
        try:
            stored = json.loads(self._path.read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            return {}  # never started, or the machine stopped in the middle: nothing of it can run any more
        if stored["boot"] != procfs.boot_id():
            return {}
        return {fields["name"]: Entry(**fields) for fields in stored["processes"]}

    def _write(self) -> None:
        stored = {"boot": procfs.boot_id(), "processes": [asdict(entry) for entry in self._entries.values()]}
        temporary = self._path.with_suffix(".new")
        temporary.write_text(json.dumps(stored, indent=1))
        temporary.replace(self._path)
