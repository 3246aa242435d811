"""Composes the thumbnails service: the only place that names its concrete classes together.

`__main__` hands `build` to the chassis, which opens what it asks for and closes it again.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from svc.chassis import outbox, retention
from svc.chassis.clock import SystemClock
from svc.chassis.config import ConfigError
from svc.chassis.context import Deadline
from svc.chassis.database import Database
from svc.chassis.pages import PageTokens
from svc.chassis.resources import Resources
from svc.chassis.server import Service
from svc.chassis.watches import Watches
from svc.thumbnails import rpc, usecases
from svc.thumbnails.store import ImageStore
from svc.thumbnails.usecases import Ports
from weft.thumbnails.v1 import thumbnails_pb2

# One look at all watched images.
_LOOK_S: Final = 2.0


def build(resources: Resources) -> Sequence[Service]:
    """The services of one instance."""
    database = resources.database
    secrets = resources.settings.secrets
    if database is None:
        raise ConfigError(f"{secrets.secrets}: there is no file database-thumbnails.url")
    retention.sweep(resources, database, retention.INBOX, retention.POSITIONS)
    service = thumbnails_pb2.DESCRIPTOR.services_by_name["ThumbnailsService"]
    images = ImageStore()
    watches = _watches(database, images)
    resources.add_background("image-watches", watches.start, watches.stop)
    ports = Ports(
        transactions=database,
        images=images,
        thumbnails=resources.cache.entry(service.methods_by_name["GetThumbnail"], rpc.CODEC),
        watches=watches,
        append=outbox.append,
        clock=SystemClock(),
    )
    return [(service, rpc.ThumbnailsHandler(ports, PageTokens(secrets.cache_key())))]


def _watches(database: Database, images: ImageStore) -> Watches:
    def revisions(ids: Sequence[str]) -> Mapping[str, int]:
        states = database.read(lambda tx: images.states(tx, ids), deadline=Deadline.after(_LOOK_S))
        return usecases.revisions(ids, states)

    return Watches(revisions, kind="images")
