"""Generated from the contracts by `make gen`; never edited."""

from weft_client.calls import AsyncCalls, Calls
from weft_client.gen.analytics import AsyncAnalytics, Analytics
from weft_client.gen.catalog import AsyncCatalog, Catalog
from weft_client.gen.identity import AsyncIdentity, Identity
from weft_client.gen.inventory import AsyncInventory, Inventory
from weft_client.gen.orders import AsyncOrders, Orders


class Services:
    """Every service of the contracts."""

    def __init__(self, calls: Calls) -> None:
        self.analytics = Analytics(calls)
        self.catalog = Catalog(calls)
        self.identity = Identity(calls)
        self.inventory = Inventory(calls)
        self.orders = Orders(calls)


class AsyncServices:
    """Every service of the contracts."""

    def __init__(self, calls: AsyncCalls) -> None:
        self.analytics = AsyncAnalytics(calls)
        self.catalog = AsyncCatalog(calls)
        self.identity = AsyncIdentity(calls)
        self.inventory = AsyncInventory(calls)
        self.orders = AsyncOrders(calls)
