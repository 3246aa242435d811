"""OrderService. Generated from the contracts by `make gen`; never edited."""

from collections.abc import AsyncIterator
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from google.protobuf import field_mask_pb2
from typing import Any
from weft.orders.v1 import orders_pb2
from weft_client.calls import AsyncCalls, Calls, bound


class Orders:
    """Takes orders and takes them back."""

    def __init__(self, calls: Calls) -> None:
        self._calls = bound(calls, orders_pb2.DESCRIPTOR.services_by_name["OrderService"])

    def place_order(
        self,
        items: Sequence[orders_pb2.ItemQuantity | Mapping[str, Any]],
        *,
        request_id: str | None = None,
        region_code: str | None = None,
        timeout: float | None = None,
    ) -> orders_pb2.Order:
        """Places an order at the catalog's prices and takes its pieces from stock: all of it, or nothing.
        FAILED_PRECONDITION names each product of which too little is left.

        items: What to order: each product once; 500 products at most, all priced in one currency.
        request_id: UUID that makes the call safe to repeat (AIP-155).
        region_code: CLDR code of the country the order goes to (AIP-143), `DE`; empty: not said.
        timeout: seconds for the whole call, repetitions included; the contract's where it is not said

        Raises:
            ProductUnknown: the catalog does not have a product
            OutOfStock: too little is left; PreconditionFailure names each such product
            MixedCurrencies: the products are priced in several currencies
            TotalTooLarge: the order costs more than one order may
            RequestIdReused: `request_id` belongs to a call with another body
        """
        fields = {"items": items, "request_id": request_id, "region_code": region_code}
        answer: orders_pb2.Order = self._calls.call("PlaceOrder", fields, timeout=timeout)
        return answer

    def get_order(
        self,
        name: str,
        *,
        read_mask: field_mask_pb2.FieldMask | Sequence[str] | None = None,
        timeout: float | None = None,
    ) -> orders_pb2.Order:
        """Reads an order of the caller's own.

        name: The order to read, `orders/{order}`.
        read_mask: Fields of the order to answer with, for example `name,state,items.quantity` (AIP-157). Empty,
            or `*`: all of them.
        timeout: seconds for the whole call, repetitions included; the contract's where it is not said

        Raises:
            OrderNotFound: there is no such order, or it is another's
        """
        fields = {"name": name, "read_mask": read_mask}
        answer: orders_pb2.Order = self._calls.call("GetOrder", fields, timeout=timeout)
        return answer

    def list_orders(
        self,
        *,
        page_size: int | None = None,
        page_token: str | None = None,
        read_mask: field_mask_pb2.FieldMask | Sequence[str] | None = None,
        timeout: float | None = None,
    ) -> orders_pb2.ListOrdersResponse:
        """Lists the caller's own orders, the newest first.

        page_size: The most orders in one page; 0: 20. More than 200 counts as 200.
        page_token: `next_page_token` of the page before; empty: the first page.
        read_mask: Fields of the orders to answer with, for example `name,state` (AIP-157). Empty, or `*`: all
            of them.
        timeout: seconds for the whole call, repetitions included; the contract's where it is not said
        """
        fields = {"page_size": page_size, "page_token": page_token, "read_mask": read_mask}
        answer: orders_pb2.ListOrdersResponse = self._calls.call("ListOrders", fields, timeout=timeout)
        return answer

    def cancel_order(
        self,
        name: str,
        *,
        items: Sequence[orders_pb2.ItemQuantity | Mapping[str, Any]] | None = None,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> orders_pb2.Order:
        """Takes back a whole order, or some pieces of it, and puts them into stock again. FAILED_PRECONDITION
        where the order does not hold that many.

        name: The order to take back, `orders/{order}`.
        items: What to take back of it, each product once; empty: everything that still stands.
        request_id: UUID that makes the call safe to repeat (AIP-155).
        timeout: seconds for the whole call, repetitions included; the contract's where it is not said

        Raises:
            OrderNotFound: there is no such order, or it is another's
            AlreadyCancelled: nothing of the order stands any more
            NotOrdered: the order does not hold that many
            RequestIdReused: `request_id` belongs to a call with another body
        """
        fields = {"name": name, "items": items, "request_id": request_id}
        answer: orders_pb2.Order = self._calls.call("CancelOrder", fields, timeout=timeout)
        return answer

    def watch_order(
        self,
        name: str,
        *,
        timeout: float | None = None,
    ) -> Iterator[orders_pb2.WatchOrderResponse]:
        """Sends an order of the caller's own at once, and again after each change of it.

        name: The order to watch, `orders/{order}`.
        timeout: seconds for the whole call, repetitions included; the contract's where it is not said

        Raises:
            OrderNotFound: there is no such order, or it is another's
        """
        fields = {"name": name}
        answer: Iterator[orders_pb2.WatchOrderResponse] = self._calls.stream("WatchOrder", fields, timeout=timeout)
        return answer


class AsyncOrders:
    """Takes orders and takes them back."""

    def __init__(self, calls: AsyncCalls) -> None:
        self._calls = bound(calls, orders_pb2.DESCRIPTOR.services_by_name["OrderService"])

    async def place_order(
        self,
        items: Sequence[orders_pb2.ItemQuantity | Mapping[str, Any]],
        *,
        request_id: str | None = None,
        region_code: str | None = None,
        timeout: float | None = None,
    ) -> orders_pb2.Order:
        """Places an order at the catalog's prices and takes its pieces from stock: all of it, or nothing.
        FAILED_PRECONDITION names each product of which too little is left.

        items: What to order: each product once; 500 products at most, all priced in one currency.
        request_id: UUID that makes the call safe to repeat (AIP-155).
        region_code: CLDR code of the country the order goes to (AIP-143), `DE`; empty: not said.
        timeout: seconds for the whole call, repetitions included; the contract's where it is not said

        Raises:
            ProductUnknown: the catalog does not have a product
            OutOfStock: too little is left; PreconditionFailure names each such product
            MixedCurrencies: the products are priced in several currencies
            TotalTooLarge: the order costs more than one order may
            RequestIdReused: `request_id` belongs to a call with another body
        """
        fields = {"items": items, "request_id": request_id, "region_code": region_code}
        answer: orders_pb2.Order = await self._calls.call("PlaceOrder", fields, timeout=timeout)
        return answer

    async def get_order(
        self,
        name: str,
        *,
        read_mask: field_mask_pb2.FieldMask | Sequence[str] | None = None,
        timeout: float | None = None,
    ) -> orders_pb2.Order:
        """Reads an order of the caller's own.

        name: The order to read, `orders/{order}`.
        read_mask: Fields of the order to answer with, for example `name,state,items.quantity` (AIP-157). Empty,
            or `*`: all of them.
        timeout: seconds for the whole call, repetitions included; the contract's where it is not said

        Raises:
            OrderNotFound: there is no such order, or it is another's
        """
        fields = {"name": name, "read_mask": read_mask}
        answer: orders_pb2.Order = await self._calls.call("GetOrder", fields, timeout=timeout)
        return answer

    async def list_orders(
        self,
        *,
        page_size: int | None = None,
        page_token: str | None = None,
        read_mask: field_mask_pb2.FieldMask | Sequence[str] | None = None,
        timeout: float | None = None,
    ) -> orders_pb2.ListOrdersResponse:
        """Lists the caller's own orders, the newest first.

        page_size: The most orders in one page; 0: 20. More than 200 counts as 200.
        page_token: `next_page_token` of the page before; empty: the first page.
        read_mask: Fields of the orders to answer with, for example `name,state` (AIP-157). Empty, or `*`: all
            of them.
        timeout: seconds for the whole call, repetitions included; the contract's where it is not said
        """
        fields = {"page_size": page_size, "page_token": page_token, "read_mask": read_mask}
        answer: orders_pb2.ListOrdersResponse = await self._calls.call("ListOrders", fields, timeout=timeout)
        return answer

    async def cancel_order(
        self,
        name: str,
        *,
        items: Sequence[orders_pb2.ItemQuantity | Mapping[str, Any]] | None = None,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> orders_pb2.Order:
        """Takes back a whole order, or some pieces of it, and puts them into stock again. FAILED_PRECONDITION
        where the order does not hold that many.

        name: The order to take back, `orders/{order}`.
        items: What to take back of it, each product once; empty: everything that still stands.
        request_id: UUID that makes the call safe to repeat (AIP-155).
        timeout: seconds for the whole call, repetitions included; the contract's where it is not said

        Raises:
            OrderNotFound: there is no such order, or it is another's
            AlreadyCancelled: nothing of the order stands any more
            NotOrdered: the order does not hold that many
            RequestIdReused: `request_id` belongs to a call with another body
        """
        fields = {"name": name, "items": items, "request_id": request_id}
        answer: orders_pb2.Order = await self._calls.call("CancelOrder", fields, timeout=timeout)
        return answer

    def watch_order(
        self,
        name: str,
        *,
        timeout: float | None = None,
    ) -> AsyncIterator[orders_pb2.WatchOrderResponse]:
        """Sends an order of the caller's own at once, and again after each change of it.

        name: The order to watch, `orders/{order}`.
        timeout: seconds for the whole call, repetitions included; the contract's where it is not said

        Raises:
            OrderNotFound: there is no such order, or it is another's
        """
        fields = {"name": name}
        answer: AsyncIterator[orders_pb2.WatchOrderResponse] = self._calls.stream("WatchOrder", fields, timeout=timeout)
        return answer
