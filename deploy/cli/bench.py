"""The verb `weft bench`: the benches of this clone, as a process of their own. Registered by app.py."""

import subprocess
import sys
from typing import Annotated

import typer

from deploy.supervisor.config import PROJECT, child_environ


def bench(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="All where none is named.")] = None,
    json_: Annotated[bool, typer.Option("--json", help="The claims as JSON on standard output.")] = False,
) -> None:
    """Measure what Weft claims of its cost, and write bench/results. `make bench` installs what that needs first.

    Example: weft bench gateway_hop
    """
    flags = ["--json"] if json_ else []
    command = [sys.executable, "-m", "bench", *flags, "--", *(names or ())]
    raise typer.Exit(subprocess.run(command, cwd=PROJECT, env=child_environ(), check=False).returncode)
