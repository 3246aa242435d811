"""Two workers on one queue of a real broker: events of one order take effect in order, also when one is tried again."""

import threading
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence

import pytest
import sqlalchemy as sa

from tests.fakes.worker import envelope, order_cancelled, order_placed
from tests.integration.worker_databases import Migrated, databases
from tests.waiting import eventually
from weft.events.v1.envelope_pb2 import Envelope
from worker.amqp.consumer import Consumer
from worker.amqp.ladder import Ladder
from worker.amqp.publisher import Publisher
from worker.amqp.topology import work_queue
from worker.delivery import EXCHANGE, Event, Outgoing, unseal
from worker.errors import Transient
from worker.handlers.audit import log
from worker.handlers.audit.handler import AuditHandler
from worker.runner import Runner

ORDERS, REVISIONS = 20, 5


class FailsOnce:
    """The audit log, which takes the first event of every other order at the second try only."""

    def __init__(self, handler: AuditHandler, once: set[str]) -> None:
        self._handler = handler
        self._once = once
        self._lock = threading.Lock()

    def handle(self, events: Sequence[Event]) -> None:
        with self._lock:
            failing = next((event.id for event in events if event.id in self._once), "")
            if failing and len(events) == 1:
                self._once.discard(failing)
        if failing:
            raise Transient("not yet")
        self._handler.handle(events)

    def abandon(self, event: Event) -> None:
        self._handler.abandon(event)


@pytest.fixture
def audit(migrated_url: Callable[[str, str], str]) -> Iterator[Migrated]:
    with databases(migrated_url) as make:
        yield make("audit")


def history(order: str) -> list[Envelope]:
    found = []
    for revision in range(1, REVISIONS + 1):
        payload = order_placed(order) if revision == 1 else order_cancelled(order)
        payload.revision = revision
        sealed = envelope(payload)
        sealed.ordering_key = order
        found.append(sealed)
    return found


def recorded(audit: Migrated, orders: Sequence[str]) -> dict[str, list[int]]:
    with audit.engine.connect() as connection:
        rows = connection.execute(sa.select(log.audit_log.c.envelope).order_by(log.audit_log.c.sequence)).all()
    found: dict[str, list[int]] = defaultdict(list)
    for row in rows:
        event = unseal(bytes(row.envelope))
        found[event.ordering_key].append(event.position)
    return {order: found[order] for order in orders}


def test_two_workers_keep_the_order_of_each_key_through_the_retry_queues(amqp_url: str, audit: Migrated) -> None:
    orders = [f"orders/{uuid.uuid4()}" for _ in range(ORDERS)]
    histories = [history(order) for order in orders]
    once = {events[0].id for events in histories[::2]}
    publisher = Publisher(amqp_url, name="test")
    consumers = [Consumer(amqp_url, queue="weft.audit", name=f"test-{number}") for number in range(2)]
    ladder = Ladder(publisher, work_queue("audit"))
    handler = FailsOnce(AuditHandler(audit.database), once)
    runners = [Runner(each, ladder, handler, queue="weft.audit", batch_max=7) for each in consumers]
    parts = [publisher, *consumers, *runners]
    try:
        publisher.start()
        assert publisher.ready(60)
        # One revision of every order after the other: neighbours of one order come to different workers.
        waves = [[events[index] for events in histories] for index in range(REVISIONS)]
        for wave in waves:
            messages = [
                Outgoing(EXCHANGE, "orders.order.placed", one.SerializeToString(), one.id, one.type) for one in wave
            ]
            assert all(publisher.publish(messages, timeout_s=20))
        for part in (*consumers, *runners):
            part.start()

        expected = {order: list(range(1, REVISIONS + 1)) for order in orders}
        eventually(lambda: expected == recorded(audit, orders), deadline_s=90)
        assert expected == recorded(audit, orders)
        assert not once
    finally:
        for part in reversed(parts):
            part.stop(10)
