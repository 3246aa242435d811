"""The command `weft` as a process of its own, on a mesh of the suite."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

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
