"""Composes the analytics service: the only place that names its concrete classes together.

`__main__` hands `build` to the chassis, which opens what it asks for and closes it again.
"""

from collections.abc import Sequence

from svc.analytics.rpc import AnalyticsHandler
from svc.analytics.store import Store
from svc.analytics.usecases import Ports
from svc.chassis import retention
from svc.chassis.config import ConfigError
from svc.chassis.resources import Resources
from svc.chassis.server import Service
from weft.analytics.v1 import analytics_pb2


def build(resources: Resources) -> Sequence[Service]:
    """The services of one instance."""
    database = resources.database
    if database is None:
        raise ConfigError(f"{resources.settings.secrets.secrets}: there is no file database-analytics.url")
    retention.sweep(resources, database, retention.INBOX)
    handler = AnalyticsHandler(Ports(reads=database, store=Store()))
    return [(analytics_pb2.DESCRIPTOR.services_by_name["AnalyticsService"], handler)]
