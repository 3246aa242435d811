"""The verbs that put Weft itself to the test, each as a process of its own: bench, chaos. Registered by app.py."""

import subprocess
import sys
from typing import Annotated

import typer

from deploy.cli import exits
from deploy.supervisor.config import PROJECT, child_environ

INTERRUPT_S = 120.0
"""How long what was interrupted may take to stop the mesh it has started."""


def bench(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="All where none is named.")] = None,
    json_: Annotated[bool, typer.Option("--json", help="The claims as JSON on standard output.")] = False,
) -> None:
    """Measure what Weft claims of its cost, and write bench/results. `make bench` installs what that needs first.

    Example: weft bench gateway_hop
    """
    flags = ["--json"] if json_ else []
    raise typer.Exit(_run("bench", *flags, "--", *(names or ())))


def chaos(
    seed: Annotated[int | None, typer.Option(min=0, help="The first seed; a new one where absent.")] = None,
    schedules: Annotated[int, typer.Option(min=1, max=10_000, help="So many seeds in a row.")] = 1,
    seconds: Annotated[float | None, typer.Option(min=15, max=86_400, help="Length of each.")] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Only print what would be done, a JSON object a step.")] = False,
    json_: Annotated[bool, typer.Option("--json", help="One JSON object for each seed.")] = False,
) -> None:
    """Hurt a mesh of its own by seeded schedules, and say whether it kept its invariants; exit 1 where it did not.

    It starts a mesh beside the one that may be running, and stops it again; the running one is left alone.

    Example: weft chaos --seed 7 --schedules 10 --seconds 120
    """
    arguments = ["--schedules", str(schedules)]
    arguments += ["--seed", str(seed)] if seed is not None else []
    arguments += ["--seconds", f"{seconds:g}"] if seconds is not None else []
    code = _run("tests.chaos", *arguments, *(["--plan"] if plan else []), *(["--json"] if json_ else []))
    # A run that has shown nothing has a code of its own there; here that one says that no mesh runs.
    raise typer.Exit(exits.FAILED if code == exits.UNREACHABLE else code)


def _run(module: str, *arguments: str) -> int:
    """The exit code of one of our programs. Ctrl-C reaches it as well; it is waited for while it cleans up."""
    command = [sys.executable, "-m", module, *arguments]
    with subprocess.Popen(command, cwd=PROJECT, env=child_environ()) as program:
        try:
            code = program.wait()
        except KeyboardInterrupt:
            program.wait(INTERRUPT_S)
            raise
    return code
