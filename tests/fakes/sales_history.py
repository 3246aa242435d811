"""Orders and cancellations as they may have been, and what reports of them must say, counted by hand."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import combinations
from random import Random
from typing import Any

from google.type.date_pb2 import Date

from svc.chassis import money
from tests.fakes.worker import envelope
from weft.analytics.v1.analytics_pb2 import BasketPair, Cohort, CountryRevenue, ReportRow, TopProduct
from weft.orders.v1.events_pb2 import EventItem, OrderCancelled, OrderPlaced
from worker.delivery import Delivery, Event, decode

OPENING = datetime(2025, 11, 30, 22, 0, tzinfo=UTC)
REGIONS = ("DE", "FR", "IE", "")
CURRENCIES = ("GBP", "EUR")


@dataclass(frozen=True)
class Sale:
    """An order, or what was taken back of one."""

    order: str
    user: str
    region: str
    currency: str
    when: datetime
    #: Product, name, pieces, price.
    items: tuple[tuple[str, str, int, int], ...]
    cancelled: bool = False

    @property
    def minor(self) -> int:
        return sum(pieces * price for _, _, pieces, price in self.items) * (-1 if self.cancelled else 1)

    def event(self) -> Event:
        items = [
            EventItem(product_id=code, display_name=name, quantity=n, unit_price=money.from_minor(self.currency, price))
            for code, name, n, price in self.items
        ]
        total = money.from_minor(self.currency, abs(self.minor))
        fact: Any
        if self.cancelled:
            fact = OrderCancelled(order=self.order, user=self.user, items=items, total=total, region_code=self.region)
            fact.cancel_time.FromDatetime(self.when)
        else:
            fact = OrderPlaced(order=self.order, user=self.user, items=items, total=total, region_code=self.region)
            fact.place_time.FromDatetime(self.when)
        sealed = envelope(fact)
        # Written a moment after it became true.
        sealed.occur_time.FromDatetime(self.when + timedelta(milliseconds=5))
        body = sealed.SerializeToString(deterministic=True)
        return decode(Delivery(queue="weft.archive", body=body, message_id=sealed.id, type=sealed.type))


def history(orders: int, *, seed: int = 1, days: int = 100) -> list[Sale]:
    """Orders of a hundred days, some of them taken back again, in part and days later."""
    chance = Random(seed)
    sales = []
    for number in range(orders):
        when = OPENING + timedelta(seconds=chance.randrange(days * 86_400))
        currency = chance.choice(CURRENCIES)
        codes = chance.sample(range(30), k=chance.randint(1, 6))
        items = tuple((f"p{code:02}", f"Thing {code}", chance.randint(1, 9), 99 + 7 * code) for code in codes)
        sale = Sale(f"orders/{number}", f"users/{chance.randrange(40)}", chance.choice(REGIONS), currency, when, items)
        sales.append(sale)
        if chance.random() < 0.2:
            back = tuple((code, name, chance.randint(1, n), price) for code, name, n, price in items[:2])
            later = when + timedelta(days=chance.randrange(40))
            sales.append(Sale(sale.order, sale.user, sale.region, currency, later, back, cancelled=True))
    return sales


def within(sales: Iterable[Sale], start: date | None, end: date | None) -> list[Sale]:
    """The sales of some days."""
    first, last = start or date.min, end or date.max
    return [sale for sale in sales if first <= sale.when.date() <= last]


def top_products(sales: Sequence[Sale], limit: int) -> list[ReportRow]:
    pieces: Counter[tuple[str, str]] = Counter()
    revenue: Counter[tuple[str, str]] = Counter()
    names: dict[str, str] = {}
    for sale in sales:
        sign = -1 if sale.cancelled else 1
        for code, name, count, price in sale.items:
            pieces[sale.currency, code] += sign * count
            revenue[sale.currency, code] += sign * count * price
            if not sale.cancelled:
                names[code] = name
    rows = []
    for currency in sorted({key[0] for key in revenue}):
        codes = sorted((key[1] for key in revenue if key[0] == currency), key=lambda c: (-revenue[currency, c], c))
        for rank, code in enumerate(codes[:limit], 1):
            product = TopProduct(
                rank=rank,
                product_id=code,
                display_name=names.get(code, ""),
                pieces=pieces[currency, code],
                revenue=money.from_minor(currency, revenue[currency, code]),
            )
            rows.append(ReportRow(top_product=product))
    return rows


def cohorts(sales: Sequence[Sale]) -> list[ReportRow]:
    months: dict[str, Counter[int]] = defaultdict(Counter)
    for sale in sales:
        if not sale.cancelled:
            months[sale.user][sale.when.year * 12 + sale.when.month - 1] += 1
    found: dict[tuple[int, int], list[int]] = defaultdict(list)
    for counted in months.values():
        for month, orders in counted.items():
            found[min(counted), month - min(counted)].append(orders)
    return [
        ReportRow(cohort=Cohort(month=_month(first), months_later=later, customers=len(orders), orders=sum(orders)))
        for (first, later), orders in sorted(found.items())
    ]


def basket_pairs(sales: Sequence[Sale], limit: int) -> list[ReportRow]:
    pairs: Counter[tuple[str, str]] = Counter()
    for sale in sales:
        if not sale.cancelled:
            pairs.update(combinations(sorted(code for code, _, _, _ in sale.items), 2))
    best = sorted(pairs.items(), key=lambda pair: (-pair[1], pair[0]))[:limit]
    return [
        ReportRow(basket_pair=BasketPair(first_product_id=first, second_product_id=second, orders=orders))
        for (first, second), orders in best
    ]


def revenue_by_country(sales: Sequence[Sale]) -> list[ReportRow]:
    orders: Counter[tuple[int, str, str]] = Counter()
    revenue: Counter[tuple[int, str, str]] = Counter()
    for sale in sales:
        key = (sale.when.year * 12 + sale.when.month - 1, sale.region, sale.currency)
        orders[key] += not sale.cancelled
        revenue[key] += sale.minor
    return [
        ReportRow(
            country_revenue=CountryRevenue(
                region_code=region,
                month=_month(month),
                orders=orders[month, region, currency],
                revenue=money.from_minor(currency, revenue[month, region, currency]),
            )
        )
        for month, region, currency in sorted(revenue)
    ]


def report(kind: str, sales: Sequence[Sale], *, limit: int) -> list[ReportRow]:
    """The rows that a report of this kind must have."""
    match kind:
        case "top_products":
            return top_products(sales, limit)
        case "cohorts":
            return cohorts(sales)
        case "basket_pairs":
            return basket_pairs(sales, limit)
        case _:
            return revenue_by_country(sales)


def _month(months: int) -> Date:
    return Date(year=months // 12, month=months % 12 + 1, day=1)
