"""The verbs of `weft lane`: start, shift, watch, list, end. Registered by app.py.

A lane is a version of some services beside the stable one, for those who are sent there. The supervisor keeps it, and
rolls it back by itself.
"""

import json
import os
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from deploy.cli import exits, names, terminal
from deploy.cli.exits import Json
from deploy.cli.terminal import Tone
from deploy.supervisor.config import Settings
from deploy.supervisor.errors import RefusedError
from deploy.supervisor.lane import INSTANCES_MAX, LaneSpec
from deploy.supervisor.mesh import Mesh
from weft_protos import lanes

WATCH_S: Final = 1.0
_HEAD: Final = ("", "REQUESTS", "ERRORS", "P50 MS", "P99 MS")
_OPEN: Final = "open"

Name = Annotated[str, typer.Argument(help="The lane, such as canary.", autocompletion=names.lanes)]


def start(
    name: Name,
    service: Annotated[
        list[str],
        typer.Option("--service", metavar="S", help="Has instances in it; repeatable.", autocompletion=names.laned),
    ],
    percent: Annotated[float, typer.Option(min=0, max=100, help="So many of a hundred users are sent there.")] = 0.0,
    header: Annotated[str, typer.Option(metavar="V", help=f"Calls with `{lanes.ASKED}: V` are sent there.")] = "",
    claim: Annotated[
        str, typer.Option(metavar="K=V", help=f"Calls whose token says so are; K is {', '.join(lanes.CLAIMS)}.")
    ] = "",
    instances: Annotated[int, typer.Option(min=1, max=INSTANCES_MAX, help="Of each service.")] = 1,
    env: Annotated[
        list[str] | None, typer.Option(metavar="K=V", help="Environment of its instances; repeatable.")
    ] = None,
    checkout: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The clone whose code they run.", exists=True, file_okay=False)
    ] = None,
    json_: Json = False,
) -> None:
    """Start instances of another version beside the stable ones, and send some calls there when they are ready.

    A call keeps its lane on its whole way, through every service and event; where a service has none of that name, its
    stable instances answer. A user who is in stays in while the percentage grows.

    Example: weft lane start canary --service orders --percent 5 --checkout ../weft-next
    """
    key, _, value = claim.partition("=")
    if claim and not (key and value):
        raise typer.BadParameter(f"--claim {claim}: give a claim and its value, such as sub=alice")
    spec = LaneSpec(
        tuple(dict.fromkeys(service)),
        instances=instances,
        env=_environment(env or ()),
        checkout="" if checkout is None else os.path.abspath(checkout),
        percent=percent,
        header=header,
        claim=key,
        value=value,
    )
    started = _mesh().start_lane(name, spec).started
    if json_:
        print(json.dumps({"name": name, "started": list(started)}))
        return
    print(f"{name}: started {', '.join(started)}; {_who(find(name))}")


def shift(
    name: Name,
    percent: Annotated[float, typer.Argument(min=0, max=100, help="So many of a hundred users.")],
    json_: Json = False,
) -> None:
    """Send another share of the users to a lane. Who asks for it, or has its claim, goes there as before.

    Example: weft lane shift canary 25
    """
    _mesh().shift_lane(name, percent)
    print(json.dumps({"name": name, "percent": percent}) if json_ else f"{name}: {_who(find(name))}")


def end(name: Name, json_: Json = False) -> None:
    """Send nobody to a lane any more, drain its instances, and forget it.

    Example: weft lane end canary
    """
    stopped = _mesh().end_lane(name).stopped
    print(
        json.dumps({"name": name, "stopped": list(stopped)}) if json_ else f"{name} is over; stopped {_list(stopped)}"
    )


def list_lanes(json_: Json = False) -> None:
    """List the lanes: their instances, who is sent there, and why one was rolled back.

    Example: weft lane list --json
    """
    found = _mesh().lanes()
    if json_:
        print(json.dumps({"lanes": found}, indent=2))
        return
    rows = [
        (
            each["name"],
            _list(each["services"]),
            ", ".join(f"{one['name']} {one['state']}" for one in each["instances"]) or "none",
            _who(each),
        )
        for each in found
    ]
    tones = [Tone.BAD if each["reason"] else Tone.GOOD if each["state"] == _OPEN else None for each in found]
    head = ("LANE", "SERVICES", "INSTANCES", "CALLERS")
    print(terminal.table(head, rows, tones=tones, wanted=terminal.colour()) if found else "there are no lanes")


def watch(
    name: Name,
    json_: Annotated[bool, typer.Option("--json", help="One JSON object a second: what was counted.")] = False,
) -> None:
    """Show what callers of a lane see beside those of the stable instances, once a second, until Ctrl-C.

    Counted at the gateways, after all retries, since this began; latencies are of calls that succeeded. Ends with exit
    code 1 when the lane is rolled back.

    Example: weft lane watch canary
    """
    began, first = find(name), True
    while True:
        now = find(name)
        rows = [(label, difference(began[key], now[key])) for label, key in ((name, "seen"), ("stable", "stable"))]
        lines = [json.dumps(dict(rows))] if json_ else table(rows)
        if not first and not json_ and sys.stdout.isatty():
            print(f"\x1b[{len(lines)}A", end="")
        print("\n".join(lines), flush=True)
        first = False
        if now["reason"]:
            print(f"weft: {name} was rolled back: {now['reason']}", file=sys.stderr)
            raise typer.Exit(exits.FAILED)
        threading.Event().wait(WATCH_S)


def difference(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """What has been counted between two looks; a gateway that began anew counts from its beginning."""
    buckets = {bound: max(0.0, calls - before["buckets"].get(bound, 0.0)) for bound, calls in after["buckets"].items()}
    return {key: max(0.0, after[key] - before[key]) for key in ("calls", "faults")} | {"buckets": buckets}


def quantile(buckets: Mapping[str, float], share: float) -> float | None:
    """Milliseconds within which that share of the calls were answered, linear within a bucket; None without calls."""
    bounds = sorted((float(bound), calls) for bound, calls in buckets.items())
    if not bounds or not bounds[-1][1]:
        return None
    wanted, low, below = bounds[-1][1] * share, 0.0, 0.0
    for bound, calls in bounds:
        if calls >= wanted:
            return low if bound == float("inf") else low + (bound - low) * (wanted - below) / max(calls - below, 1e-9)
        low, below = bound, calls
    return low


def table(rows: list[tuple[str, dict[str, Any]]]) -> list[str]:
    """A line for each, under a head."""
    cells: list[tuple[str, ...]] = [_HEAD]
    for label, seen in rows:
        quantiles = [quantile(seen["buckets"], share) for share in (0.5, 0.99)]
        cells.append(
            (
                label,
                f"{seen['calls']:.0f}",
                f"{seen['faults']:.0f}",
                *("-" if value is None else f"{value:.1f}" for value in quantiles),
            )
        )
    width = max(len(row[0]) for row in cells)
    return ["  ".join((row[0].ljust(width), *(cell.rjust(9) for cell in row[1:]))) for row in cells]


def _environment(pairs: list[str] | tuple[str, ...]) -> dict[str, str]:
    found = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise typer.BadParameter(f"--env {pair}: give a variable and its value, such as FEATURE=on")
        found[key] = value
    return found


def _mesh() -> Mesh:
    return Mesh(Settings.from_environ().data)


def find(name: str) -> dict[str, Any]:
    """What is wanted of a lane, what runs, and what its callers see. Raises RefusedError where there is none."""
    present = _mesh().lanes()
    for each in present:
        if each["name"] == name:
            return each
    known = f"there are {_list([each['name'] for each in present])}" if present else "there is none"
    raise RefusedError(f"no lane is called {name}; {known}")


def _who(found: Mapping[str, Any]) -> str:
    """Whom a lane takes, in words."""
    if found["reason"]:
        return f"rolled back: {found['reason']}"
    takes = [f"{found['percent']:g} % of the users"] if found["percent"] else []
    takes += [f"calls with {lanes.ASKED}: {found['header']}"] if found["header"] else []
    takes += [f"tokens with {found['claim']}"] if found["claim"] else []
    return f"takes {', '.join(takes)}" if found["state"] == _OPEN else "takes nobody yet"


def _list(names: list[str] | tuple[str, ...]) -> str:
    return ", ".join(names) or "nothing"
