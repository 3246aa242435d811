"""The verb `weft check`: whether this machine can run a mesh, and whether the one that runs is whole.

Registered by app.py.
"""

import json
import sys
import time
from threading import Event
from typing import Annotated, Final

import typer

from deploy.cli import terminal
from deploy.cli.doctor import finding, machine, running
from deploy.cli.doctor.finding import Finding, Group, State
from deploy.cli.durations import seconds
from deploy.cli.exits import Json
from deploy.supervisor.config import Settings
from deploy.supervisor.errors import NotRunningError, RefusedError
from deploy.supervisor.layout import Layout
from deploy.supervisor.mesh import Mesh
from deploy.supervisor.record import Record

MESH: Final = Group("mesh")
AGAIN_S: Final = 1.0


def check(
    wait: Annotated[
        float | None, typer.Option("--wait", parser=seconds, metavar="TIME", help="Look again until nothing is wrong.")
    ] = None,
    pre: Annotated[bool, typer.Option("--pre", help="Only this machine: whether a mesh could be started.")] = False,
    json_: Json = False,
) -> None:
    """Look at this machine, and at every part of the mesh that runs; say what is wrong and what to do about it.

    Before the first `weft up` it says whether that will work. It changes nothing. Exit 0 where all is right, or only
    something to look at; 1 where something is wrong; 3 where no mesh runs, unless --pre asks for the machine alone.

    Example: weft check --wait 60s
    """
    settings = Settings.from_environ()
    until = time.monotonic() + (wait or 0.0)
    before: list[Finding] = []
    while True:
        runs = Mesh(settings.data, settings=settings).running()
        # What costs a process for each server is looked at again only while it is wrong.
        if not before or any(one.state is State.FAIL for one in before):
            before = list(machine.look(settings, running=runs))
        findings = before if pre else [*before, *_mesh(settings)]
        code = finding.exit_code(findings, running=runs, only_machine=pre)
        left = until - time.monotonic()
        if code == 0 or left <= 0:
            break
        if sys.stderr.isatty():
            wrong = next((one for one in findings if one.state is State.FAIL), None)
            told = f"{wrong.name}: {wrong.detail}" if wrong is not None else "no mesh runs"
            print(f"weft: {left:.0f} s left; {told}", file=sys.stderr)
        Event().wait(min(AGAIN_S, left))
    if json_:
        print(json.dumps(finding.as_object(findings, running=runs, only_machine=pre), indent=2))
    else:
        print("\n".join(finding.lines(findings, colour=terminal.colour())))
        print(f"\n{finding.summary(findings)}")
    if code:
        raise typer.Exit(code)


def _mesh(settings: Settings) -> list[Finding]:
    """Everything about the mesh, or that there is none."""
    mesh = Mesh(settings.data, settings=settings)
    try:
        return running.look(mesh, settings, mesh.status())
    except NotRunningError:
        if Record(Layout(settings.data).processes).survivors():
            return [MESH.fail("supervisor", "parts run, and nobody supervises them", "`weft up` takes them over")]
        return [MESH.none("mesh", f"none runs in {settings.data}", "`weft up` starts one")]
    except RefusedError as error:
        return [MESH.fail("mesh", str(error), "it may be starting: `weft check --wait 60s`")]
