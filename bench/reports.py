"""What reports over ten million events cost: each kind as its worker makes it, beside one statement of plain SQL.

Makes an archive of a year, in files of a day and a type as merging leaves them, in a temporary directory that is gone
afterwards (about a gigabyte). Ours is the worker's own path: parts planned as the worker plans them, each computed from
the dataframe expression and kept in a file, then put together; the process is the worker's, with its bound on memory.
The other side asks DuckDB the whole question at once, by hand, over the same files with the same memory and threads.
Both must give the same rows. What ours has for the difference: progress, and no more than one part is lost in a crash.

Compared is the CPU of the two processes, starts included.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Final

import duckdb

from bench import report
from bench.measure import in_turns, summary
from bench.report import ROOT, BenchError, Claim
from worker import manifest
from worker.handlers.reports.engine import Engine
from worker.handlers.reports.kinds import CANCELLED, PLACED, TYPES
from worker.handlers.reports.stages import plan
from worker.manifest import File

#: CPU of ours as a multiple of plain SQL's: the promise, and what it aims at.
FLOOR, GOAL = 2.0, 1.3
#: Resident memory beyond what the question may take: Python, DuckDB and Arrow themselves.
BESIDES_MB: Final = 350
LIMIT: Final = 100
FIRST_DAY: Final = date(2025, 1, 1)
DAYS: Final = 365
#: One event in so many takes an order back.
CANCELLED_EVERY: Final = 10
_ANSWER_S: Final = 1800.0

_GENERATE: Final = """
COPY (
    WITH numbers AS (SELECT {first} + i AS n, (hash({first} + i) // 2)::BIGINT AS h FROM range({count}) AS r (i)),
    orders AS (
        SELECT n, h, TIMESTAMPTZ '{day} 00:00:00+00' + to_seconds(h % 86400) AS moment,
            list_transform(range(1 + (h // 7) % 5), lambda x: {{
                'product_id': 'p' || lpad(
                    ((floor(2800 * pow(((h // 11) % 10007) / 10007.0, 3))::BIGINT + x * 541) % 2800)::VARCHAR, 5, '0'),
                'display_name': 'THING ' || ((h // 13) % 2800),
                'quantity': (1 + (h // (17 + x)) % 12)::BIGINT,
                'unit_price': {{'currency_code': 'GBP', 'units': ((h // (19 + x)) % 20)::BIGINT,
                               'nanos': (10000000 * ((h // 23) % 100))::INTEGER}}
            }}) AS items
        FROM numbers
    )
    SELECT uuid()::VARCHAR AS event_id, moment AS event_time, 'orders' AS event_source,
        'customer-' || (h // 29) % 200000 AS event_subject, '' AS event_actor,
        'orders/' || uuid() AS "order", 'users/customer-' || (h // 29) % 200000 AS "user", items,
        {{'currency_code': 'GBP',
          'units': list_sum(list_transform(items, lambda i: i.quantity * i.unit_price.units))::BIGINT,
          'nanos': 0::INTEGER}} AS total,
        moment AS {moment},
        (['DE', 'FR', 'IE', 'ES', 'NL', 'BE', 'CH', 'PT', 'AU', 'NO', ''])[(1 + (h // 31) % 11)::INTEGER] AS region_code
    FROM orders
) TO '{path}' (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 20480)
"""

_SQL: Final[Mapping[str, str]] = {
    "top_products": """
        WITH lines AS (
            SELECT 1 AS sign, place_time AS named, unnest(items) AS i FROM read_parquet({placed})
            UNION ALL SELECT -1, NULL, unnest(items) FROM read_parquet({cancelled})
        ), summed AS (
            SELECT i.product_id AS product_id, i.unit_price.currency_code AS currency,
                sum(sign * i.quantity)::BIGINT AS pieces,
                sum(sign * i.quantity * (i.unit_price.units * 100 + i.unit_price.nanos // 10000000))::BIGINT AS revenue,
                arg_max(i.display_name, named) AS name
            FROM lines GROUP BY ALL
        )
        SELECT product_id, currency, pieces, revenue
        FROM summed ORDER BY currency, revenue DESC, product_id LIMIT {limit}
    """,
    "cohorts": """
        WITH months AS (
            SELECT "user" AS u, date_trunc('month', place_time)::DATE AS month, count(*) AS orders
            FROM read_parquet({placed}) GROUP BY ALL
        ), firsts AS (SELECT u, min(month) AS first FROM months GROUP BY u)
        SELECT first, date_diff('month', first, month) AS later, count(*) AS customers, sum(orders)::BIGINT AS orders
        FROM months JOIN firsts USING (u) GROUP BY ALL ORDER BY first, later
    """,
    "basket_pairs": """
        WITH orders AS (SELECT list_transform(items, lambda i: i.product_id) AS p FROM read_parquet({placed})),
        firsts AS (SELECT unnest(p) AS a, p FROM orders), paired AS (SELECT a, unnest(p) AS b FROM firsts)
        SELECT a, b, count(*) AS orders FROM paired WHERE a < b GROUP BY ALL ORDER BY orders DESC, a, b LIMIT {limit}
    """,
    "revenue_by_country": """
        WITH sums AS (
            SELECT region_code, date_trunc('month', place_time)::DATE AS month, total.currency_code AS currency,
                count(*) AS orders, sum(total.units * 100 + total.nanos // 10000000) AS revenue
            FROM read_parquet({placed}) GROUP BY ALL
            UNION ALL
            SELECT region_code, date_trunc('month', cancel_time)::DATE, total.currency_code,
                0, -sum(total.units * 100 + total.nanos // 10000000)
            FROM read_parquet({cancelled}) GROUP BY ALL
        )
        SELECT region_code, month, currency, sum(orders)::BIGINT, sum(revenue)::BIGINT
        FROM sums GROUP BY ALL ORDER BY month, region_code, currency
    """,
}
#: The columns of ours that plain SQL gives as well, in its order.
_COLUMNS: Final[Mapping[str, Sequence[str]]] = {
    "top_products": ("product_id", "currency", "pieces", "revenue"),
    "cohorts": ("cohort", "later", "customers", "orders"),
    "basket_pairs": ("first", "second", "orders"),
    "revenue_by_country": ("region_code", "month", "currency", "orders", "revenue"),
}


@dataclass(frozen=True, slots=True)
class Run:
    """One report, made once."""

    rows: list[list[Any]]
    seconds: float
    cpu_s: float
    peak_mb: float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--events", type=report.whole, default=10_000_000, help="events in the archive (default 10 M)")
    parser.add_argument("--memory-mb", type=report.whole, default=256, help="memory of a question, MiB (default 256)")
    parser.add_argument("--rounds", type=report.whole, default=3, help="times each side is measured (default 3)")


def measure(options: argparse.Namespace) -> list[Claim]:
    with tempfile.TemporaryDirectory(prefix="weft-bench-") as folder:
        root = Path(folder)
        files = _generate(root / "events", options.events)
        claims = [_compare(kind, files, root, options) for kind in TYPES]
    peak = max(max(claim.sides["ours_peak_mb"]) for claim in claims)
    says = (
        f"Peak memory of the process that makes reports of {options.events:,} events, {options.memory_mb} MiB allowed"
    )
    bound = options.memory_mb + BESIDES_MB
    return [*claims, Claim("reports_memory", says, round(peak, 1), unit="MiB", floor=bound, sides={"bound": bound})]


def _compare(kind: str, files: Sequence[File], root: Path, options: argparse.Namespace) -> Claim:
    sides = {
        "ours": lambda: _ours(kind, files, root, options.memory_mb),
        "plain": lambda: _plain(kind, files, root, options.memory_mb),
    }
    runs = in_turns(sides, options.rounds)
    if len({json.dumps(run.rows) for side in runs.values() for run in side}) != 1:
        raise BenchError(f"{kind}: the two sides do not give the same rows")
    costs = {side: summary([run.cpu_s for run in found]) for side, found in runs.items()}
    figure = report.ratio(float(costs["ours"]["median"]), float(costs["plain"]["median"]))  # type: ignore[arg-type]
    told = {
        f"{side}_{name}": [round(getattr(run, name), 2) for run in found]
        for side, found in runs.items()
        for name in ("seconds", "peak_mb")
    }
    shown = {"events": sum(file.events for file in files), "rows": len(runs["ours"][0].rows), "cpu_s": costs, **told}
    says = f"CPU of the report {kind} over {options.events:,} events, as a multiple of plain SQL"
    print(f"bench: {kind} {json.dumps(shown)}", file=sys.stderr)
    return Claim(f"reports_{kind}", says, figure, floor=FLOOR, goal=GOAL, sides=shown)


def _ours(kind: str, files: Sequence[File], root: Path, memory_mb: int) -> Run:
    began, cpu = time.monotonic(), _children_s()
    with tempfile.TemporaryDirectory(dir=root) as work:
        engine = Engine(memory_mb=memory_mb, threads=_threads(), spill=Path(work) / "spill")
        try:
            outs = []
            for stage in plan([file for file in files if file.type in TYPES[kind]]):
                out = Path(work) / f"{stage.number}.parquet"
                question = {
                    "ask": "part",
                    "kind": kind,
                    "type": stage.type,
                    "start": None,
                    "end": None,
                    "out": str(out),
                }
                _ask(engine, question | {"files": [str(file.path(root / "events")) for file in stage.files]})
                outs.append(str(out))
            answer = _ask(engine, {"ask": "whole", "kind": kind, "files": outs, "limit": LIMIT})
            status = Path(f"/proc/{engine.pid}/status").read_text()
        finally:
            engine.stop()
    peak = re.search(r"VmHWM:\s+(\d+) kB", status)
    rows = [[row[column] for column in _COLUMNS[kind]] for row in answer["rows"]]
    return Run(rows, time.monotonic() - began, _children_s() - cpu, int(peak[1]) / 1024 if peak else 0.0)


def _ask(engine: Engine, question: Mapping[str, Any]) -> Mapping[str, Any]:
    engine.ask(question)
    answer = engine.answer(_ANSWER_S)
    if answer is None or "error" in answer:
        raise BenchError(f"{question['kind']}: {answer}")
    return answer


def _plain(kind: str, files: Sequence[File], root: Path, memory_mb: int) -> Run:
    began, cpu = time.monotonic(), _children_s()
    named = {
        name: str([str(file.path(root / "events")) for file in files if file.type == event_type])
        for name, event_type in (("placed", PLACED), ("cancelled", CANCELLED))
    }
    with tempfile.TemporaryDirectory(dir=root) as spill:
        question = {
            "sql": _SQL[kind].format(limit=LIMIT, **named),
            "memory_mb": memory_mb,
            "threads": _threads(),
            "spill": spill,
        }
        done = subprocess.run(
            [sys.executable, "-m", "bench.reports_floor"],
            input=json.dumps(question) + "\n",
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode != 0:
        raise BenchError(f"{kind}: plain SQL failed: {done.stderr.strip().rpartition(chr(10))[2]}")
    answer = json.loads(done.stdout)
    return Run(answer["rows"], time.monotonic() - began, _children_s() - cpu, answer["peak_mb"])


def _generate(root: Path, events: int) -> list[File]:
    """An archive of a year; every day has as many events as any other."""
    connection = duckdb.connect(config={"memory_limit": "512MiB", "threads": _threads()})
    files, number = [], 0
    for index in range(DAYS):
        day, share = FIRST_DAY + timedelta(days=index), events * (index + 1) // DAYS - number
        for event_type, moment, count in (
            (PLACED, "place_time", share - share // CANCELLED_EVERY),
            (CANCELLED, "cancel_time", share // CANCELLED_EVERY),
        ):
            file = File(day=day, type=event_type, id=f"{number:08}", events=count, bytes=0)
            if count:
                manifest.partition(root, day, event_type).mkdir(parents=True)
                path = file.path(root)
                connection.execute(_GENERATE.format(first=number, count=count, day=day, moment=moment, path=path))
                files.append(file)
            number += count
    connection.close()
    return files


def _threads() -> int:
    return min(2, os.cpu_count() or 1)


def _children_s() -> float:
    """CPU of all children that have ended."""
    times = os.times()
    return times.children_user + times.children_system


if __name__ == "__main__":
    sys.exit(report.main(sys.modules[__name__]))
