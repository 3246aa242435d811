"""How a report is cut into parts: pure, so that whoever takes over a report finds the parts that were planned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from worker.manifest import File

#: Events of one part, unless one file alone has more: seconds of work, which is what a crash costs and a step of the
#: progress shows.
EVENTS_MAX: Final = 1_000_000
#: Files of one part: a row of `report_stages` names them all.
FILES_MAX: Final = 1_000


@dataclass(frozen=True, slots=True)
class Stage:
    """Some files of one type, read as one part."""

    number: int
    type: str
    files: tuple[File, ...]

    @property
    def events(self) -> int:
        """Events in them."""
        return sum(file.events for file in self.files)


def plan(files: Sequence[File]) -> list[Stage]:
    """Parts of neighbouring files, each of one type; every file in exactly one."""
    stages: list[Stage] = []
    held: list[File] = []

    def close() -> None:
        if held:
            stages.append(Stage(len(stages), held[0].type, tuple(held)))
            held.clear()

    for file in sorted(files, key=lambda one: (one.type, one)):
        full = sum(one.events for one in held) + file.events > EVENTS_MAX or len(held) == FILES_MAX
        if held and (held[0].type != file.type or full):
            close()
        held.append(file)
    close()
    return stages
