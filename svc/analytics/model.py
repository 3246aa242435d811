"""What the shop sold, and what is asked of it, as values. No wire, no SQL, no clock."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from typing import Final

from svc.chassis.errors import FailedPrecondition, InvalidArgument

#: Rows of a report's question that names no bound.
LIMIT_DEFAULT: Final = 100
#: Reports of one user that wait or are made at a time: each takes a worker for a while, and all users share those.
UNFINISHED_MAX: Final = 10


@dataclass(frozen=True, slots=True)
class Period:
    """Some days, both ends included; None leaves an end open."""

    start: date | None
    end: date | None


@dataclass(frozen=True, slots=True)
class DailySales:
    """Sales of one UTC day in one currency, in minor units; negative where more was taken back than sold."""

    day: date
    currency: str
    orders: int
    cancellations: int
    pieces: int
    revenue_minor: int


class Kind(StrEnum):
    """What a report asks."""

    TOP_PRODUCTS = "top_products"
    COHORTS = "cohorts"
    BASKET_PAIRS = "basket_pairs"
    REVENUE_BY_COUNTRY = "revenue_by_country"


class State(StrEnum):
    """How far a report is. The service writes `pending` and `cancelled`, its workers the others."""

    PENDING = "pending"
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


UNFINISHED: Final = (State.PENDING, State.QUEUED, State.RUNNING)


@dataclass(frozen=True, slots=True)
class Question:
    """What a report is to answer."""

    kind: Kind
    period: Period
    limit: int = LIMIT_DEFAULT


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A question, who asked it, and how far its answer is."""

    id: str
    owner: str
    question: Question
    state: State
    create_time: datetime
    start_time: datetime | None = None
    end_time: datetime | None = None
    stages: int = 0
    """Parts that it is made in; 0 while nobody knows."""
    stages_done: int = 0
    events: int = 0
    events_read: int = 0
    rows: int = 0
    truncated: bool = False
    failure: str = ""

    @property
    def progress_percent(self) -> int:
        """How far it is. Putting its parts together is one part more."""
        if self.state is State.SUCCEEDED:
            return 100
        return self.stages_done * 100 // (self.stages + 1)


@dataclass(frozen=True, slots=True)
class Cursor:
    """The last report of a page: the next one begins after it."""

    create_time: datetime
    report_id: str


@dataclass(frozen=True, slots=True)
class Page:
    """Some of a user's reports, the newest first; no `next`: these were the last."""

    reports: tuple[Report, ...]
    next: Cursor | None


@dataclass(frozen=True, slots=True)
class Answer:
    """A report with some of its rows, each as its worker wrote it; `next`: position of the row after them, or None."""

    report: Report
    rows: tuple[bytes, ...]
    next: int | None


def check_period(period: Period) -> None:
    """Raises InvalidArgument where a period has no day."""
    if period.start is not None and period.end is not None and period.start > period.end:
        raise InvalidArgument(
            "The period ends before it starts.",
            reason="PERIOD_EMPTY",
            violations=[("end_date", "must not be before start_date")],
        )


def check_room(unfinished: int) -> None:
    """Raises FailedPrecondition where a user may not ask for another report."""
    if unfinished >= UNFINISHED_MAX:
        raise FailedPrecondition(
            f"{unfinished} of your reports are unfinished; wait for one, or cancel it.",
            reason="TOO_MANY_REPORTS",
            violations=[("REPORTS", "reports", f"the limit is {UNFINISHED_MAX}")],
        )


def check_unfinished(report: Report) -> None:
    """Raises FailedPrecondition where a report has its end, other than having been cancelled."""
    if report.state in (State.SUCCEEDED, State.FAILED):
        raise FailedPrecondition(
            f"The report has {report.state}.",
            reason="REPORT_FINISHED",
            violations=[("REPORT", f"reports/{report.id}", f"it has {report.state}")],
        )


def cut_page(reports: Sequence[Report], *, limit: int) -> Page:
    """The page that `reports`, of which one more than `limit` was asked for, make."""
    page = tuple(reports[:limit])
    more = len(reports) > limit
    return Page(page, Cursor(page[-1].create_time, page[-1].id) if more else None)
