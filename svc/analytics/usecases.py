"""What analytics answers, one function for each RPC, and the ports it needs for that.

`rpc` calls these with plain values; `wiring` gives the ports. The roll-up is written by a worker alone: nothing here
changes it. A report belongs to whoever asked for it; what becomes of it after it was asked for is the workers' to
write, but for its cancellation. A report, its event and the answer for repeats commit together.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from svc.analytics import events, model
from svc.analytics.model import Answer, Cursor, DailySales, Page, Period, Question, Report, State
from svc.chassis.clock import Clock
from svc.chassis.consistency import Session
from svc.chassis.context import CallContext, Deadline
from svc.chassis.database import Transaction
from svc.chassis.errors import NotFound
from svc.chassis.idempotency import Key
from svc.chassis.ids import new_id
from svc.chassis.outbox import Event

T = TypeVar("T")


class Transactions(Protocol):
    """Runs work in one SERIALIZABLE transaction, again as a whole where it conflicts; or as a read."""

    def serializable(
        self,
        work: Callable[[Transaction], T],
        *,
        deadline: Deadline,
        hot_keys: Sequence[str] = (),
        once: Key | None = None,
        session: Session | None = None,
    ) -> T:
        """Commit `work`; callers who share a hot key wait for each other before they begin; `once` finds it again."""
        ...

    def read(self, work: Callable[[Transaction], T], *, deadline: Deadline, session: Session | None = None) -> T:
        """Run `work` in a read-only transaction: one snapshot, as new as the session asks."""
        ...


class SalesStore(Protocol):
    """Keeps the roll-up."""

    def sales(self, tx: Transaction, period: Period) -> Sequence[DailySales]:
        """The days of a period that had sales, the earliest first."""
        ...


class ReportStore(Protocol):
    """Keeps reports."""

    def unfinished(self, tx: Transaction, owner: str) -> int:
        """How many of a user's reports wait or are made."""
        ...

    def insert(self, tx: Transaction, report: Report) -> None:
        """Store a new report."""
        ...

    def report(self, tx: Transaction, report_id: str, *, owner: str) -> Report | None:
        """One report of a user's; another's is as good as none."""
        ...

    def lock_report(self, tx: Transaction, report_id: str, *, owner: str) -> Report | None:
        """The same, and nobody else changes it until the transaction ends."""
        ...

    def reports(self, tx: Transaction, owner: str, *, before: Cursor | None, limit: int) -> Sequence[Report]:
        """A user's reports after `before`, the newest first."""
        ...

    def rows(self, tx: Transaction, report_id: str, *, start: int, limit: int) -> Sequence[bytes]:
        """Rows of a report from a position on, in their order."""
        ...

    def cancel(self, tx: Transaction, report: Report) -> None:
        """Store that a locked report was given up."""
        ...


class Idempotency(Protocol):
    """Answers of calls that took effect."""

    def claim(self, tx: Transaction, key: Key) -> bytes | None:
        """None: new, go on. Bytes: the answer of the first call."""
        ...

    def complete(self, tx: Transaction, key: Key, response: bytes) -> None:
        """Keep the answer, in the transaction that claimed the key."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """Everything outside of the use cases."""

    transactions: Transactions
    sales: SalesStore
    reports: ReportStore
    idempotency: Idempotency
    append: Callable[[Transaction, Sequence[Event]], None]
    answer: Callable[[Report], bytes]
    """Turns what CreateReport answers into the bytes that are kept for a repeat."""
    clock: Clock


def get_sales(ports: Ports, period: Period, *, call: CallContext) -> Sequence[DailySales]:
    """Read the sales of a period, the earliest day first."""
    model.check_period(period)
    return ports.transactions.read(
        lambda tx: ports.sales.sales(tx, period), deadline=call.deadline, session=call.session
    )


def create_report(ports: Ports, question: Question, *, request_id: str, call: CallContext) -> bytes:
    """Ask for a report; a worker makes it."""
    model.check_period(question.period)
    key = Key(call.caller.subject, call.method, request_id, call.body_hash)
    report = Report(
        id=new_id(),
        owner=call.caller.subject,
        question=question,
        state=State.PENDING,
        create_time=ports.clock.now(),
    )
    answer = ports.answer(report)

    def work(tx: Transaction) -> bytes:
        stored = ports.idempotency.claim(tx, key)
        if stored is not None:
            return stored
        model.check_room(ports.reports.unfinished(tx, report.owner))
        ports.reports.insert(tx, report)
        ports.append(tx, [events.report_requested(report, call=call)])
        ports.idempotency.complete(tx, key, answer)
        return answer

    # Those who count their own reports wait for each other, and for nobody else's.
    hot_keys = [f"reports/{report.owner}"]
    return ports.transactions.serializable(
        work, deadline=call.deadline, hot_keys=hot_keys, once=key, session=call.session
    )


def get_report(ports: Ports, report_id: str, *, start: int, limit: int, call: CallContext) -> Answer:
    """Read a report of the caller's own, with its rows from position `start` on once it has any."""

    def work(tx: Transaction) -> Answer:
        report = _found(ports.reports.report(tx, report_id, owner=call.caller.subject), report_id)
        # One more than the page tells whether there is a next one.
        rows = ports.reports.rows(tx, report_id, start=start, limit=limit + 1) if report.rows else ()
        return Answer(report, tuple(rows[:limit]), start + limit if len(rows) > limit else None)

    return ports.transactions.read(work, deadline=call.deadline, session=call.session)


def list_reports(ports: Ports, *, before: Cursor | None, limit: int, call: CallContext) -> Page:
    """Read the caller's own reports after `before`, the newest first."""
    subject = call.caller.subject
    reports = ports.transactions.read(
        lambda tx: ports.reports.reports(tx, subject, before=before, limit=limit + 1),
        deadline=call.deadline,
        session=call.session,
    )
    return model.cut_page(reports, limit=limit)


def cancel_report(ports: Ports, report_id: str, *, call: CallContext) -> Report:
    """Give up a report of the caller's own that is not done."""

    def work(tx: Transaction) -> Report:
        report = _found(ports.reports.lock_report(tx, report_id, owner=call.caller.subject), report_id)
        model.check_unfinished(report)
        if report.state is State.CANCELLED:
            return report
        cancelled = replace(report, state=State.CANCELLED, end_time=max(ports.clock.now(), report.create_time))
        ports.reports.cancel(tx, cancelled)
        return cancelled

    return ports.transactions.serializable(work, deadline=call.deadline, session=call.session)


def _found(report: Report | None, report_id: str) -> Report:
    if report is None:
        name = f"reports/{report_id}"
        raise NotFound(f"There is no {name}.", reason="REPORT_NOT_FOUND", resource=("report", name))
    return report
