"""Reports of a running mesh: asked for through the gateway, made by its workers, equal to a count by hand."""

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import grpc
import pytest
from google.type.date_pb2 import Date

from deploy.cli.gateway_client import GatewayClient
from deploy.supervisor.config import child_environ
from deploy.supervisor.mesh import Mesh
from svc.chassis import outbox
from svc.chassis.context import Deadline
from svc.chassis.database import Database
from tests.integration.shop import Customer, Shop, quantities, refused, request_id, send
from tests.waiting import eventually
from weft.analytics.v1.analytics_pb2 import (
    CancelReportRequest,
    CreateReportRequest,
    GetReportRequest,
    ListReportsRequest,
    Report,
)
from weft.orders.v1.orders_pb2 import PlaceOrderRequest
from worker import manifest
from worker.handlers.reports.kinds import TYPES

ROOT: Final = Path(__file__).resolve().parents[2]
#: A report waits its turn behind those of other tests, on a machine that is busy.
REPORT_S: Final = 300.0
READ_S: Final = 30.0


class Desk:
    """The operator's reports. Products and customers are this run's own, so others' orders do not matter."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop

    def create(self, kind: Report.Kind.ValueType, *, limit: int = 10_000, key: str = "") -> Report:
        request = CreateReportRequest(kind=kind, limit=limit, request_id=key or request_id())
        report: Report = self.shop.operator.call(self.shop.analytics.CreateReport, request)
        return report

    def get(self, name: str, *, token: str = "") -> Report:
        request = GetReportRequest(name=name, page_size=1000, page_token=token)
        report: Report = self.shop.operator.call(self.shop.analytics.GetReport, request)
        return report

    def done(self, name: str) -> Report:
        """The report once it has its end, with all its rows."""
        ended = (Report.STATE_SUCCEEDED, Report.STATE_FAILED, Report.STATE_CANCELLED)
        eventually(lambda: self.get(name).state in ended, deadline_s=REPORT_S)
        report = page = self.get(name)
        while page.next_page_token:
            page = self.get(name, token=page.next_page_token)
            report.rows.extend(page.rows)
        assert (Report.STATE_SUCCEEDED, "") == (report.state, report.failure)
        assert report.total_rows == len(report.rows)
        return report


@pytest.fixture
def shop(mesh: Mesh, operator: GatewayClient) -> Shop:
    # A currency that nobody else pays in keeps the sums of this run apart.
    return Shop(mesh, operator, currency="ISK")


@pytest.fixture
def desk(shop: Shop) -> Desk:
    return Desk(shop)


@pytest.fixture
def database(mesh: Mesh) -> Iterator[Database]:
    opened = Database((mesh.secrets / "database-analytics.url").read_text().strip(), pool_size=1, name="test")
    yield opened
    opened.close()


def settled(mesh: Mesh, analytics: Database) -> bool:
    """Whether every order and cancellation that was ever written is archived."""
    opened = Database((mesh.secrets / "database-orders.url").read_text().strip(), pool_size=1, name="test")
    try:
        written = opened.read(outbox.counts, deadline=Deadline.after(READ_S))
    finally:
        opened.close()
    kept = analytics.read(manifest.counts, deadline=Deadline.after(READ_S))
    return all(written.get(name, 0) == kept.get(name, 0) for name in TYPES["top_products"])


def place(shop: Shop, customer: Customer, items: dict[str, int], region: str) -> Any:
    request = PlaceOrderRequest(items=quantities(items), request_id=request_id(), region_code=region)
    return send(shop.orders.PlaceOrder, request, customer)


def test_reports_of_every_kind_equal_what_was_ordered(mesh: Mesh, shop: Shop, desk: Desk, database: Database) -> None:
    eventually(lambda: settled(mesh, database), deadline_s=REPORT_S)
    before = by_region(desk.done(desk.create(Report.KIND_REVENUE_BY_COUNTRY).name))
    cohorts_before = desk.done(desk.create(Report.KIND_COHORTS).name)
    mug, tray, lamp = (shop.product(price_minor=price, stock=100) for price in (250, 400, 1000))
    ann, bob = shop.customer(), shop.customer()
    first = place(shop, ann, {mug: 3, tray: 1}, "IS")
    place(shop, ann, {mug: 1, tray: 2, lamp: 1}, "NO")
    place(shop, bob, {mug: 2}, "IS")
    shop.cancel(ann, first.name, {mug: 2})
    assert "IS" == first.region_code
    eventually(lambda: settled(mesh, database), deadline_s=REPORT_S)

    top = desk.done(desk.create(Report.KIND_TOP_PRODUCTS).name)
    pairs = desk.done(desk.create(Report.KIND_BASKET_PAIRS).name)
    revenue = desk.done(desk.create(Report.KIND_REVENUE_BY_COUNTRY).name)
    cohorts = desk.done(desk.create(Report.KIND_COHORTS).name)

    assert {mug: (4, 1000), tray: (3, 1200), lamp: (1, 1000)} == {
        row.top_product.product_id: (row.top_product.pieces, minor(row.top_product.revenue))
        for row in top.rows
        if row.top_product.product_id in (mug, tray, lamp)
    }
    assert {tuple(sorted((mug, tray))): 2, tuple(sorted((mug, lamp))): 1, tuple(sorted((tray, lamp))): 1} == {
        (row.basket_pair.first_product_id, row.basket_pair.second_product_id): row.basket_pair.orders
        for row in pairs.rows
        if row.basket_pair.first_product_id in (mug, tray, lamp)
    }
    today = datetime.now(UTC)
    after = by_region(revenue)
    assert {"IS": (2, 1150 - 500 + 500), "NO": (1, 2050)} == {
        region: tuple(now - then for now, then in zip(after[region], before.get(region, (0, 0)), strict=True))
        for region in ("IS", "NO")
    }
    assert (2, 3) == tuple(
        ours - earlier
        for ours, earlier in zip(newcomers(cohorts, today), newcomers(cohorts_before, today), strict=True)
    )
    for report in (top, pairs, revenue, cohorts):
        assert (100, report.events) == (report.progress_percent, report.events_read)


def by_region(report: Report) -> dict[str, tuple[int, int]]:
    """Orders and revenue in this file's currency, summed over months."""
    found: dict[str, tuple[int, int]] = {}
    for row in report.rows:
        country = row.country_revenue
        if country.revenue.currency_code == "ISK":
            orders, revenue = found.get(country.region_code, (0, 0))
            found[country.region_code] = (orders + country.orders, revenue + minor(country.revenue))
    return found


def newcomers(report: Report, when: datetime) -> tuple[int, int]:
    """Customers whose first order was in this month, and their orders in it."""
    month = Date(year=when.year, month=when.month, day=1)
    found = [row.cohort for row in report.rows if row.cohort.month == month and row.cohort.months_later == 0]
    return sum(cohort.customers for cohort in found), sum(cohort.orders for cohort in found)


def minor(money: Any) -> int:
    return int(money.units * 100 + money.nanos // 10_000_000)


def test_a_report_is_the_same_however_often_it_is_asked_for_and_nobody_else_s(shop: Shop, desk: Desk) -> None:
    key, stranger = request_id(), shop.customer()
    first = desk.create(Report.KIND_COHORTS, key=key)

    assert first == desk.create(Report.KIND_COHORTS, key=key)
    listed = shop.operator.call(shop.analytics.ListReports, ListReportsRequest(page_size=200)).reports
    assert 1 == [report.name for report in listed].count(first.name)
    refusal = refused(shop.analytics.GetReport, GetReportRequest(name=first.name), stranger)
    # Another's report is not to be told from one that is not there.
    assert (grpc.StatusCode.NOT_FOUND, "REPORT_NOT_FOUND") == (refusal.code, refusal.reason)
    desk.done(first.name)


def test_a_report_survives_the_death_of_its_worker(mesh: Mesh, desk: Desk) -> None:
    report = desk.create(Report.KIND_TOP_PRODUCTS)

    eventually(
        lambda: desk.get(report.name).state in (Report.STATE_RUNNING, Report.STATE_SUCCEEDED), deadline_s=REPORT_S
    )
    mesh.kill("reports-1")

    desk.done(report.name)
    mesh.wait_ready()


def test_a_report_can_be_given_up_and_one_that_is_done_cannot(shop: Shop, mesh: Mesh, desk: Desk) -> None:
    done = desk.create(Report.KIND_COHORTS)
    desk.done(done.name)
    with pytest.raises(grpc.RpcError) as caught:
        shop.operator.call(shop.analytics.CancelReport, CancelReportRequest(name=done.name))
    assert grpc.StatusCode.FAILED_PRECONDITION == caught.value.code()

    asked = desk.create(Report.KIND_BASKET_PAIRS)
    try:
        cancelled = shop.operator.call(shop.analytics.CancelReport, CancelReportRequest(name=asked.name))
    except grpc.RpcError:
        # Its worker was faster.
        assert Report.STATE_SUCCEEDED == desk.get(asked.name).state
    else:
        assert Report.STATE_CANCELLED == cancelled.state == desk.get(asked.name).state
        assert [] == list(desk.get(asked.name).rows)


def test_the_roll_up_is_the_fold_of_the_archive_while_orders_come_in(mesh: Mesh, shop: Shop) -> None:
    product, customer = shop.product(stock=50), shop.customer()
    environment = {
        **child_environ(),
        "WEFT_SECRETS": str(mesh.secrets),
        "WEFT_ARCHIVE": str(mesh.secrets.parent / "data" / "archive"),
    }
    command = [sys.executable, "-m", "worker", "reconcile"]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as running:
        for _ in range(20):
            place(shop, customer, {product: 1}, "IS")
        told, _ = running.communicate(timeout=REPORT_S)

    assert {"even": True, "unarchived": 0, "differences": []} == json.loads(told)
    assert 0 == running.returncode
