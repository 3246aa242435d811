"""A shop in memory that crashes where a real one may, and has one of five bugs, or none.

What it does is a function of its seed. Its customers repeat what they have no answer to under the same key, as the
contracts ask; its faults bite whenever they are due.
"""

import enum
import io
import json
from collections.abc import Sequence
from dataclasses import asdict
from random import Random

from tests.chaos.history import FAIL, INFO, INVOKE, OK, Books, Event, Order
from tests.chaos.schedule import Schedule

OPENING = 500
PRODUCTS = ("p-1", "p-2")
CUSTOMERS = ("ann", "bob")
ATTEMPTS = 4
CRASH = 0.15
SECONDS_A_CALL = 0.4
PRICED = "products/p-9"


class Bug(enum.Enum):
    """What is wrong with it."""

    NONE = "nothing"
    DELETED_BEFORE_COMMIT = "a message is deleted before what it leads to is committed"
    ANSWERED_BEFORE_COMMIT = "an order is acknowledged before it is committed"
    STOCK_TAKEN_TWICE = "a repetition takes stock again"
    OUTBOX_ROW_LOST = "the outbox row is written after the order is committed, in a transaction of its own"
    ENDPOINTS_EMPTIED = "an etcd that is away is taken for an etcd that knows nobody"


class CrashedError(Exception):
    """The process that served the call is dead; nobody knows what it did."""


class Simulation:
    """One run: `history` and `books` when it is over."""

    def __init__(self, schedule: Schedule, bug: Bug) -> None:
        self.history: list[Event] = []
        self._schedule, self._bug, self._random = schedule, bug, Random(f"{schedule.seed} {bug.name}")
        self._now, self._operations = 0.0, 0
        self._stock = dict.fromkeys(PRODUCTS, OPENING)
        self._orders: dict[str, Order] = {}
        self._answers: dict[str, str] = {}
        self._outbox: list[tuple[str, str]] = []
        self._queue: list[str] = []
        self._sent: set[str] = set()
        self._audited: list[str] = []
        self._mailed: list[str] = []
        self._counted = 0
        self._version = 0
        self._list: list[int] = []
        self._seen: set[str] = set()
        self._run()

    @property
    def books(self) -> Books:
        events = [event for event, _ in self._outbox]
        return Books(
            stock=dict(self._stock),
            orders=dict(self._orders),
            placed=list(self._outbox),
            events=events,
            audited=list(self._audited),
            counted=self._counted,
            mailed=list(self._mailed),
            versions={PRICED: self._version},
            cached=[("c-1", PRICED, f"version {self._version}")],
            lists={"a": list(self._list)},
        )

    def text(self) -> str:
        """The history as it would be in a file."""
        out = io.StringIO()
        for event in self.history:
            out.write(json.dumps(asdict(event)) + "\n")
        return out.getvalue()

    def _run(self) -> None:
        for product in PRODUCTS:
            self._note("open", {"product": product, "quantity": OPENING}, OK, {})
        faults, number = list(enumerate(self._schedule.faults)), 0
        while self._now < self._schedule.seconds:
            while faults and faults[0][1].at_s <= self._now:
                step, fault = faults.pop(0)
                asked = {"step": step, "fault": fault.fault, "target": fault.target, "name": f"{fault.target}-1"}
                self._note("fault", asked, OK, {})
                self._look(etcd_away=self._random.random() < 0.5)
            self._shop(f"key-{number}")
            self._observe(number)
            self._work(crashes=CRASH)
            number += 1
        while len(self._sent) < len(self._outbox) or self._queue:
            self._work(crashes=0.0)

    def _shop(self, key: str) -> None:
        customer, product = self._random.choice(CUSTOMERS), self._random.choice(PRODUCTS)
        asked = {"customer": customer, "key": key, "items": {product: self._random.randint(1, 3)}}
        for _ in range(ATTEMPTS):
            try:
                name = self._place(key, customer, asked["items"])
            except CrashedError:
                self._note("place", asked, INFO, {})
                continue
            self._note("place", asked, OK, {"order": name})
            found = name in self._orders
            self._note("read", {"customer": customer, "order": name}, OK if found else FAIL, {"code": "NOT_FOUND"})
            break
        self._note("intrude", {"how": "without a token"}, FAIL, {"code": "UNAUTHENTICATED"})

    def _observe(self, number: int) -> None:
        """Prices, lists and the cache are without fault; what the balance says is what there is."""
        self._version = number + 1
        self._list.append(number)
        steps = [["append", "a", number], ["read", "a", list(self._list)]]
        named = {order for _, order in self._outbox}
        standing = {
            product: sum(order.items.get(product, 0) for order in self._orders.values()) for product in PRODUCTS
        }
        off = {product: self._stock[product] + standing[product] - OPENING for product in PRODUCTS}
        balance: dict[str, object] = {
            "off": {product: pieces for product, pieces in off.items() if pieces},
            "new": sorted(self._orders.keys() - self._seen),
            "gone": [],
            "eventless": sorted(self._orders.keys() - named),
            "orderless": sorted(named - self._orders.keys()),
        }
        self._seen = set(self._orders)
        self._note("reprice", {"product": PRICED}, OK, {"version": self._version})
        self._note("quote", {"product": PRICED, "bound_s": 65, "least": self._version}, OK, {"version": self._version})
        self._note("cached", {}, OK, {"entries": [["c-1", PRICED, f"version {self._version}"]]})
        self._note("balance", {}, OK, balance)
        self._note("lists", {"steps": steps}, OK, {"steps": steps})

    def _place(self, key: str, customer: str, items: dict[str, int]) -> str:
        known = self._answers.get(key)
        if known is not None:
            if self._bug is Bug.STOCK_TAKEN_TWICE:
                self._take(items)
            return known
        name = f"orders/{len(self._orders)}-{key}"
        if self._crashes():
            if self._bug is Bug.ANSWERED_BEFORE_COMMIT:
                return name
            raise CrashedError
        self._take(items)
        self._orders[name] = Order(customer, items, {})
        self._answers[key] = name
        if self._bug is not Bug.OUTBOX_ROW_LOST or not self._crashes():
            self._outbox.append((f"event-{name}", name))
        if self._crashes():
            raise CrashedError
        return name

    def _take(self, items: dict[str, int]) -> None:
        for product, quantity in items.items():
            self._stock[product] -= quantity

    def _work(self, *, crashes: float) -> None:
        """The relay sends what it has not marked as sent, and the worker handles a message."""
        for event, _ in self._outbox:
            if event not in self._sent:
                self._queue.append(event)
                if self._random.random() >= crashes:  # else it is sent again
                    self._sent.add(event)
        if not self._queue:
            return
        event = self._queue[0]
        crashed = self._random.random() < crashes
        if self._bug is Bug.DELETED_BEFORE_COMMIT:
            self._queue.pop(0)
            if crashed:
                return
            self._handle(event)
            return
        self._handle(event)  # what it leads to and the inbox are one transaction
        if not crashed:
            self._queue.pop(0)

    def _handle(self, event: str) -> None:
        self._mailed.append(event)
        if event not in self._audited:
            self._audited.append(event)
            self._counted += 1

    def _look(self, *, etcd_away: bool) -> None:
        empty = etcd_away and self._bug is Bug.ENDPOINTS_EMPTIED
        self._note("look", {}, OK, {"services": {"orders": 2}})
        self._note("look", {}, OK, {"services": {"orders": 0 if empty else 2}})

    def _crashes(self) -> bool:
        return self._random.random() < CRASH

    def _note(self, name: str, asked: dict[str, object], outcome: str, said: dict[str, object]) -> None:
        self._operations += 1
        self.history.append(Event(self._now, self._operations, INVOKE, name, asked))
        self._now += SECONDS_A_CALL if name in ("place", "intrude") else 0.01
        self.history.append(Event(self._now, self._operations, outcome, name, said))


def simulated(schedule: Schedule, bug: Bug) -> tuple[Sequence[Event], Books]:
    """History and books of one run."""
    run = Simulation(schedule, bug)
    return run.history, run.books
