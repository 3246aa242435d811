"""The fake store does what the real one does."""

import pytest

from tests.fakes.orders import FakeIdempotency, FakeStore, FakeTransactions, Memory
from tests.fakes.orders_store_suite import Shop, StoreSuite, tag

__all__ = ["tag"]


class TestFakeStore(StoreSuite):
    @pytest.fixture
    def shop(self) -> Shop:
        memory = Memory()
        return Shop(FakeTransactions(memory), FakeStore(memory), FakeIdempotency(memory), memory.mismatched)
