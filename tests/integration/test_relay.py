"""The relay against a real database, and a real broker where the broker matters."""

import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.migration import MigrationContext
from alembic.operations import Operations

from svc.chassis import metrics, outbox, tables
from svc.chassis.bounded import parse_url
from svc.chassis.context import Deadline
from svc.chassis.database import Database
from svc.chassis.errors import AppError
from tests.fakes.worker import USER, FakePublisher, order_cancelled, order_placed
from tests.waiting import eventually
from weft.identity.v1.events_pb2 import UserChanged
from worker import relay as relay_module
from worker.amqp import topology
from worker.amqp.depth import Depths
from worker.amqp.publisher import Publisher
from worker.delivery import Outgoing, unseal
from worker.errors import Outage
from worker.relay import BATCH_MAX, Relay, backlog

ORDERS = "orders"


class Outbox:
    """One database with an outbox."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.engine = sa.create_engine(parse_url(url))
        with self.engine.begin() as connection:
            operations = Operations(MigrationContext.configure(connection))
            tables.create_outbox(operations)
            tables.create_outbox_retention(operations)
        self.database = Database(url, pool_size=4, name=ORDERS)

    def append(self, keys: Sequence[str]) -> list[str]:
        """Append one event a key, each in a transaction of its own; their ids."""
        events = [outbox.event(order_placed(key), source=ORDERS, call=None) for key in keys]
        for one in events:
            self.database.serializable(lambda tx, one=one: outbox.append(tx, [one]), deadline=Deadline.after(10))
        return [one.id for one in events]

    def pending(self) -> int:
        return self.database.read_committed(backlog, deadline=Deadline.after(10))[0]

    def marked(self) -> dict[str, Any]:
        """When each row was published, by id."""
        with self.engine.connect() as connection:
            rows = connection.execute(sa.select(tables.outbox.c.id, tables.outbox.c.publish_time)).all()
        return {str(row.id): row.publish_time for row in rows}

    def ids(self) -> list[str]:
        return list(self.marked())

    def age(self, *, published: Sequence[str], by: str) -> None:
        """Have these been published that long ago."""
        with self.engine.begin() as connection:
            connection.execute(
                sa.text("UPDATE outbox SET publish_time = now() - CAST(:by AS interval) WHERE id = ANY(:ids)"),
                {"by": by, "ids": [uuid.UUID(one) for one in published]},
            )

    def counts(self) -> dict[str, int]:
        return self.database.read(outbox.counts, deadline=Deadline.after(10))

    def relay(self, publisher: Any) -> Relay:
        return Relay(self.database, publisher, name=ORDERS, routing_keys=topology.routing_keys())

    def close(self) -> None:
        self.database.close()
        self.engine.dispose()


@pytest.fixture
def box(postgres_url: Callable[[str], str]) -> Iterator[Outbox]:
    opened = Outbox(postgres_url(ORDERS))
    yield opened
    opened.close()


class FlakyPublisher(FakePublisher):
    """Takes most of what it gets, from several threads, and keeps it in the order it was taken."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._random = Random(seed)
        self._lock = threading.Lock()

    def publish(self, messages: Sequence[Outgoing], *, timeout_s: float) -> list[bool]:
        with self._lock:
            if self._random.random() < 0.1:
                raise Outage("broker away")
            taken = [self._random.random() > 0.05 for _ in messages]
            self.published += [message for message, was in zip(messages, taken, strict=True) if was]
            return taken


def test_rows_are_published_in_the_order_of_their_keys_and_marked(box: Outbox) -> None:
    publisher = FakePublisher()
    ids = box.append(["orders/1", "orders/2", "orders/1"])

    relay = box.relay(publisher)

    assert 3 == relay.drain_once().published
    assert [ids[0], ids[1], ids[2]] == [message.message_id for message in publisher.published]
    assert {"weft.events"} == {message.exchange for message in publisher.published}
    assert {"orders.order.placed"} == {message.routing_key for message in publisher.published}
    assert 0 == box.pending()
    assert 0 == relay.drain_once().published


def test_what_was_refused_or_unknown_stays(box: Outbox) -> None:
    ids = box.append(["orders/1", "orders/1", "orders/2"])
    publisher = FakePublisher(refused={ids[0]})

    assert 1 == box.relay(publisher).drain_once().published
    assert [ids[0], ids[2]] == [message.message_id for message in publisher.published]
    assert 2 == box.pending()

    publisher.refused = set()
    publisher.outages = 1
    with pytest.raises(Outage):
        box.relay(publisher).drain_once()
    assert 2 == box.pending()
    assert 2 == box.relay(publisher).drain_once().published


def test_a_row_that_another_relay_holds_keeps_the_later_rows_of_its_key_back(box: Outbox) -> None:
    ids = box.append(["orders/1", "orders/2", "orders/1"])
    publisher = FakePublisher()

    with box.engine.begin() as other:
        other.execute(sa.text("SELECT id FROM outbox ORDER BY sequence LIMIT 1 FOR UPDATE"))
        assert 1 == box.relay(publisher).drain_once().published

    assert [ids[1]] == [message.message_id for message in publisher.published]
    assert 2 == box.relay(publisher).drain_once().published
    assert [ids[1], ids[0], ids[2]] == [message.message_id for message in publisher.published]


class Stopped(FakePublisher):
    """Stops, as its whole process may, before it writes its second wave; wakes when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.asleep, self.wake = threading.Event(), threading.Event()

    def publish(self, messages: Sequence[Outgoing], *, timeout_s: float) -> list[bool]:
        if self.published:
            until = Deadline.after(timeout_s)
            self.asleep.set()
            assert self.wake.wait(60)
            if until.expired():
                # What `worker.amqp.publisher` does, see its own test.
                raise Outage("the time to publish was over before it began")
        return super().publish(messages, timeout_s=timeout_s)


def test_a_relay_that_was_stopped_and_wakes_after_another_went_on_publishes_and_marks_nothing(
    box: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay_module, "TRANSACTION_S", 2.0)
    monkeypatch.setattr(relay_module, "LOCKS_OUTLAST_S", 0.5)
    ids = box.append(["orders/1"] * 3)
    stopped, going_on = Stopped(), FakePublisher()
    failures: list[BaseException] = []

    def drain() -> None:
        try:
            box.relay(stopped).drain_once()
        except (Outage, AppError) as error:
            failures.append(error)

    old = threading.Thread(target=drain)
    old.start()
    assert stopped.asleep.wait(60)
    # The server ends the silent transaction by itself, and nobody else can have the rows before.
    assert 0 == box.relay(going_on).drain_once().published
    new = box.relay(going_on)
    eventually(lambda: new.drain_once().published == 3)
    ids += box.append(["orders/1"])
    assert 1 == new.drain_once().published
    marked = box.marked()
    stopped.wake.set()
    old.join(60)

    assert 1 == len(failures)
    assert [ids[0]] == [message.message_id for message in stopped.published]
    assert ids == [message.message_id for message in going_on.published]
    assert marked == box.marked()


def test_a_broker_that_is_too_slow_for_a_batch_is_given_less_and_then_more_again(box: Outbox) -> None:
    box.append([f"orders/{n}" for n in range(60)])
    publisher = FakePublisher(outages=5)
    relay = box.relay(publisher)
    for _ in range(5):
        with pytest.raises(Outage):
            relay.drain_once()

    taken = []
    while not taken or taken[-1]:
        taken.append(relay.drain_once().published)

    assert [15, 30, 15, 0] == taken


def test_what_was_kept_for_long_enough_is_swept_and_goes_on_being_counted(box: Outbox) -> None:
    swept = box.append([f"orders/{n}" for n in range(5)])
    fresh, waiting = box.append(["orders/5"]), box.append(["orders/6"])
    kept = outbox.event(UserChanged(user=USER), source=ORDERS, call=None)
    box.database.serializable(lambda tx: outbox.append(tx, [kept]), deadline=Deadline.after(10))
    box.age(published=[*swept, kept.id], by="30 days")
    box.age(published=fresh, by="1 minute")
    before = box.counts()

    relay = box.relay(FakePublisher(is_ready=False))
    relay.sweep()
    relay.sweep()

    assert sorted([*fresh, *waiting, kept.id]) == sorted(box.ids())
    assert before == box.counts()
    assert {"weft.orders.v1.OrderPlaced": 7, "weft.identity.v1.UserChanged": 1} == before


class FullQueue(FakePublisher):
    """Refuses the events of some orders, and counts how often it was asked."""

    def __init__(self, orders: Sequence[str]) -> None:
        super().__init__()
        self.orders: set[str] = set(orders)
        self.asked = 0

    def publish(self, messages: Sequence[Outgoing], *, timeout_s: float) -> list[bool]:
        self.asked += 1
        taken = [unseal(message.body).payload.order not in self.orders for message in messages]
        self.published += [message for message, was in zip(messages, taken, strict=True) if was]
        return taken


def test_more_refused_rows_than_a_batch_holds_keep_no_other_key_waiting(box: Outbox) -> None:
    full = [f"orders/full-{n}" for n in range(2 * BATCH_MAX)]
    box.append(full)
    [last_of_full, other] = box.append([full[0], "orders/other"])
    publisher = FullQueue(full)
    relay = box.relay(publisher)
    relay.start()
    try:
        eventually(lambda: len(publisher.published) == 1)
        assert [other] == [message.message_id for message in publisher.published]

        publisher.orders = set()
        eventually(lambda: box.pending() == 0)
    finally:
        relay.stop(20)

    order = [message.message_id for message in publisher.published]
    assert 2 * BATCH_MAX + 2 == len(order)
    first = next(one.message_id for one in publisher.published if unseal(one.body).payload.order == full[0])
    assert order.index(first) < order.index(last_of_full)


def test_a_broker_that_refuses_everything_is_asked_less_and_less(box: Outbox) -> None:
    box.append(["orders/1"])
    publisher = FullQueue(["orders/1"])
    relay = box.relay(publisher)
    relay.start()
    try:
        eventually(lambda: publisher.asked == 3)
        threading.Event().wait(3)
    finally:
        relay.stop(20)

    # Without a pause that grows it would be asked twenty times a second.
    assert 12 >= publisher.asked
    assert 1 == box.pending()


@pytest.mark.parametrize("seed", range(3))
def test_relays_beside_each_other_and_a_bad_broker_lose_nothing_and_keep_every_keys_order(
    box: Outbox, seed: int
) -> None:
    publisher = FlakyPublisher(seed)
    keys = [f"orders/{Random(n).randrange(7)}" for n in range(600)]
    relays = [box.relay(publisher) for _ in range(3)]
    ids: list[str] = []
    try:
        for relay in relays:
            relay.start()
        for start in range(0, len(keys), 50):
            ids += box.append(keys[start : start + 50])
        eventually(lambda: box.pending() == 0)
    finally:
        for relay in relays:
            relay.stop(20)

    first_sent: dict[str | None, int] = {}
    for position, message in enumerate(publisher.published):
        first_sent.setdefault(message.message_id, position)
    assert set(ids) == set(first_sent)
    by_key: defaultdict[str, list[int]] = defaultdict(list)
    for key, event_id in zip(keys, ids, strict=True):
        by_key[key].append(first_sent[event_id])
    assert {key: sorted(positions) for key, positions in by_key.items()} == by_key


def test_the_backlog_is_measured_while_the_broker_is_away(box: Outbox) -> None:
    box.append(["orders/1", "orders/2"])
    relay = box.relay(FakePublisher(is_ready=False))
    relay.start()
    try:
        eventually(lambda: metrics.OUTBOX_PENDING.labels(ORDERS)._value.get() == 2)
        eventually(lambda: metrics.OUTBOX_OLDEST.labels(ORDERS)._value.get() > 0)
    finally:
        relay.stop(20)

    assert 2 == box.pending()


def test_a_database_that_is_away_stops_only_its_own_relay(box: Outbox) -> None:
    nowhere = Database("postgresql+psycopg://nobody@127.0.0.1:1/none", pool_size=1, name="catalog")
    publisher = FakePublisher()
    relays = [Relay(nowhere, publisher, name="catalog", routing_keys={}), box.relay(publisher)]
    try:
        for relay in relays:
            relay.start()
        box.append(["orders/1"])
        eventually(lambda: box.pending() == 0)
        assert [True, True] == [relay.alive() for relay in relays]
    finally:
        for relay in relays:
            relay.stop(20)
        nowhere.close()


@pytest.fixture
def publisher(amqp_url: str) -> Iterator[Publisher]:
    opened = Publisher(amqp_url, name="test")
    opened.start()
    yield opened
    opened.stop(10)
    assert not opened.alive()


def depth(url: str, queue: str) -> int:
    depths = Depths(url, [queue])
    try:
        return depths.read()[queue]
    except Outage:
        return -1
    finally:
        depths.close()


def test_an_event_reaches_the_queues_its_contract_names(box: Outbox, publisher: Publisher, amqp_url: str) -> None:
    assert publisher.ready(60)
    box.append(["orders/1"])
    cancelled = outbox.event(order_cancelled(), source=ORDERS, call=None)
    box.database.serializable(lambda tx: outbox.append(tx, [cancelled]), deadline=Deadline.after(10))

    assert 2 == box.relay(publisher).drain_once().published

    for queue in ("weft.audit", "weft.email", "weft.analytics"):
        eventually(lambda queue=queue: depth(amqp_url, queue) == 2)


def test_a_message_that_no_queue_takes_is_not_published(publisher: Publisher) -> None:
    assert publisher.ready(60)
    nowhere = Outgoing("", "weft.no-such-queue", b"", "one", "t")
    somewhere = Outgoing("", "weft.email.dead", b"", "two", "t")

    assert [False, True] == publisher.publish([nowhere, somewhere], timeout_s=20)


def test_more_than_one_window_is_confirmed_in_order(publisher: Publisher, amqp_url: str) -> None:
    assert publisher.ready(60)
    messages = [Outgoing("", "weft.email.dead", b"", str(n), "t") for n in range(1000)]

    assert [True] * 1000 == publisher.publish(messages, timeout_s=60)
    eventually(lambda: depth(amqp_url, "weft.email.dead") == 1000)


def test_the_outbox_drains_by_itself_after_the_broker_was_away(
    box: Outbox, publisher: Publisher, amqp_url: str, rabbitmq: Any
) -> None:
    assert publisher.ready(60)
    relay = box.relay(publisher)
    relay.start()
    try:
        restarting = threading.Thread(target=rabbitmq.restart)
        restarting.start()
        for _ in range(20):
            box.append([f"orders/{n}" for n in range(10)])
        restarting.join()
        began, left = time.monotonic(), box.pending()
        eventually(lambda: box.pending() == 0, deadline_s=120)
        print(f"\n{left} events went out within {time.monotonic() - began:.1f} s of the broker's return")
        assert relay.alive()
    finally:
        relay.stop(20)

    # More than 200 where the broker went away between taking and confirming.
    eventually(lambda: depth(amqp_url, "weft.audit") >= 200)
