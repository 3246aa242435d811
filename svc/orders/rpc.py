"""OrderService and InventoryService: protobuf in, use case, protobuf out. Decides nothing.

The chassis calls these with requests that are valid by the contract's rules; every method returns its answer or
raises an `AppError`.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Final

from svc.chassis import money, read_mask
from svc.chassis.context import CallContext
from svc.chassis.errors import InvalidArgument
from svc.chassis.pages import PageTokens
from svc.orders import usecases
from svc.orders.model import Cursor, Item, Line, Order, State, Stock
from svc.orders.usecases import Ports
from weft.orders.v1 import inventory_pb2, orders_pb2

PAGE_SIZE_DEFAULT: Final = 20
PAGE_SIZE_MAX: Final = 200

_ORDERS: Final = "orders/"
_STOCK: Final = "stock/"
_STATES: Final = {
    State.PLACED: orders_pb2.Order.STATE_PLACED,
    State.PARTIALLY_CANCELLED: orders_pb2.Order.STATE_PARTIALLY_CANCELLED,
    State.CANCELLED: orders_pb2.Order.STATE_CANCELLED,
}


class OrderHandler:
    """Serves `weft.orders.v1.OrderService`."""

    def __init__(self, ports: Ports, pages: PageTokens) -> None:
        self._ports = ports
        self._pages = pages

    def PlaceOrder(self, request: orders_pb2.PlaceOrderRequest, call: CallContext) -> orders_pb2.Order:
        """Place an order."""
        answer = usecases.place_order(
            self._ports,
            _lines(request.items),
            region_code=request.region_code,
            request_id=request.request_id,
            call=call,
        )
        return orders_pb2.Order.FromString(answer)

    def GetOrder(self, request: orders_pb2.GetOrderRequest, call: CallContext) -> orders_pb2.Order:
        """Read an order."""
        mask = read_mask.of(request.read_mask, orders_pb2.Order)
        order = _order(usecases.get_order(self._ports, request.name.removeprefix(_ORDERS), call=call))
        read_mask.keep(mask, order)
        return order

    def ListOrders(self, request: orders_pb2.ListOrdersRequest, call: CallContext) -> orders_pb2.ListOrdersResponse:
        """List the caller's orders."""
        mask = read_mask.of(request.read_mask, orders_pb2.Order)
        page = usecases.list_orders(
            self._ports,
            before=self._cursor(request.page_token, call),
            limit=min(request.page_size or PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX),
            call=call,
        )
        orders = [_order(order) for order in page.orders]
        for order in orders:
            read_mask.keep(mask, order)
        return orders_pb2.ListOrdersResponse(orders=orders, next_page_token=self._token(page.next, call))

    def CancelOrder(self, request: orders_pb2.CancelOrderRequest, call: CallContext) -> orders_pb2.Order:
        """Take back an order or some of it."""
        answer = usecases.cancel_order(
            self._ports,
            request.name.removeprefix(_ORDERS),
            _lines(request.items),
            request_id=request.request_id,
            call=call,
        )
        return orders_pb2.Order.FromString(answer)

    def WatchOrder(
        self, request: orders_pb2.WatchOrderRequest, call: CallContext
    ) -> Iterator[orders_pb2.WatchOrderResponse]:
        """Send an order now and after each change."""
        for order in usecases.watch_order(self._ports, request.name.removeprefix(_ORDERS), call=call):
            yield orders_pb2.WatchOrderResponse(order=_order(order))

    def _cursor(self, token: str, call: CallContext) -> Cursor | None:
        if not token:
            return None
        values = self._pages.decode(token, scope=_scope(call))
        try:
            time, order_id = values
            return Cursor(datetime.fromisoformat(time), order_id)
        except ValueError:
            raise InvalidArgument(violations=[("page_token", "is not a token of this list")]) from None

    def _token(self, cursor: Cursor | None, call: CallContext) -> str:
        if cursor is None:
            return ""
        return self._pages.encode((cursor.create_time.isoformat(), cursor.order_id), scope=_scope(call))


class InventoryHandler:
    """Serves `weft.orders.v1.InventoryService`."""

    def __init__(self, ports: Ports) -> None:
        self._ports = ports

    def SetStock(self, request: inventory_pb2.SetStockRequest, call: CallContext) -> inventory_pb2.Stock:
        """Set the stock of a product."""
        answer = usecases.set_stock(
            self._ports,
            request.name.removeprefix(_STOCK),
            request.quantity,
            request_id=request.request_id,
            call=call,
        )
        return inventory_pb2.Stock.FromString(answer)

    def GetStock(self, request: inventory_pb2.GetStockRequest, call: CallContext) -> inventory_pb2.Stock:
        """Read the stock of a product."""
        return _stock(usecases.get_stock(self._ports, [request.name.removeprefix(_STOCK)], call=call)[0])

    def BatchGetStock(
        self, request: inventory_pb2.BatchGetStockRequest, call: CallContext
    ) -> inventory_pb2.BatchGetStockResponse:
        """Read the stock of many products."""
        product_ids = [name.removeprefix(_STOCK) for name in request.names]
        stock = usecases.get_stock(self._ports, product_ids, call=call)
        return inventory_pb2.BatchGetStockResponse(stock=[_stock(one) for one in stock])


class Answers:
    """Answers as the bytes that are kept for a repeat."""

    def order(self, order: Order) -> bytes:
        """The bytes of an order."""
        return _order(order).SerializeToString(deterministic=True)

    def stock(self, stock: Stock) -> bytes:
        """The bytes of a stock."""
        return _stock(stock).SerializeToString(deterministic=True)


def _scope(call: CallContext) -> str:
    # A token is good for one method and one user: it holds the position in that user's list.
    return f"{call.method} {call.caller.subject}"


def _lines(items: Iterable[orders_pb2.ItemQuantity]) -> list[Line]:
    return [Line(item.product_id, item.quantity) for item in items]


def _order(order: Order) -> orders_pb2.Order:
    message = orders_pb2.Order(
        name=_ORDERS + order.id,
        user=f"users/{order.user_id}",
        items=[_item(item, order.currency) for item in order.items],
        total=money.from_minor(order.currency, order.total_minor),
        state=_STATES[order.state],
        revision=order.revision,
        region_code=order.region_code,
    )
    message.create_time.FromDatetime(order.create_time)
    message.update_time.FromDatetime(order.update_time)
    return message


def _item(item: Item, currency: str) -> orders_pb2.OrderItem:
    return orders_pb2.OrderItem(
        product_id=item.product_id,
        display_name=item.display_name,
        quantity=item.quantity,
        cancelled_quantity=item.cancelled_quantity,
        unit_price=money.from_minor(currency, item.unit_price_minor),
    )


def _stock(stock: Stock) -> inventory_pb2.Stock:
    message = inventory_pb2.Stock(name=_STOCK + stock.product_id, quantity=stock.quantity)
    message.update_time.FromDatetime(stock.update_time)
    return message
