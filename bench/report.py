"""What a bench says: claims with figure, floor, goal and verdict; their files in `bench/results`, and the table.

Every bench is a module with `add_arguments(parser)`, `measure(options) -> list[Claim]`, and its docstring as help.
"""

import argparse
import json
import logging
import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import structlog

from bench.measure import calibration_ms

ROOT: Final = Path(__file__).resolve().parents[1]
RESULTS: Final = ROOT / "bench/results"
#: Nothing is claimed: the figure is there to be known.
MEASURED: Final = "measured"
MISSED: Final = "missed"


class BenchError(Exception):
    """A bench could not measure what it claims to; the message says why."""


@dataclass(frozen=True, slots=True)
class Claim:
    """One figure that is better the smaller it is, and what was promised of it."""

    name: str
    """Also the name of its file: `gateway_hop_handwritten`."""
    says: str
    figure: float
    unit: str = "ratio"
    floor: float | None = None
    """The promise is broken above it."""
    goal: float | None = None
    sides: Mapping[str, Any] = field(default_factory=dict)
    """What the figure was made of: both sides of a ratio, every sample."""

    @property
    def verdict(self) -> str:
        """`goal`, `floor`, `missed`, or `measured` where nothing is promised."""
        if self.floor is None:
            return MEASURED
        if self.goal is not None and self.figure <= self.goal:
            return "goal"
        return "floor" if self.figure <= self.floor else MISSED

    def as_object(self) -> dict[str, Any]:
        """The claim as its file holds it, without machine and commit."""
        return {
            "claim": self.name,
            "says": self.says,
            "figure": self.figure,
            "unit": self.unit,
            "floor": self.floor,
            "goal": self.goal,
            "verdict": self.verdict,
            "sides": dict(self.sides),
        }


def ratio(ours: float, theirs: float) -> float:
    """Ours as a multiple of theirs. Raises BenchError where theirs is nothing, so that nothing was measured."""
    if theirs <= 0:
        raise BenchError("the other side used no CPU at all: nothing was measured")
    return round(ours / theirs, 3)


def circumstances() -> dict[str, Any]:
    """Machine, commit and time of a run."""
    revision, changes = _git("rev-parse", "--short", "HEAD"), _git("status", "--porcelain", "--untracked-files=no")
    names = re.findall(r"model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text())
    return {
        "commit": revision + ("+changes" if changes else ""),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {
            "cpu": names[0] if names else platform.machine(),
            "cores": os.cpu_count(),
            "system": f"{platform.system()} {platform.release()}",
            "python": platform.python_version(),
            "load_1min": round(os.getloadavg()[0], 2),
            "calibration_ms": round(min(calibration_ms() for _ in range(3)), 1),
        },
    }


def write(claims: Sequence[Claim], around: Mapping[str, Any], folder: Path) -> None:
    """One file for each claim."""
    folder.mkdir(parents=True, exist_ok=True)
    for claim in claims:
        content = json.dumps({**claim.as_object(), **around}, indent=1) + "\n"
        (folder / f"{claim.name}.json").write_text(content)


def table(claims: Sequence[Claim]) -> str:
    """The claims for a reader, a line each."""
    rows = [("claim", "figure", "floor", "goal", "verdict")]
    for claim in claims:
        unit = "" if claim.unit == "ratio" else f" {claim.unit}"
        rows.append((claim.name, f"{claim.figure:g}{unit}", _bound(claim.floor), _bound(claim.goal), claim.verdict))
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def run(measures: Sequence[Callable[[], Sequence[Claim]]], *, as_json: bool, folder: Path) -> int:
    """Measure, write the results, print them; the exit code: 0 measured, 1 something could not be."""
    claims: list[Claim] = []
    failed = False
    for measure in measures:
        around = circumstances()
        try:
            found = measure()
        except BenchError as error:
            print(f"bench: {error}", file=sys.stderr)
            failed = True
            continue
        around["machine"]["calibration_after_ms"] = round(min(calibration_ms() for _ in range(3)), 1)
        write(found, around, folder)
        claims += found
    if as_json:
        print(json.dumps([claim.as_object() for claim in claims], indent=1))
    elif claims:
        print(table(claims))
    return 1 if failed else 0


def main(bench: Any) -> int:
    """The command line of one bench."""
    name = bench.__spec__.name if bench.__spec__ else "bench"
    parser = argparse.ArgumentParser(
        prog=f"python -m {name}",
        description=bench.__doc__,
        epilog=f"example: python -m {name} --json",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_common(parser)
    bench.add_arguments(parser)
    options = parser.parse_args()
    log_to_stderr()
    return run([lambda: bench.measure(options)], as_json=options.json, folder=options.results)


def log_to_stderr() -> None:
    """Have what runs in this process log its troubles, and nothing on standard output, which is for the claims."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def add_common(parser: argparse.ArgumentParser) -> None:
    """What every bench understands."""
    parser.add_argument("--json", action="store_true", help="print the claims as JSON")
    parser.add_argument(
        "--results", type=Path, default=RESULTS, metavar="DIR", help="write the results there (default bench/results)"
    )


def whole(text: str) -> int:
    """An argument that is a count."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("give a number of 1 or more")
    return number


def _bound(value: float | None) -> str:
    return "" if value is None else f"{value:g}"


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip()
