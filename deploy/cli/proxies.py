"""The verb `weft proxies`: what every client of the control planes has made of its configuration.

Clients are the gateways and every process that calls others by `xds:///`. Registered by app.py.
"""

import json
import sys
import threading
from collections.abc import Mapping
from typing import Annotated, Any, Final

import typer

from deploy.cli import terminal
from deploy.cli.exits import Json
from deploy.cli.sources import CommandFailedError, python
from deploy.cli.terminal import Tone
from deploy.supervisor.config import Settings
from deploy.supervisor.mesh import Mesh

_HEAD: Final = ("NODE", "KIND", "CLIENT", "CONTROL PLANE", "VERSION", "STATE", "DETAIL")
_TONES: Final[Mapping[str, Tone]] = {"SYNCED": Tone.GOOD, "STALE": Tone.DOUBTFUL, "NACKED": Tone.BAD}
_VERSION_LENGTH: Final = 12
_WATCH_S: Final = 1.0


def proxies(
    as_json: Json = False,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Again every second, until Ctrl-C.")] = False,
) -> None:
    """Show each client of the control planes: SYNCED, STALE (since when), or NACKED with its own words.

    VERSION is the last published bundle of which it has accepted everything. A client that is connected to two control
    planes is there twice.

    Example: weft proxies --watch
    """
    if as_json and watch:
        raise typer.BadParameter("--watch shows a table, --json one object: give one of them")
    environ = Mesh(Settings.from_environ().data).publishing().environ
    while True:
        try:
            found = python("lb", "proxies", "--json", environ=environ)
        except CommandFailedError as error:
            for line in error.lines:
                print(f"weft: {line}", file=sys.stderr)
            raise typer.Exit(error.code) from error
        if as_json:
            print(json.dumps(json.loads(found), indent=2))
            return
        again = terminal.CLEAR if watch and sys.stdout.isatty() else ""
        print(again + table(json.loads(found), colour=terminal.colour()), flush=True)
        if not watch:
            return
        threading.Event().wait(_WATCH_S)


def table(found: Mapping[str, Any], *, colour: bool) -> str:
    """A line for each client, those in trouble first, and one for each control plane."""
    tones = [_TONES.get(client["state"]) for client in found["clients"]]
    lines = [terminal.table(_HEAD, [*map(_row, found["clients"])], tones=tones, wanted=colour)]
    for each in found["control_planes"]:
        lines.append(f"{each['instance']} serves {_short(each['version']) or 'nothing'}")
        if each["refused_version"]:
            lines[-1] += f", refused {_short(each['refused_version'])}: {'; '.join(each['problems'])}"
    if not found["control_planes"]:
        lines.append("no control plane has reported")
    return "\n".join(lines)


def _row(client: Mapping[str, Any]) -> tuple[str, ...]:
    detail = ""
    if client["state"] == "STALE":
        detail = f"for {client['age_s']:g} s" + (
            f", waiting for {', '.join(client['waiting'])}" * bool(client["waiting"])
        )
    if client["state"] == "NACKED":
        detail = "; ".join(f"{each['type']}: {' '.join(each['detail'].split())}" for each in client["refusals"])
    return (
        *(client[key] for key in ("node", "kind", "agent", "control_plane")),
        _short(client["version"]) or "-",
        client["state"],
        detail,
    )


def _short(version: str) -> str:
    return version[:_VERSION_LENGTH]
