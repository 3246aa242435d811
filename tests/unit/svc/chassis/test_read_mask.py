"""`read_mask`: the answer has what was asked for, and a path that leads nowhere is named."""

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.type.money_pb2 import Money

from svc.chassis import read_mask
from svc.chassis.errors import InvalidArgument
from weft.orders.v1 import orders_pb2


def order() -> orders_pb2.Order:
    item = orders_pb2.OrderItem(product_id="a", quantity=2, unit_price=Money(currency_code="GBP", units=1))
    return orders_pb2.Order(name="orders/1", user="users/1", items=[item, item], total=Money(units=2, nanos=5))


def kept(*paths: str) -> orders_pb2.Order:
    found = order()
    read_mask.keep(read_mask.of(FieldMask(paths=paths), orders_pb2.Order), found)
    return found


def test_only_the_fields_asked_for_are_kept() -> None:
    assert orders_pb2.Order(name="orders/1", total=Money(units=2)) == kept("name", "total.units")


def test_a_path_through_a_list_cuts_down_every_item() -> None:
    item = orders_pb2.OrderItem(quantity=2, unit_price=Money(currency_code="GBP"))

    assert orders_pb2.Order(items=[item, item]) == kept("items.quantity", "items.unit_price.currency_code")


@pytest.mark.parametrize("paths", [(), ("*",), ("name", "*")])
def test_no_path_and_a_star_mean_everything(paths: tuple[str, ...]) -> None:
    assert order() == kept(*paths)


@pytest.mark.parametrize("paths", [("total", "total.units"), ("total.units", "total")])
def test_a_whole_message_swallows_its_parts(paths: tuple[str, ...]) -> None:
    assert orders_pb2.Order(total=Money(units=2, nanos=5)) == kept(*paths)


@pytest.mark.parametrize(
    "path", ["price", "name.first", "total.", "", ".", "items.0.quantity", "items[0]", "n" * 100_000]
)
def test_a_path_that_leads_nowhere_is_named_by_its_place(path: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        kept("name", path)

    ((field, text),) = refused.value.violations
    assert "read_mask.paths[1]" == field
    assert len(text) < 300
