"""Which parts make up each worker: the only place that names concrete doors. Called by `worker.__main__`.

Parts stop in the reverse of the order they are listed in: a runner finishes its batch while its broker connections
are still there, the consumer sends the last acknowledgements, the publisher goes last.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from svc.chassis import retention
from svc.chassis.clock import SystemClock
from svc.chassis.config import Secrets
from svc.chassis.context import Deadline
from svc.chassis.database import Database, Transaction
from svc.chassis.lifecycle import Background
from svc.chassis.resources import Resources
from weft_protos import caching
from worker import config, manifest
from worker.amqp import topology
from worker.amqp.consumer import Consumer
from worker.amqp.depth import DepthProbe, Depths
from worker.amqp.ladder import Ladder
from worker.amqp.publisher import Publisher
from worker.forgetting import Forgetting
from worker.handlers.analytics import handler as sales
from worker.handlers.analytics.handler import AnalyticsHandler
from worker.handlers.audit import log as audit_log
from worker.handlers.audit.handler import AuditHandler
from worker.handlers.email import deliveries, templates
from worker.handlers.email.handler import EmailHandler
from worker.handlers.email.smtp import Smtp
from worker.handlers.reports.desk import Desk, Places
from worker.handlers.reports.engine import Engine
from worker.handlers.reports.handler import ReportsHandler
from worker.noting import noting
from worker.relay import Relay, Relays
from worker.runner import Handler, Runner

T = TypeVar("T")
Facts = Mapping[str, "int | Facts"]

#: Name of the process in traces and logs, by the verb that starts it: the analytics service has the plain name.
NAMES: Final = {
    **{name: name for name in ("relay", "email", "audit", "archive", "reports")},
    "analytics": "analytics-worker",
}

#: Where the migrations of the databases lie that belong to workers.
MIGRATIONS: Final = {
    name: Path(__file__).parent / "handlers" / name / "migrations" for name in (deliveries.DATABASE, audit_log.DATABASE)
}

# Counting every row of a large table takes its time.
_FACTS_S: Final = 60.0
# A worker's loop uses one connection; the other is there when that one was found dead.
_CONNECTIONS: Final = 2
# Threads of one question: more than the machine has only get in each other's way.
_REPORT_THREADS: Final = 2


def relay(resources: Resources) -> Sequence[Background]:
    """The relay: one publisher, and a loop for each database with an outbox."""
    publisher = Publisher(resources.settings.secrets.amqp_url(), name=resources.settings.process.instance)
    resources.add_check("broker", lambda: publisher.ready(0.0))
    forgetting = Forgetting(publisher, resources.cache, outdated_by=caching.outdated_by())
    loops = [
        Relay(_database(resources, name), forgetting, name=name, routing_keys=topology.routing_keys())
        for name in config.OUTBOXES
    ]
    return [publisher, Relays(loops)]


def email(resources: Resources) -> Sequence[Background]:
    """The e-mail worker."""
    smtp = Smtp(config.Mail.read().smtp)
    resources.add_background("smtp", lambda: None, smtp.close)
    database = _database(resources, deliveries.DATABASE)
    retention.sweep(resources, database, retention.INBOX)
    handler = EmailHandler(deliveries.Deliveries(database), smtp)
    return _consuming(resources, "email", handler, batch_max=config.MAIL_BATCH)


def audit(resources: Resources) -> Sequence[Background]:
    """The audit worker."""
    database = _database(resources, audit_log.DATABASE)
    retention.sweep(resources, database, retention.INBOX)
    handler = AuditHandler(database)
    return _consuming(resources, "audit", handler, batch_max=config.TRANSACTION_BATCH)


def analytics(resources: Resources) -> Sequence[Background]:
    """The analytics worker."""
    handler = AnalyticsHandler(_database(resources, sales.DATABASE))
    return _consuming(resources, "analytics", handler, batch_max=config.TRANSACTION_BATCH)


def archive(resources: Resources) -> Sequence[Background]:
    """The archive worker."""
    # Here and not above: they bring Arrow with them, and no other worker is to carry its 70 MB.
    from worker.handlers.archive.folder import Folder
    from worker.handlers.archive.handler import ArchiveHandler
    from worker.handlers.archive.upkeep import Upkeep

    settings = config.Archive.read()
    database, folder = _database(resources, manifest.DATABASE), Folder(settings.events)
    upkeep = Upkeep(database, folder, keep=settings.keep, clock=SystemClock())
    handler = ArchiveHandler(database, folder)
    return [upkeep, *_consuming(resources, "archive", handler, batch_max=config.ARCHIVE_BATCH)]


def reports(resources: Resources) -> Sequence[Background]:
    """The reports worker."""
    settings = config.Archive.read()
    threads = min(_REPORT_THREADS, os.cpu_count() or 1)
    database = _database(resources, manifest.DATABASE)
    start_engine = partial(_engine, settings.report_memory_mb, threads)
    desk = Desk(database, Places(archive=settings.events, work=settings.work), start_engine)
    handler = ReportsHandler(database, desk.wake)
    return [desk, *_consuming(resources, "reports", handler, batch_max=config.TRANSACTION_BATCH)]


#: What each verb runs.
BUILDERS: Final[Mapping[str, Callable[[Resources], Sequence[Background]]]] = {
    "relay": relay,
    "email": email,
    "audit": audit,
    "analytics": analytics,
    "archive": archive,
    "reports": reports,
}


def facts(secrets: Secrets) -> Facts:
    """What workers have done, and what lies in the queues, as numbers to be compared with other parts of the mesh."""
    mails = _read(secrets, deliveries.DATABASE, deliveries.counts)
    totals = _read(secrets, sales.DATABASE, sales.totals)
    queues = topology.work_queues()
    depths = Depths(secrets.amqp_url(), [name for queue in queues for name in queue.names])
    try:
        lying = depths.read()
    finally:
        depths.close()
    return {
        "audit": _read(secrets, audit_log.DATABASE, audit_log.counts),
        "email": {
            "confirmations": mails.sent.get(templates.ORDER_PLACED, 0),
            "cancellations": mails.sent.get(templates.ORDER_CANCELLED, 0),
            "pending": mails.pending,
        },
        "rollup": {
            "orders": totals.orders,
            "cancellations": totals.cancellations,
            "revenue": totals.revenue_minor,
        },
        "archive": _read(secrets, manifest.DATABASE, manifest.counts),
        "dead": {queue.name: lying[queue.dead] for queue in queues},
        "queued": {queue.name: lying[queue.name] + sum(map(lying.__getitem__, queue.retries)) for queue in queues},
    }


def read_archive(secrets: Secrets, query: Callable[[Transaction], T]) -> T:
    """Ask the database that holds the manifest of the archive, and the roll-up."""
    return _read(secrets, manifest.DATABASE, query)


def _consuming(resources: Resources, worker: str, handler: Handler, *, batch_max: int) -> Sequence[Background]:
    queue = topology.work_queue(worker)
    url, instance = resources.settings.secrets.amqp_url(), resources.settings.process.instance
    # Two connections: a broker that blocks publishers must not keep acknowledgements from coming through.
    publisher = Publisher(url, name=instance)
    consumer = Consumer(url, queue=queue.name, name=instance)
    noted = noting(resources, worker, handler, topology.event_types(worker))
    resources.add_check("broker", lambda: publisher.ready(0.0))
    runner = Runner(consumer, Ladder(publisher, queue), noted, queue=queue.name, batch_max=batch_max)
    return [publisher, consumer, DepthProbe(Depths(url, queue.names)), runner]


def _engine(memory_mb: int, threads: int, spill: Path) -> Engine:
    return Engine(memory_mb=memory_mb, threads=threads, spill=spill)


def _database(resources: Resources, name: str) -> Database:
    database = Database(resources.settings.secrets.database_url(name), pool_size=_CONNECTIONS, name=name)
    resources.add_background(f"database-{name}", lambda: None, database.close)
    resources.add_check(f"database-{name}", database.ping)
    return database


def _read(secrets: Secrets, name: str, query: Callable[[Transaction], T]) -> T:
    database = Database(secrets.database_url(name), pool_size=1, name=name)
    try:
        return database.read(query, deadline=Deadline.after(_FACTS_S))
    finally:
        database.close()
