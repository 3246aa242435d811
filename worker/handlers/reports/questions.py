"""What reports ask, as dataframe expressions: each once for a part of the events, once for what comes out of all parts.

Nothing here names an engine. Ibis compiles an expression for DuckDB, and would for a cluster: what `part` gives is
small beside its events, and `whole` puts any number of parts together, so parts may be made anywhere, in any order,
and again.

Amounts are whole minor units. A sum of those is wider than 64 bits in some engines and a float in their files, hence
`_total`.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final

import ibis

from worker.handlers.reports.kinds import CANCELLED, PLACED

#: Which column says when an event counts.
_MOMENTS: Final = {PLACED: "place_time", CANCELLED: "cancel_time"}
#: Columns that were added to the events since the first of them were archived.
_LATER: Final = {"region_code": "string"}
_MOMENT: Final = "timestamp('UTC', 6)"
_NANOS_PER_MINOR: Final = 10_000_000
_MINOR_PER_UNIT: Final = 100

# Ibis has no types that mypy could follow through an expression.
Table = Any


def part(kind: str, event_type: str, events: Table, *, start: date | None, end: date | None) -> Table:
    """What comes out of some events of one type, of those from the first day to the last one."""
    missing = {name: ibis.null(dtype) for name, dtype in _LATER.items() if name not in events.columns}
    events = events.mutate(when=events[_MOMENTS[event_type]], **missing)
    if start is not None:
        events = events.filter(events.when >= _midnight(start))
    if end is not None and end < date.max:
        events = events.filter(events.when < _midnight(end + timedelta(days=1)))
    sign = 1 if event_type == PLACED else -1
    match kind:
        case "top_products":
            return _products(events, sign)
        case "cohorts":
            months = events.select(user=events.user, month=_month(events.when))
            return months.group_by("user", "month").agg(orders=months.count())
        case "basket_pairs":
            return _pairs(events)
        case "revenue_by_country":
            return _countries(events, sign)
    raise ValueError(f"there is no kind of report {kind!r}")


def whole(kind: str, parts: Table, *, limit: int) -> Table:
    """The rows of a report, in their order, from what came out of all parts."""
    match kind:
        case "top_products":
            return _top(parts, limit)
        case "cohorts":
            return _cohorts(parts)
        case "basket_pairs":
            summed = parts.group_by("first", "second").agg(orders=_total(parts.orders))
            return summed.order_by(summed.orders.desc(), summed.first, summed.second).limit(limit)
        case "revenue_by_country":
            summed = parts.group_by("region_code", "month", "currency").agg(
                orders=_total(parts.orders), revenue=_total(parts.revenue)
            )
            return summed.order_by("month", "region_code", "currency")
    raise ValueError(f"there is no kind of report {kind!r}")


def _products(events: Table, sign: int) -> Table:
    lines = events.select("when", item=events["items"].unnest())
    item = lines.item
    lines = lines.select(
        product_id=item.product_id,
        currency=item.unit_price.currency_code,
        # A name counts where the product was ordered, not where it was taken back.
        display_name=item.display_name if sign > 0 else ibis.null("string"),
        named=lines.when if sign > 0 else ibis.null(_MOMENT),
        pieces=item.quantity * sign,
        revenue=item.quantity * _minor(item.unit_price) * sign,
    )
    return lines.group_by("product_id", "currency").agg(
        pieces=_total(lines.pieces),
        revenue=_total(lines.revenue),
        display_name=lines.display_name.argmax(lines.named),
        named=lines.named.max(),
    )


def _top(parts: Table, limit: int) -> Table:
    summed = parts.group_by("product_id", "currency").agg(
        pieces=_total(parts.pieces),
        revenue=_total(parts.revenue),
        display_name=parts.display_name.argmax(parts.named).coalesce(""),
    )
    place = ibis.row_number().over(
        ibis.window(group_by=summed.currency, order_by=[summed.revenue.desc(), summed.product_id])
    )
    ranked = summed.mutate(rank=place + 1)
    return ranked.filter(ranked["rank"] <= limit).order_by("currency", "rank")


def _cohorts(parts: Table) -> Table:
    months = parts.group_by("user", "month").agg(orders=_total(parts.orders))
    firsts = months.group_by("user").agg(first=months.month.min())
    both = months.join(firsts, "user")
    later = (both.month.year() - both["first"].year()) * 12 + both.month.month() - both["first"].month()
    both = both.select(cohort=both["first"], later=later.cast("int64"), orders=both.orders)
    counted = both.group_by("cohort", "later").agg(customers=both.count(), orders=_total(both.orders))
    return counted.order_by("cohort", "later")


def _pairs(events: Table) -> Table:
    # Both sides are unrolled inside each order: no join, so memory does not grow with the orders.
    products = events.select(first=events["items"].map(lambda item: item.product_id))
    products = products.mutate(second=products["first"])
    products = products.mutate(first=products["first"].unnest())
    products = products.mutate(second=products.second.unnest())
    pairs = products.filter(products["first"] < products.second)
    return pairs.group_by("first", "second").agg(orders=pairs.count())


def _countries(events: Table, sign: int) -> Table:
    orders = events.select(
        region_code=events.region_code.coalesce(""),
        month=_month(events.when),
        currency=events.total.currency_code,
        revenue=_minor(events.total) * sign,
    )
    return orders.group_by("region_code", "month", "currency").agg(
        orders=orders.count() if sign > 0 else ibis.literal(0, "int64"), revenue=_total(orders.revenue)
    )


def _minor(money: Any) -> Any:
    """Minor units of an amount, all of which are whole ones."""
    return money.units * _MINOR_PER_UNIT + (money.nanos / _NANOS_PER_MINOR).cast("int64")


def _midnight(day: date) -> Any:
    return ibis.literal(datetime.combine(day, time(), UTC), _MOMENT)


def _month(moment: Any) -> Any:
    return moment.cast("timestamp").truncate("M").cast("date")


def _total(column: Any) -> Any:
    return column.sum().cast("decimal(38, 0)").cast("int64")
