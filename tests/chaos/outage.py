"""Whole layers away for long, under load: every part of the kinds named is frozen, and so is whatever replaces it.

`python -m tests.chaos.outage --seconds 600 --rps 50` prints what callers saw while they were away, and until
every client of the control planes has the configuration again.

Exit codes: 0 no call failed and all are back, 1 one failed or is not back, 2 a wrong argument.
"""

import argparse
import json
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from deploy.cli.load.run import RPS_MAX, UnderLoad, lines
from deploy.cli.load.tally import Seen
from deploy.cli.load.traffic import Wanted
from deploy.cli.sources import CommandFailedError, python
from deploy.supervisor.errors import SupervisorError
from deploy.supervisor.mesh import Mesh
from deploy.supervisor.part import Kind
from deploy.supervisor.workspace import temporary
from tests.frozen import away

KINDS: Final = (Kind.ETCD, Kind.CONTROL_PLANE)
SECONDS: Final = 600.0
RPS: Final = 50.0
REPORT_S: Final = 30.0
#: C-core waits up to two minutes between two attempts to reach a control plane (gRPC connection back-off protocol).
BACK_S: Final = 300.0
POLL_S: Final = 0.5


def main(argv: Sequence[str] | None = None) -> int:
    """Hold the parts, let go of them, and tell; returns the exit code."""
    options = _parser().parse_args(argv)
    kinds = options.kind or KINDS
    try:
        with ExitStack() as stack:
            mesh = _mesh(options.mesh, stack)
            return _run(mesh, kinds, seconds=options.seconds, rps=options.rps)
    except SupervisorError as error:
        print(f"outage: the mesh: {error}", file=sys.stderr)
        return 1


def _run(mesh: Mesh, kinds: Sequence[Kind], *, seconds: float, rps: float) -> int:
    names = [process.name for process in mesh.status().processes if process.kind in {*kinds}]
    before = clients(mesh)
    if not before:
        print("outage: nobody can tell who the clients of the control planes are; nothing was done", file=sys.stderr)
        return 1
    with UnderLoad(mesh, Wanted(rps), say=print) as load:
        with away(mesh, *names):
            print(f"{', '.join(names)} are away", flush=True)
            left = seconds
            while left > 0:
                window, part = load.open(), min(left, REPORT_S)
                threading.Event().wait(part)
                left -= part
                print(_line(f"{seconds - left:.0f} s away", load.close(window)), flush=True)
        window, began = load.open(), time.monotonic()
        mesh.wait_ready(timeout_s=BACK_S)
        print(f"every part is ready {time.monotonic() - began:.1f} s after they were let go", flush=True)
        missing = _missing(mesh, before, until=began + BACK_S)
        print(_line(f"{time.monotonic() - began:.0f} s after", load.close(window)), flush=True)
    for line in lines(load.result):
        print(line)
    for node in sorted(missing):
        print(f"outage: {node} has not come back to a control plane within {BACK_S:.0f} s", file=sys.stderr)
    return 0 if load.good and not missing else 1


def clients(mesh: Mesh) -> dict[str, bool]:
    """Whether each client of the control planes has what they serve, by its node. Empty where nobody can tell."""
    try:
        found = json.loads(python("lb", "proxies", "--json", environ=mesh.publishing().environ))
    except CommandFailedError:
        return {}
    return {each["node"]: each["state"] == "SYNCED" for each in found["clients"]}


def _missing(mesh: Mesh, before: dict[str, bool], *, until: float) -> set[str]:
    """Those who were clients and are not synced in time; tells of each that is."""
    began, missing = time.monotonic(), set(before)
    while missing and time.monotonic() < until:
        synced = {node for node, is_synced in clients(mesh).items() if is_synced}
        for node in sorted(missing & synced):
            print(f"{node} is synced, {time.monotonic() - began:.1f} s", flush=True)
        missing -= synced
        threading.Event().wait(POLL_S)
    return missing


def _line(when: str, seen: Seen) -> str:
    return f"{when:<12} {seen.errors} errors of {seen.requests:,}, worst gap {seen.worst_gap_s:.3f} s"


def _mesh(running: Path | None, stack: ExitStack) -> Mesh:
    if running is not None:
        return Mesh(running)
    folder = stack.enter_context(temporary())
    mesh = stack.enter_context(Mesh(folder, ports="free", ephemeral=True))
    mesh.start()
    return mesh


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos.outage",
        description="Hold every part of some kinds still for long, under load, and say what callers saw.",
        epilog="example: python -m tests.chaos.outage --kind etcd --seconds 60 --mesh /var/lib/weft",
    )
    parser.add_argument(
        "--kind", type=Kind, choices=list(Kind), action="append", help="repeatable; default: etcd and control-plane"
    )
    parser.add_argument("--seconds", type=_number(1, 24 * 3600), default=SECONDS, help=f"so long (default {SECONDS:g})")
    parser.add_argument("--rps", type=_number(1, RPS_MAX), default=RPS, help=f"calls a second (default {RPS:g})")
    parser.add_argument("--mesh", type=Path, metavar="DIR", help="data directory of a running mesh to hurt instead")
    return parser


def _number(least: float, most: float) -> Callable[[str], float]:
    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is no number from {least:g} to {most:g}")
        return value

    return parse


if __name__ == "__main__":
    sys.exit(main())
