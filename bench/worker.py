"""What an effect costs beside the broker: events a second of a worker, and of a bare consumer of the same client.

A PostgreSQL and a RabbitMQ of the bench's own. The audit and the analytics worker, one process and two of them,
as they run: consumer, runner, handler, transactions of at most fifty events with their inbox rows. The peer takes the
same events off the same kind of quorum queue with pika, with the same prefetch, and acknowledges each fifty: nothing is
decoded and nothing kept. Timed from the start of consuming to the last effect; sides take turns.
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
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

import pika
from google.type.money_pb2 import Money

from bench import report
from bench.measure import in_turns, summary
from bench.report import ROOT, BenchError, Claim, ratio
from deploy.supervisor import single
from deploy.supervisor.workspace import temporary
from svc.chassis import migrate
from svc.chassis.database import Database
from weft.events.v1.envelope_pb2 import Envelope
from weft.orders.v1.events_pb2 import EventItem, OrderPlaced
from worker.amqp import topology
from worker.amqp.consumer import PREFETCH, Consumer
from worker.amqp.depth import Depths
from worker.amqp.ladder import Ladder
from worker.amqp.publisher import Publisher
from worker.config import TRANSACTION_BATCH
from worker.delivery import Outgoing
from worker.handlers.analytics.handler import AnalyticsHandler
from worker.handlers.audit.handler import AuditHandler
from worker.runner import Handler, Runner
from worker.wiring import MIGRATIONS

ANALYTICS_MIGRATIONS: Final = ROOT / "svc/analytics/migrations"
START_S: Final = 60.0
_POLL_S: Final = 0.02


@dataclass(frozen=True, slots=True)
class Ground:
    """The servers; databases by worker."""

    amqp: str
    databases: Mapping[str, str]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--events", type=report.whole, default=10_000, help="events of a turn (default 10000)")
    parser.add_argument("--rounds", type=report.whole, default=3, help="turns of each side (default 3)")


def measure(options: argparse.Namespace) -> list[Claim]:
    with temporary() as folder, _ground(folder) as ground:
        sides = {
            "audit": partial(_workers, ground, "audit", 1, options.events),
            "audit x2": partial(_workers, ground, "audit", 2, options.events),
            "analytics": partial(_workers, ground, "analytics", 1, options.events),
            "analytics x2": partial(_workers, ground, "analytics", 2, options.events),
            "bare consumer": partial(_bare, ground, options.events),
        }
        rates = in_turns(sides, options.rounds)
    found = {name: statistics.median(samples) for name, samples in rates.items()}
    told = {"unit": "events/s", **{name: summary(samples) for name, samples in rates.items()}}
    claims = [
        Claim(
            f"worker_{worker}",
            f"events a second of a bare pika consumer, as a multiple of the {worker} worker's",
            ratio(found["bare consumer"], found[worker]),
            floor=4.0,
            sides=told,
        )
        for worker in ("audit", "analytics")
    ]
    says = "events a second of one {0} worker, as a multiple of two beside each other"
    pairs = [
        Claim(f"worker_{worker}_pair", says.format(worker), ratio(found[worker], found[f"{worker} x2"]), sides=told)
        for worker in ("audit", "analytics")
    ]
    return [*claims, *pairs]


@contextlib.contextmanager
def _ground(folder: Path) -> Iterator[Ground]:
    with single.started(folder, "postgres-1", "rabbitmq-1") as servers:
        databases = {name: servers.new_database(name) for name in ("audit", "analytics")}
        migrate.upgrade(databases["audit"], str(MIGRATIONS["audit"]))
        migrate.upgrade(databases["analytics"], str(ANALYTICS_MIGRATIONS))
        yield Ground(servers.amqp_url(), databases)


def _events(count: int) -> Iterator[Outgoing]:
    now = datetime.now(UTC)
    for number in range(count):
        placed = OrderPlaced(order=f"orders/{number}", user=f"users/{number % 997}")
        placed.total.CopyFrom(Money(currency_code="GBP", units=12, nanos=500_000_000))
        placed.items.append(
            EventItem(product_id="22423", display_name="CAKESTAND", quantity=2, unit_price=placed.total)
        )
        placed.place_time.FromDatetime(now)
        sealed = Envelope(id=str(uuid.uuid4()), type=placed.DESCRIPTOR.full_name, source="orders", subject="bench")
        sealed.occur_time.FromDatetime(now)
        sealed.payload.Pack(placed)
        yield Outgoing("", "", sealed.SerializeToString(deterministic=True), sealed.id, sealed.type)


def _fill(ground: Ground, queue: str, count: int) -> None:
    publisher = Publisher(ground.amqp, name="bench")
    publisher.start()
    try:
        if not publisher.ready(START_S):
            raise BenchError("the broker was not ready")
        messages = [Outgoing("", queue, one.body, one.message_id, one.type) for one in _events(count)]
        if not all(publisher.publish(messages, timeout_s=600)):
            raise BenchError("the broker refused")
    finally:
        publisher.stop(10)


def _workers(ground: Ground, worker: str, processes: int, events: int) -> float:
    """Events a second of so many processes of one worker."""
    queue = topology.work_queue(worker).name
    _fill(ground, queue, events)
    running = [
        subprocess.Popen(
            [sys.executable, "-c", "from bench.worker import work; work()"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(processes)
    ]
    try:
        for process in running:
            _tell(process, json.dumps([ground.amqp, ground.databases[worker], worker]))
            _hear(process)
        for process in running:
            _tell(process, "go")
        ends = [json.loads(_hear(process)) for process in running]
    finally:
        for process in running:
            process.kill()
            process.communicate()
    seconds: float = max(end for _, end in ends) - min(start for start, _ in ends)
    return events / seconds


def work() -> None:
    """Be a worker until its queue has been empty for a while; print when it began and had its last event."""
    report.log_to_stderr()
    amqp, url, worker = json.loads(sys.stdin.readline())
    queue = topology.work_queue(worker)
    database = Database(url, pool_size=2, name=worker)
    handler = Timed(AuditHandler(database) if worker == "audit" else AnalyticsHandler(database))
    publisher, consumer = Publisher(amqp, name="bench"), Consumer(amqp, queue=queue.name, name="bench")
    runner = Runner(consumer, Ladder(publisher, queue), handler, queue=queue.name, batch_max=TRANSACTION_BATCH)
    depths, pause = Depths(amqp, [queue.name]), threading.Event()
    print("ready", flush=True)
    sys.stdin.readline()
    began = time.monotonic()
    for part in (publisher, consumer, runner):
        part.start()
    while depths.read()[queue.name] or handler.idle_s() < 1.0:
        pause.wait(_POLL_S)
    for part in (runner, consumer, publisher):
        part.stop(10)
    print(json.dumps([began, handler.ended]), flush=True)
    depths.close()
    database.close()


class Timed:
    """A handler that remembers when it was last done."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self.ended = time.monotonic()

    def handle(self, events: Sequence[Any]) -> None:
        """As the handler does."""
        self._handler.handle(events)
        self.ended = time.monotonic()

    def abandon(self, event: Any) -> None:
        """As the handler does."""
        self._handler.abandon(event)

    def idle_s(self) -> float:
        """For how long nothing was done."""
        return time.monotonic() - self.ended


def _bare(ground: Ground, events: int) -> float:
    """Events a second that pika alone takes off the queue."""
    queue = topology.work_queue("audit").name
    _fill(ground, queue, events)
    with contextlib.closing(pika.BlockingConnection(pika.URLParameters(ground.amqp))) as connection:
        channel = connection.channel()
        channel.basic_qos(prefetch_count=PREFETCH)
        began = time.monotonic()
        for taken, (method, _, _) in enumerate(channel.consume(queue), 1):
            if taken % TRANSACTION_BATCH == 0 or taken == events:
                channel.basic_ack(method.delivery_tag, multiple=True)
            if taken == events:
                break
        took = time.monotonic() - began
        channel.cancel()
        return events / took


def _tell(process: "subprocess.Popen[str]", line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()


def _hear(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise BenchError("a worker ended")
    return line


if __name__ == "__main__":
    sys.exit(report.main(sys.modules[__name__]))
