"""`make chaos`: hurt a mesh of its own by seeded schedules, and say whether it kept its invariants.

Exit codes: 0 every run passed, 1 an invariant broke, 2 a wrong argument, 3 a run has shown nothing.
"""

import argparse
import json
import logging
import secrets
import shutil
import signal
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import grpc
import structlog

from deploy.cli.gateway_client import SignInError
from deploy.cli.replay.books import FactsError
from deploy.supervisor.config import Settings
from deploy.supervisor.errors import SupervisorError
from deploy.supervisor.mesh import Mesh
from deploy.supervisor.workspace import temporary
from svc.chassis.errors import AppError
from tests.chaos import run, schedule
from tests.chaos.check import State, Verdict

KEPT: Final = Path(__file__).resolve().parents[2] / "build" / "chaos"
EXITS: Final = {State.PASSED: 0, State.BROKEN: 1, State.VACUOUS: 3}
EXIT_USAGE: Final = 2
SEEDS: Final = 1 << 31
SECONDS: Final = 60.0
START_S: Final = 600.0

_EXAMPLES: Final = """examples:
  make chaos                                    one schedule of a seed that nobody knows yet
  make chaos SEED=7 SCHEDULES=10 SECONDS=120    the seeds 7 to 16, two minutes each
  make chaos PROFILE=ha                         on three servers of each kind, whose leaders are killed as well
  python -m tests.chaos --seed 7 --seconds 120 --plan
  python -m tests.chaos --seed 7 --seconds 120 --check build/chaos/7
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run what the arguments say; returns the exit code."""
    options = _parser().parse_args(argv)
    first: int = secrets.randbelow(SEEDS) if options.seed is None else options.seed
    ha = options.profile == "ha"
    seeds = range(first, first + options.schedules)
    planned = [schedule.make(seed, seconds=options.seconds, ha=ha) for seed in seeds]
    if options.plan:
        for each in planned:
            _print_plan(each)
        return 0
    if options.check is not None:
        try:
            verdict = run.again(planned[0], options.check)
            return _report(planned[0], verdict, options.check, as_json=options.json)
        except (ValueError, OSError, TypeError, KeyError) as error:
            print(f"chaos: --check: {options.check} holds no run of that seed: {error}", file=sys.stderr)
            return EXIT_USAGE
    codes = set()
    try:
        with ExitStack() as stack:
            mesh = _mesh(options.mesh, stack, ha=ha)
            for each in planned:
                began = f"seed {each.seed}: {len(each.faults)} faults in {each.seconds:g} s"
                print(began, file=sys.stderr if options.json else sys.stdout, flush=True)
                folder = KEPT / str(each.seed)
                shutil.rmtree(folder, ignore_errors=True)
                codes.add(_run(mesh, each, folder, as_json=options.json))
    except SupervisorError as error:
        print(f"chaos: the mesh: {error}", file=sys.stderr)
        return EXITS[State.BROKEN]
    return next((code for code in (1, 3) if code in codes), 0)


def _run(mesh: Mesh, planned: schedule.Schedule, folder: Path, *, as_json: bool) -> int:
    try:
        return _report(planned, run.run(mesh, planned, folder), folder, as_json=as_json)
    except (SupervisorError, SignInError, FactsError, AppError, grpc.RpcError) as error:
        # A mesh that does not come back is as broken as one that lost something.
        print(f"chaos: seed {planned.seed} could not be finished: {error}", file=sys.stderr)
        print(f"  again: {_again(planned)}", file=sys.stderr if as_json else sys.stdout, flush=True)
        return EXITS[State.BROKEN]


def _mesh(running: Path | None, stack: ExitStack, *, ha: bool) -> Mesh:
    if running is not None:
        return Mesh(running)
    folder = stack.enter_context(temporary())
    settings = Settings(data=folder, ha=ha)
    mesh = stack.enter_context(Mesh(folder, ports="free", ephemeral=True, settings=settings))
    mesh.start(timeout_s=START_S)
    return mesh


def _report(planned: schedule.Schedule, verdict: Verdict, folder: Path, *, as_json: bool) -> int:
    if as_json:
        said = {"broken": verdict.broken, "vacuous": verdict.vacuous, "again": _again(planned), "kept": str(folder)}
        print(json.dumps({"seed": planned.seed, "state": verdict.state, **said}, default=list), flush=True)
        return EXITS[verdict.state]
    print(f"seed {planned.seed}: {verdict.state}")
    for line in verdict.lines():
        print(f"  {line}")
    print(f"  again: {_again(planned)}")
    print(f"  kept: {folder}", flush=True)
    return EXITS[verdict.state]


def _again(planned: schedule.Schedule) -> str:
    profile = " PROFILE=ha" if planned.ha else ""
    return f"make chaos SEED={planned.seed} SCHEDULES=1 SECONDS={planned.seconds:g}{profile}"


def _print_plan(planned: schedule.Schedule) -> None:
    for step in planned.steps:
        done = {"at_s": step.at_s, "fault": step.fault, "target": step.target, "pick": step.pick}
        print(json.dumps({"seed": planned.seed, **done, "duration_s": step.duration_s}))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos",
        description="Hurt a mesh of its own by seeded schedules, and say whether it kept its invariants.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seed", type=_seed, metavar="N", help="the first seed (default: a new one)")
    parser.add_argument("--schedules", type=_count, default=1, metavar="N", help="so many seeds in a row (default 1)")
    parser.add_argument(
        "--seconds", type=_seconds, default=SECONDS, metavar="S", help=f"length of each (default {SECONDS:g})"
    )
    parser.add_argument("--mesh", type=Path, metavar="DIR", help="data directory of a running mesh to hurt instead")
    parser.add_argument(
        "--profile",
        choices=("local", "ha"),
        default="local",
        help="servers: one of each kind, or three (default local)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object for each seed")
    alone = parser.add_mutually_exclusive_group()
    alone.add_argument("--plan", action="store_true", help="print what would be done, one JSON object a step")
    alone.add_argument("--check", type=Path, metavar="DIR", help="judge again what a run of the seed has left there")
    return parser


def _seed(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 0")
    return int(text)


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 10_000:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 to 10000")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = float("nan")
    if not schedule.SECONDS_MIN <= seconds <= 24 * 3600:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds from {schedule.SECONDS_MIN:g} to a day")
    return seconds


def _log_to_stderr() -> None:
    """What is hurt fails, and that is no news; standard output is for the verdicts."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


if __name__ == "__main__":
    _log_to_stderr()
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # its mesh ends with it, in order
    sys.exit(main())
