"""How many messages lie in queues: asked of the broker by passive declaration, which every AMQP user may do.

Each worker reports its own queues as weft_queue_depth, and `python -m worker facts` asks once for all. Counted is
what waits; what a consumer has in hand is not.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any, Final

import pika
import structlog
from pika.exceptions import AMQPError

from svc.chassis import metrics
from worker.errors import Outage

PROBE_EVERY_S: Final = 2.0
CONNECT_TIMEOUT_S: Final = 3

log = structlog.get_logger(__name__)


class Depths:
    """Asks for the depths of queues over one connection, opened when it is first needed."""

    def __init__(self, url: str, queues: Sequence[str]) -> None:
        self._parameters = pika.URLParameters(url)
        self._parameters.socket_timeout = CONNECT_TIMEOUT_S
        self._parameters.stack_timeout = CONNECT_TIMEOUT_S
        self._parameters.blocked_connection_timeout = CONNECT_TIMEOUT_S
        self._queues = tuple(queues)
        self._connection: Any = None
        self._channel: Any = None

    def read(self) -> Mapping[str, int]:
        """Messages by queue. Outage where the broker, or one of the queues, is not there."""
        try:
            if self._connection is None:
                self._connection = pika.BlockingConnection(self._parameters)
                self._channel = self._connection.channel()
            declared = {queue: self._channel.queue_declare(queue, passive=True) for queue in self._queues}
        except (AMQPError, OSError) as error:
            self.close()
            raise Outage(f"queue depths: {error!r}") from error
        return {queue: int(answer.method.message_count) for queue, answer in declared.items()}

    def close(self) -> None:
        """Close the connection; the next `read` opens another."""
        connection, self._connection, self._channel = self._connection, None, None
        if connection is not None and connection.is_open:
            try:
                connection.close()
            except (AMQPError, OSError) as error:
                log.info("depth_connection_broke", reason=repr(error))


class DepthProbe:
    """Reports queue depths as a metric, from a thread of its own."""

    def __init__(self, depths: Depths) -> None:
        self._depths = depths
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="queue-depth", daemon=True)

    def start(self) -> None:
        """Start reporting."""
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """End the thread."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout)

    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def _run(self) -> None:
        while not self._stop.wait(PROBE_EVERY_S):
            try:
                depths = self._depths.read()
            except Outage as error:
                # The last values stay: that the broker is away is another metric's to say.
                log.info("queue_depth_unknown", reason=str(error))
                continue
            for queue, messages in depths.items():
                metrics.QUEUE_DEPTH.labels(queue).set(messages)
        self._depths.close()
