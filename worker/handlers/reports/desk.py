"""Makes reports, one at a time: takes one, plans its parts, has each computed, puts the parts together.

What is done stays done: each part's outcome is a file, named in the database once it is whole. A worker that dies
leaves its report to whoever finds the lease run out, and that one goes on with the parts that are left. A report that
was cancelled, or that another worker has by now, is noticed at the next renewal of the lease, a second later at most,
and ended together with the process that computes it.
"""

from __future__ import annotations

import re
import shutil
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, Protocol

import structlog

from svc.chassis import crash, metrics
from svc.chassis.context import Deadline
from svc.chassis.crash import Point
from svc.chassis.database import Database, Transaction
from svc.chassis.errors import AppError
from worker import inbox, manifest
from worker.errors import Outage, Overrun
from worker.handlers.reports import kinds, ledger, rows, stages
from worker.handlers.reports.engine import EngineGoneError
from worker.handlers.reports.ledger import Step, Work

#: How long a report stays a worker's that is not heard of.
LEASE: Final = timedelta(seconds=15)
#: How often the worker is heard of, and so how soon it notices that the report is cancelled.
RENEW_EVERY_S: Final = 1.0
#: How often reports are looked for that nobody told of.
LOOK_EVERY_S: Final = 2.0
#: Times that a report is taken before it is given up: whatever ended its workers, it may be the report itself.
ATTEMPTS_MAX: Final = 5
#: No part takes so long, whatever machine this is.
ANSWER_MAX_S: Final = 1800.0
#: How long a report is kept after its end.
KEEP: Final = timedelta(days=30)
_CLEAN_EVERY_S: Final = 600.0
_TAKE_S: Final = 5.0
_STUCK_S: Final = 120.0
_ID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

_TOO_MUCH: Final = "it needs more memory than a report may have; ask for fewer days"
_UNREADABLE: Final = "a file of the archive cannot be read: {}; ask again when it has been put back"
_GIVEN_UP: Final = "it could not be made, several times over"

log = structlog.get_logger(__name__)


class Engine(Protocol):
    """Computes: `worker.handlers.reports.engine.Engine`."""

    def ask(self, question: Mapping[str, Any]) -> None:
        """Send a question. Raises EngineGoneError."""
        ...

    def answer(self, timeout_s: float) -> Mapping[str, Any] | None:
        """The answer, or None where there is none yet. Raises EngineGoneError."""
        ...

    def stop(self) -> None:
        """End whatever it does."""
        ...


@dataclass(frozen=True, slots=True)
class Places:
    """Where things lie."""

    archive: Path
    """The files of events."""
    work: Path
    """What came out of parts, and what memory had no room for."""


class _Lost(Exception):  # noqa: N818 - says what became of the report
    """It was cancelled, or is another worker's."""


class _Stopping(Exception):  # noqa: N818
    """The worker is to end."""


class _Failed(Exception):  # noqa: N818
    """The question cannot be answered; the text is for whoever asked."""


class Desk:
    """One thread that makes reports."""

    def __init__(self, database: Database, places: Places, engine: Callable[[Path], Engine]) -> None:
        """`engine` starts one that spills to a directory."""
        self._database = database
        self._places = places
        self._engine = engine
        self._turned = time.monotonic()
        self._cleaned = float("-inf")
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reports-desk", daemon=True)

    def start(self) -> None:
        """Start making reports."""
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """Give the report in hand back and end; what is done of it stays."""
        self._stopping.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout)

    def alive(self) -> bool:
        """Whether the loop runs; outages are waited out and do not end it."""
        return self._thread.is_alive()

    def turns(self) -> bool:
        """Whether it has looked for a report, or after the one in hand, not too long ago."""
        return time.monotonic() - self._turned < _STUCK_S

    def wake(self) -> None:
        """There is something to do."""
        self._wake.set()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._turned = time.monotonic()
            try:
                if time.monotonic() - self._cleaned > _CLEAN_EVERY_S:
                    self._clean()
                    self._cleaned = time.monotonic()
                busy = self.turn()
            except (Outage, AppError, OSError) as error:
                log.warning("reports_wait", reason=str(error) or type(error).__name__)
                busy = False
            if not busy:
                self._wake.wait(LOOK_EVERY_S)
                self._wake.clear()

    def turn(self) -> bool:
        """Take one report and make it, as far as it goes; False where there is none."""
        deadline = Deadline.after(_TAKE_S)
        work = self._database.read_committed(lambda tx: ledger.take(tx, LEASE), deadline=deadline)
        if work is None:
            return False
        log.info("report_taken", report=work.id, kind=work.kind, attempt=work.attempt)
        crash.passed(Point.REPORT_TAKEN)
        outcome = self._make(work)
        metrics.REPORTS.labels(work.kind, outcome).inc()
        log.info("report_left", report=work.id, outcome=outcome)
        return True

    def _make(self, work: Work) -> str:
        """The outcome, in a word."""
        try:
            outcome = self._end(work)
        except _Lost:
            self._discard([work.id])
            return "lost"
        except _Stopping:
            inbox.transaction(self._database, lambda tx: ledger.give_back(tx, work, counts=False))
            return "given back"
        except (EngineGoneError, Outage, OSError) as error:
            log.warning("report_attempt_failed", report=work.id, error=type(error).__name__, reason=str(error))
            inbox.transaction(self._database, lambda tx: ledger.give_back(tx, work, counts=True))
            return "given back"
        self._remove(work.id)
        return outcome

    def _end(self, work: Work) -> str:
        """Make it, or tell whoever asked why it cannot be made. Raises _Lost and _Stopping, either way."""
        try:
            if work.attempt > ATTEMPTS_MAX:
                raise _Failed(_GIVEN_UP)
            self._compute(work)
        except _Failed as failed:
            failure = str(failed)
            self._write(work, lambda tx: ledger.fail(tx, work, failure))
            return "failed"
        return "succeeded"

    def _compute(self, work: Work) -> None:
        folder = self._places.work / work.id
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        steps = self._steps(work)
        if not steps:
            self._write(work, lambda tx: ledger.succeed(tx, work, (), truncated=False))
            return
        engine = self._engine(folder / f"spill-{work.attempt}")
        try:
            parts = [str(self._part(engine, work, step)) for step in steps]
            question = {"ask": "whole", "kind": work.kind, "files": parts, "limit": work.limit}
            answer = self._ask(engine, work, question)
        finally:
            engine.stop()
        contents = [rows.content(work.kind, row) for row in answer["rows"]]
        crash.passed(Point.REPORT_COMPUTED)
        self._write(work, lambda tx: ledger.succeed(tx, work, contents, truncated=answer["truncated"]))
        crash.passed(Point.REPORT_STORED)

    def _steps(self, work: Work) -> list[Step]:
        """The report's parts: as they were planned, or planned now, over the files that count at this moment."""

        def plan(tx: Transaction) -> bool:
            day = timedelta(days=1)
            # A fact is written on the day it became true, or moments after midnight.
            start = None if work.start is None else max(work.start, work.start.min + day) - day
            end = None if work.end is None else min(work.end, work.end.max - day) + day
            files = manifest.live_in(tx, kinds.TYPES[work.kind], start, end)
            return ledger.plan(tx, work, stages.plan(files))

        if not work.planned:
            self._write(work, plan)
            crash.passed(Point.REPORT_PLANNED)
        return inbox.transaction(self._database, lambda tx: ledger.steps(tx, work))

    def _part(self, engine: Engine, work: Work, step: Step) -> Path:
        """The file with what came out of one part."""
        folder = self._places.work / work.id
        if step.outcome is not None and (folder / step.outcome).exists():
            return folder / step.outcome
        stage, outcome = step.stage, f"{step.stage.number}-{work.attempt}.parquet"
        question = {
            "ask": "part",
            "kind": work.kind,
            "type": stage.type,
            "files": [str(file.path(self._places.archive)) for file in stage.files],
            "start": None if work.start is None else work.start.isoformat(),
            "end": None if work.end is None else work.end.isoformat(),
            "out": str(folder / outcome),
        }
        self._ask(engine, work, question)
        crash.passed(Point.PART_COMPUTED)
        self._write(work, lambda tx: ledger.stage_done(tx, work, stage, outcome))
        crash.passed(Point.PART_STORED)
        return folder / outcome

    def _ask(self, engine: Engine, work: Work, question: Mapping[str, Any]) -> Mapping[str, Any]:
        """Have a question answered, and keep the report ours meanwhile."""
        engine.ask(question)
        limit = Deadline.after(ANSWER_MAX_S)
        while True:
            self._turned = time.monotonic()
            answer = engine.answer(RENEW_EVERY_S)
            if self._stopping.is_set():
                raise _Stopping
            if answer is None:
                if limit.expired():
                    raise EngineGoneError("it took too long")
                self._renew(work)
            elif "error" not in answer:
                return answer
            elif answer["error"] == "memory":
                log.warning("report_too_large", report=work.id, detail=answer["detail"])
                raise _Failed(_TOO_MUCH)
            elif answer["error"] == "unreadable":
                log.error("archive_file_unreadable", report=work.id, file=answer["file"], detail=answer["detail"])
                raise _Failed(_UNREADABLE.format(Path(answer["file"]).relative_to(self._places.archive)))
            else:
                raise EngineGoneError(answer["detail"])

    def _renew(self, work: Work) -> None:
        try:
            mine = inbox.transaction(self._database, lambda tx: ledger.renew(tx, work, LEASE))
        except Outage as error:
            # Nobody else can take it either, and what is written later is fenced.
            log.warning("report_lease_not_renewed", report=work.id, reason=str(error))
            return
        if not mine:
            raise _Lost

    def _write(self, work: Work, write: Callable[[Transaction], bool]) -> None:
        """Write something about the report, through outages. Raises _Lost where it is not ours any more."""

        def mine(tx: Transaction) -> None:
            if not write(tx):
                raise _Lost

        while True:
            self._turned = time.monotonic()
            try:
                inbox.transaction(self._database, mine)
            except Overrun:
                raise
            except Outage as error:
                log.warning("report_waits", report=work.id, reason=str(error))
            else:
                return
            if self._stopping.wait(RENEW_EVERY_S):
                raise _Stopping

    def _clean(self) -> None:
        """Drop reports that ended long ago, and what is left of those that nobody makes any more."""
        inbox.transaction(self._database, lambda tx: ledger.drop_old(tx, KEEP))
        if not self._places.work.exists():
            return
        self._discard([folder.name for folder in self._places.work.iterdir() if _ID.fullmatch(folder.name)])

    def _discard(self, report_ids: Sequence[str]) -> None:
        """Remove what lies there of those of the reports that nobody makes any more."""
        wanted = inbox.transaction(self._database, lambda tx: ledger.unfinished(tx, report_ids))
        for report_id in set(report_ids) - wanted:
            self._remove(report_id)

    def _remove(self, report_id: str) -> None:
        shutil.rmtree(self._places.work / report_id, ignore_errors=True)
