"""Facts about products as outbox events: the one place of this service where a fact meets its message.

The use cases build events here and append them in the transaction that makes the fact true.
"""

from collections.abc import Mapping
from typing import Final

from svc.catalog.model import Change, Product
from svc.chassis import money, outbox
from svc.chassis.context import CallContext
from weft.catalog.v1 import events_pb2

SOURCE: Final = "catalog"

_CHANGES: Final[Mapping[Change, events_pb2.ProductChanged.Change.ValueType]] = {
    Change.CREATED: events_pb2.ProductChanged.CHANGE_CREATED,
    Change.UPDATED: events_pb2.ProductChanged.CHANGE_UPDATED,
    Change.DELETED: events_pb2.ProductChanged.CHANGE_DELETED,
}


def product_changed(product: Product, change: Change, *, call: CallContext) -> outbox.Event:
    """A product was created, changed or deleted; a deleted one is told as it last was."""
    fact = events_pb2.ProductChanged(
        product=product.name,
        change=_CHANGES[change],
        display_name=product.display_name,
        price=money.from_minor(product.price.currency, product.price.minor),
    )
    return outbox.event(fact, source=SOURCE, call=call)
