"""The verbs that start, show and stop the mesh of this machine: up, down, status, logs, restart.

Registered by app.py.
"""

import json
import sys
import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from deploy.cli import exits, names, terminal
from deploy.cli.exits import Json
from deploy.cli.terminal import Tone
from deploy.supervisor import logfile
from deploy.supervisor.config import Settings
from deploy.supervisor.errors import StartError
from deploy.supervisor.layout import Layout
from deploy.supervisor.mesh import Mesh
from deploy.supervisor.messages import Event, Status

RUNNING_TIMEOUT_S = 60.0
"""How long `up` waits for a running mesh that is just recovering from something."""
LINES_ONE, LINES_EACH = 50, 5
NAME_WIDTH = 22
LINE_WIDTH = 160
_HEAD = ("NAME", "KIND", "STATE", "PID", "ADDRESS", "RESTARTS", "SINCE")


class Traces(StrEnum):
    """Where traces are shown."""

    STORE = "store"
    ZIPKIN = "zipkin"


def up(
    traces: Annotated[
        Traces | None,
        typer.Option(help="Where traces are shown: zipkin starts one beside the built-in store; it needs Java 17."),
    ] = None,
    json_: Json = False,
) -> None:
    """Start the mesh, wait until every part is healthy, and print where everything is.

    Finds a mesh that already runs and says so. Stops everything again when a part fails or on Ctrl-C. With --json it
    prints what `weft status --json` does, once everything is ready.

    With --traces zipkin (or WEFT_TRACES=zipkin) every span goes to a Zipkin as well; its jar is fetched once (86 MB).

    Example: WEFT_GATEWAY_PORT=9090 weft up --traces zipkin
    """
    settings = Settings.from_environ()
    if traces is not None:
        settings = settings.showing(traces)
    mesh = Mesh(settings.data, settings=settings)
    began = time.monotonic()
    running = mesh.running()
    try:
        status = mesh.start(None if running or json_ else show_event)
    except StartError as error:
        _explain(error, settings.data)
        raise typer.Exit(exits.FAILED) from error
    if not status.ready:
        status = mesh.wait_ready(timeout_s=RUNNING_TIMEOUT_S)
    for name in mesh.differences():
        print(f"weft: {name} is another than the running mesh's; `weft down` first to change it", file=sys.stderr)
    if json_:
        print(status.to_json(indent=2))
        return
    if running:
        print(f"already running: {len(status.processes)} processes, all ready")
    else:
        print(f"all {len(status.processes)} processes ready after {time.monotonic() - began:.1f} s")
    print(places(status, settings))


def down(json_: Json = False) -> None:
    """Stop everything that `up` started, and wait until it is gone. The data stays.

    Example: weft down
    """
    settings = Settings.from_environ()
    began = time.monotonic()
    stopped = Mesh(settings.data, settings=settings).stop()
    if json_:
        print(json.dumps({"stopped": stopped, "data": str(settings.data)}))
    elif stopped:
        print(f"stopped after {time.monotonic() - began:.1f} s; the data stays in {settings.data}")
    else:
        print("nothing runs")


def status(
    as_json: Json = False,
) -> None:
    """Show every process, its state and its address, and where the pages are.

    Example: weft status --json
    """
    settings = Settings.from_environ()
    found = Mesh(settings.data, settings=settings).status()
    if as_json:
        print(found.to_json(indent=2))
        return
    print(_table(found, colour=terminal.colour()))
    for line in (*_quarantine(found), *_sizes(found)):
        print(line)
    print(places(found, settings))


def logs(
    name: Annotated[
        str, typer.Argument(help="A part, such as orders-1, or a service; all where absent.", autocompletion=names.logs)
    ] = "",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, max=100_000, help="So many last lines.")] = LINES_ONE,
    json_: Annotated[bool, typer.Option("--json", help="A JSON object a line: its part, and what it wrote.")] = False,
) -> None:
    """Print the last lines that parts wrote; also after they have ended.

    Example: weft logs orders-1 -f
    """
    folder = Layout(Settings.from_environ().data).log
    paths = _log_files(folder, name)
    if not paths:
        known = sorted(path.stem for path in folder.glob("*.log"))
        hint = f"known are {', '.join(known)}" if known else f"there is no log in {folder}"
        raise typer.BadParameter(f"no part called {name} has written a log; {hint}" if name else hint)
    shown = {path: logfile.size(path) for path in paths}

    def show(path: Path, line: str) -> None:
        alone = len(paths) == 1
        text = json.dumps({"part": path.stem, "line": line}) if json_ else _log_line(path, line, alone=alone)
        print(text, flush=follow)

    for path in paths:
        for line in logfile.tail(path, lines if len(paths) == 1 else min(lines, LINES_EACH)):
            show(path, line)
    if follow:
        for path, line in logfile.follow(shown):
            show(path, line)


def restart(
    name: Annotated[str, typer.Argument(help="A process, such as orders-1.", autocompletion=names.processes)],
    json_: Json = False,
) -> None:
    """Stop one process in an orderly way, start it again, and wait until it is ready.

    One that was given up for now, because it died again and again, is tried at once.

    Example: weft restart orders-1
    """
    settings = Settings.from_environ()
    began = time.monotonic()
    ended = Mesh(settings.data, settings=settings).restart(name)
    seconds = time.monotonic() - began
    told = {"name": name, "old_pid": ended.pid, "seconds": round(seconds, 3)}
    print(json.dumps(told) if json_ else f"{name} is ready again ({seconds:.1f} s)")


def show_event(event: Event) -> None:
    """One line for each part that has become ready, or has not."""
    if event.event != "part":
        return
    if event.state in ("ready", "done"):
        print(f"  {event.part:<{NAME_WIDTH}} {event.state:<6} {event.seconds:6.1f} s", flush=True)
    elif event.state == "starting" and event.detail:
        print(f"  {event.part:<{NAME_WIDTH}} {event.detail}", flush=True)
    elif event.state == "down" and event.detail:
        print(f"  {event.part:<{NAME_WIDTH}} {event.detail}; starting it again", flush=True)


def places(found: Status, settings: Settings) -> str:
    """Where everything is, a line each."""
    own = settings.tls_certificate is None
    trust = f"curl --cacert {Layout(settings.data).authority}" if own else f"certificate {settings.tls_certificate}"
    rows = [
        ("gateway", f"{found.gateway}   gRPC, gRPC-web and JSON"),
        ("over TLS", f"https://localhost:{settings.gateway_tls_port}   {trust}"),
        *((name, url) for name, url in found.urls.items() if url is not None),
        ("data", str(settings.data)),
    ]
    return "\n".join(f"  {name:<10} {place}" for name, place in rows)


def _explain(error: StartError, data: Path) -> None:
    for line in error.log:
        print(f"  {error.part} | {line}", file=sys.stderr)
    place = Layout(data).log_of(error.part)
    print(f"weft: {error}; everything is stopped again; its log is {place}", file=sys.stderr)


def _table(found: Status, *, colour: bool) -> str:
    """One line per process, columns as wide as their widest entry, whatever the terminal's width."""
    rows, tones = [], []
    for process in found.processes:
        pid = "-" if process.pid is None else str(process.pid)
        since = process.since.partition(".")[0]
        state = "quarantined" if process.quarantined and process.state != "ready" else process.state
        rows.append((process.name, process.kind, state, pid, process.address, str(process.restarts), f"{since}Z"))
        tones.append(Tone.GOOD if process.state == "ready" else Tone.BAD)
    return terminal.table(_HEAD, rows, tones=tones, wanted=colour)


def _quarantine(found: Status) -> list[str]:
    """Why parts that are tried rarely are down, and what they said last."""
    lines = []
    for process in found.processes:
        if process.quarantined and process.state != "ready":
            lines.append(f"{process.name} died again and again, last: {process.reason}.")
            lines.extend(f"  {process.name} | {line[:LINE_WIDTH]}" for line in process.log)
            lines.append(f"  It is tried once a minute, and now with `weft restart {process.name}`.")
    return lines


def _sizes(found: Status) -> list[str]:
    """What is sized by its load, in one line."""
    auto = [f"{name} {size.desired} of {size.auto}" for name, size in found.sizes.items() if size.auto]
    return [f"sized by load: {', '.join(auto)}"] if auto else []


def _log_files(folder: Path, name: str) -> list[Path]:
    if not name:
        return sorted(folder.glob("*.log"))
    exact = folder / f"{name}.log"
    # Compared, not globbed: a name may hold anything.
    return [
        path
        for path in sorted(folder.glob("*.log"))
        if path == exact or (path.stem.startswith(f"{name}-") and path.stem.removeprefix(f"{name}-").isdigit())
    ]


def _log_line(path: Path, line: str, *, alone: bool) -> str:
    return line if alone else f"{path.stem:<{NAME_WIDTH}} {line}"
