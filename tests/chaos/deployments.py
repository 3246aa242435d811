"""Rolling deployments under load, two versions mixed: a copy of this clone takes on the next version, and gives it up.

The next version has one more field in `Order`, which its orders service fills. Each deployment publishes the contracts
and rolls one service after another, so that callers, gateways, services and workers of both versions meet.

`python -m tests.chaos.deployments --deployments 10 --rps 60` prints what callers saw of each roll.

Exit codes: 0 no call failed and nothing was lost, 1 one failed, 2 a wrong argument.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from deploy.cli.load.run import RPS_MAX
from deploy.supervisor.workspace import temporary
from tests.clone_copy import Copy

SERVICES: Final = ("identity", "catalog", "orders", "relay", "email", "gateway")
DEPLOYMENTS: Final = 10
RPS: Final = 60.0
CONTRACT: Final = "protos/weft/orders/v1/orders.proto"
HANDLER: Final = "svc/orders/rpc.py"
GENERATED: Final = "protos/gen"
#: The last field of `Order` and of the message that is made of one, each with what follows it in the next version.
FIELD: Final = (
    "  string region_code = 9;\n",
    "  // Pieces that were ordered, of all products.\n  int64 piece_count = 10;\n",
)
FILLED: Final = (
    "        region_code=order.region_code,\n    )\n",
    "        region_code=order.region_code,\n        piece_count=sum(item.quantity for item in order.items),\n    )\n",
)

Files = Mapping[str, bytes]


class DeploymentError(Exception):
    """A step of a deployment failed; the message is what the command said."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What callers saw of one roll."""

    requests: int
    errors: int
    lost: int
    worst_gap_s: float


def main(argv: Sequence[str] | None = None) -> int:
    """Deploy, and tell; returns the exit code."""
    options = _parser().parse_args(argv)
    try:
        with temporary() as folder:
            seen = _run(Copy(folder / "clone"), folder / "data", options)
    except DeploymentError as error:
        print(f"deployments: {error}", file=sys.stderr)
        return 1
    requests, errors, lost = (sum(getattr(each, name) for each in seen) for name in ("requests", "errors", "lost"))
    total = Seen(requests, errors, lost, max(each.worst_gap_s for each in seen))
    print(f"{options.deployments} deployments, {len(seen)} rolls: {_line(total)}")
    return 1 if errors or lost else 0


def _run(copy: Copy, data: Path, options: argparse.Namespace) -> list[Seen]:
    versions = _versions(copy)
    seen: list[Seen] = []
    with copy.mesh(data):
        for number in range(1, options.deployments + 1):
            _put(copy, versions[number % 2])
            said = _weft(copy, data, "contracts", "publish", "--wait")
            if not said["changed"]:
                raise DeploymentError("the next version's contracts are no others: nothing was mixed")
            for service in options.service or SERVICES:
                load = _weft(copy, data, "roll", service, "--under-load", str(options.rps), "--seed", str(number))[
                    "load"
                ]
                lost = load["stock"]["lost"] + load["stock"]["surplus"]
                seen.append(Seen(load["requests"], load["errors"], lost, load["worst_gap_s"]))
                print(f"deployment {number:<3} {service:<10} {_line(seen[-1])}", flush=True)
                for reason, count in load["refusals"].items():
                    print(f"    {count:,} x {reason}", flush=True)
    return seen


def _versions(copy: Copy) -> tuple[Files, Files]:
    """This version's files and the next one's, of all that differ."""
    before = _files(copy)
    copy.edit(CONTRACT, FIELD[0], "".join(FIELD))
    copy.edit(HANDLER, *FILLED)
    made = copy.run("protos.py.generate")
    if made.returncode != 0:
        raise DeploymentError(f"the next version cannot be generated: {made.stdout}{made.stderr}")
    after = _files(copy)
    changed = {name for name in after if before.get(name) != after[name]}
    versions = ({name: before[name] for name in changed}, {name: after[name] for name in changed})
    _put(copy, versions[0])
    return versions


def _files(copy: Copy) -> Files:
    generated = (path for path in (copy.root / GENERATED).rglob("*") if path.is_file() and path.suffix != ".pyc")
    every = (copy.root / CONTRACT, copy.root / HANDLER, *generated)
    return {path.relative_to(copy.root).as_posix(): path.read_bytes() for path in every}


def _put(copy: Copy, files: Files) -> None:
    for name, content in files.items():
        (copy.root / name).write_bytes(content)


def _weft(copy: Copy, data: Path, *arguments: str) -> dict[str, Any]:
    """What a verb says in JSON. A roll in which calls failed says so by its exit code, too, and is no failed step."""
    done = copy.run("deploy.cli", *arguments, "--json", WEFT_DATA=str(data))
    try:
        said: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        raise DeploymentError(f"weft {' '.join(arguments)}: {done.stdout}{done.stderr}") from None
    return said


def _line(seen: Seen) -> str:
    return f"{seen.errors} errors of {seen.requests:,}, {seen.lost} lost, worst gap {seen.worst_gap_s:.3f} s"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos.deployments",
        description="Deploy one version and the next in turn, under load, and say what callers saw.",
        epilog="example: python -m tests.chaos.deployments --deployments 2 --service orders --rps 20",
    )
    parser.add_argument(
        "--deployments", type=_whole, default=DEPLOYMENTS, help=f"so many (default {DEPLOYMENTS}); about 2 minutes each"
    )
    parser.add_argument("--service", action="append", help=f"repeatable; default: {', '.join(SERVICES)}")
    parser.add_argument("--rps", type=_rate, default=RPS, help=f"calls a second (default {RPS:g})")
    return parser


def _whole(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 on")
    return int(text)


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = float("nan")
    if not 1 <= rate <= RPS_MAX:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 to {RPS_MAX:g}")
    return rate


if __name__ == "__main__":
    sys.exit(main())
