"""Fakes of analytics' ports, in memory."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from datetime import date
from typing import TypeVar, cast

from svc.analytics.model import UNFINISHED, Cursor, DailySales, Period, Report
from svc.analytics.rpc import answer
from svc.analytics.usecases import Ports
from svc.chassis.consistency import Session
from svc.chassis.context import CallContext, Deadline, Principal
from svc.chassis.database import Transaction
from svc.chassis.errors import FailedPrecondition
from svc.chassis.idempotency import Key
from svc.chassis.outbox import Event
from tests.fakes.clock import FakeClock

T = TypeVar("T")


class FakeStore:
    def __init__(self, rows: Sequence[DailySales]) -> None:
        self._rows = rows

    def sales(self, tx: Transaction, period: Period) -> Sequence[DailySales]:
        start, end = period.start or date.min, period.end or date.max
        found = [row for row in self._rows if start <= row.day <= end]
        return sorted(found, key=lambda row: (row.day, row.currency))


@dataclass
class FakeReports:
    """Reports, their rows, and answers that are kept."""

    kept: dict[str, Report] = field(default_factory=dict)
    contents: dict[str, list[bytes]] = field(default_factory=dict)

    def unfinished(self, tx: Transaction, owner: str) -> int:
        return sum(report.owner == owner and report.state in UNFINISHED for report in self.kept.values())

    def insert(self, tx: Transaction, report: Report) -> None:
        self.kept[report.id] = report

    def report(self, tx: Transaction, report_id: str, *, owner: str) -> Report | None:
        report = self.kept.get(report_id)
        return report if report is not None and report.owner == owner else None

    def lock_report(self, tx: Transaction, report_id: str, *, owner: str) -> Report | None:
        return self.report(tx, report_id, owner=owner)

    def reports(self, tx: Transaction, owner: str, *, before: Cursor | None, limit: int) -> Sequence[Report]:
        own = [report for report in self.kept.values() if report.owner == owner]
        own.sort(key=lambda report: (report.create_time, report.id), reverse=True)
        if before is not None:
            own = [one for one in own if (one.create_time, one.id) < (before.create_time, before.report_id)]
        return own[:limit]

    def rows(self, tx: Transaction, report_id: str, *, start: int, limit: int) -> Sequence[bytes]:
        return self.contents.get(report_id, [])[start : start + limit]

    def cancel(self, tx: Transaction, report: Report) -> None:
        self.kept[report.id] = report

    def change(self, report_id: str, **values: object) -> None:
        """What a worker has made of a report."""
        self.kept[report_id] = replace(self.kept[report_id], **values)  # type: ignore[arg-type]


@dataclass
class FakeIdempotency:
    answers: dict[tuple[str, str, str], tuple[bytes, bytes]] = field(default_factory=dict)

    def claim(self, tx: Transaction, key: Key) -> bytes | None:
        found = self.answers.get((key.principal, key.method, key.request_id))
        if found is None:
            return None
        if found[0] != key.body_hash:
            raise FailedPrecondition(reason="REQUEST_ID_REUSED")
        return found[1]

    def complete(self, tx: Transaction, key: Key, response: bytes) -> None:
        self.answers[key.principal, key.method, key.request_id] = (key.body_hash, response)


@dataclass
class FakeAnalytics:
    """All ports; a transaction that fails leaves nothing behind."""

    sales: FakeStore = field(default_factory=lambda: FakeStore(()))
    reports: FakeReports = field(default_factory=FakeReports)
    idempotency: FakeIdempotency = field(default_factory=FakeIdempotency)
    appended: list[Event] = field(default_factory=list)
    clock: FakeClock = field(default_factory=FakeClock)

    def ports(self) -> Ports:
        return Ports(
            transactions=self,
            sales=self.sales,
            reports=self.reports,
            idempotency=self.idempotency,
            append=lambda tx, events: self.appended.extend(events),
            answer=answer,
            clock=self.clock,
        )

    def read(self, work: Callable[[Transaction], T], *, deadline: Deadline, session: Session | None = None) -> T:
        return work(cast(Transaction, None))

    def serializable(
        self,
        work: Callable[[Transaction], T],
        *,
        deadline: Deadline,
        hot_keys: Sequence[str] = (),
        once: Key | None = None,
        session: Session | None = None,
    ) -> T:
        before = deepcopy((self.reports.kept, self.idempotency.answers, self.appended))
        try:
            return work(cast(Transaction, None))
        except BaseException:
            self.reports.kept, self.idempotency.answers, self.appended = before
            raise


def make_call(subject: str = "ann", *, method: str = "GetSales", body_hash: bytes = b"") -> CallContext:
    scopes = frozenset({"analytics.read", "analytics.write"})
    principal = Principal(subject=subject, scopes=scopes, session="s", actor=None, token="t")
    return CallContext(
        method=f"/weft.analytics.v1.AnalyticsService/{method}",
        principal=principal,
        deadline=Deadline.after(30),
        body_hash=body_hash,
        is_active=lambda: True,
    )
