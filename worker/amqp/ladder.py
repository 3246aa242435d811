"""Where a failed delivery goes: onto the retry queue, or among the dead letters with its reason.

Both are confirmed publications; only then does the runner acknowledge the original. A crash in between leaves two,
never none. The body stays as it came, byte for byte.
"""

from __future__ import annotations

from typing import Final

from svc.chassis.clock import Clock, SystemClock
from worker.amqp.publisher import Publisher
from worker.amqp.topology import WorkQueue
from worker.delivery import (
    ATTEMPT_HEADER,
    PARKED_HEADER,
    REASON_HEADER,
    TRACEPARENT_HEADER,
    DeadLetter,
    Delivery,
    Outgoing,
    Retry,
)
from worker.errors import Outage

CONFIRM_TIMEOUT_S: Final = 5.0

_CLOCK: Final = SystemClock()


class Ladder:
    """The retry and dead-letter queues of one work queue."""

    def __init__(self, publisher: Publisher, queue: WorkQueue, *, clock: Clock = _CLOCK) -> None:
        self._publisher = publisher
        self._queue = queue
        self._clock = clock

    def move(self, delivery: Delivery, outcome: Retry | DeadLetter) -> None:
        """Put a copy where the outcome says; Outage: try again."""
        match outcome:
            case Retry(after_s):
                # The queue's own message-ttl is the pause: contracts name both.
                message = _copy(delivery, self._queue.retry(after_s), {ATTEMPT_HEADER: delivery.attempt})
            case DeadLetter(reason):
                said: dict[str, str | int] = {REASON_HEADER: reason, PARKED_HEADER: int(self._clock.now().timestamp())}
                message = _copy(delivery, self._queue.dead, {ATTEMPT_HEADER: delivery.attempt, **said})
        if not all(self._publisher.publish([message], timeout_s=CONFIRM_TIMEOUT_S)):
            raise Outage(f"the broker refused a message for {message.routing_key}")


def _copy(delivery: Delivery, queue: str, headers: dict[str, str | int]) -> Outgoing:
    if delivery.traceparent:
        headers[TRACEPARENT_HEADER] = delivery.traceparent
    return Outgoing(
        exchange="",
        routing_key=queue,
        body=delivery.body,
        message_id=delivery.message_id,
        type=delivery.type,
        headers=headers,
    )
