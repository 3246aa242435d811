"""Facts about orders and stock as outbox events: the one place of this service where a fact meets its message.

Use cases build events here and append them in the transaction that makes the fact true.
"""

from collections.abc import Sequence
from typing import Final

from svc.chassis import money, outbox
from svc.chassis.context import CallContext
from svc.orders.model import Cancellation, Item, Order
from weft.orders.v1 import events_pb2

SOURCE: Final = "orders"


def order_placed(order: Order, *, call: CallContext) -> outbox.Event:
    """An order was placed and its pieces were taken from stock."""
    fact = events_pb2.OrderPlaced(
        order=f"orders/{order.id}",
        user=f"users/{order.user_id}",
        items=_items(order.items, order.currency),
        total=money.from_minor(order.currency, order.total_minor),
        region_code=order.region_code,
    )
    fact.place_time.FromDatetime(order.create_time)
    return outbox.event(fact, source=SOURCE, call=call)


def order_cancelled(cancellation: Cancellation, *, call: CallContext) -> outbox.Event:
    """Pieces of an order were taken back; the items hold what was taken back this time."""
    order = cancellation.order
    fact = events_pb2.OrderCancelled(
        order=f"orders/{order.id}",
        user=f"users/{order.user_id}",
        items=_items(cancellation.items, order.currency),
        total=money.from_minor(order.currency, cancellation.total_minor),
        whole=cancellation.whole,
        region_code=order.region_code,
    )
    fact.cancel_time.FromDatetime(order.update_time)
    return outbox.event(fact, source=SOURCE, call=call)


def stock_depleted(product_id: str, *, call: CallContext) -> outbox.Event:
    """An order took the last piece of a product."""
    return outbox.event(events_pb2.StockDepleted(product_id=product_id), source=SOURCE, call=call)


def _items(items: Sequence[Item], currency: str) -> list[events_pb2.EventItem]:
    return [
        events_pb2.EventItem(
            product_id=item.product_id,
            display_name=item.display_name,
            quantity=item.quantity,
            unit_price=money.from_minor(currency, item.unit_price_minor),
        )
        for item in items
    ]
