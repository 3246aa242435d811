"""`python -m worker.handlers.reports`: answers questions that come in as lines of JSON, one after the other.

Started by `worker.handlers.reports.engine`, and gone at once when that one is.
"""

import argparse
import json
import os
import queue
import sys
import threading
from pathlib import Path
from typing import Final

from worker.handlers.reports.compute import Engine

#: Calls come first: a report takes what processor time they leave.
_NICE: Final = 10


def main() -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m worker.handlers.reports", description=__doc__)
    parser.add_argument("--memory-mb", type=int, required=True, help="most memory of a question, in MiB")
    parser.add_argument("--threads", type=int, required=True, help="threads of a question")
    parser.add_argument("--spill", type=Path, required=True, help="directory for what memory has no room for")
    options = parser.parse_args()
    os.nice(_NICE)
    questions: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(questions,), daemon=True).start()
    engine = Engine(memory_mb=options.memory_mb, threads=options.threads, spill=options.spill)
    while True:
        print(json.dumps(engine.answer(json.loads(questions.get()))), flush=True)


def _listen(questions: "queue.SimpleQueue[str]") -> None:
    for line in sys.stdin:
        questions.put(line)
    # Whoever asks is gone, and a question may run for minutes still.
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
