"""Composes the analytics service: the only place that names its concrete classes together.

`__main__` hands `build` to the chassis, which opens what it asks for and closes it again.
"""

from collections.abc import Sequence
from typing import Final

from svc.analytics.rpc import AnalyticsHandler, answer
from svc.analytics.store import ReportStore, Store
from svc.analytics.usecases import Ports
from svc.chassis import idempotency, outbox, retention
from svc.chassis.clock import SystemClock
from svc.chassis.config import ConfigError
from svc.chassis.pages import PageTokens
from svc.chassis.resources import Resources
from svc.chassis.server import Service
from weft.analytics.v1 import analytics_pb2
from weft_protos import mesh_parts

#: The workers that note in this database what they have handled; `python -m worker reconcile` compares two of them.
CONSUMERS: Final = tuple(one.name for one in mesh_parts.WORKERS if one.database == "analytics")


def build(resources: Resources) -> Sequence[Service]:
    """The services of one instance."""
    database = resources.database
    if database is None:
        raise ConfigError(f"{resources.settings.secrets.secrets}: there is no file database-analytics.url")
    kept = (retention.inbox_of(*CONSUMERS), retention.POSITIONS, retention.IDEMPOTENCY)
    retention.sweep(resources, database, *kept)
    ports = Ports(
        transactions=database,
        sales=Store(),
        reports=ReportStore(),
        idempotency=idempotency,
        append=outbox.append,
        answer=answer,
        clock=SystemClock(),
    )
    handler = AnalyticsHandler(ports, PageTokens(resources.settings.secrets.cache_key()))
    return [(analytics_pb2.DESCRIPTOR.services_by_name["AnalyticsService"], handler)]
