"""Reads what every part says happened, and waits until the queues are drained and the books balance.

Each part counts for itself (`python -m svc.orders facts`, `python -m worker facts`, the mail sink's /count), so that
the balance compares independent books and not one book with itself.
"""

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from deploy.cli.replay.balance import Facts, Row, rows
from weft_protos import mesh_parts

#: Those that keep something can say what.
SERVICES: Final = mesh_parts.STORING
#: A queue that did not move for so long will not drain by itself.
STILL_S: Final = 60.0
FACTS_TIMEOUT_S: Final = 60.0


class FactsError(RuntimeError):
    """A part could not say what happened; the message names it and carries its last line."""


def read(environment: Mapping[str, str], mail_url: str) -> Facts:
    """Ask every part once. Raises FactsError."""
    modules = [*(f"svc.{service}" for service in SERVICES), "worker"]
    with ThreadPoolExecutor(2) as threads:  # each is a Python start: more at once only crowd the cores
        answers = list(threads.map(lambda module: _ask(module, environment), modules))
    try:
        with urllib.request.urlopen(f"{mail_url}/count", timeout=5) as response:
            mail = json.load(response)
    except OSError as error:
        raise FactsError(f"the mail sink at {mail_url} does not answer: {error}") from error
    return Facts(services=dict(zip(SERVICES, answers, strict=False)), workers=answers[-1], mail=mail)


def settle(environment: Mapping[str, str], mail_url: str, *, on_wait: Callable[[int], None]) -> Sequence[Row]:
    """Read until every row is even, or until nothing has changed for STILL_S; returns the last comparison.

    `on_wait` is told how many rows are not even yet. Raises FactsError.
    """
    last: Facts | None = None
    changed = time.monotonic()
    while True:
        facts = read(environment, mail_url)
        result = rows(facts)
        uneven = sum(not row.even for row in result)
        if uneven == 0:
            return result
        if facts != last:
            last, changed = facts, time.monotonic()
        elif time.monotonic() - changed > STILL_S:
            return result
        on_wait(uneven)


def _ask(module: str, environment: Mapping[str, str]) -> Any:
    try:
        answer = subprocess.run(
            [sys.executable, "-m", module, "facts"],
            env=dict(environment),
            capture_output=True,
            text=True,
            timeout=FACTS_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise FactsError(f"`python -m {module} facts` did not answer within {FACTS_TIMEOUT_S:.0f} s") from error
    if answer.returncode != 0:
        cause = (answer.stderr.strip().splitlines() or ["no message"])[-1]
        raise FactsError(f"`python -m {module} facts` failed: {cause}")
    return json.loads(answer.stdout.strip().splitlines()[-1])
