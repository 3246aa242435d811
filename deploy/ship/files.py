"""Every file of a form, as text by its path; written, or held against what is there."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

HEAD: Final = "# Written by `weft export {}`; change what it is written from, not this.\n"


class _Dumper(yaml.SafeDumper):
    """Plain YAML: no anchors, and text of several lines as a block."""

    def ignore_aliases(self, data: object) -> bool:
        """Every value is written where it stands."""
        return True


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Dumper.add_representer(str, _text)


def dumped(form: str, *documents: Any) -> str:
    """YAML of one or more documents, with a word of where it comes from."""
    return HEAD.format(form) + yaml.dump_all(documents, Dumper=_Dumper, sort_keys=False, width=120, allow_unicode=True)


def stale(folder: Path, wanted: Mapping[str, str]) -> list[str]:
    """Paths below the folder that are missing, are not what they should be, or should not be there."""
    there = present(folder)
    return sorted(name for name in {*there, *wanted} if there.get(name) != wanted.get(name))


def present(folder: Path) -> Mapping[str, str]:
    """What is there, by its path."""
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_text(errors="replace") for path in found}


def write(folder: Path, wanted: Mapping[str, str], *, keeps: tuple[str, ...] = ()) -> list[str]:
    """Write what is not there as it should be, and remove what should not be; paths that changed. Raises OSError.

    `keeps`: what begins so is somebody else's, and stays.
    """
    changed = [name for name in stale(folder, wanted) if not name.startswith(keeps)]
    for name in changed:
        path = folder / name
        if name in wanted:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(wanted[name])
        else:
            path.unlink()
    return changed
