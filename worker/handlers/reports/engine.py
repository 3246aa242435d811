"""The worker's end of the process that computes: asks one question, and looks now and then whether it is answered."""

from __future__ import annotations

import json
import queue
import shutil
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

#: A process that was killed is gone by then.
_REAP_S: Final = 5.0


class EngineGoneError(Exception):
    """The process ended without an answer."""


class Engine:
    """One process of `worker.handlers.reports.compute`, for one report."""

    def __init__(self, *, memory_mb: int, threads: int, spill: Path) -> None:
        """Starts it."""
        spill.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._spill = spill
        arguments = ("--memory-mb", str(memory_mb), "--threads", str(threads), "--spill", str(spill))
        self._process = subprocess.Popen(
            (sys.executable, "-m", "worker.handlers.reports", *arguments),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._answers: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, name="report-answers", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def ask(self, question: Mapping[str, Any]) -> None:
        """Send one question. Raises EngineGoneError."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(question) + "\n")
            self._process.stdin.flush()
        except OSError as error:
            raise EngineGoneError from error

    def answer(self, timeout_s: float) -> Mapping[str, Any] | None:
        """The answer, or None where there is none yet. Raises EngineGoneError."""
        try:
            line = self._answers.get(timeout=timeout_s)
        except queue.Empty:
            return None
        if line is None:
            raise EngineGoneError
        found: Mapping[str, Any] = json.loads(line)
        return found

    def stop(self) -> None:
        """End it, whatever it does, and remove what it spilled."""
        self._process.kill()
        self._process.wait(_REAP_S)
        self._reader.join(_REAP_S)
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            try:
                pipe.close()
            except BrokenPipeError:
                continue  # a question was on its way
        shutil.rmtree(self._spill, ignore_errors=True)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._answers.put(line)
        self._answers.put(None)
