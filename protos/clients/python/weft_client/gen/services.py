"""Generated from the contracts by `make gen`; never edited."""

from weft_client.calls import AsyncCalls, Calls
from weft_client.gen.alert import AsyncAlert, Alert
from weft_client.gen.analytics import AsyncAnalytics, Analytics
from weft_client.gen.catalog import AsyncCatalog, Catalog
from weft_client.gen.contract import AsyncContract, Contract
from weft_client.gen.identity import AsyncIdentity, Identity
from weft_client.gen.inventory import AsyncInventory, Inventory
from weft_client.gen.mail import AsyncMail, Mail
from weft_client.gen.mesh import AsyncMesh, Mesh
from weft_client.gen.orders import AsyncOrders, Orders
from weft_client.gen.queue import AsyncQueue, Queue
from weft_client.gen.trace import AsyncTrace, Trace


class Services:
    """Every service of the contracts."""

    def __init__(self, calls: Calls) -> None:
        self.alert = Alert(calls)
        self.analytics = Analytics(calls)
        self.catalog = Catalog(calls)
        self.contract = Contract(calls)
        self.identity = Identity(calls)
        self.inventory = Inventory(calls)
        self.mail = Mail(calls)
        self.mesh = Mesh(calls)
        self.orders = Orders(calls)
        self.queue = Queue(calls)
        self.trace = Trace(calls)


class AsyncServices:
    """Every service of the contracts."""

    def __init__(self, calls: AsyncCalls) -> None:
        self.alert = AsyncAlert(calls)
        self.analytics = AsyncAnalytics(calls)
        self.catalog = AsyncCatalog(calls)
        self.contract = AsyncContract(calls)
        self.identity = AsyncIdentity(calls)
        self.inventory = AsyncInventory(calls)
        self.mail = AsyncMail(calls)
        self.mesh = AsyncMesh(calls)
        self.orders = AsyncOrders(calls)
        self.queue = AsyncQueue(calls)
        self.trace = AsyncTrace(calls)
