"""Handlers against real databases, the consumer loop against a real broker, and mail over real SMTP."""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

import pika
import pytest
import sqlalchemy as sa

from svc.chassis import tables
from svc.chassis.database import Database
from tests.fakes.worker import (
    FakeHandler,
    envelope,
    event,
    order_cancelled,
    order_placed,
    user_created,
)
from tests.fakes.worker_smtp import smtp_server
from tests.integration.worker_databases import Migrated, databases, in_threads, through_outages
from tests.waiting import eventually
from worker import manifest, runner
from worker.amqp import topology
from worker.amqp.consumer import Consumer
from worker.amqp.depth import Depths
from worker.amqp.ladder import Ladder
from worker.amqp.publisher import Publisher
from worker.amqp.topology import work_queue
from worker.delivery import EXCHANGE, DeadLetter, Delivery, Event, Outgoing
from worker.errors import Outage, Permanent, Transient
from worker.handlers.analytics import handler as sales
from worker.handlers.analytics.handler import AnalyticsHandler, Totals
from worker.handlers.audit import log
from worker.handlers.audit.handler import AuditHandler
from worker.handlers.email import deliveries
from worker.handlers.email.deliveries import Deliveries
from worker.handlers.email.handler import EmailHandler
from worker.handlers.email.smtp import Smtp
from worker.handlers.reports import ledger
from worker.runner import Runner

ROOT = Path(__file__).resolve().parents[2]
STATED = {
    "audit": [log.METADATA],
    "email": [deliveries.METADATA],
    "analytics": [sales.METADATA, manifest.METADATA, ledger.METADATA],
}
QUEUES = tuple(queue.name for queue in topology.work_queues())


@pytest.fixture
def migrated(migrated_url: Callable[[str, str], str]) -> Iterator[Callable[[str], Migrated]]:
    with databases(migrated_url) as make:
        yield make


@pytest.mark.parametrize("name", sorted(STATED))
def test_the_tables_that_a_worker_states_are_those_it_finds(migrated: Callable[[str], Migrated], name: str) -> None:
    inspector = sa.inspect(migrated(name).engine)

    stated = [table for each in STATED[name] for table in each.sorted_tables]
    for table in (*stated, tables.inbox, tables.inbox_position):
        found = {
            column["name"]: (column["type"]._type_affinity, column["nullable"])
            for column in inspector.get_columns(table.name)
        }
        assert {column.name: (column.type._type_affinity, column.nullable) for column in table.columns} == found
        key = inspector.get_pk_constraint(table.name)["constrained_columns"]
        assert [column.name for column in table.primary_key] == key


def test_several_audit_workers_write_one_gap_free_chain(migrated: Callable[[str], Migrated]) -> None:
    audit = migrated("audit")
    events = [event(order_placed(f"orders/{n}")) for n in range(300)]

    def append(number: int) -> None:
        handler, mine = AuditHandler(audit.database), list(events)
        Random(number).shuffle(mine)
        for start in range(0, len(mine), 25):
            through_outages(handler, mine[start : start + 25])

    in_threads(3, append)

    with audit.engine.connect() as connection:
        rows = connection.execute(sa.select(log.audit_log).order_by(log.audit_log.c.sequence)).all()
        head = connection.execute(sa.select(log.audit_head)).one()
    assert list(range(1, 301)) == [row.sequence for row in rows]
    assert {one.id for one in events} == {str(row.event_id) for row in rows}
    by_id = {one.id: one for one in events}
    previous = log.GENESIS
    for row in rows:
        assert previous == bytes(row.previous_hash)
        previous = log.record_hash(previous, row.sequence, by_id[str(row.event_id)])
        assert previous == bytes(row.hash)
    assert (300, previous) == (head.sequence, bytes(head.hash))
    assert {"weft.orders.v1.OrderPlaced": 300} == audit.read(log.counts)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_log SET actor = 'eve'",
        "DELETE FROM audit_log",
        "TRUNCATE audit_log",
        "UPDATE audit_log SET actor = 'eve' WHERE sequence = 99",
    ],
)
def test_the_audit_log_refuses_to_be_changed(migrated: Callable[[str], Migrated], statement: str) -> None:
    audit = migrated("audit")
    AuditHandler(audit.database).handle([event(order_placed())])

    with audit.engine.connect() as connection, pytest.raises(sa.exc.DBAPIError, match="append-only"):
        connection.execute(sa.text(statement))


def test_the_roll_up_counts_every_event_once_however_often_it_comes(migrated: Callable[[str], Migrated]) -> None:
    analytics = migrated("analytics")
    events = [event(order_placed(minor=100)) for _ in range(60)] + [event(order_cancelled(minor=10)) for _ in range(20)]

    def add(number: int) -> None:
        handler, mine = AnalyticsHandler(analytics.database), events * 2
        Random(number).shuffle(mine)
        for start in range(0, len(mine), 20):
            through_outages(handler, mine[start : start + 20])

    in_threads(3, add)

    assert Totals(orders=60, cancellations=20, revenue_minor={"GBP": 5800}) == analytics.read(sales.totals)


def test_an_effect_that_fails_leaves_no_claim(migrated: Callable[[str], Migrated]) -> None:
    analytics = migrated("analytics")
    good, bad = event(order_placed(minor=100)), event(user_created())
    handler = AnalyticsHandler(analytics.database)

    with pytest.raises(Permanent):
        handler.handle([good, bad])
    handler.handle([good])

    assert 1 == analytics.read(sales.totals).orders


def test_a_database_that_is_away_is_an_outage() -> None:
    nowhere = Database("postgresql+psycopg://nobody@127.0.0.1:1/none", pool_size=1, name="audit")

    with pytest.raises(Outage):
        AuditHandler(nowhere).handle([event(order_placed())])
    nowhere.close()


class Pipeline:
    """One queue with its consumer loop, on a real broker."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.handler = FakeHandler()
        self.publisher = Publisher(url, name="test")
        self.consumer = Consumer(url, queue="weft.email", name="test")
        ladder = Ladder(self.publisher, work_queue("email"))
        self.runner = Runner(self.consumer, ladder, self.handler, queue="weft.email", batch_max=20)
        self.parts: Sequence[Any] = [self.publisher, self.consumer, self.runner]

    def __enter__(self) -> "Pipeline":
        self.publisher.start()
        assert self.publisher.ready(60)
        return self

    def __exit__(self, *_: object) -> None:
        for part in reversed(self.parts):
            part.stop(10)

    def consume(self) -> None:
        self.consumer.start()
        self.runner.start()

    def send(self, *payloads: Any, **changes: Any) -> list[str]:
        """Publish events as the relay does; their ids."""
        sealed = [envelope(payload) for payload in payloads]
        messages = [
            Outgoing(EXCHANGE, "orders.order.placed", changes.get("body", one.SerializeToString()), one.id, one.type)
            for one in sealed
        ]
        assert all(self.publisher.publish(messages, timeout_s=20))
        return [one.id for one in sealed]

    def depth(self, suffix: str = "") -> int:
        depths = Depths(self.url, [f"weft.email{suffix}"])
        try:
            return sum(depths.read().values())
        finally:
            depths.close()

    def dead(self) -> list[tuple[str, Any, bytes]]:
        """Take every dead letter: message id, headers, body."""
        connection = pika.BlockingConnection(pika.URLParameters(self.url))
        channel, found = connection.channel(), []
        while (got := channel.basic_get("weft.email.dead", auto_ack=True))[0] is not None:
            found.append((got[1].message_id, got[1].headers, got[2]))
        connection.close()
        return found

    def handled(self) -> Counter[str]:
        return Counter(one for batch in self.handler.batches for one in batch)


@pytest.fixture
def pipeline(amqp_url: str) -> Iterator[Pipeline]:
    with Pipeline(amqp_url) as running:
        yield running


def test_every_delivery_is_handled_and_acknowledged(pipeline: Pipeline) -> None:
    ids = pipeline.send(*(order_placed() for _ in range(500)))
    pipeline.consume()

    eventually(lambda: len(pipeline.handled()) == 500)
    for part in (pipeline.runner, pipeline.consumer):
        part.stop(10)

    assert dict.fromkeys(ids, 1) == pipeline.handled()
    assert 0 == pipeline.depth()


def test_garbage_is_dead_at_once_with_its_bytes_and_a_reason_and_others_flow(pipeline: Pipeline) -> None:
    pipeline.consume()
    [poison] = pipeline.send(order_placed(), body=b"\xff\xff")
    [good] = pipeline.send(order_placed())

    eventually(lambda: pipeline.handled()[good] == 1)
    eventually(lambda: pipeline.depth(".dead") == 1)

    [(dead, headers, body)] = pipeline.dead()
    assert (poison, b"\xff\xff", "body is not an envelope") == (dead, body, headers["x-weft-reason"])
    assert 0 == pipeline.handled()[poison]


def test_what_fails_for_now_comes_back_after_a_while(pipeline: Pipeline) -> None:
    [late] = pipeline.send(order_placed())
    pipeline.handler.errors = {late: Transient("not yet")}
    pipeline.consume()
    eventually(lambda: pipeline.handled()[late] == 1)

    pipeline.handler.errors = {}

    eventually(lambda: pipeline.handled()[late] == 2)
    eventually(lambda: pipeline.depth(".retry.1s") == 0)
    assert [] == pipeline.dead()


def test_what_always_fails_is_dead_after_five_deliveries(pipeline: Pipeline) -> None:
    [poison] = pipeline.send(order_placed())
    pipeline.handler.errors = {poison: Transient("never")}
    pipeline.consume()

    eventually(lambda: pipeline.depth(".dead") == 1)

    assert 5 == pipeline.handled()[poison]
    [(dead, headers, _)] = pipeline.dead()
    assert (poison, "failed 5 times, the last time: never") == (dead, headers["x-weft-reason"])


def test_what_was_not_acknowledged_comes_again_to_the_next_worker(amqp_url: str) -> None:
    with Pipeline(amqp_url) as first:
        ids = first.send(*(order_placed() for _ in range(5)))
        first.consumer.start()
        eventually(lambda: len(first.consumer.take(1, timeout_s=1)) == 1)

    with Pipeline(amqp_url) as second:
        second.consume()
        eventually(lambda: set(second.handled()) == set(ids))


def test_a_long_outage_gives_the_queue_back_what_is_in_hand_and_consumes_again_after_it(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "HOLD_S", 0.0)
    ids = pipeline.send(*(order_placed() for _ in range(50)))
    pipeline.handler.errors = {ids[0]: Outage("database away")}
    pipeline.consume()
    # What is in hand is not counted: all of it lies in the queue again.
    eventually(lambda: pipeline.depth() == 50)

    pipeline.handler.errors = {}
    eventually(lambda: set(ids) <= set(pipeline.handled()))
    eventually(lambda: pipeline.depth() == 0)
    for part in (pipeline.runner, pipeline.consumer):
        part.stop(10)

    assert (0, []) == (pipeline.depth(), pipeline.dead())


def test_a_worker_survives_its_broker(pipeline: Pipeline, rabbitmq: Any) -> None:
    pipeline.consume()
    before = pipeline.send(order_placed())

    rabbitmq.restart()
    assert pipeline.publisher.ready(120)
    after = pipeline.send(order_placed())

    eventually(lambda: set(before + after) <= set(pipeline.handled()), deadline_s=120)
    assert [True, True, True] == [part.alive() for part in pipeline.parts]


def test_facts_are_what_workers_have_done(
    migrated: Callable[[str], Migrated], pipeline: Pipeline, amqp_url: str, tmp_path: Path
) -> None:
    audit, email, analytics = (migrated(name) for name in ("audit", "email", "analytics"))
    for one in (audit, email, analytics):
        secret(tmp_path / f"database-{one.database.name}.url", one.url)
    secret(tmp_path / "amqp.url", amqp_url)
    sold: list[Event] = [event(order_placed(minor=250)), event(order_cancelled(minor=125))]
    AuditHandler(audit.database).handle(sold)
    AnalyticsHandler(analytics.database).handle(sold)
    with smtp_server() as inbox:
        smtp = Smtp(inbox.address)
        EmailHandler(Deliveries(email.database), smtp).handle([event(user_created()), *sold])
        smtp.close()
    received = Delivery(queue="weft.email", body=b"", message_id=None, type=None)
    Ladder(pipeline.publisher, work_queue("email")).move(received, DeadLetter("no"))
    eventually(lambda: pipeline.depth(".dead") == 1)

    ran = subprocess.run(
        [sys.executable, "-m", "worker", "facts"],
        cwd=ROOT,
        env={"WEFT_SECRETS": str(tmp_path), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )

    assert (0, "") == (ran.returncode, ran.stderr)
    assert {
        "audit": {"weft.orders.v1.OrderPlaced": 1, "weft.orders.v1.OrderCancelled": 1},
        "email": {"confirmations": 1, "cancellations": 1, "pending": 0},
        "rollup": {"orders": 1, "cancellations": 1, "revenue": {"GBP": 125}},
        "archive": {},
        "dead": {**dict.fromkeys(QUEUES, 0), "weft.email": 1},
        "queued": dict.fromkeys(QUEUES, 0),
    } == json.loads(ran.stdout)


def secret(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o600)
