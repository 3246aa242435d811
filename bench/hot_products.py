"""Five products that everybody wants, several instances: how often a transaction runs again, and orders a second.

Instances are processes of two callers each that place orders as fast as they can, each of two of the five products: by
the service's own use case, whose callers queue for the products before their transactions begin, and by the plain loop
of `bench.ordering`, which tries again at once where it lost. On one PostgreSQL, in turns; every order must be there
afterwards.
"""

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bench import ordering, report
from bench.measure import in_turns, summary
from bench.report import BenchError, Claim, ratio
from bench.stand import Stand, every_core
from svc.chassis import metrics
from svc.chassis.errors import AppError

PRODUCTS, ITEMS, CALLERS = 5, 2, 2
SIDES: Final = ("ours", "plain")
RETRIES_FLOOR: Final = 0.1
RATE_FLOOR, RATE_GOAL = 0.333, 0.25
#: A plain loop tries until it wins: with a bound, what it refuses would be work saved.
_PLAIN_ATTEMPTS: Final = 1000


@dataclass(frozen=True)
class Run:
    """What one side did in one round."""

    rate: float
    retries: float
    placed: int
    refused: int


def work(side: str) -> None:
    """Be an instance: the URL is the first line of the input; each further line is a time to place orders for."""
    url = sys.stdin.readline().strip()
    by_hand = ordering.ByHand(url, attempts=_PLAIN_ATTEMPTS, waits=False)
    place = ordering.ours(url) if side == SIDES[0] else by_hand.place
    retried: Any = metrics.DB_RETRIES.labels("bench")._value
    print("ready", flush=True)
    for line in sys.stdin:
        seconds, before = float(line), by_hand.retries + retried.get()
        with ThreadPoolExecutor(CALLERS) as threads:
            done = [each.result() for each in [threads.submit(_place, place, seconds) for _ in range(CALLERS)]]
        placed, refused = (sum(each[index] for each in done) for index in (0, 1))
        retries = by_hand.retries + retried.get() - before
        print(json.dumps({"placed": placed, "refused": refused, "retries": retries}), flush=True)


def _place(place: ordering.Handler, seconds: float) -> tuple[int, int]:
    chance, placed, refused = random.Random(), 0, 0
    for _ in ordering.until(time.monotonic() + seconds):
        try:
            place(ordering.basket(chance, PRODUCTS, ITEMS), str(uuid.uuid4()), ordering.a_call())
        except AppError:
            refused += 1
        else:
            placed += 1
    return placed, refused


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=report.whole, default=5, help="of a round and side (default 5)")
    parser.add_argument("--rounds", type=report.whole, default=5, help="rounds (default 5)")
    parser.add_argument("--instances", type=report.whole, default=4, help="processes of each side (default 4)")
    parser.add_argument("--work", choices=SIDES, help=argparse.SUPPRESS)


def measure(options: argparse.Namespace) -> list[Claim]:
    with tempfile.TemporaryDirectory(prefix="weft-bench-") as path:
        Path(path).chmod(0o711)
        with ordering.database(Path(path) / "data", PRODUCTS) as url, Stand(Path(path)) as stand:
            instances = {name: [_start(stand, name, url) for _ in range(options.instances)] for name in SIDES}
            turns = {name: (lambda name=name: _run(instances[name], options.seconds)) for name in SIDES}
            found = in_turns(turns, options.rounds)
            ordering.even(url, sum(run.placed for runs in found.values() for run in runs))
    sides = {
        name: {
            "rate": summary([run.rate for run in found[name]]),
            "retries": summary([run.retries for run in found[name]]),
            "refused": sum(run.refused for run in found[name]),
        }
        for name in SIDES
    }
    ours, plain = (statistics.median(run.rate for run in found[name]) for name in SIDES)
    return [
        Claim(
            "hot_products_retries",
            f"runs again of a transaction, five products, {options.instances} instances",
            round(statistics.median(run.retries for run in found[SIDES[0]]), 3),
            unit="retries",
            floor=RETRIES_FLOOR,
            sides=sides,
        ),
        Claim(
            "hot_products_rate",
            "orders a second of the plain loop, as a share of those of the service",
            ratio(plain, ours),
            floor=RATE_FLOOR,
            goal=RATE_GOAL,
            sides=sides,
        ),
    ]


def _start(stand: Stand, name: str, url: str) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "bench.hot_products", "--work", name]
    process = stand.start(command, core=every_core(), stdout=subprocess.PIPE)
    _say(process, url)
    _hear(process)
    return process


def _run(instances: "list[subprocess.Popen[bytes]]", seconds: int) -> Run:
    for each in instances:
        _say(each, str(seconds))
    said = [json.loads(_hear(each)) for each in instances]
    placed, refused, retries = (sum(each[name] for each in said) for name in ("placed", "refused", "retries"))
    if not placed:
        raise BenchError("not one order was placed")
    return Run(placed / seconds, retries / placed, placed, refused)


def _say(process: "subprocess.Popen[bytes]", line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(f"{line}\n".encode())
    process.stdin.flush()


def _hear(process: "subprocess.Popen[bytes]") -> bytes:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise BenchError("an instance ended")
    return line


if __name__ == "__main__":
    if "--work" in sys.argv:
        report.log_to_stderr()
        work(sys.argv[sys.argv.index("--work") + 1])
    else:
        sys.exit(report.main(sys.modules[__name__]))
