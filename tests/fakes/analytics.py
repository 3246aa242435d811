"""Fakes of analytics' ports, in memory."""

from collections.abc import Callable, Sequence
from datetime import date
from typing import TypeVar, cast

from svc.analytics.model import DailySales, Period
from svc.analytics.usecases import Ports
from svc.chassis.consistency import Session
from svc.chassis.context import CallContext, Deadline, Principal
from svc.chassis.database import Transaction

T = TypeVar("T")


class FakeReads:
    def read(self, work: Callable[[Transaction], T], *, deadline: Deadline, session: Session | None = None) -> T:
        return work(cast(Transaction, None))


class FakeStore:
    def __init__(self, rows: Sequence[DailySales]) -> None:
        self._rows = rows

    def sales(self, tx: Transaction, period: Period) -> Sequence[DailySales]:
        start, end = period.start or date.min, period.end or date.max
        found = [row for row in self._rows if start <= row.day <= end]
        return sorted(found, key=lambda row: (row.day, row.currency))


def make_ports(*rows: DailySales) -> Ports:
    return Ports(reads=FakeReads(), store=FakeStore(rows))


def make_call() -> CallContext:
    principal = Principal(subject="ann", scopes=frozenset({"analytics.read"}), session="s", actor=None, token="t")
    return CallContext(
        method="/weft.analytics.v1.AnalyticsService/GetSales",
        principal=principal,
        deadline=Deadline.after(30),
        body_hash=b"",
        is_active=lambda: True,
    )
