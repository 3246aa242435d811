"""The client for tasks does what the one for threads does."""

import asyncio

import pytest

from svc.contract_tests.mock import Mock
from svc.contract_tests.session import Provider
from weft_client import AsyncWeft, errors

ORDER = "orders/00000000-0000-4000-8000-000000000001"


@pytest.fixture
def orders(provider: Provider) -> Mock:
    return provider("weft.orders.v1.OrderService")


def test_a_call_is_awaited_and_repeated(orders: Mock) -> None:
    orders.expects("GetOrder", name=ORDER).fails("UNAVAILABLE", "DRAINING", retry_after=0.01)
    orders.expects("GetOrder", name=ORDER).returns(name=ORDER)

    async def call() -> str:
        async with AsyncWeft(orders.address) as weft:
            return (await weft.orders.get_order(ORDER)).name

    assert ORDER == asyncio.run(call())


def test_an_error_is_typed(orders: Mock) -> None:
    orders.expects("GetOrder", name=ORDER).fails("NOT_FOUND", "ORDER_NOT_FOUND")

    async def call() -> None:
        async with AsyncWeft(orders.address) as weft:
            await weft.orders.get_order(ORDER)

    with pytest.raises(errors.OrderNotFound):
        asyncio.run(call())


def test_a_stream_is_iterated_and_ends_with_its_error(orders: Mock) -> None:
    watched = orders.expects("WatchOrder", name=ORDER)
    watched.streams({"order": {"revision": 1}}).fails("NOT_FOUND", "ORDER_NOT_FOUND")

    async def watch() -> int:
        async with AsyncWeft(orders.address) as weft:
            changes = weft.orders.watch_order(ORDER)
            revision: int = (await anext(changes)).order.revision
            with pytest.raises(errors.OrderNotFound):
                await anext(changes)
            return revision

    assert 1 == asyncio.run(watch())


def test_a_task_that_is_cancelled_ends_its_call(orders: Mock) -> None:
    orders.expects("GetOrder", name=ORDER).hangs()

    async def call() -> None:
        async with AsyncWeft(orders.address) as weft:
            waiting = asyncio.create_task(weft.orders.get_order(ORDER))
            while not orders.calls:
                await asyncio.sleep(0.01)
            waiting.cancel()
            await waiting

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(call())
