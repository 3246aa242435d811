"""The command `weft` on a mesh of the suite: as a process of its own, or here, where that proves as much."""

import io
import subprocess
import sys
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Final

import pytest

from deploy.cli import __main__ as command
from deploy.supervisor.config import PROJECT, child_environ

COMMAND: Final = (sys.executable, "-m", "deploy.cli")
#: Longer than a roll of one service on a busy machine takes.
TIMEOUT_S: Final = 240.0


def environ(data: Path) -> dict[str, str]:
    """What the command runs with; `data`: the data directory of the mesh."""
    return {**child_environ(), "WEFT_DATA": str(data)}


def weft(
    data: Path, *arguments: str, stdin: str | None = None, more: Mapping[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    """Run it to its end."""
    return subprocess.run(
        [*COMMAND, *arguments],
        env={**environ(data), **(more or {})},
        cwd=PROJECT,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


def weft_here(data: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run it to its end in this process: nothing has to be imported, which takes longer than most verbs do."""
    said, refused = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(said), redirect_stderr(refused):
        patch.setenv("WEFT_DATA", str(data))
        code = command.run(list(arguments))
    return subprocess.CompletedProcess(arguments, code, said.getvalue(), refused.getvalue())
