"""How fast the relay publishes an outbox, beside the client's own ways of publishing, to one quorum queue.

A PostgreSQL and a RabbitMQ of the bench's own. The relay has an outbox of events of 300 bytes, each of an ordering key
of its own, and runs as in its process: what is counted runs from its first batch until the last row is marked published,
the reading and marking of rows included. The peers publish the same bytes, persistent and `mandatory`, through the same
exchange: pika one by one, each confirmed before the next; pika with a window of two hundred; and RabbitMQ's own PerfTest
with the same window, a Java program that Maven fetches. Nobody consumes; the queue is emptied before each turn.
"""

import contextlib
import json
import sys
import time
import uuid
from typing import Final

import pika
import psycopg

from bench import report
from svc.chassis.database import Database
from worker.amqp import topology
from worker.amqp.publisher import Publisher
from worker.delivery import EXCHANGE
from worker.relay import Relay, Relays

#: An event that reaches one queue alone.
TYPE: Final = "weft.orders.v1.StockDepleted"
QUEUE: Final = "weft.audit"
BODY: Final = bytes(300)
WINDOW: Final = 200
SIDES: Final = ("relay", "one by one", "window", "PerfTest")


def relay() -> None:
    """Be the relay of one database, as lines of input say; print the seconds until it was empty."""
    report.log_to_stderr()
    said = json.loads(sys.stdin.readline())
    database = Database(said["database"], pool_size=said["loops"] + 1, name="orders")
    publisher = Publisher(said["amqp"], name="bench")
    publisher.start()
    if not publisher.ready(30):
        raise SystemExit("the broker did not answer")
    relays = Relays(
        [Relay(database, publisher, name="orders", routing_keys=topology.routing_keys()) for _ in range(said["loops"])]
    )
    with psycopg.connect(said["database"].replace("+psycopg", ""), autocommit=True) as watching:
        began, cpu = time.monotonic(), time.process_time()
        relays.start()
        while watching.execute("SELECT EXISTS (SELECT FROM outbox WHERE publish_time IS NULL)").fetchone() == (True,):
            time.sleep(0.02)
        print(json.dumps([time.monotonic() - began, time.process_time() - cpu]), flush=True)
    relays.stop(10)
    publisher.stop(10)
    database.close()


def one_by_one(url: str, messages: int) -> float:
    """Publish that many with pika, each confirmed before the next; messages a second."""
    with contextlib.closing(pika.BlockingConnection(pika.URLParameters(url))) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        key, properties = topology.routing_keys()[TYPE], pika.BasicProperties(delivery_mode=2, type=TYPE)
        began = time.monotonic()
        for _ in range(messages):
            properties.message_id = str(uuid.uuid4())
            channel.basic_publish(EXCHANGE, key, BODY, properties, mandatory=True)
        return messages / (time.monotonic() - began)
