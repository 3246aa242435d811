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
from worker.amqp.connection import HEARTBEAT_S
from worker.errors import Outage

PROBE_EVERY_S: Final = 2.0
CONNECT_TIMEOUT_S: Final = 3

#: A broker that is frozen keeps the thread waiting until its heartbeats are missed. Nobody waits for it that long.
STOP_MAX_S: Final = 0.5

log = structlog.get_logger(__name__)


class Depths:
    """Asks for the depths of queues over one connection, opened when it is first needed."""

    def __init__(self, url: str, queues: Sequence[str]) -> None:
        """`url`: of one node, or of several with commas between them, tried in turn."""
        self._nodes = [_parameters(each) for each in url.split(",")]
        self._queues = tuple(queues)
        self._connection: Any = None
        self._channel: Any = None

    def read(self) -> Mapping[str, int]:
        """Messages by queue. Outage where the broker, or one of the queues, is not there."""
        try:
            if self._connection is None:
                self._connection = pika.BlockingConnection(self._nodes)
                self._channel = self._connection.channel()
            declared = {queue: self._channel.queue_declare(queue, passive=True) for queue in self._queues}
        except (AMQPError, OSError) as error:
            self.close()
            raise Outage(f"queue depths: {error!r}") from error
        except BaseException:
            # Whatever state it is in, it is not used again.
            self.close()
            raise
        return {queue: int(answer.method.message_count) for queue, answer in declared.items()}

    def close(self) -> None:
        """Close the connection; the next `read` opens another."""
        connection, self._connection, self._channel = self._connection, None, None
        if connection is not None and connection.is_open:
            try:
                connection.close()
            except (AMQPError, OSError) as error:
                log.info("depth_connection_broke", reason=repr(error))
            except Exception:
                # It is given up either way, and this one would hide the exception that brought us here.
                metrics.UNEXPECTED_ERRORS.labels(place="queue_depth").inc()
                log.exception("depth_connection_not_closed")


class DepthProbe:
    """Reports queue depths as a metric, from a thread of its own, which only `stop` ends."""

    def __init__(self, depths: Depths) -> None:
        self._depths = depths
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="queue-depth", daemon=True)

    def start(self) -> None:
        """Start reporting."""
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """End the thread, or leave it to the end of the process: it holds nothing that anybody misses."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(min(timeout, STOP_MAX_S))

    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def _run(self) -> None:
        while not self._stop.wait(PROBE_EVERY_S):
            self.report()
        self._depths.close()

    def report(self) -> None:
        """Ask once. Where there is no answer the last values stay: another metric says that the broker is away."""
        try:
            depths = self._depths.read()
        except Outage as error:
            log.info("queue_depth_unknown", reason=str(error))
        except Exception:
            # The driver raises more than it documents when a connection dies under it. A figure that is missing for
            # a moment must not end a worker; the stack and the count tell of it.
            metrics.UNEXPECTED_ERRORS.labels(place="queue_depth").inc()
            log.exception("queue_depth_failed")
        else:
            for queue, messages in depths.items():
                metrics.QUEUE_DEPTH.labels(queue).set(messages)


def _parameters(url: str) -> Any:
    parameters = pika.URLParameters(url)
    parameters.socket_timeout = CONNECT_TIMEOUT_S
    parameters.stack_timeout = CONNECT_TIMEOUT_S
    parameters.heartbeat = HEARTBEAT_S
    parameters.blocked_connection_timeout = CONNECT_TIMEOUT_S
    return parameters
