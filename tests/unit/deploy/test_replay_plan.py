"""What a file of order lines means: every line is accounted for, and nothing is taken back that was not sold."""

import gzip
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.cli.replay import lines, plan, synthetic
from deploy.cli.replay.plan import Cancel, Place, Plan

HEADER = ",".join(lines.COLUMNS)
REAL_FILE = Path(__file__).resolve().parents[4] / "shared" / "data" / "online_retail_international.csv.gz"


def make(*rows: str, limit: int | None = None) -> Plan:
    content = "\n".join([HEADER, *rows]).encode()
    return plan.make(lines.parse(content, name="test.csv"), limit=limit)


def row(invoice: str, code: str, quantity: int, *, price: str = "1.50", customer: str = "12345") -> str:
    return f"{invoice},{code},NAME {code},{quantity},12/1/2010 8:45,{price},{customer},France"


def steps(result: Plan, customer: str = "12345") -> list[Place | Cancel]:
    return list(result.customers[customer])


def test_an_invoice_becomes_one_order_with_its_lines_of_one_product_added_up() -> None:
    result = make(row("1", "22728", 2), row("1", "22729", 1), row("1", "22728", 3))

    (place,) = steps(result)
    assert isinstance(place, Place)
    assert (("22728", 5), ("22729", 1)) == place.items
    assert (2, 1, {}) == (result.taken, result.merged, dict(result.refused))


def test_price_is_the_most_frequent_and_opening_stock_is_all_that_is_ordered() -> None:
    result = make(row("1", "22728", 2, price="1.50"), row("2", "22728", 3, price="2"), row("3", "22728", 4, price="2"))

    (product,) = result.products
    assert (200, 9) == (product.price_minor, product.opening_stock)
    assert (2 * 150 + 7 * 200, 9 * 200) == (result.file_revenue_minor, result.planned_revenue_minor)


def test_a_cancellation_takes_from_the_latest_orders_first_one_call_for_each() -> None:
    result = make(row("1", "22728", 5), row("1", "22729", 1), row("2", "22728", 2), row("C3", "22728", -4))

    first, second = (step for step in steps(result) if isinstance(step, Cancel))
    assert ("2", ()) == (first.order_invoice, first.items)
    assert ("1", (("22728", 2),)) == (second.order_invoice, second.items)
    assert first.request_id != second.request_id


def test_a_cancellation_without_purchase_is_refused_with_the_reason() -> None:
    result = make(
        row("1", "22728", 2),
        row("C2", "22729", -1),
        row("C3", "22728", -3),
        row("C4", "22728", -1, customer="99999"),
        row("C5", "22728", -2),
        row("C6", "22728", -1),
    )

    assert {"no_purchase": 3, "more_than_purchased": 1} == dict(result.refused)
    assert 2 == result.taken


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (row("1", "POST", 1), "pseudo_product"),
        (row("1", "22728", 1, price="0"), "zero_price"),
        (row("1", "22728", -1), "negative_quantity"),
        (row("1", "22728", 0), "zero_quantity"),
        (row("1", "22728", 1_000_001), "quantity_out_of_range"),
        (row("C1", "22728", 1), "positive_quantity_in_cancellation"),
        (row("1", "22728", 1, customer=""), "no_customer"),
        (row("1", "22728", 1, customer="a b"), "bad_customer"),
        (row("1", "22728", 1, price="free"), "bad_price"),
        (row("1", "22728", 1, price="NaN"), "bad_price"),
        (row("1", "22728", 1).replace("12/1/2010", "2010-12-01"), "bad_date"),
        (row("1", "22728", 1).replace(",1,", ",one,"), "bad_quantity"),
        ("1,22728,short", "wrong_number_of_columns"),
        (row("1", "22728", 1) + ",more", "wrong_number_of_columns"),
    ],
)
def test_a_line_that_means_nothing_is_refused_with_the_reason(line: str, reason: str) -> None:
    result = make(line)

    assert ({reason: 1}, 0, 0) == (dict(result.refused), result.taken, result.merged)


def test_a_limit_keeps_prices_and_stock_of_the_whole_file() -> None:
    rows = [row("1", "22728", 2), row("2", "22728", 3, price="2"), row("3", "22728", 1, price="2")]

    limited, whole = make(*rows, limit=1), make(*rows)

    assert whole.products == limited.products
    assert (1, 3) == (limited.steps, whole.steps)
    assert steps(whole)[:1] == steps(limited)


def test_lines_of_one_invoice_need_not_stand_together() -> None:
    result = make(row("1", "22728", 2), row("2", "22728", 1), row("1", "22729", 1))

    assert ["1", "2"] == [step.invoice for step in steps(result)]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "lacks InvoiceNo"),
        (HEADER.encode(), "no line"),
        (b"InvoiceNo,StockCode\n1,2", "lacks Description"),
        (b"\xff\xfe", "not UTF-8"),
        (HEADER.encode() + b'\n"unclosed' + b"x" * 200_000, "not CSV"),
    ],
)
def test_a_file_that_is_none_is_refused_with_the_cause(content: bytes, says: str) -> None:
    with pytest.raises(lines.FileRefusedError, match=says):
        lines.parse(content, name="test.csv")


def test_a_damaged_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "orders.csv.gz"
    path.write_bytes(gzip.compress(HEADER.encode())[:-9])

    with pytest.raises(lines.FileRefusedError, match=r"orders\.csv\.gz"):
        lines.read(path)


@given(seed=st.integers(0, 10_000), limit=st.none() | st.integers(0, 40))
def test_every_line_is_accounted_for_and_no_more_is_taken_back_than_was_sold(seed: int, limit: int | None) -> None:
    content = synthetic.day(invoices=40, products=12, customers=5, seed=seed)

    result = plan.make(lines.parse(content, name="synthetic"), limit=limit)

    assert result.lines == result.taken + result.merged + sum(result.refused.values())
    for customer in result.customers:
        held: dict[str, Counter[str]] = {}
        for step in steps(result, customer):
            if isinstance(step, Place):
                held[step.invoice] = Counter(dict(step.items))
                continue
            order = held[step.order_invoice]
            order.subtract(dict(step.items) if step.items else Counter(order))
            assert min(order.values()) >= 0
            assert any(order.values()) == bool(step.items), (
                "a whole cancellation leaves nothing, a partial one something"
            )
    identifiers = [step.request_id for customer in result.customers for step in steps(result, customer)]
    assert len(identifiers) == len(set(identifiers))


@pytest.mark.skipif(not REAL_FILE.exists(), reason="the file of real orders is not beside the project")
def test_the_real_file_is_accounted_for_line_by_line() -> None:
    result = plan.make(lines.read(REAL_FILE))

    assert 44_951 == result.lines == result.taken + result.merged + sum(result.refused.values())
    assert {"more_than_purchased": 7, "no_purchase": 89, "pseudo_product": 1297, "zero_price": 13} == result.refused


@given(seeds=st.lists(st.integers(-5, 5), min_size=2, max_size=2, unique=True))
def test_two_synthetic_days_never_ask_for_two_things_with_one_request_id(seeds: list[int]) -> None:
    days = [plan.make(lines.parse(synthetic.day(invoices=20, seed=seed), name="day")) for seed in seeds]

    first, second = ({step.request_id for steps in day.customers.values() for step in steps} for day in days)

    assert first
    assert set() == first & second
