"""The dead letters of one work queue: looked through without taking them, and sent back to be handled again.

Looking holds letters unacknowledged and lets go of them all at the end; they may then lie in another order. One that is
sent back is confirmed in its work queue first and taken from here then: a crash in between leaves it in both, and the
inbox lets only one of them take effect. So it is with a letter that lies here twice, after a crash of the worker that
put it here. What comes in meanwhile is left alone: a letter that was sent back and has failed again is not sent back
once more.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, Self

import pika
from pika.exceptions import AMQPError, ChannelClosedByBroker, NackError, UnroutableError

from worker.amqp.connection import HEARTBEAT_S
from worker.amqp.consumer import received
from worker.amqp.publisher import properties_of
from worker.amqp.topology import WorkQueue
from worker.deadletter import Choice, Letter
from worker.delivery import TRACEPARENT_HEADER, Outgoing
from worker.errors import Outage

CONNECT_TIMEOUT_S: Final = 3
#: A queue that has given nothing for so long has no more to give.
_SILENCE_S: Final = 2.0


class DeadLetters:
    """The dead-letter queue of one worker, for as long as a command runs. Outage where the broker is away."""

    def __init__(self, url: str, queue: WorkQueue) -> None:
        """`url`: of one node, or of several with commas between them, tried in turn."""
        self._queue = queue
        try:
            self._connection: Any = pika.BlockingConnection([_parameters(each) for each in url.split(",")])
            self._channel: Any = self._connection.channel()
        except (AMQPError, OSError) as error:
            raise Outage(f"the broker does not answer: {type(error).__name__}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # What is unacknowledged lies in its queue again.
        try:
            self._connection.close()
        except (AMQPError, OSError):
            return  # it is closed

    def look(self) -> Iterator[Letter]:
        """Every letter."""
        for letter, _ in self._each():
            yield letter

    def replay(self, choice: Choice, *, most: int) -> list[str]:
        """Send up to `most` of the chosen letters back to their work queue; their ids."""
        sent: list[str] = []
        with _broker():
            self._channel.confirm_delivery()
        for letter, tag in self._each():
            if len(sent) == most:
                break
            if choice.takes(letter):
                self._send_back(letter)
                with _broker():
                    self._channel.basic_ack(tag)
                sent.append(letter.id)
        return sent

    def _each(self) -> Iterator[tuple[Letter, int]]:
        with _broker():
            lying = int(self._channel.queue_declare(self._queue.dead, passive=True).method.message_count)
            taking = self._channel.consume(self._queue.dead, inactivity_timeout=_SILENCE_S)
        for _ in range(lying):
            with _broker():
                method, properties, body = next(taking)
            if method is None:
                return  # somebody else has the rest
            yield Letter(received(self._queue.name, method, properties, body)), method.delivery_tag

    def _send_back(self, letter: Letter) -> None:
        was = letter.delivery
        headers = {TRACEPARENT_HEADER: was.traceparent} if was.traceparent else {}
        message = Outgoing("", self._queue.name, was.body, was.message_id, was.type, headers)
        with _broker():
            try:
                self._channel.basic_publish("", self._queue.name, message.body, properties_of(message), mandatory=True)
            except (UnroutableError, NackError) as error:
                raise Outage(f"{self._queue.name} does not take {letter.id} now") from error


def _parameters(url: str) -> Any:  # the driver publishes no types
    parameters = pika.URLParameters(url)
    parameters.socket_timeout = parameters.stack_timeout = CONNECT_TIMEOUT_S
    parameters.heartbeat = 6 * HEARTBEAT_S
    parameters.blocked_connection_timeout = CONNECT_TIMEOUT_S
    return parameters


@contextmanager
def _broker() -> Iterator[None]:
    try:
        yield
    except ChannelClosedByBroker as error:
        raise Outage(f"the broker refuses: {error.reply_text}") from error
    except (AMQPError, OSError) as error:
        raise Outage(f"the broker went away: {type(error).__name__}") from error
