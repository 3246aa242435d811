"""Decisions about orders."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from svc.chassis.errors import FailedPrecondition
from svc.orders import model
from svc.orders.model import Cursor, Item, Line, Order, Page, State
from tests.fakes.clock import START
from tests.fakes.orders import product


def order_of(*items: tuple[str, int, int]) -> Order:
    """An order of (product, pieces, price)."""
    lines = [Line(product_id, quantity) for product_id, quantity, _ in items]
    products = [product(product_id, price) for product_id, _, price in items]
    return model.build_order(lines, products, order_id="o", user_id="ann", now=START)


def test_an_order_copies_names_and_prices_and_adds_up() -> None:
    order = order_of(("tea", 2, 399), ("mug", 3, 250))

    assert (Item("tea", "Tea", 2, 0, 399), Item("mug", "Mug", 3, 0, 250)) == order.items
    assert 2 * 399 + 3 * 250 == order.total_minor
    assert ("GBP", State.PLACED, 1) == (order.currency, order.state, order.revision)
    assert (START, START) == (order.create_time, order.update_time)


def test_products_of_two_currencies_make_no_order() -> None:
    lines = [Line("mug", 1), Line("tea", 1)]
    products = [product("mug", 250), product("tea", 399, currency="EUR")]

    with pytest.raises(FailedPrecondition) as refusal:
        model.build_order(lines, products, order_id="o", user_id="ann", now=START)
    assert "MIXED_CURRENCIES" == refusal.value.reason
    assert ["products/tea"] == [subject for _, subject, _ in refusal.value.violations]


@pytest.mark.parametrize("over", [0, 1])
def test_a_total_has_a_limit(over: int) -> None:
    price = model.MAX_TOTAL_MINOR // 1000

    if over:
        with pytest.raises(FailedPrecondition) as refusal:
            order_of(("gold", 1000, price), ("pen", 1, 1))
        assert "TOTAL_TOO_LARGE" == refusal.value.reason
    else:
        assert model.MAX_TOTAL_MINOR == order_of(("gold", 1000, price)).total_minor


def test_free_products_can_be_ordered_and_taken_back() -> None:
    order = order_of(("gift", 2, 0))

    assert State.CANCELLED is model.cancel(order, [], now=START).order.state


def test_taking_back_some_pieces_leaves_the_rest() -> None:
    order = order_of(("tea", 2, 399), ("mug", 3, 250))

    cancellation = model.cancel(order, [Line("mug", 2)], now=START + timedelta(hours=1))

    assert (Item("mug", "Mug", 2, 0, 250),) == cancellation.items
    assert (500, False) == (cancellation.total_minor, cancellation.whole)
    assert Item("mug", "Mug", 3, 2, 250) == cancellation.order.items[1]
    assert 2 * 399 + 250 == cancellation.order.total_minor
    assert (State.PARTIALLY_CANCELLED, 2) == (cancellation.order.state, cancellation.order.revision)
    assert (START, START + timedelta(hours=1)) == (cancellation.order.create_time, cancellation.order.update_time)


def test_taking_back_without_items_takes_what_still_stands() -> None:
    order = model.cancel(order_of(("tea", 2, 399), ("mug", 3, 250)), [Line("tea", 2)], now=START).order

    cancellation = model.cancel(order, [], now=START)

    assert [("mug", 3)] == [(item.product_id, item.quantity) for item in cancellation.items]
    assert (True, 750, 0) == (cancellation.whole, cancellation.total_minor, cancellation.order.total_minor)


def test_every_product_that_does_not_stand_is_named() -> None:
    order = order_of(("tea", 2, 399), ("mug", 3, 250))

    with pytest.raises(FailedPrecondition) as refusal:
        model.cancel(order, [Line("tea", 3), Line("mug", 3), Line("hat", 1)], now=START)
    assert ["orders/o/items/tea", "orders/o/items/hat"] == [subject for _, subject, _ in refusal.value.violations]


def test_nothing_is_taken_back_twice() -> None:
    order = model.cancel(order_of(("tea", 2, 399)), [], now=START).order

    with pytest.raises(FailedPrecondition) as refusal:
        model.cancel(order, [], now=START)
    assert "ALREADY_CANCELLED" == refusal.value.reason


def test_an_order_never_seems_to_change_before_it_last_did() -> None:
    order = model.cancel(order_of(("tea", 2, 399)), [Line("tea", 1)], now=START + timedelta(hours=1)).order

    assert order.update_time == model.cancel(order, [], now=START).order.update_time


pieces = st.integers(min_value=1, max_value=1000)


@given(st.dictionaries(st.sampled_from("abcdef"), st.tuples(pieces, pieces), min_size=1), st.data())
def test_pieces_and_price_are_conserved(ordered: dict[str, tuple[int, int]], data: st.DataObject) -> None:
    order = order_of(*((product_id, quantity, price) for product_id, (quantity, price) in ordered.items()))
    before = order.total_minor
    returned = dict.fromkeys(ordered, 0)
    refunded = 0

    while order.state is not State.CANCELLED:
        standing = {item.product_id: item.standing for item in order.items if item.standing}
        chosen = data.draw(st.lists(st.sampled_from(sorted(standing)), unique=True))
        lines = [Line(product_id, data.draw(st.integers(1, standing[product_id]))) for product_id in chosen]
        cancellation = model.cancel(order, lines, now=START)
        order = cancellation.order
        refunded += cancellation.total_minor
        for item in cancellation.items:
            returned[item.product_id] += item.quantity

        assert before == order.total_minor + refunded
        assert cancellation.whole == (not any(item.standing for item in order.items))

    assert {product_id: quantity for product_id, (quantity, _) in ordered.items()} == returned


def test_a_page_tells_whether_there_is_a_next_one() -> None:
    orders = [order_of(("tea", 1, 399))] * 3

    assert Page(tuple(orders[:2]), Cursor(START, "o")) == model.cut_page(orders, limit=2)
    assert Page(tuple(orders), None) == model.cut_page(orders, limit=3)
    assert Page((), None) == model.cut_page([], limit=3)


def test_a_page_ends_early_where_its_orders_are_large() -> None:
    large = order_of(*((f"p{number}", 1, 1) for number in range(500)))
    fit = model.MAX_PAGE_ITEMS // 500

    page = model.cut_page([large] * 201, limit=200)

    assert (fit, Cursor(START, "o")) == (len(page.orders), page.next)


def test_a_product_that_is_short_says_what_is_left() -> None:
    refusal = model.out_of_stock([model.Shortage("tea", 3, 1)])

    assert (("STOCK", "stock/tea", "3 wanted, 1 left"),) == refusal.violations
