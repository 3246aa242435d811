"""Processes of a running mesh die between two steps of an order's way, each by its own hand, and nothing shows it.

One order goes its way in each round; in each process that it meets, the next crash point is set. A point was reached
when a process has died of it: the file that set it bears the pid.
"""

import contextlib
import io
import json
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Any, Final

import grpc
import pika
import pytest

from deploy.cli.gateway_client import GatewayClient
from deploy.supervisor.mesh import Mesh
from svc.chassis import outbox
from svc.chassis.context import Deadline
from svc.chassis.crash import Point
from tests.chaos import reads
from tests.chaos.check import find
from tests.chaos.history import Event, Recorder
from tests.chaos.observers import PLACED, Prices, database
from tests.chaos.workload import PAUSE_S, REFUSED
from tests.integration.shop import Customer, Shop, place_request, quantities, request_id, send
from tests.waiting import eventually
from weft.analytics.v1.analytics_pb2 import CreateReportRequest, GetReportRequest, Report
from weft.orders.v1 import orders_pb2
from worker import manifest

_TRANSACTION: Final = (Point.TRANSACTION_DUE, Point.TRANSACTION_BEGUN)
#: The points of each process, in the order in which its rounds set them.
POINTS: Final[Mapping[str, tuple[Point, ...]]] = {
    "orders": (
        *(Point.CALL_ENTERED, *_TRANSACTION, Point.EFFECT_WRITTEN, Point.EVENTS_WRITTEN),
        *(Point.WORK_DONE, Point.COMMITTED, Point.CALL_ANSWERED),
    ),
    "catalog": (Point.COMMITTED, Point.FORGOTTEN, Point.LEASE_TAKEN, Point.ENTRY_LOADED, Point.ENTRY_FILLED),
    "relay": (
        *(Point.ROWS_CLAIMED, Point.FORGOTTEN, Point.CONFIRM_RECEIVED),
        *(Point.ROWS_CONFIRMED, Point.ROWS_MARKED, Point.ROWS_PUBLISHED),
    ),
    "audit": (
        *(Point.BATCH_TAKEN, *_TRANSACTION, Point.INBOX_CLAIMED, Point.WORK_DONE, Point.COMMITTED),
        *(Point.BATCH_HANDLED, Point.BATCH_ACKNOWLEDGED, Point.COPY_CONFIRMED),
    ),
    "analytics-worker": (Point.INBOX_CLAIMED, Point.WORK_DONE, Point.COMMITTED, Point.BATCH_HANDLED),
    "email": (Point.COMMITTED, Point.MAIL_RESERVED, Point.MAIL_SENT, Point.BATCH_HANDLED),
    "archive": (
        *(Point.FILE_WRITTEN, Point.FILE_SYNCED, Point.FILE_RENAMED),
        *(Point.FILES_WRITTEN, Point.FILES_NAMED, Point.BATCH_HANDLED),
    ),
    "reports": (
        *(Point.REPORT_TAKEN, Point.REPORT_PLANNED, Point.PART_COMPUTED),
        *(Point.PART_STORED, Point.REPORT_COMPUTED, Point.REPORT_STORED),
    ),
}
#: What nobody waits for here: it comes by twice a minute at most. `test_archive` dies there.
SELDOM: Final = frozenset({Point.FILES_MERGED, Point.FILES_SWAPPED, Point.FILES_FORGOTTEN})
ROUNDS: Final[list[Mapping[str, Point]]] = [
    {process: point for process, point in zip(POINTS, points, strict=True) if point is not None}
    for points in zip_longest(*POINTS.values())
]
#: Something dies in every process: what is written is not committed, what is sent is not acknowledged.
SHORT: Final = 2
LONG: Final = pytest.mark.long(short="test_nothing_is_lost_or_doubled_whoever_dies_between_two_steps")
STOCK: Final = 100_000
STRUCK_S: Final = 120.0
SETTLED_S: Final = 120.0
READY_S: Final = 180.0
READ_S: Final = 30.0
#: A process that died so often is restarted in order, which forgives it: a mesh takes deaths in a row for a crash loop.
DEATHS_MAX: Final = 3

GARBAGE: Final = "no-event-of-ours"

_deaths: Counter[str] = Counter()


@pytest.fixture(scope="module")
def shop(mesh: Mesh, operator: GatewayClient) -> Shop:
    # Nobody else pays in it: its orders in the roll-up are this module's.
    return Shop(mesh, operator, currency="XDR")


class Way:
    """What happens on the way of some orders of one customer, and the history of it."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        self._out = io.StringIO()
        self.recorder = Recorder(self._out)
        self.counted_before = reads.counted(shop)
        self.product = shop.product(stock=STOCK)
        self.recorder.begin("open", product=self.product, quantity=STOCK).ok()
        self.customer: Customer = shop.customer()
        self.prices = Prices(shop, self.recorder)

    def go(self) -> None:
        """Order and take a piece back, change a price and read it."""
        items, key = {self.product: 2}, request_id()
        asked = {"customer": self.customer.id, "key": key, "items": items}
        order = self._until_answered("place", asked, self.shop.orders.PlaceOrder, place_request(items, key=key))
        back, key = {self.product: 1}, request_id()
        message = orders_pb2.CancelOrderRequest(name=order.name, items=quantities(back), request_id=key)
        asked = {"customer": self.customer.id, "key": key, "order": order.name, "items": back}
        self._until_answered("cancel", asked, self.shop.orders.CancelOrder, message)
        product = self.prices.products[0]
        self.prices.change(product)
        for mindful in (True, False):
            self.prices.read(product, mindful=mindful)

    def broken(self) -> Mapping[str, Any]:
        """What the checks find now."""
        history = [Event(**json.loads(line)) for line in self._out.getvalue().splitlines()]
        books = reads.read(self.shop, [self.customer], [self.product], counted_before=self.counted_before)
        return find(history, books)

    def _until_answered(self, name: str, asked: dict[str, Any], method: Any, message: Any) -> Any:
        give_up = Deadline.after(SETTLED_S)
        while True:
            pending = self.recorder.begin(name, **asked)
            try:
                answer = send(method, message, self.customer)
            except grpc.RpcError as error:
                code = error.code().name
                (pending.fail if code in REFUSED else pending.info)(code=code)
                if code in REFUSED or give_up.expired():
                    raise
                threading.Event().wait(PAUSE_S)
            else:
                pending.ok(**({"order": answer.name} if name == "place" else {}))
                return answer


class Points:
    """Sets crash points of a mesh, and sees who has died of them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._set: list[str] = []

    def arm(self, process: str, point: Point) -> None:
        self._set.append(f"{process}.{point}")
        (self._folder / self._set[-1]).touch()

    def waiting(self) -> list[str]:
        """Those that nobody has come by yet."""
        return [name for name in self._set if (self._folder / name).exists()]

    def died(self) -> dict[str, int]:
        """Who has died, by process."""
        reached = {name: list(self._folder.glob(f"{name}.*")) for name in self._set}
        return {name.partition(".")[0]: int(found[0].suffix[1:]) for name, found in reached.items() if found}

    def disarm(self) -> None:
        for path in self._folder.iterdir():
            path.unlink()


@pytest.fixture
def points(crash_points: Path) -> Iterator[Points]:
    opened = Points(crash_points)
    opened.disarm()
    yield opened
    opened.disarm()


@pytest.fixture
def forgiving(mesh: Mesh) -> Iterator[Mesh]:
    """The mesh, in which nobody has died too often of late; all of it is there again at the end."""
    for process in mesh.wait_ready(timeout_s=READY_S).processes:
        if _deaths[process.name] >= DEATHS_MAX:
            mesh.restart(process.name)
            _deaths[process.name] = 0
    yield mesh
    mesh.wait_ready(timeout_s=READY_S)


def test_every_round_sets_other_points_and_together_they_are_all() -> None:
    walked = [point for points in POINTS.values() for point in points]

    assert set(Point) - SELDOM == set(walked)
    assert len(walked) == sum(len(each) for each in ROUNDS)


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "number", [each if each == SHORT else pytest.param(each, marks=LONG) for each in range(len(ROUNDS))]
)
def test_nothing_is_lost_or_doubled_whoever_dies_between_two_steps(
    forgiving: Mesh, shop: Shop, points: Points, number: int
) -> None:
    way, here = Way(shop), ROUNDS[number]
    way.go()
    # A report is made of what is in the archive.
    eventually(lambda: archived(forgiving), deadline_s=SETTLED_S)
    before = {process.pid: process.name for process in forgiving.status().processes}
    for process, point in here.items():
        points.arm(process, point)
    report = ask_for_report(shop) if "reports" in here else ""
    if Point.COPY_CONFIRMED in here.values():
        put_garbage(forgiving, "weft.audit")

    def struck() -> bool:
        way.go()
        return not points.waiting()

    with contextlib.suppress(AssertionError):  # the next line says which points nobody has come by
        eventually(struck, deadline_s=STRUCK_S)
    assert [] == points.waiting()
    died = points.died()
    assert set(here) == set(died)
    for process, pid in died.items():
        assert before[pid].startswith(process), "another than the one that was meant"
        _deaths[before[pid]] += 1
    eventually(lambda: not way.broken(), deadline_s=SETTLED_S)
    eventually(lambda: archived(forgiving), deadline_s=SETTLED_S)
    if report:
        assert_made(shop, report)
    if Point.COPY_CONFIRMED in here.values():
        # One from before the death, one from after it: never none.
        copies: list[int] = []
        eventually(lambda: copies.append(take_garbage(forgiving, "weft.audit.dead")) or sum(copies) >= 2)
        assert 2 == sum(copies)
    assert {} == way.broken()


def ask_for_report(shop: Shop) -> str:
    """The name of a report that was asked for."""
    request = CreateReportRequest(kind=Report.KIND_TOP_PRODUCTS, limit=10, request_id=request_id())
    return str(shop.operator.call(shop.analytics.CreateReport, request).name)


def assert_made(shop: Shop, name: str) -> None:
    """The report is made in the end, and all of its events were read, each once."""
    # Its worker is dead: nobody has to wait here until the lease has run out.
    expire = "UPDATE reports SET lease_until = now() WHERE state = 'running' AND report_id = %s::uuid"
    with contextlib.closing(database(shop.mesh, "analytics")) as analytics:
        analytics.serializable(
            lambda tx: tx.exec_driver_sql(expire, (name.removeprefix("reports/"),)), deadline=Deadline.after(READ_S)
        )

    def report() -> Report:
        found: Report = shop.operator.call(shop.analytics.GetReport, GetReportRequest(name=name))
        return found

    eventually(lambda: report().state == Report.STATE_SUCCEEDED, deadline_s=SETTLED_S)
    made = report()
    assert (made.events, "") == (made.events_read, made.failure)
    assert made.events > 0


def archived(mesh: Mesh) -> bool:
    """Whether every order that was ever placed is in one file that counts, and in no other."""
    with contextlib.ExitStack() as stack:
        orders, analytics = (database(mesh, name) for name in ("orders", "analytics"))
        for each in (orders, analytics):
            stack.callback(each.close)
        written = orders.read(outbox.counts, deadline=Deadline.after(READ_S)).get(PLACED, 0)
        kept = analytics.read(manifest.counts, deadline=Deadline.after(READ_S))
        return kept.get(PLACED, 0) == written


@contextlib.contextmanager
def channel(mesh: Mesh) -> Iterator[Any]:
    """A channel of a broker's own operator."""
    url = (mesh.secrets / "amqp.url").read_text().strip().split(",")[0]
    with contextlib.closing(pika.BlockingConnection(pika.URLParameters(url))) as connection:
        yield connection.channel()


def put_garbage(mesh: Mesh, queue: str) -> None:
    with channel(mesh) as opened:
        opened.basic_publish("", queue, b"garbage", pika.BasicProperties(message_id=GARBAGE))


def take_garbage(mesh: Mesh, queue: str) -> int:
    """Take what was put aside out of the dead letters again; how many copies there were."""
    taken = 0
    with channel(mesh) as opened:
        while True:
            method, properties, _ = opened.basic_get(queue)
            if method is None:
                return taken
            if properties.message_id == GARBAGE:
                opened.basic_ack(method.delivery_tag)
                taken += 1
