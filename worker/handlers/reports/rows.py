"""Rows as an engine gives them become messages of the contract, serialised as the service reads them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date
from typing import Any, Final

from google.type.date_pb2 import Date

from svc.chassis import money
from weft.analytics.v1.analytics_pb2 import BasketPair, Cohort, CountryRevenue, ReportRow, TopProduct

_Row = Mapping[str, Any]


def content(kind: str, row: _Row) -> bytes:
    """The bytes of one row of a report of this kind."""
    return _BUILDERS[kind](row).SerializeToString(deterministic=True)


def _top_product(row: _Row) -> ReportRow:
    product = TopProduct(
        rank=row["rank"],
        product_id=row["product_id"],
        display_name=row["display_name"],
        pieces=row["pieces"],
        revenue=money.from_minor(row["currency"], row["revenue"]),
    )
    return ReportRow(top_product=product)


def _cohort(row: _Row) -> ReportRow:
    cohort = Cohort(
        month=_date(row["cohort"]), months_later=row["later"], customers=row["customers"], orders=row["orders"]
    )
    return ReportRow(cohort=cohort)


def _basket_pair(row: _Row) -> ReportRow:
    pair = BasketPair(first_product_id=row["first"], second_product_id=row["second"], orders=row["orders"])
    return ReportRow(basket_pair=pair)


def _country_revenue(row: _Row) -> ReportRow:
    country = CountryRevenue(
        region_code=row["region_code"],
        month=_date(row["month"]),
        orders=row["orders"],
        revenue=money.from_minor(row["currency"], row["revenue"]),
    )
    return ReportRow(country_revenue=country)


def _date(text: str) -> Date:
    day = date.fromisoformat(text)
    return Date(year=day.year, month=day.month, day=day.day)


_BUILDERS: Final[Mapping[str, Callable[[_Row], ReportRow]]] = {
    "top_products": _top_product,
    "cohorts": _cohort,
    "basket_pairs": _basket_pair,
    "revenue_by_country": _country_revenue,
}
