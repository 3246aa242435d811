"""One statement of plain SQL over Parquet files in a process of its own: `python -m bench.reports_floor < QUESTION`.

The question is a line of JSON: `sql`, `memory_mb`, `threads`, `spill`. The answer is one, too: `rows` and `peak_mb`.
"""

import json
import re
import sys
from datetime import date
from pathlib import Path

import duckdb


def peak_mb() -> float:
    """The most memory that this process has had resident."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) / 1024 if found else 0.0


def main() -> int:
    question = json.loads(sys.stdin.readline())
    connection = duckdb.connect(
        config={
            "memory_limit": f"{question['memory_mb']}MiB",
            "threads": question["threads"],
            "temp_directory": question["spill"],
            "preserve_insertion_order": False,
        }
    )
    connection.execute("SET TimeZone = 'UTC'")
    rows = connection.execute(question["sql"]).fetchall()
    plain = [[one.isoformat() if isinstance(one, date) else one for one in row] for row in rows]
    print(json.dumps({"rows": plain, "peak_mb": peak_mb()}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
