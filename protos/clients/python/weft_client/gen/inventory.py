"""InventoryService. Generated from the contracts by `make gen`; never edited."""

from collections.abc import Sequence
from weft.orders.v1 import inventory_pb2
from weft_client.calls import AsyncCalls, Calls, bound


class Inventory:
    """Keeps the stock."""

    def __init__(self, calls: Calls) -> None:
        self._calls = bound(calls, inventory_pb2.DESCRIPTOR.services_by_name["InventoryService"])

    def set_stock(
        self,
        name: str,
        *,
        quantity: int | None = None,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> inventory_pb2.Stock:
        """Sets the pieces in stock; the difference is recorded as a movement.

        name: The stock to set, `stock/{product}`.
        quantity: Pieces that can be ordered from now on.
        request_id: UUID that makes the call safe to repeat (AIP-155).
        timeout: seconds for the whole call, repetitions included; the contract's where it is not said

        Raises:
            RequestIdReused: `request_id` belongs to a call with another body
        """
        fields = {"name": name, "quantity": quantity, "request_id": request_id}
        answer: inventory_pb2.Stock = self._calls.call("SetStock", fields, timeout=timeout)
        return answer

    def get_stock(
        self,
        name: str,
        *,
        timeout: float | None = None,
    ) -> inventory_pb2.Stock:
        """Reads the stock of one product.

        name: The stock to read, `stock/{product}`.
        timeout: seconds for the whole call, repetitions included; the contract's where it is not said

        Raises:
            StockNotFound: the product has no stock on record
        """
        fields = {"name": name}
        answer: inventory_pb2.Stock = self._calls.call("GetStock", fields, timeout=timeout)
        return answer

    def batch_get_stock(
        self,
        names: Sequence[str],
        *,
        timeout: float | None = None,
    ) -> inventory_pb2.BatchGetStockResponse:
        """Reads the stock of many products, in the order asked for. NOT_FOUND names the first that has none on
        record.

        names: The stock to read, each `stock/{product}`; 500 at most.
        timeout: seconds for the whole call, repetitions included; the contract's where it is not said

        Raises:
            StockNotFound: a product has no stock on record; ResourceInfo names the first
        """
        fields = {"names": names}
        answer: inventory_pb2.BatchGetStockResponse = self._calls.call("BatchGetStock", fields, timeout=timeout)
        return answer


class AsyncInventory:
    """Keeps the stock."""

    def __init__(self, calls: AsyncCalls) -> None:
        self._calls = bound(calls, inventory_pb2.DESCRIPTOR.services_by_name["InventoryService"])

    async def set_stock(
        self,
        name: str,
        *,
        quantity: int | None = None,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> inventory_pb2.Stock:
        """Sets the pieces in stock; the difference is recorded as a movement.

        name: The stock to set, `stock/{product}`.
        quantity: Pieces that can be ordered from now on.
        request_id: UUID that makes the call safe to repeat (AIP-155).
        timeout: seconds for the whole call, repetitions included; the contract's where it is not said

        Raises:
            RequestIdReused: `request_id` belongs to a call with another body
        """
        fields = {"name": name, "quantity": quantity, "request_id": request_id}
        answer: inventory_pb2.Stock = await self._calls.call("SetStock", fields, timeout=timeout)
        return answer

    async def get_stock(
        self,
        name: str,
        *,
        timeout: float | None = None,
    ) -> inventory_pb2.Stock:
        """Reads the stock of one product.

        name: The stock to read, `stock/{product}`.
        timeout: seconds for the whole call, repetitions included; the contract's where it is not said

        Raises:
            StockNotFound: the product has no stock on record
        """
        fields = {"name": name}
        answer: inventory_pb2.Stock = await self._calls.call("GetStock", fields, timeout=timeout)
        return answer

    async def batch_get_stock(
        self,
        names: Sequence[str],
        *,
        timeout: float | None = None,
    ) -> inventory_pb2.BatchGetStockResponse:
        """Reads the stock of many products, in the order asked for. NOT_FOUND names the first that has none on
        record.

        names: The stock to read, each `stock/{product}`; 500 at most.
        timeout: seconds for the whole call, repetitions included; the contract's where it is not said

        Raises:
            StockNotFound: a product has no stock on record; ResourceInfo names the first
        """
        fields = {"names": names}
        answer: inventory_pb2.BatchGetStockResponse = await self._calls.call("BatchGetStock", fields, timeout=timeout)
        return answer
