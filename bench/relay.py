"""How fast the relay publishes an outbox, beside ways to publish without one, and how fast it drains after an outage.

A PostgreSQL and a RabbitMQ of the bench's own, and events of 300 bytes to one quorum queue that nobody consumes. The
relay runs as in its process; what is timed begins with its first batch and ends when the last row is marked published.
The peers publish the same bytes, persistent and `mandatory`, through the same exchange: pika one by one, each confirmed
before the next; the relay's own publisher without a database; and RabbitMQ's PerfTest with the same window, a Java
program that Maven fetches, left out where there is no Java. Rates are of the wall clock, since the broker is the larger
part on every side: sides take turns, and the figures are ratios of medians.

Draining: events come in at a fixed rate, each in a transaction of its own, while the relay works off what has gathered
in ten minutes of that rate.
"""

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import pika
import psycopg
import sqlalchemy as sa
from alembic.migration import MigrationContext
from alembic.operations import Operations

from bench import perf_test, report
from bench.measure import in_turns, summary
from bench.report import ROOT, BenchError, Claim, ratio
from deploy.supervisor import single
from deploy.supervisor.workspace import temporary
from svc.chassis import tables
from svc.chassis.bounded import parse_url
from svc.chassis.database import Database
from worker.amqp import topology
from worker.amqp.publisher import WINDOW, Publisher
from worker.delivery import EXCHANGE, Outgoing
from worker.relay import Relay

#: An event that reaches one queue alone.
TYPE: Final = "weft.orders.v1.StockDepleted"
KEY: Final = topology.routing_keys()[TYPE]
QUEUE: Final = "weft.audit"
BODY: Final = bytes(300)
OUTAGE_S: Final = 600
PERF_TEST_S: Final = 12
START_S: Final = 60.0
_POLL_S: Final = 0.05
_ROW: Final = "gen_random_uuid(), %s, 'key/' || n, %s, ''"
_FILL: Final = (
    f"INSERT INTO outbox (id, type, ordering_key, envelope, traceparent) SELECT {_ROW} FROM generate_series(1, %s) AS n"
)
_APPEND: Final = (
    f"INSERT INTO outbox (id, type, ordering_key, envelope, traceparent) SELECT {_ROW} FROM (SELECT %s::int) AS one (n)"
)
_UNPUBLISHED: Final = "SELECT count(*) FROM (SELECT FROM outbox WHERE publish_time IS NULL LIMIT %s) AS left_over"


@dataclass(frozen=True, slots=True)
class Ground:
    """The servers."""

    database: str
    amqp: str

    @contextlib.contextmanager
    def sql(self) -> Iterator[psycopg.Connection[Any]]:
        """A connection past SQLAlchemy."""
        with psycopg.connect(self.database.replace("+psycopg", ""), autocommit=True) as connection:
            yield connection

    def fill(self, events: int) -> None:
        """Have so many events wait in the outbox, and none lie in the queue."""
        with self.sql() as connection:
            connection.execute("TRUNCATE outbox")
            connection.execute(_FILL, (TYPE, BODY, events))
            connection.execute("VACUUM ANALYZE outbox")
        with contextlib.closing(pika.BlockingConnection(pika.URLParameters(self.amqp))) as connection:
            connection.channel().queue_purge(QUEUE)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--events", type=report.whole, default=20_000, help="events of a turn (default 20000)")
    parser.add_argument("--rounds", type=report.whole, default=3, help="turns of each side (default 3)")
    parser.add_argument("--inflow", type=report.whole, default=200, help="events a second that come in (default 200)")


def measure(options: argparse.Namespace) -> list[Claim]:
    with temporary() as folder, _ground(folder) as ground:
        sides: dict[str, Callable[[], float]] = {
            "relay": partial(_relay, ground, options.events),
            "pika, one by one": partial(_one_by_one, ground, max(1, options.events // 10)),
            "publisher alone": partial(_publisher, ground, options.events),
        }
        if perf_test.available():
            sides["PerfTest"] = partial(_perf_test, ground)
        rates = in_turns(sides, options.rounds)
        drained, came = _drain(ground, options.inflow)
    found = {name: statistics.median(samples) for name, samples in rates.items()}
    told = {"unit": "events/s", **{name: summary(samples) for name, samples in rates.items()}}
    return [*_claims(found, told), _drain_claim(drained, came, options.inflow)]


def _claims(found: Mapping[str, float], told: Mapping[str, Any]) -> list[Claim]:
    says = "events a second of {}, as a multiple of the relay's"
    claims = [
        Claim(
            "relay_one_by_one",
            says.format("pika, each confirmed before the next"),
            ratio(found["pika, one by one"], found["relay"]),
            floor=round(1 / 3, 3),
            sides=told,
        ),
        Claim(
            "relay_publisher",
            says.format("its publisher without a database"),
            ratio(found["publisher alone"], found["relay"]),
            sides=told,
        ),
    ]
    if "PerfTest" in found:
        times = ratio(found["PerfTest"], found["relay"])
        text = says.format("RabbitMQ's PerfTest with the same window")
        claims.append(
            Claim("relay_perf_test", text, times, floor=round(1 / 0.3, 3), goal=round(1 / 0.6, 3), sides=told)
        )
    return claims


def _drain_claim(drained: float, came: float, inflow: int) -> Claim:
    return Claim(
        "relay_drain",
        f"inflow as a multiple of what the relay publishes meanwhile, behind {OUTAGE_S} s of {inflow} events a second",
        ratio(came, drained),
        floor=round(1 / 3, 3),
        sides={"unit": "events/s", "published": round(drained), "came in": round(came), "asked to come in": inflow},
    )


@contextlib.contextmanager
def _ground(folder: Path) -> Iterator[Ground]:
    with single.started(folder, "postgres-1", "rabbitmq-1") as servers:
        ground = Ground(servers.new_database("orders"), servers.amqp_url())
        engine = sa.create_engine(parse_url(ground.database))
        with engine.begin() as connection:
            operations = Operations(MigrationContext.configure(connection))
            tables.create_outbox(operations)
            tables.create_outbox_retention(operations)
        engine.dispose()
        # Declares the queues.
        publisher = Publisher(ground.amqp, name="bench")
        publisher.start()
        ready = publisher.ready(START_S)
        publisher.stop(10)
        if not ready:
            raise BenchError("the broker was not ready")
        yield ground


def _relay(ground: Ground, events: int) -> float:
    ground.fill(events)
    return events / _run_relay(ground)


def _run_relay(ground: Ground, *, left: int = 0) -> float:
    """Seconds that a process of the relay takes until no more than `left` events wait in the outbox."""
    done = subprocess.run(
        [sys.executable, "-c", "from bench.relay import relay; relay()"],
        cwd=ROOT,
        input=json.dumps([ground.database, ground.amqp, left]),
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise BenchError("the relay ended")
    return float(done.stdout)


def relay() -> None:
    """Be the relay of one database until no more than some events wait; print how many seconds that took."""
    report.log_to_stderr()
    *urls, left = json.loads(sys.stdin.readline())
    ground = Ground(*urls)
    database, publisher = Database(ground.database, pool_size=2, name="orders"), Publisher(ground.amqp, name="bench")
    publisher.start()
    if not publisher.ready(START_S):
        raise SystemExit("the broker was not ready")
    running = Relay(database, publisher, name="orders", routing_keys=topology.routing_keys())
    pause = threading.Event()
    with ground.sql() as watching:
        began = time.monotonic()
        running.start()
        while watching.execute(_UNPUBLISHED, (left + 1,)).fetchall() > [(left,)]:
            pause.wait(_POLL_S)
        print(time.monotonic() - began, flush=True)
    running.stop(10)
    publisher.stop(10)
    database.close()


def _one_by_one(ground: Ground, events: int) -> float:
    ground.fill(1)
    with contextlib.closing(pika.BlockingConnection(pika.URLParameters(ground.amqp))) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        began = time.monotonic()
        for _ in range(events):
            properties = pika.BasicProperties(delivery_mode=2, type=TYPE, message_id=str(uuid.uuid4()))
            channel.basic_publish(EXCHANGE, KEY, BODY, properties, mandatory=True)
        return events / (time.monotonic() - began)


def _publisher(ground: Ground, events: int) -> float:
    ground.fill(1)
    publisher = Publisher(ground.amqp, name="bench")
    publisher.start()
    try:
        if not publisher.ready(START_S):
            raise BenchError("the broker was not ready")
        messages = [Outgoing(EXCHANGE, KEY, BODY, str(uuid.uuid4()), TYPE) for _ in range(events)]
        began = time.monotonic()
        if not all(publisher.publish(messages, timeout_s=600)):
            raise BenchError("the broker refused")
        return events / (time.monotonic() - began)
    finally:
        publisher.stop(10)


def _perf_test(ground: Ground) -> float:
    ground.fill(1)
    exchange = ["-p", "-e", EXCHANGE, "-t", "topic", "-k", KEY, "-u", QUEUE]
    window = ["-x", "1", "-y", "0", "-c", str(WINDOW), "-f", "persistent", "-f", "mandatory", "-s", str(len(BODY))]
    return perf_test.confirmed_rate(["-h", ground.amqp, *exchange, *window], seconds=PERF_TEST_S)


def _drain(ground: Ground, inflow: int) -> tuple[float, float]:
    """Events published and come in a second, from the end of an outage until the outbox is as good as empty."""
    backlog = inflow * OUTAGE_S
    ground.fill(backlog)
    stop, came = threading.Event(), [0]

    def append() -> None:
        began = time.monotonic()
        with ground.sql() as connection:
            while not stop.wait(max(0.0, began + came[0] / inflow - time.monotonic())):
                connection.execute(_APPEND, (TYPE, BODY, backlog + came[0]))
                came[0] += 1

    appending = threading.Thread(target=append)
    appending.start()
    try:
        # It never is quite empty: what came in within the last second counts as on its way.
        seconds = _run_relay(ground, left=inflow)
        arrived = came[0]
    finally:
        stop.set()
        appending.join()
    return (backlog + arrived - inflow) / seconds, arrived / seconds


if __name__ == "__main__":
    sys.exit(report.main(sys.modules[__name__]))
