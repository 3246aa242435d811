"""Processes of stoppable_backend.py."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Stoppable:
    """One of them."""

    pid: int
    port: int


@contextlib.contextmanager
def answering(pause_ms: int) -> Iterator[Stoppable]:
    """A backend that answers everything after that time; it ends with the block, stopped or not."""
    command = [sys.executable, str(Path(__file__).with_name("stoppable_backend.py")), str(pause_ms)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield Stoppable(process.pid, int(process.stdout.readline()))
        finally:
            process.kill()
