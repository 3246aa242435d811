"""The profile `ha`: whoever leads is killed while customers order, and nothing that was acknowledged is lost.

Times to recover are printed (`pytest -s`), not judged: the machine decides them.
"""

import contextlib
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from types import TracebackType

import grpc
import pytest

from deploy.cli.replay import books
from deploy.supervisor.config import Settings, child_environ
from deploy.supervisor.errors import RefusedError
from deploy.supervisor.mesh import Mesh
from deploy.supervisor.workspace import temporary
from tests.chaos import faults
from tests.integration.shop import Customer, Shop, place_request, request_id, send
from tests.waiting import eventually
from weft.orders.v1 import orders_pb2, orders_pb2_grpc

pytestmark = pytest.mark.first

START_S = 600.0
BACK_S = 180.0
CUSTOMERS = 3
STOCK = 100_000
PACE_S = 0.3
"""Between two orders of a customer. Everything threefold leaves two cores little; a node of the broker needs some of it
to come back."""
ORDERS = 10
"""Orders that each customer gets answered in one `advance`."""
#: The mesh says with these that the same may be asked again, under the same request id.
AGAIN = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    }
)


class Buyer(threading.Thread):
    """Orders one piece after the other, each until it is acknowledged."""

    def __init__(self, shop: Shop, customer: Customer, product: str, stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self.orders: list[str] = []
        self.gap_s = 0.0
        self.refusals: list[str] = []
        self._channel = grpc.insecure_channel(shop.mesh.gateway, options=[("grpc.use_local_subchannel_pool", 1)])
        self._stub = orders_pb2_grpc.OrderServiceStub(self._channel)
        self.customer, self._product, self._ended = customer, product, stop

    def run(self) -> None:
        while not self._ended.is_set():
            began = time.monotonic()
            order = self._place(request_id())
            if order is None:
                return
            self.orders.append(order)
            self.gap_s = max(self.gap_s, time.monotonic() - began)
            self._ended.wait(PACE_S)

    def close(self) -> None:
        self._channel.close()

    def _place(self, key: str) -> str | None:
        give_up = time.monotonic() + BACK_S
        while True:
            try:
                placed = send(self._stub.PlaceOrder, place_request({self._product: 1}, key=key), self.customer)
                return str(placed.name)
            except grpc.RpcError as error:
                if error.code() not in AGAIN or time.monotonic() > give_up:
                    self.refusals.append(f"{error.code().name}: {error.details()}")
                    return None
                threading.Event().wait(0.1)


class Trade:
    """Customers that go on buying for the time of a `with` block."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        self.products = [shop.product(stock=STOCK) for _ in range(CUSTOMERS)]
        self._stop = threading.Event()
        self.buyers = [Buyer(shop, shop.customer(), product, self._stop) for product in self.products]

    def __enter__(self) -> "Trade":
        for buyer in self.buyers:
            buyer.start()
        self.advance()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(AssertionError) if error else contextlib.nullcontext():
            self.advance()
        self._stop.set()
        for buyer in self.buyers:
            buyer.join(BACK_S)
            buyer.close()

    def advance(self) -> None:
        """Wait until every customer has got some more orders acknowledged."""
        goals = [len(buyer.orders) + ORDERS for buyer in self.buyers]
        eventually(
            lambda: all(
                len(buyer.orders) >= goal or buyer.refusals for buyer, goal in zip(self.buyers, goals, strict=True)
            ),
            deadline_s=BACK_S,
        )

    def missing(self) -> list[str]:
        """Acknowledged orders that their customers do not find any more."""
        return [order for buyer in self.buyers for order in set(buyer.orders) - self._listed(buyer.customer)]

    def _listed(self, customer: Customer) -> set[str]:
        request, found = orders_pb2.ListOrdersRequest(page_size=200), set[str]()
        while True:
            page = send(self.shop.orders.ListOrders, request, customer)
            found |= {order.name for order in page.orders}
            if not page.next_page_token:
                return found
            request.page_token = page.next_page_token

    def miscounted(self) -> list[int]:
        """For each customer, pieces that left the stock less orders that were acknowledged."""
        left = self.shop.left(*self.products)
        return [STOCK - pieces - len(buyer.orders) for pieces, buyer in zip(left, self.buyers, strict=True)]


@pytest.fixture(scope="module")
def mesh() -> Iterator[Mesh]:
    """A mesh of this module's own, with everything threefold."""
    with temporary() as folder:
        settings = Settings(data=folder, ha=True)
        with Mesh(folder, ports="free", settings=settings, ephemeral=True) as started:
            started.start(timeout_s=START_S)
            yield started


@pytest.fixture(scope="module")
def shop(mesh: Mesh) -> Iterator[Shop]:
    with Shop.opened(mesh) as shop:
        yield shop


def leaders(mesh: Mesh, service: str) -> Sequence[str]:
    """Members that lead now."""
    return [
        process.name
        for process in mesh.status().processes
        if (process.service, process.role, process.state) == (service, "leader", "ready")
    ]


def leader(mesh: Mesh, service: str) -> str:
    """The member that leads, once there is one."""
    eventually(lambda: leaders(mesh, service), deadline_s=BACK_S)
    return leaders(mesh, service)[0]


def uneven(mesh: Mesh) -> list[str]:
    environment = {**child_environ(), "WEFT_SECRETS": str(mesh.secrets)}
    mail = str(mesh.status().urls["mail"]).rstrip("/")
    return [row.name for row in books.settle(environment, mail, on_wait=lambda _: None) if not row.even]


def nothing_lost(trade: Trade, mesh: Mesh) -> None:
    assert [] == [text for buyer in trade.buyers for text in buyer.refusals]
    assert [0] * CUSTOMERS == trade.miscounted()
    assert [] == trade.missing()
    assert [] == uneven(mesh)


def test_every_server_has_one_leader(mesh: Mesh) -> None:
    for service, members in (("postgres", 3), ("etcd", 3), ("rabbitmq", 3)):
        leader(mesh, service)
        assert 1 == len(leaders(mesh, service))
        assert members == sum(process.service == service for process in mesh.status().processes)


def test_chaos_finds_processes_of_the_database_to_hurt(mesh: Mesh, shop: Shop) -> None:
    found = mesh.status().process(leader(mesh, "postgres"))

    eventually(lambda: faults.backends(found))


KILLED = "test_no_acknowledged_order_is_lost_when_a_leader_is_killed"


@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    "service",
    ["postgres", *(pytest.param(name, marks=pytest.mark.long(short=KILLED)) for name in ("rabbitmq", "etcd"))],
)
def test_no_acknowledged_order_is_lost_when_a_leader_is_killed(mesh: Mesh, shop: Shop, service: str) -> None:
    with Trade(shop) as trade:
        name = leader(mesh, service)
        began, restarts = time.monotonic(), mesh.status().process(name).restarts
        mesh.kill(name, signal.SIGKILL)
        eventually(lambda: mesh.status().process(name).restarts > restarts, deadline_s=BACK_S)
        leader(mesh, service)
        led = time.monotonic() - began
        mesh.wait_ready(timeout_s=BACK_S)
        back = time.monotonic() - began
        trade.advance()

    gap = max(buyer.gap_s for buyer in trade.buyers)
    print(f"\n{name} killed: a leader after {led:.1f} s, all back after {back:.1f} s, longest wait {gap:.1f} s")
    nothing_lost(trade, mesh)


@pytest.mark.timeout(1200)
@pytest.mark.long(short=KILLED)
def test_another_member_takes_over_from_a_database_that_stays_away(mesh: Mesh, shop: Shop) -> None:
    with Trade(shop) as trade:
        name, began = leader(mesh, "postgres"), time.monotonic()

        def replaced() -> bool:
            others = [one for one in leaders(mesh, "postgres") if one != name]
            if not others:
                with contextlib.suppress(RefusedError):  # it is just not there
                    mesh.kill(name, signal.SIGKILL)
            return bool(others)

        eventually(replaced, deadline_s=BACK_S)
        led = time.monotonic() - began
        mesh.wait_ready(timeout_s=BACK_S)
        back = time.monotonic() - began
        trade.advance()

    gap = max(buyer.gap_s for buyer in trade.buyers)
    print(f"\n{name} kept away: another led after {led:.1f} s, all back after {back:.1f} s, longest wait {gap:.1f} s")
    nothing_lost(trade, mesh)
