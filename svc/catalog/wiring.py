"""Composes the catalog service: the only place that names its concrete classes together.

`__main__` hands `build` to the chassis, which opens what it asks for and closes it again.
"""

from collections.abc import Sequence

from svc.catalog import rpc
from svc.catalog.rpc import CatalogHandler
from svc.catalog.store import ProductStore
from svc.catalog.usecases import Ports
from svc.chassis import outbox
from svc.chassis.clock import SystemClock
from svc.chassis.config import ConfigError
from svc.chassis.pages import PageTokens
from svc.chassis.resources import Resources
from svc.chassis.server import Service
from weft.catalog.v1 import catalog_pb2


def build(resources: Resources) -> Sequence[Service]:
    """The services of one instance."""
    database = resources.database
    secrets = resources.settings.secrets
    if database is None:
        raise ConfigError(f"{secrets.secrets}: there is no file database-catalog.url")
    service = catalog_pb2.DESCRIPTOR.services_by_name["CatalogService"]
    ports = Ports(
        transactions=database,
        products=ProductStore(),
        cache=resources.cache.entry(service.methods_by_name["GetProduct"], rpc.CODEC),
        append=outbox.append,
        clock=SystemClock(),
    )
    return [(service, CatalogHandler(ports, PageTokens(secrets.cache_key())))]
