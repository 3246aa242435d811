"""What events make outdated in the cache is forgotten as they leave the outbox, before the broker has them.

The writer has its keys forgotten after its commit; where it died in between, or could not reach a node, this heals it.
Before the broker, so that nobody who reacts to an event is answered from before it. It stands between the relay and its
publisher and changes nothing of what goes through.

Every node is told, for the writer's list of nodes may be another one than the relay's. A node that is away is told when
it is back; until then nothing that it holds is a STRONG read's business, and nothing lives there longer than its `ttl`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Protocol

import structlog
from google.protobuf.message import DecodeError

from weft.events.v1.envelope_pb2 import Envelope
from worker.delivery import Outgoing
from worker.relay import Publisher

log: Final = structlog.get_logger(__name__)


class Cache(Protocol):
    """`svc.chassis.cache.store.Cache`."""

    def forget(self, methods: Sequence[str], keys: Sequence[str], *, everywhere: bool = False) -> bool:
        """Forget these keys of these methods, now or as soon as their nodes answer."""
        ...


class Forgetting:
    """A publisher that has the cache forget first."""

    def __init__(self, publisher: Publisher, cache: Cache, *, outdated_by: Mapping[str, Sequence[str]]) -> None:
        """`outdated_by`: by event type, the methods whose entries the event's ordering key names."""
        self._publisher = publisher
        self._cache = cache
        self._outdated_by = outdated_by

    def ready(self, timeout_s: float) -> bool:
        """Whether publishing can be tried."""
        return self._publisher.ready(timeout_s)

    def publish(self, messages: Sequence[Outgoing], *, timeout_s: float) -> list[bool]:
        """Have forgotten what the events make outdated, then publish them."""
        keys: dict[str, list[str]] = {}
        for message in messages:
            event = message.type or ""
            if event in self._outdated_by and (key := _key(message)):
                keys.setdefault(event, []).append(key)
        for event, outdated in keys.items():
            self._cache.forget(self._outdated_by[event], outdated, everywhere=True)
        return self._publisher.publish(messages, timeout_s=timeout_s)


def _key(message: Outgoing) -> str:
    try:
        return Envelope.FromString(message.body).ordering_key
    except DecodeError:
        # The audit worker puts it aside.
        log.warning("event_unreadable", id=message.message_id, type=message.type)
        return ""
