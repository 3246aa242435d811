"""Exchange, queues and bindings, derived from the event policies of the contracts. Data only.

    weft.events (topic) --routing key--> weft.<worker>        what a worker consumes
    weft.<worker>.retry.<pause>                               holds a message that long, then gives it back
    weft.<worker>.dead                                        keeps what could not be handled, with its reason

`Link` declares all of it on every connection (declaring again changes nothing), so whoever comes first makes it and
nobody publishes into a void. Arguments of an existing queue cannot be changed: another value here needs a new queue,
which is why a retry queue has its pause in its name. What a contract's older ladder left in a queue comes back all the
same. All arguments exist in RabbitMQ 3.10.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from google.protobuf.descriptor import Descriptor

from weft_protos import policy
from weft_protos.mesh_parts import OF_ALL

#: What the queues of `mesh_parts.OF_ALL` are bound to: each event has its record, whatever its policy names.
EVERY_ROUTING_KEY: Final = "#"

#: Times a message is handed out again because its consumer vanished before settling it; then the broker itself makes
#: it a dead letter. Failures never count here (they go through the retry queue): only crashes do. A crash counts
#: against every prefetched message, the innocent ones included, hence not the 5 of the ladder.
CRASHES_MAX: Final = 20

#: A full queue refuses (reject-publish) and the outbox keeps what it refused.
MESSAGES_MAX: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Queue:
    """One queue as it is declared."""

    name: str
    arguments: Mapping[str, str | int]


@dataclass(frozen=True, slots=True)
class WorkQueue:
    """What one kind of worker consumes, with its retry and dead-letter queues."""

    name: str
    routing_keys: tuple[str, ...]
    #: Everything that a delivery may have to wait, in seconds, by the contracts of the events it consumes.
    pauses: tuple[float, ...]

    def retry(self, after_s: float) -> str:
        """Name of the queue in which a message waits that long for its next delivery."""
        return f"{self.name}.retry.{after_s:g}s"

    @property
    def retries(self) -> tuple[str, ...]:
        """Names of all queues in which messages wait."""
        return tuple(map(self.retry, self.pauses))

    @property
    def dead(self) -> str:
        """Name of the queue of its dead letters."""
        return f"{self.name}.dead"

    @property
    def names(self) -> tuple[str, ...]:
        """All names."""
        return self.name, *self.retries, self.dead

    def queues(self) -> tuple[Queue, ...]:
        """Its queues, in an order in which each one's dead-letter target is there before it."""
        back = _quorum() | _dead_letters_to(self.name)
        return (
            Queue(self.dead, _quorum()),
            Queue(self.name, _quorum() | _dead_letters_to(self.dead) | {"x-delivery-limit": CRASHES_MAX}),
            *(Queue(self.retry(after_s), back | {"x-message-ttl": round(after_s * 1000)}) for after_s in self.pauses),
        )


def work_queue(worker: str, events: Sequence[Descriptor] = policy.EVENTS) -> WorkQueue:
    """The queue of one kind of worker: `email` -> `weft.email`."""
    policies = [one for one in map(policy.event_policy, events) if one is not None and worker in (*OF_ALL, *one.queues)]
    keys = {EVERY_ROUTING_KEY} if worker in OF_ALL else {one.routing_key for one in policies}
    # What no contract knows has the pauses of a contract that says nothing.
    pauses = {pause for one in (*policies, None) for pause in policy.retry_pauses(one)}
    return WorkQueue(f"weft.{worker}", tuple(sorted(keys)), tuple(sorted(pauses)))


def event_types(worker: str, events: Sequence[Descriptor] = policy.EVENTS) -> tuple[str, ...]:
    """What one kind of worker consumes: full names of the events."""
    policies = {event.full_name: policy.event_policy(event) for event in events}
    return tuple(name for name, one in policies.items() if one is not None and worker in (*OF_ALL, *one.queues))


def work_queues(events: Sequence[Descriptor] = policy.EVENTS) -> tuple[WorkQueue, ...]:
    """Every work queue that the contracts name, and those of all events, by name."""
    return tuple(work_queue(worker, events) for worker in sorted({*OF_ALL, *policy.queues(events)}))


def routing_keys(events: Sequence[Descriptor] = policy.EVENTS) -> Mapping[str, str]:
    """Routing key by event type."""
    policies = {event.full_name: policy.event_policy(event) for event in events}
    return {name: one.routing_key for name, one in policies.items() if one is not None}


def _quorum() -> dict[str, str | int]:
    return {"x-queue-type": "quorum", "x-overflow": "reject-publish", "x-max-length": MESSAGES_MAX}


def _dead_letters_to(queue: str) -> dict[str, str | int]:
    # at-least-once keeps a message until its new queue has confirmed it; the default strategy may lose it on the way.
    return {
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": queue,
        "x-dead-letter-strategy": "at-least-once",
    }
