"""Composes the orders service: the only place that names its concrete classes together.

`__main__` hands `build` to the chassis, which opens what it asks for and closes it again.
"""

from collections.abc import Mapping, Sequence

from svc.chassis import idempotency, outbox, retention
from svc.chassis.client import Peer
from svc.chassis.clock import SystemClock
from svc.chassis.config import ConfigError
from svc.chassis.context import Deadline
from svc.chassis.database import Database
from svc.chassis.pages import PageTokens
from svc.chassis.resources import Resources
from svc.chassis.server import Service
from svc.chassis.watches import Watches
from svc.orders.catalog import CatalogClient
from svc.orders.rpc import Answers, InventoryHandler, OrderHandler
from svc.orders.store import Store
from svc.orders.usecases import Ports
from weft.catalog.v1 import catalog_pb2
from weft.orders.v1 import inventory_pb2, orders_pb2

# One look at all watched orders.
_LOOK_S = 2.0


def build(resources: Resources) -> Sequence[Service]:
    """The services of one instance."""
    database = resources.database
    if database is None:
        raise ConfigError(f"{resources.settings.secrets.secrets}: there is no file database-orders.url")
    retention.sweep(resources, database, retention.IDEMPOTENCY)
    store = Store()
    watches = _watches(database, store)
    resources.add_background("order-watches", watches.start, watches.stop)
    catalog = catalog_pb2.DESCRIPTOR.services_by_name["CatalogService"]
    peer = Peer(resources.channel("catalog"), catalog, courier=resources.courier, caller=resources.name)
    ports = Ports(
        transactions=database,
        store=store,
        idempotency=idempotency,
        append=outbox.append,
        catalog=CatalogClient(peer),
        watches=watches,
        answers=Answers(),
        clock=SystemClock(),
    )
    pages = PageTokens(resources.settings.secrets.cache_key())
    return [
        (orders_pb2.DESCRIPTOR.services_by_name["OrderService"], OrderHandler(ports, pages)),
        (inventory_pb2.DESCRIPTOR.services_by_name["InventoryService"], InventoryHandler(ports)),
    ]


def _watches(database: Database, store: Store) -> Watches:
    def revisions(order_ids: Sequence[str]) -> Mapping[str, int]:
        return database.read(lambda tx: store.revisions(tx, order_ids), deadline=Deadline.after(_LOOK_S))

    return Watches(revisions, kind="orders")
