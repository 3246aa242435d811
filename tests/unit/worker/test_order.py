"""Events of one key take effect in their order, in any number of workers: on a real database, from a queue in memory.

The queue does what a broker may do: it hands out to several workers at once, again after one has died, and late what
went through a retry queue. The ladder and its headers are the real ones.
"""

import threading
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from random import Random

import pytest
import sqlalchemy as sa

from deploy.supervisor.workspace import temporary
from svc.chassis import migrate
from svc.chassis.context import Deadline
from svc.chassis.database import Database
from tests import postgres_pair
from tests.fakes.worker import NOON, delivery, envelope, order_cancelled, order_placed
from tests.postgres_pair import PostgresServer
from weft.events.v1.envelope_pb2 import Envelope
from worker import delivery as deliveries
from worker import wiring
from worker.amqp.ladder import Ladder
from worker.amqp.topology import work_queue
from worker.delivery import Delivery, Event, Outgoing, decode
from worker.errors import Early, Permanent, Transient
from worker.handlers.audit import log
from worker.handlers.audit.handler import AuditHandler
from worker.handlers.email.deliveries import Deliveries, Mail, Recipient
from worker.runner import Handler, Runner

ORDERS, REVISIONS, WORKERS = 8, 5, 3


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with temporary() as folder, postgres_pair.leader(folder) as started:
        yield started


def migrated(server: PostgresServer, kind: str) -> Database:
    server.execute(f"CREATE DATABASE {kind}")
    url = server.url(database=kind)
    migrate.upgrade(url, str(wiring.MIGRATIONS[kind]))
    return Database(url, pool_size=WORKERS + 1, name=kind)


@pytest.fixture(scope="module")
def audit(server: PostgresServer) -> Iterator[Database]:
    database = migrated(server, "audit")
    yield database
    database.close()


@pytest.fixture(scope="module")
def email(server: PostgresServer) -> Iterator[Database]:
    database = migrated(server, "email")
    yield database
    database.close()


@pytest.fixture
def order() -> str:
    """One that no other test knows."""
    return f"orders/{uuid.uuid4()}"


def history(order: str, revision: int) -> Envelope:
    """The event that made an order this revision."""
    payload = order_placed(order) if revision == 1 else order_cancelled(order)
    payload.revision = revision
    sealed = envelope(payload)
    sealed.ordering_key = order
    return sealed


def event(order: str, revision: int, *, waited_ms: int = 0) -> Event:
    came = delivery(history(order, revision))
    return decode(Delivery(came.queue, came.body, came.message_id, came.type, headers={"x-weft-waited": waited_ms}))


@dataclass
class Broker:
    """A queue and its retry queues: whatever comes back is handed out again after all that lies there."""

    lying: list[Delivery]
    chance: Random
    lock: threading.Lock = field(default_factory=threading.Lock)
    in_hand: int = 0
    dead: list[str | None] = field(default_factory=list)

    def publish(self, messages: Sequence[Outgoing], *, timeout_s: float) -> list[bool]:
        for message in messages:
            if message.routing_key.endswith(".dead"):
                self.dead.append(message.message_id)
            else:
                came = Delivery("weft.audit", message.body, message.message_id, message.type, headers=message.headers)
                with self.lock:
                    self.lying.append(came)
        return [True] * len(messages)

    def take(self, limit: int) -> list[Delivery]:
        with self.lock:
            found, self.lying = self.lying[:limit], self.lying[limit:]
            self.in_hand += len(found)
            return found

    def settle(self, batch: Sequence[Delivery], *, again: bool) -> None:
        with self.lock:
            self.in_hand -= len(batch)
            self.lying[:0] = batch if again else []

    def empty(self) -> bool:
        with self.lock:
            return not self.lying and not self.in_hand


class Hand:
    """What the runner needs of a consumer that is handed its batches."""

    def take(self, limit: int, *, timeout_s: float) -> list[Delivery]:
        return []

    def holds(self, delivery: Delivery) -> bool:
        return True

    def acknowledge(self, last: Delivery) -> None:
        """The broker is told by whoever made the batch."""

    def cancel(self) -> None:
        """Nothing is asked for."""

    give_back = resume = cancel


@dataclass
class Fails:
    """A handler that fails now and then, before or after its effect."""

    handler: Handler
    chance: Random
    poison: frozenset[str] = frozenset()

    def handle(self, events: Sequence[Event]) -> None:
        if any(each.id in self.poison for each in events):
            raise Permanent("poison")
        if self.chance.random() < 0.1:
            raise Transient("not yet")
        self.handler.handle(events)
        if self.chance.random() < 0.05:
            raise Transient("after its effect")

    def abandon(self, event: Event) -> None:
        self.handler.abandon(event)


def work_off(broker: Broker, make_handler: Callable[[Random], Handler], seed: int) -> None:
    """Several workers until nothing is left; one dies now and then, before it could acknowledge."""
    failures: list[BaseException] = []

    def worker(number: int) -> None:
        chance, ladder = Random(seed * 100 + number), Ladder(broker, work_queue("audit"))
        runner = Runner(Hand(), ladder, make_handler(chance), queue="weft.audit", batch_max=10)
        try:
            while not failures and not broker.empty():
                batch = broker.take(chance.randint(1, 8))
                if batch:
                    runner.settle(batch)
                    broker.settle(batch, again=chance.random() < 0.1)
        except BaseException as error:  # noqa: BLE001 - raised again below
            failures.append(error)

    threads = [threading.Thread(target=worker, args=(number,)) for number in range(WORKERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def recorded(database: Database, *orders: str) -> dict[str, list[int]]:
    """By order, the revisions in the order in which they were recorded."""
    rows = database.read(
        lambda tx: tx.execute(sa.select(log.audit_log.c.envelope).order_by(log.audit_log.c.sequence)).all(),
        deadline=Deadline.after(10),
    )
    found: dict[str, list[int]] = defaultdict(list)
    for row in rows:
        kept = deliveries.unseal(bytes(row.envelope))
        found[kept.ordering_key].append(kept.position)
    return {order: found[order] for order in orders}


@pytest.mark.parametrize("seed", range(2))
def test_each_key_keeps_its_order_whatever_fails_dies_or_comes_twice(audit: Database, order: str, seed: int) -> None:
    chance, orders = Random(seed), [f"{order}-{number}" for number in range(ORDERS)]
    published = [
        delivery(history(each, revision), queue="weft.audit") for revision in range(1, REVISIONS + 1) for each in orders
    ]
    doubles = [chance.choice(published) for _ in range(10)]

    broker = Broker([*published, *doubles], chance)
    work_off(broker, lambda chance: Fails(AuditHandler(audit), chance), seed)

    assert [] == broker.dead
    assert {each: list(range(1, REVISIONS + 1)) for each in orders} == recorded(audit, *orders)


def test_nobody_waits_for_a_dead_letter_and_one_that_is_sent_back_takes_effect(audit: Database, order: str) -> None:
    published = [delivery(history(order, revision), queue="weft.audit") for revision in (1, 2, 3)]
    poison = frozenset({str(published[1].message_id)})

    broker = Broker(list(published), Random(1))
    work_off(broker, lambda _: Fails(AuditHandler(audit), Random(3), poison), seed=1)
    without = recorded(audit, order)
    AuditHandler(audit).handle([decode(published[1])])

    assert [published[1].message_id] == broker.dead
    assert {order: [1, 3]} == without
    assert {order: [1, 3, 2]} == recorded(audit, order)


def test_early_ones_are_named_and_keep_nobody_else_waiting(audit: Database, order: str) -> None:
    handler, other = AuditHandler(audit), f"{order}-other"
    unconcerned, early, behind_it = event(other, 1), event(order, 2), event(order, 3)

    with pytest.raises(Early) as refused:
        handler.handle([unconcerned, early, behind_it])
    handler.handle([unconcerned])
    handler.handle([behind_it, early, event(order, 1)])

    assert {early.id, behind_it.id} == refused.value.event_ids
    assert {order: [1, 2, 3], other: [1]} == recorded(audit, order, other)


def test_who_has_waited_for_a_quarter_of_an_hour_goes_on(audit: Database, order: str) -> None:
    AuditHandler(audit).handle([event(order, 3, waited_ms=900_000)])
    AuditHandler(audit).handle([event(order, 4)])

    assert {order: [3, 4]} == recorded(audit, order)


def test_an_event_of_before_the_count_neither_waits_nor_is_waited_for(audit: Database, order: str) -> None:
    AuditHandler(audit).handle([event(order, 0)])

    with pytest.raises(Early):
        AuditHandler(audit).handle([event(order, 2)])
    assert {order: [0]} == recorded(audit, order)


def mail(order: str, revision: int) -> Mail:
    asks = event(order, revision)
    # A user of its own for each order: who has no address yet is the test's to say.
    return Mail(asks.id, "order", f"users/{order}", NOON, b"kept", stream=asks.stream, position=asks.position)


def tell_address(remembered: Deliveries, order: str) -> list[str]:
    person = Recipient(f"users/{order}", "Ada", "ada@example.org")
    return remembered.remember({str(uuid.uuid4()): person})


@pytest.mark.parametrize("end", ["sent", "refused"])
def test_a_mail_goes_out_after_the_one_before_it_is_out_or_never_will_be(email: Database, order: str, end: str) -> None:
    remembered = Deliveries(email)
    tell_address(remembered, order)
    placed, cancelled = mail(order, 1), mail(order, 2)

    remembered.reserve([placed])
    with pytest.raises(Early):
        remembered.reserve([cancelled])
    if end == "sent":
        remembered.mark_sent([placed.id])
    else:
        remembered.refuse(placed.id)

    assert {cancelled.id} == set(remembered.reserve([cancelled]))


def test_mails_of_one_batch_need_not_wait_for_each_other(email: Database, order: str) -> None:
    remembered = Deliveries(email)
    tell_address(remembered, order)
    both = [mail(order, 2), mail(order, 1)]

    assert {each.id for each in both} == set(remembered.reserve(both))


def test_a_mail_does_not_wait_for_one_that_waits_for_its_address(email: Database, order: str) -> None:
    remembered = Deliveries(email)
    placed, cancelled = mail(order, 1), mail(order, 2)

    assert ({}, {}) == (remembered.reserve([placed]), remembered.reserve([cancelled]))
    assert {placed.id, cancelled.id} == set(tell_address(remembered, order))
