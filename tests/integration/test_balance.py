"""The main job against a running mesh: a replay ends with an even balance, also when it is repeated or was stopped."""

import threading
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, TypeVar

import pytest
import sqlalchemy as sa

from deploy.cli.gateway_client import GatewayClient
from deploy.cli.replay import books, lines, plan, synthetic
from deploy.cli.replay.balance import Row, lines_row, steps_row
from deploy.cli.replay.plan import Place, Plan
from deploy.cli.replay.run import Outcome, Progress, Runner, user_id
from deploy.supervisor.config import child_environ
from deploy.supervisor.mesh import Mesh
from svc.chassis.context import Deadline
from svc.chassis.database import Database, Transaction

pytestmark = pytest.mark.calls

T = TypeVar("T")

INVOICES: Final = 36
SEED: Final = 26
CONCURRENCY: Final = 4

_ORDERS: Final = sa.text("SELECT id, total_minor FROM orders WHERE user_id = ANY(:users)")
_EVENTS: Final = sa.text(
    "SELECT type, count(*) AS n FROM outbox WHERE ordering_key = ANY(:keys) GROUP BY type ORDER BY type"
)


@dataclass(frozen=True)
class Books:
    """What one plan has led to: its orders, what they cost, and the events about them and their products' stock."""

    orders: int
    standing_minor: int
    events: Mapping[str, int]


class Day:
    """A synthetic day that no mesh has seen: always the same, but for ids that only this run has."""

    def __init__(self, mesh: Mesh) -> None:
        run = uuid.uuid4().hex[:12]
        file = lines.parse(synthetic.day(invoices=INVOICES, products=8, customers=5, seed=SEED), name=run)
        renamed = tuple(
            replace(
                line,
                invoice=f"{line.invoice}-{run}",
                # Postage keeps its code, so that it is still none of the products.
                product=f"{line.product}-{run}" if line.product[:1].isdigit() else line.product,
                customer=f"{line.customer}-{run}",
            )
            for line in file.lines
        )
        self.plan: Plan = plan.make(replace(file, lines=renamed, digest=run))
        self._mesh = mesh

    @property
    def placed(self) -> int:
        """Orders that the plan places."""
        return sum(isinstance(step, Place) for steps in self.plan.customers.values() for step in steps)

    def run(self, *, stop_after: int | None = None) -> Outcome:
        """One run of the plan, by a client of its own; ended after so many steps, as an interrupt ends it."""
        client = GatewayClient.for_operator(self._mesh.gateway, self._mesh.secrets)
        try:
            progress = _stop(client.stopping, stop_after)
            return Runner(self.plan, client, concurrency=CONCURRENCY, speed=None, progress=progress).run()
        finally:
            client.close()

    def balance(self, outcome: Outcome) -> list[Row]:
        """The rows that are not even, as `weft replay` compares them."""
        environment = {**child_environ(), "WEFT_SECRETS": str(self._mesh.secrets)}
        mail = str(self._mesh.status().urls["mail"]).rstrip("/")
        work = self.plan
        rows = [
            lines_row(lines=work.lines, taken=work.taken, merged=work.merged, refused=sum(work.refused.values())),
            steps_row(planned=work.steps, done=outcome.acknowledged),
            *books.settle(environment, mail, on_wait=lambda _: None),
        ]
        assert {"orders stored", "orders counted", "confirmations received", "stock conserved"} <= {
            row.name for row in rows
        }
        return [row for row in rows if not row.even]

    def books(self) -> Books:
        """What the orders database holds of this plan."""
        url = (self._mesh.secrets / "database-orders.url").read_text().strip()
        database = Database(url, pool_size=1, name="test")
        try:
            return database.read(self._books, deadline=Deadline.after(60.0))
        finally:
            database.close()

    def _books(self, tx: Transaction) -> Books:
        orders = tx.execute(_ORDERS, {"users": [user_id(customer) for customer in self.plan.customers]}).all()
        keys = [f"orders/{order.id}" for order in orders] + [product.code for product in self.plan.products]
        events = {row.type: row.n for row in tx.execute(_EVENTS, {"keys": keys})}
        return Books(len(orders), sum(order.total_minor for order in orders), events)


def _stop(stopping: threading.Event, after: int | None) -> Progress:
    def progress(phase: str, done: int, _all: int) -> None:
        if phase == "orders" and after is not None and done >= after:
            stopping.set()

    return progress


@pytest.fixture(scope="module")
def day(mesh: Mesh) -> Day:
    return Day(mesh)


@pytest.fixture(scope="module")
def first(day: Day) -> tuple[Outcome, Books]:
    """The day, sent once, and what it led to."""
    return day.run(), day.books()


def test_a_replayed_day_places_every_order_once_and_its_balance_is_even(day: Day, first: tuple[Outcome, Books]) -> None:
    outcome, held = first

    assert (day.plan.steps, 0, []) == (outcome.acknowledged, outcome.failed, outcome.failures)
    assert day.plan.planned_revenue_minor == outcome.revenue_minor
    assert [] == day.balance(outcome)
    assert day.placed == held.orders == held.events["weft.orders.v1.OrderPlaced"]
    assert day.plan.steps - day.placed == held.events["weft.orders.v1.OrderCancelled"]


def test_the_day_has_what_makes_real_files_hard(day: Day) -> None:
    assert {"no_purchase", "pseudo_product", "zero_price"} <= set(day.plan.refused)
    assert min(day.plan.merged, day.plan.steps - day.placed) > 0


def test_the_same_day_sent_again_changes_nothing(day: Day, first: tuple[Outcome, Books]) -> None:
    outcome, held = first

    again = day.run()

    assert (outcome.acknowledged, 0, outcome.revenue_minor) == (again.acknowledged, again.failed, again.revenue_minor)
    assert held == day.books()
    assert [] == day.balance(again)


def test_a_day_that_was_stopped_half_way_is_even_and_its_second_run_does_only_the_rest(mesh: Mesh) -> None:
    day = Day(mesh)

    stopped = day.run(stop_after=day.plan.steps // 2)

    assert 0 == stopped.failed
    assert day.plan.steps // 2 <= stopped.acknowledged < day.plan.steps
    half = day.books()
    assert stopped.acknowledged == sum(
        half.events.get(f"weft.orders.v1.{kind}", 0) for kind in ("OrderPlaced", "OrderCancelled")
    )
    # Everything that was asked for so far adds up; only what was planned is not all done.
    assert ["orders and cancellations"] == [row.name for row in day.balance(stopped)]

    outcome = day.run()

    assert (day.plan.steps, 0) == (outcome.acknowledged, outcome.failed)
    assert day.plan.planned_revenue_minor == outcome.revenue_minor
    assert day.placed == day.books().orders
    assert [] == day.balance(outcome)
