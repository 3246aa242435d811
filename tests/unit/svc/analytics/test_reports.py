"""Asking for reports, reading them, giving them up."""

import uuid
from datetime import timedelta
from typing import Any

import pytest
from google.type.date_pb2 import Date

from svc.analytics.model import UNFINISHED_MAX, State
from svc.analytics.rpc import AnalyticsHandler
from svc.chassis.context import CallContext
from svc.chassis.errors import FailedPrecondition, InvalidArgument, NotFound
from svc.chassis.pages import PageTokens
from tests.fakes.analytics import FakeAnalytics, make_call
from weft.analytics.v1.analytics_pb2 import (
    BasketPair,
    CancelReportRequest,
    CreateReportRequest,
    GetReportRequest,
    ListReportsRequest,
    Report,
    ReportRow,
)
from weft.analytics.v1.events_pb2 import ReportRequested
from weft.events.v1.envelope_pb2 import Envelope

CREATE = "CreateReport"


class Desk:
    """The service over ports in memory, called as one user or another."""

    def __init__(self) -> None:
        self.fake = FakeAnalytics()
        self.handler = AnalyticsHandler(self.fake.ports(), PageTokens(bytes(32)))

    def create(self, call: CallContext | None = None, **fields: Any) -> Report:
        request = CreateReportRequest(**{"kind": Report.KIND_COHORTS, "request_id": str(uuid.uuid4()), **fields})
        return self.handler.CreateReport(request, call or make_call(method=CREATE))

    def get(self, name: str, *, user: str = "ann", size: int = 0, token: str = "") -> Report:
        request = GetReportRequest(name=name, page_size=size, page_token=token)
        return self.handler.GetReport(request, make_call(user, method="GetReport"))

    def cancel(self, name: str, *, user: str = "ann") -> Report:
        return self.handler.CancelReport(CancelReportRequest(name=name), make_call(user, method="CancelReport"))

    def finish(self, name: str, rows: int) -> list[ReportRow]:
        report_id = name.removeprefix("reports/")
        made = [ReportRow(basket_pair=BasketPair(first_product_id="a", orders=n)) for n in range(rows)]
        self.fake.reports.contents[report_id] = [row.SerializeToString() for row in made]
        self.fake.reports.change(
            report_id, state=State.SUCCEEDED, rows=rows, stages=2, stages_done=2, end_time=self.fake.clock.now()
        )
        return made


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_a_report_is_stored_with_the_event_that_has_it_made(desk: Desk) -> None:
    report = desk.create(kind=Report.KIND_TOP_PRODUCTS, start_date=Date(year=2026, month=1, day=31), limit=5)

    assert (Report.STATE_PENDING, 0, 5) == (report.state, report.progress_percent, report.limit)
    assert (Date(year=2026, month=1, day=31), False) == (report.start_date, report.HasField("end_date"))
    assert report == desk.get(report.name)
    (appended,) = desk.fake.appended
    fact = ReportRequested()
    assert Envelope.FromString(appended.envelope).payload.Unpack(fact)
    assert (report.name, "users/ann", report.name) == (fact.report, fact.user, appended.key)


def test_a_question_without_a_bound_has_the_usual_one(desk: Desk) -> None:
    assert 100 == desk.create().limit


def test_the_same_call_again_is_answered_as_the_first_time_and_asks_for_nothing_more(desk: Desk) -> None:
    key = str(uuid.uuid4())
    first = desk.create(request_id=key)
    desk.finish(first.name, 1)

    assert first == desk.create(request_id=key)
    assert (1, 1) == (len(desk.fake.appended), len(desk.fake.reports.kept))
    with pytest.raises(FailedPrecondition) as refusal:
        desk.create(make_call(method=CREATE, body_hash=b"other"), request_id=key)
    assert "REQUEST_ID_REUSED" == refusal.value.reason


def test_nobody_has_more_unfinished_reports_than_may_be(desk: Desk) -> None:
    names = [desk.create().name for _ in range(UNFINISHED_MAX)]

    with pytest.raises(FailedPrecondition) as refusal:
        desk.create()
    desk.create(make_call("bob", method=CREATE))
    desk.cancel(names[0])
    desk.create()

    assert "TOO_MANY_REPORTS" == refusal.value.reason
    assert UNFINISHED_MAX + 2 == len(desk.fake.appended)


def test_a_period_does_not_end_before_it_starts(desk: Desk) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        desk.create(start_date=Date(year=2026, month=2, day=2), end_date=Date(year=2026, month=2, day=1))

    assert "PERIOD_EMPTY" == refusal.value.reason


def test_progress_is_what_is_done_of_all_parts_and_of_putting_them_together(desk: Desk) -> None:
    name = desk.create().name
    desk.fake.reports.change(
        name.removeprefix("reports/"), state=State.RUNNING, stages=3, stages_done=2, events=900, events_read=600
    )

    report = desk.get(name)

    assert (Report.STATE_RUNNING, 50, 900, 600) == (
        report.state,
        report.progress_percent,
        report.events,
        report.events_read,
    )


def test_rows_come_in_pages_until_there_are_no_more(desk: Desk) -> None:
    name = desk.create().name
    made = desk.finish(name, 5)

    pages = [desk.get(name, size=2)]
    while pages[-1].next_page_token:
        pages.append(desk.get(name, size=2, token=pages[-1].next_page_token))

    assert [made[:2], made[2:4], made[4:]] == [list(page.rows) for page in pages]
    assert {(5, 100)} == {(page.total_rows, page.progress_percent) for page in pages}


def test_a_token_of_one_report_is_worth_nothing_at_another(desk: Desk) -> None:
    names = [desk.create().name for _ in range(2)]
    for name in names:
        desk.finish(name, 3)
    token = desk.get(names[0], size=1).next_page_token

    with pytest.raises(InvalidArgument):
        desk.get(names[1], token=token)


def test_another_s_report_looks_like_none(desk: Desk) -> None:
    name = desk.create().name

    for call in (desk.get, desk.cancel):
        with pytest.raises(NotFound) as refusal:
            call(name, user="eve")
        assert ("REPORT_NOT_FOUND", ("report", name)) == (refusal.value.reason, refusal.value.resource)
    assert Report.STATE_PENDING == desk.get(name).state


def test_own_reports_are_listed_the_newest_first_without_their_rows(desk: Desk) -> None:
    names = []
    for _ in range(3):
        names.append(desk.create().name)
        desk.fake.clock.move(timedelta(seconds=1))
    desk.create(make_call("bob", method=CREATE))
    desk.finish(names[0], 2)
    call = make_call(method="ListReports")

    first = desk.handler.ListReports(ListReportsRequest(page_size=2), call)
    second = desk.handler.ListReports(ListReportsRequest(page_size=2, page_token=first.next_page_token), call)

    assert [names[2], names[1]] == [report.name for report in first.reports]
    assert [(names[0], 2, 0)] == [(report.name, report.total_rows, len(report.rows)) for report in second.reports]
    assert "" == second.next_page_token


def test_a_report_that_is_not_done_can_be_given_up_also_twice(desk: Desk) -> None:
    name = desk.create().name
    desk.fake.clock.move(timedelta(seconds=5))

    first, second = desk.cancel(name), desk.cancel(name)

    assert (Report.STATE_CANCELLED, first) == (first.state, second)
    assert 5 == first.end_time.seconds - first.create_time.seconds


@pytest.mark.parametrize("state", [State.SUCCEEDED, State.FAILED])
def test_a_report_that_has_its_end_cannot_be_given_up(desk: Desk, state: State) -> None:
    name = desk.create().name
    desk.fake.reports.change(name.removeprefix("reports/"), state=state)

    with pytest.raises(FailedPrecondition) as refusal:
        desk.cancel(name)

    assert "REPORT_FINISHED" == refusal.value.reason
