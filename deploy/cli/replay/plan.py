"""What a file of order lines means, decided before anything is sent. Pure: the same file gives the same plan.

Every line ends as taken, merged or refused with a reason. A sale becomes one PlaceOrder for each invoice; a line of a
cancellation is taken back from the customer's latest earlier orders that still hold the product, one CancelOrder for
each order touched.
"""

import re
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, TypeVar

from deploy.cli.replay import regions
from deploy.cli.replay.lines import Line, OrderFile

T = TypeVar("T")

#: Namespace of the request ids (RFC 9562 version 5): the same invoice always asks with the same id.
NAMESPACE: Final = uuid.uuid5(uuid.NAMESPACE_URL, "https://weft.invalid/replay")

#: Postage, manual entries and discounts stand in the file as if they were products; real stock codes begin with digits.
_PRODUCT: Final = re.compile(r"[0-9][A-Za-z0-9_-]{0,62}")
_CUSTOMER: Final = re.compile(r"[A-Za-z0-9_-]{1,50}")

#: The contract's bound on the pieces of one item.
QUANTITY_MAX: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Product:
    """A product to import: its most frequent price and name, and as many pieces as are ever ordered."""

    code: str
    name: str
    price_minor: int
    opening_stock: int


@dataclass(frozen=True, slots=True)
class Place:
    """One order to place. `items` are product code and pieces."""

    invoice: str
    request_id: str
    date: datetime
    items: tuple[tuple[str, int], ...]
    region_code: str = ""


@dataclass(frozen=True, slots=True)
class Cancel:
    """Pieces to take back from the order of an earlier invoice. Empty `items`: everything that still stands."""

    invoice: str
    request_id: str
    date: datetime
    order_invoice: str
    items: tuple[tuple[str, int], ...]


Step = Place | Cancel


@dataclass(frozen=True, slots=True)
class Plan:
    """All that is to be done, and what became of every line."""

    digest: str
    products: tuple[Product, ...]
    customers: Mapping[str, tuple[Step, ...]]
    lines: int
    taken: int
    merged: int
    refused: Mapping[str, int]
    file_revenue_minor: int
    planned_revenue_minor: int

    @property
    def steps(self) -> int:
        """Calls that place or take back."""
        return sum(len(steps) for steps in self.customers.values())

    @property
    def first_date(self) -> datetime | None:
        """Date of the earliest step, the zero of a paced replay; None where there is no step."""
        return min((step.date for steps in self.customers.values() for step in steps), default=None)


@dataclass(slots=True)
class _Ledger:
    """What is known while the lines are walked through, in file order."""

    merged: int = 0
    taken: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    steps: dict[str, list[Step]] = field(default_factory=lambda: defaultdict(list))
    # By customer: the orders so far, the oldest first, with the pieces each still holds.
    held: dict[str, list[tuple[str, dict[str, int]]]] = field(default_factory=lambda: defaultdict(list))


def request_id(*parts: str) -> str:
    """UUIDv5 of what a call is about."""
    return str(uuid.uuid5(NAMESPACE, "/".join(parts)))


def make(file: OrderFile, *, limit: int | None = None) -> Plan:
    """Plan a whole file, or its first `limit` invoices with the products they name.

    Prices and opening stock always come from the whole file, so that a limited run and a later whole one agree.
    """
    sales = [line for line in file.lines if _flaw(line) is None and not line.is_cancellation]
    prices = _most_frequent((line.product, line.price_minor) for line in sales)
    names = _most_frequent((line.product, line.description or line.product) for line in sales)
    ordered: Counter[str] = Counter()  # by the whole file, whatever is planned of it
    for line in sales:
        ordered[line.product] += line.quantity
    ledger = _Ledger()
    invoices: dict[str, list[Line]] = defaultdict(list)
    for line in file.lines:
        invoices[line.invoice].append(line)
    chosen = dict(list(invoices.items())[:limit])
    for invoice, lines in chosen.items():
        _book(ledger, invoice, lines)
    booked = [line for line in sales if line.invoice in chosen]
    return Plan(
        digest=file.digest,
        products=tuple(
            Product(code=code, name=names[code], price_minor=prices[code], opening_stock=ordered[code])
            for code in sorted({line.product for line in booked})
        ),
        customers={customer: tuple(steps) for customer, steps in ledger.steps.items()},
        lines=sum(len(lines) for lines in chosen.values()),
        taken=ledger.taken,
        merged=ledger.merged,
        refused=dict(sorted(ledger.refused.items())),
        file_revenue_minor=sum(line.quantity * line.price_minor for line in booked),
        planned_revenue_minor=sum(line.quantity * prices[line.product] for line in booked),
    )


def _flaw(line: Line) -> str | None:
    """Why a line can be neither sold nor taken back, or None."""
    if line.flaw is not None:
        return line.flaw
    if not _CUSTOMER.fullmatch(line.customer):
        return "bad_customer" if line.customer else "no_customer"
    if not _PRODUCT.fullmatch(line.product):
        return "pseudo_product"
    if line.price_minor <= 0:
        return "zero_price"
    if line.quantity == 0:
        return "zero_quantity"
    if line.quantity < 0 and not line.is_cancellation:
        return "negative_quantity"
    if line.quantity > 0 and line.is_cancellation:
        return "positive_quantity_in_cancellation"
    if abs(line.quantity) > QUANTITY_MAX:
        return "quantity_out_of_range"
    return None


def _book(ledger: _Ledger, invoice: str, lines: Sequence[Line]) -> None:
    """Decide on the lines of one invoice."""
    pieces: dict[str, int] = {}
    counts: Counter[str] = Counter()
    sound: list[Line] = []
    for line in lines:
        flaw = _flaw(line)
        if flaw is None and sound and line.customer != sound[0].customer:
            flaw = "second_customer_in_invoice"
        if flaw is not None:
            ledger.refused[flaw] += 1
            continue
        sound.append(line)
        counts[line.product] += 1
        pieces[line.product] = pieces.get(line.product, 0) + abs(line.quantity)
    if not sound:
        return
    if sound[0].is_cancellation:
        _take_back(ledger, invoice, sound[0], pieces=pieces, counts=counts)
        return
    ledger.taken += len(pieces)
    ledger.merged += len(sound) - len(pieces)
    customer = sound[0].customer
    place = Place(
        invoice,
        request_id("invoice", invoice),
        sound[0].date,
        tuple(pieces.items()),
        region_code=regions.code(sound[0].country),
    )
    ledger.steps[customer].append(place)
    ledger.held[customer].append((invoice, dict(pieces)))


def _take_back(
    ledger: _Ledger, invoice: str, first: Line, *, pieces: Mapping[str, int], counts: Mapping[str, int]
) -> None:
    """Spread the pieces of a cancellation over the customer's earlier orders, the latest first."""
    orders = ledger.held[first.customer]
    touched: dict[str, dict[str, int]] = {}
    for product, quantity in pieces.items():
        holding = [(name, held) for name, held in reversed(orders) if held.get(product, 0) > 0]
        if sum(held[product] for _, held in holding) < quantity:
            ledger.refused["more_than_purchased" if holding else "no_purchase"] += counts[product]
            continue
        ledger.taken += 1
        ledger.merged += counts[product] - 1
        left = quantity
        for name, held in holding:
            part = min(left, held[product])
            held[product] -= part
            touched.setdefault(name, {})[product] = part
            left -= part
            if left == 0:
                break
    remaining = dict(orders)
    for name, items in touched.items():
        untouched_left = any(quantity > 0 for quantity in remaining[name].values())
        ledger.steps[first.customer].append(
            Cancel(
                invoice=invoice,
                request_id=request_id("invoice", invoice, name),
                date=first.date,
                order_invoice=name,
                items=tuple(items.items()) if untouched_left else (),
            )
        )


def _most_frequent(pairs: Iterable[tuple[str, T]]) -> dict[str, T]:
    """For each key its most frequent value, the first seen among equals."""
    counters: dict[str, Counter[T]] = defaultdict(Counter)
    for key, value in pairs:
        counters[key][value] += 1
    return {key: counter.most_common(1)[0][0] for key, counter in counters.items()}
