"""What an order is, and every decision about one: prices, totals, limits, states, taking back.

Called by usecases with data that has been read already. No wire, no SQL, no clock: the same arguments always give
the same answer. Amounts are whole minor units of one currency.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from svc.chassis.errors import FailedPrecondition

# The most one order may cost: 100,000,000,000.00. Some 900,000 such orders still add up within the 64 bits of a day's
# revenue, and one order of 500 items at the highest price and quantity would not fit into them at all.
MAX_TOTAL_MINOR = 10**13

# The most items in one page of orders, unless its first order alone has more: with the longest names below 4 MiB,
# which is what a gRPC client takes unless it is told otherwise.
MAX_PAGE_ITEMS = 4_000


class State(StrEnum):
    """How much of an order still stands."""

    PLACED = "placed"
    PARTIALLY_CANCELLED = "partially_cancelled"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Line:
    """So many pieces of one product, as a caller asks for them."""

    product_id: str
    quantity: int


@dataclass(frozen=True, slots=True)
class Product:
    """What the catalog says of a product at the moment of ordering."""

    product_id: str
    display_name: str
    currency: str
    price_minor: int


@dataclass(frozen=True, slots=True)
class Item:
    """One product of an order, with the name and price it had when it was ordered."""

    product_id: str
    display_name: str
    quantity: int
    cancelled_quantity: int
    unit_price_minor: int

    @property
    def standing(self) -> int:
        """Pieces that were not taken back."""
        return self.quantity - self.cancelled_quantity


@dataclass(frozen=True, slots=True)
class Order:
    """What one user ordered at one time. `total_minor` is the price of what still stands."""

    id: str
    user_id: str
    currency: str
    items: tuple[Item, ...]
    total_minor: int
    state: State
    revision: int
    create_time: datetime
    update_time: datetime
    region_code: str = ""
    """CLDR code of the country it goes to; empty: not said."""


@dataclass(frozen=True, slots=True)
class Shortage:
    """A product of which less is left than was asked for."""

    product_id: str
    wanted: int
    available: int


@dataclass(frozen=True, slots=True)
class Placement:
    """What became of an attempt to place an order."""

    claimed: bool
    """False: an earlier call with the same request id has its answer already, and nothing was done."""
    shortages: tuple[Shortage, ...] = ()
    """Products of which too little is left; the transaction must not commit."""
    depleted: tuple[str, ...] = ()
    """Products of which this order took the last piece."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """The last order of a page: the next one begins after it."""

    create_time: datetime
    order_id: str


@dataclass(frozen=True, slots=True)
class Page:
    """Some of a user's orders, the newest first; no `next`: these were the last."""

    orders: tuple[Order, ...]
    next: Cursor | None


@dataclass(frozen=True, slots=True)
class Cancellation:
    """What one call takes back: the order as it is afterwards, and the items with the pieces taken back this time."""

    order: Order
    items: tuple[Item, ...]
    total_minor: int

    @property
    def whole(self) -> bool:
        """True where nothing of the order stands any more."""
        return self.order.state is State.CANCELLED


@dataclass(frozen=True, slots=True)
class Stock:
    """Pieces of one product that can still be ordered."""

    product_id: str
    quantity: int
    update_time: datetime


def build_order(
    lines: Sequence[Line], products: Sequence[Product], *, order_id: str, user_id: str, now: datetime
) -> Order:
    """The order that `lines` make at the prices of `products`, which stand in the same order.

    Raises:
        FailedPrecondition: products priced in different currencies, or a total above MAX_TOTAL_MINOR.

    """
    currencies = sorted({product.currency for product in products})
    if len(currencies) != 1:
        first = products[0].currency
        raise FailedPrecondition(
            f"An order has one currency; these products have {', '.join(currencies)}.",
            reason="MIXED_CURRENCIES",
            violations=[
                ("CURRENCY", f"products/{product.product_id}", f"is priced in {product.currency}, others in {first}")
                for product in products
                if product.currency != first
            ],
        )
    items = tuple(
        Item(product.product_id, product.display_name, line.quantity, 0, product.price_minor)
        for line, product in zip(lines, products, strict=True)
    )
    total = _price(items)
    if total > MAX_TOTAL_MINOR:
        raise FailedPrecondition(
            "The order costs more than one order may.",
            reason="TOTAL_TOO_LARGE",
            violations=[("TOTAL", "orders", f"the limit is {MAX_TOTAL_MINOR // 100} {currencies[0]}")],
        )
    return Order(order_id, user_id, currencies[0], items, total, State.PLACED, 1, now, now)


def cancel(order: Order, lines: Sequence[Line], *, now: datetime) -> Cancellation:
    """Takes `lines` back from `order`, or everything that still stands where there are none.

    Raises:
        FailedPrecondition: nothing stands any more, or less than `lines` ask for; every such product is named.

    """
    if order.state is State.CANCELLED:
        raise FailedPrecondition(
            "Nothing of the order stands any more.",
            reason="ALREADY_CANCELLED",
            violations=[("ORDER", f"orders/{order.id}", "every piece was taken back")],
        )
    standing = {item.product_id: item.standing for item in order.items}
    wanted = {line.product_id: line.quantity for line in lines} or {
        product_id: pieces for product_id, pieces in standing.items() if pieces > 0
    }
    _check_standing(order, standing, wanted)
    taken = tuple(
        replace(item, quantity=wanted[item.product_id], cancelled_quantity=0)
        for item in order.items
        if item.product_id in wanted
    )
    items = tuple(
        replace(item, cancelled_quantity=item.cancelled_quantity + wanted.get(item.product_id, 0))
        for item in order.items
    )
    left = any(item.standing for item in items)
    after = replace(
        order,
        items=items,
        total_minor=_price(items),
        state=State.PARTIALLY_CANCELLED if left else State.CANCELLED,
        revision=order.revision + 1,
        # Never before the order's last change, whatever the clock of this instance says.
        update_time=max(now, order.update_time),
    )
    return Cancellation(after, taken, order.total_minor - after.total_minor)


def cut_page(orders: Sequence[Order], *, limit: int) -> Page:
    """The page that `orders`, of which one more than `limit` was asked for, make.

    A page ends early where its orders hold many items, so that an answer stays far below what a message may hold.
    """
    page: list[Order] = []
    items = 0
    for order in orders[:limit]:
        items += len(order.items)
        if page and items > MAX_PAGE_ITEMS:
            break
        page.append(order)
    more = len(page) < len(orders)
    return Page(tuple(page), Cursor(page[-1].create_time, page[-1].id) if more else None)


def out_of_stock(shortages: Sequence[Shortage]) -> FailedPrecondition:
    """The refusal of an order that asks for more than is left."""
    return FailedPrecondition(
        "Too little is left of what was ordered.",
        reason="OUT_OF_STOCK",
        violations=[
            ("STOCK", f"stock/{short.product_id}", f"{short.wanted} wanted, {short.available} left")
            for short in shortages
        ],
    )


def _check_standing(order: Order, standing: Mapping[str, int], wanted: Mapping[str, int]) -> None:
    missing = [
        ("ITEM", f"orders/{order.id}/items/{product_id}", f"{pieces} to take back, {standing.get(product_id, 0)} stand")
        for product_id, pieces in wanted.items()
        if pieces > standing.get(product_id, 0)
    ]
    if missing:
        raise FailedPrecondition("The order does not hold that many.", reason="NOT_ORDERED", violations=missing)


def _price(items: Sequence[Item]) -> int:
    return sum(item.standing * item.unit_price_minor for item in items)
