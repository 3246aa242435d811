"""A broker and a mail server that outlive whoever uses them: tables, each statement a commit of its own.

What a consumer has in hand is what it has not acknowledged; when it dies, whoever comes next finds it there.
"""

from collections.abc import Sequence
from email.message import EmailMessage
from typing import Any

import psycopg

from worker.amqp import topology
from worker.delivery import EXCHANGE, Delivery, Outgoing

TABLES = """
CREATE TABLE message (
    tag bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, queue text NOT NULL, message_id text, type text,
    body bytea NOT NULL, settled boolean NOT NULL DEFAULT false
);
CREATE TABLE mail (sent bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, message_id text NOT NULL, kind text NOT NULL);
"""


class Broker:
    """Takes messages for the queues that the contracts bind, and confirms each."""

    def __init__(self, connection: "psycopg.Connection[Any]") -> None:
        self._connection = connection
        self._bound = {work.name: set(work.routing_keys) for work in topology.work_queues()}

    def ready(self, timeout_s: float) -> bool:
        return True

    def publish(self, messages: Sequence[Outgoing], *, timeout_s: float) -> list[bool]:
        for message in messages:
            for queue in self._queues(message):
                self._connection.execute(
                    "INSERT INTO message (queue, message_id, type, body) VALUES (%s, %s, %s, %s)",
                    (queue, message.message_id, message.type, message.body),
                )
        return [True] * len(messages)

    def _queues(self, message: Outgoing) -> list[str]:
        if message.exchange != EXCHANGE:
            return [message.routing_key]
        keys = {message.routing_key, topology.EVERY_ROUTING_KEY}
        return [queue for queue, bound in self._bound.items() if bound & keys]


class Queue:
    """What one worker consumes; what was not acknowledged is there again for the next one."""

    def __init__(self, connection: "psycopg.Connection[Any]", name: str) -> None:
        self._connection = connection
        self._name = name

    def take(self, limit: int, *, timeout_s: float) -> list[Delivery]:
        rows = self._connection.execute(
            "SELECT tag, message_id, type, body FROM message WHERE queue = %s AND NOT settled ORDER BY tag LIMIT %s",
            (self._name, limit),
        ).fetchall()
        return [Delivery(self._name, bytes(body), message_id, kind, tag=tag) for tag, message_id, kind, body in rows]

    def holds(self, delivery: Delivery) -> bool:
        return True

    def acknowledge(self, last: Delivery) -> None:
        self._connection.execute(
            "UPDATE message SET settled = true WHERE queue = %s AND tag <= %s", (self._name, last.tag)
        )

    def cancel(self) -> None: ...

    def give_back(self) -> None: ...

    def resume(self) -> None: ...


class MailServer:
    """Takes every mail; cannot tell which it has taken, as plain SMTP cannot."""

    def __init__(self, connection: "psycopg.Connection[Any]") -> None:
        self._connection = connection

    def send(self, mail: EmailMessage) -> None:
        self._connection.execute(
            "INSERT INTO mail (message_id, kind) VALUES (%s, %s)", (mail["Message-ID"], mail["X-Weft-Kind"])
        )

    def seen(self, message_id: str) -> bool | None:
        return None
