"""What a run shows while it works and when it is done: progress on standard error, the result on standard output."""

import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from deploy.cli.gateway_client import Counters
from deploy.cli.replay.balance import Row
from deploy.cli.replay.plan import Plan
from deploy.cli.replay.run import Outcome

#: Without a terminal, a line now and then is enough to see that it lives.
LINE_EVERY_S: Final = 5.0


class ProgressView:
    """A bar for each phase on a terminal, a line every few seconds elsewhere."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._bars = Progress(
            TextColumn("{task.description:<10}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            console=self._console,
        )
        self._tasks: dict[str, tuple[TaskID, float]] = {}
        self._last_line = 0.0

    def __enter__(self) -> "ProgressView":
        if self._console.is_terminal:
            self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._console.is_terminal:
            self._bars.stop()

    def advance(self, phase: str, done: int, total: int) -> None:
        """Show that `done` of `total` calls of a phase are answered."""
        now = time.monotonic()
        task, began = self._tasks.get(phase) or (self._bars.add_task(phase, total=total, rate=""), now)
        self._tasks[phase] = (task, began)
        rate = f"{done / (now - began):.0f}/s" if now > began else ""
        if self._console.is_terminal:
            self._bars.update(task, completed=done, rate=rate)
        elif done == total or now - self._last_line >= LINE_EVERY_S:
            self._last_line = now
            print(f"{phase}: {done} of {total} {rate}".rstrip(), file=sys.stderr, flush=True)

    def waiting(self, uneven: int) -> None:
        """Show that events are still on their way."""
        print(f"waiting for the queues to drain: {uneven} of the books not even yet", file=sys.stderr, flush=True)


def as_object(plan: Plan, outcome: Outcome, counters: Counters, books: Sequence[Row]) -> Mapping[str, Any]:
    """Everything the report says, for machines."""
    return {
        "lines": {"all": plan.lines, "taken": plan.taken, "merged": plan.merged, "refused": dict(plan.refused)},
        "steps": {"planned": plan.steps, "acknowledged": outcome.acknowledged, "failed": outcome.failed},
        "failures": outcome.failures,
        "repetitions": dict(counters.repetitions),
        "seconds": round(outcome.seconds, 3),
        "per_second": round(outcome.acknowledged / outcome.seconds, 1) if outcome.seconds else 0.0,
        "latency_ms": {f"p{rank}": round(percentile(counters.durations, rank) * 1000, 1) for rank in (50, 99)},
        "revenue": {"file": plan.file_revenue_minor, "placed": outcome.revenue_minor},
        "balance": [{"name": row.name, "left": row.left, "right": row.right, "even": row.even} for row in books],
        "even": all(row.even for row in books),
    }


def show(result: Mapping[str, Any], console: Console) -> None:
    """Print the report for people."""
    lines, steps, latency = result["lines"], result["steps"], result["latency_ms"]
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in lines["refused"].items()) or "none"
    console.print(f"lines      {lines['taken']:,} taken, {lines['merged']:,} merged, refused: {reasons}")
    console.print(
        f"calls      {steps['acknowledged']:,} orders and cancellations in {result['seconds']:.1f} s "
        f"({result['per_second']:.0f}/s); all calls p50 {latency['p50']:.0f} ms, p99 {latency['p99']:.0f} ms"
    )
    repeated = ", ".join(f"{code} {count:,}" for code, count in result["repetitions"].items()) or "none"
    console.print(f"repeated   {repeated} (each after the wait that the answer asked for)")
    revenue = result["revenue"]
    difference = revenue["placed"] - revenue["file"]
    console.print(
        f"revenue    {revenue['placed'] / 100:,.2f} at one price for each product, the file says "
        f"{revenue['file'] / 100:,.2f} ({difference / 100:+,.2f})"
    )
    for failure in result["failures"]:
        console.print(f"failed     {failure}", style="red", markup=False)
    table = Table("balance", "", "", "")
    for row in result["balance"]:
        mark = "[green]even[/]" if row["even"] else "[red]NOT EVEN[/]"
        table.add_row(row["name"], row["left"], row["right"], mark)
    console.print(table)


def percentile(values: Sequence[float], rank: int) -> float:
    """The value below which `rank` per cent of `values` lie (nearest rank); 0 where there are none."""
    if not values:
        return 0.0
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -(-len(ordered) * rank // 100) - 1))]
