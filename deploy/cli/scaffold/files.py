"""Renders the templates into a clone and finishes them with the project's own tools; all of it, or nothing.

A template is a file of the house with names left open. What a name does to the order of imports and to the length of
lines is what ruff and buf are there for.
"""

import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import jinja2

from deploy.cli.scaffold.names import Names
from deploy.supervisor.config import child_environ

TEMPLATES: Final = Path(__file__).parent / "templates"
SUFFIX: Final = ".j2"
#: Generating every contract's code takes seconds; a busy machine makes them many.
TOOL_TIMEOUT_S: Final = 600.0


class ToolFailedError(Exception):
    """A tool refused what was made; `lines` is what it said."""

    def __init__(self, tool: str, lines: Sequence[str]) -> None:
        super().__init__(f"{tool} failed")
        self.lines = tuple(lines)


def rendered(names: Names, *, events: bool) -> Mapping[str, str]:
    """Every file of a service by its path in the clone."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        autoescape=False,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    words = {**names.words(), "events": events}
    found = {}
    for kind in ("service", "events") if events else ("service",):
        for path in sorted((TEMPLATES / kind).rglob(f"*{SUFFIX}")):
            inside = path.relative_to(TEMPLATES / kind).as_posix().removesuffix(SUFFIX)
            target = inside.replace("SERVICE", names.service).replace("ITEMS", names.items)
            found[target] = environment.get_template(path.relative_to(TEMPLATES).as_posix()).render(words)
    return found


def write(clone: Path, files: Mapping[str, str]) -> None:
    """Write the files, in their final form, and the code that is generated from the contracts.

    Whatever goes wrong, an interrupt as well, leaves the clone as it was. Raises ToolFailedError, and OSError, also
    where one of the files is there already.
    """
    with _all_or_nothing(clone, files):
        for name, text in files.items():
            path = clone / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("x") as file:
                file.write(text)
        python = [name for name in files if name.endswith(".py")]
        _run(clone, "ruff", "check", "--no-cache", "--quiet", "--select", "I", "--fix", *python)
        _run(clone, "ruff", "format", "--no-cache", "--quiet", *python)
        for name in files:
            if name.endswith(".proto"):
                _run(clone, "buf", "format", "--write", name)
        generate(clone)


def generate(clone: Path) -> None:
    """Generate the code of all contracts. Raises ToolFailedError."""
    _run(clone, "python", "protos/py/generate.py")


@contextmanager
def _all_or_nothing(clone: Path, files: Mapping[str, str]) -> Iterator[None]:
    # Deepest first: a directory is removed with what was made in it, and only where it was not there before.
    parents = {parent for name in files for parent in Path(name).parents if parent != Path()}
    made = sorted((path for path in parents if not (clone / path).exists()), key=lambda path: len(path.parts))
    fresh = [name for name in files if not (clone / name).exists()]
    contracts = any(name.endswith(".proto") for name in files)
    try:
        yield
    except BaseException:
        for name in fresh:
            (clone / name).unlink(missing_ok=True)
        for path in reversed(made):
            shutil.rmtree(clone / path, ignore_errors=True)
        if contracts:
            generate(clone)
        raise


def _run(clone: Path, tool: str, *arguments: str) -> None:
    command = [sys.executable] if tool == "python" else [str(Path(sys.executable).parent / tool)]
    try:
        done = subprocess.run(
            [*command, *arguments],
            cwd=clone,
            env=child_environ(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TOOL_TIMEOUT_S,
            check=False,
        )
    except FileNotFoundError:
        raise ToolFailedError(tool, [f"{command[0]} is not there; run `make setup`"]) from None
    if done.returncode != 0:
        raise ToolFailedError(tool, (done.stdout + done.stderr).splitlines() or [f"ended with {done.returncode}"])
