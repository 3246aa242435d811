"""What comes in from a queue, what is read out of it, what goes out to an exchange, and what becomes of a delivery.

Values only: the doors of `worker.amqp` make and take them, the runner and the relay decide on them. `decode` is the
border at which outsiders' bytes become an `Event`: whatever it lets through, a handler may trust the shape of.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, cast

from google.protobuf import message_factory
from google.protobuf.message import DecodeError, Message
from google.protobuf.timestamp_pb2 import Timestamp

from weft.events.v1.envelope_pb2 import Envelope
from weft_protos import lanes, policy
from worker.errors import Permanent

#: The topic exchange that every event is published to.
EXCHANGE: Final = "weft.events"

#: Deliveries of this message that ended in a retry before this one. Ours alone: `x-death` is never read, since
#: whoever may publish could write it.
ATTEMPT_HEADER: Final = "x-weft-attempt"
REASON_HEADER: Final = "x-weft-reason"
#: When it was put among the dead letters: seconds of Unix time.
PARKED_HEADER: Final = "x-weft-parked"
TRACEPARENT_HEADER: Final = "traceparent"
CONTENT_TYPE: Final = "application/x-protobuf"

# Only to keep a forged number inside what AMQP can carry.
_ATTEMPT_MAX: Final = 1_000_000

#: Larger than any event we write by far; a larger one is not ours.
BODY_BYTES_MAX: Final = 256 * 1024

_PAYLOADS: Final[Mapping[str, type[Message]]] = {
    descriptor.full_name: message_factory.GetMessageClass(descriptor) for descriptor in policy.EVENTS
}
_ANY_PREFIX: Final = "type.googleapis.com/"


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message as a queue handed it over; nothing in it is to be trusted."""

    queue: str
    body: bytes = field(repr=False)
    message_id: str | None
    type: str | None
    reply_to: str | None = None
    headers: Mapping[str, object] = field(default_factory=dict)
    tag: int = 0
    #: Which connection it came over: an acknowledgement is good on that one only.
    session: int = 0

    @property
    def attempt(self) -> int:
        """Which delivery through the retry ladder this is, from 1."""
        value = self.headers.get(ATTEMPT_HEADER)
        earlier = value if isinstance(value, int) and not isinstance(value, bool) else 0
        return min(max(earlier, 0), _ATTEMPT_MAX) + 1

    @property
    def traceparent(self) -> str:
        """Trace context of the publisher; empty where there is none."""
        value = self.headers.get(TRACEPARENT_HEADER)
        return value if isinstance(value, str) else ""


@dataclass(frozen=True, slots=True)
class Event:
    """A fact that was read out of a delivery and found well formed."""

    id: str
    type: str
    source: str
    subject: str
    actor: str
    occur_time: datetime
    payload: Message = field(repr=False)
    #: The envelope exactly as it was written.
    envelope: bytes = field(repr=False)
    #: The lane of the call that caused it; what a handler does goes by the same. Empty: none.
    lane: str = ""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One message to publish."""

    exchange: str
    routing_key: str
    body: bytes = field(repr=False)
    message_id: str | None
    type: str | None
    headers: Mapping[str, str | int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Ack:
    """The event has taken effect, now or earlier."""


@dataclass(frozen=True, slots=True)
class Retry:
    """The event is to come back after a while."""

    after_s: float


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """The event is put aside for a human."""

    reason: str


Outcome = Ack | Retry | DeadLetter


def decode(delivery: Delivery) -> Event:
    """Read the envelope of a delivery; raises Permanent with the reason for everything that is not an event of ours."""
    if len(delivery.body) > BODY_BYTES_MAX:
        raise Permanent(f"body of {len(delivery.body)} bytes exceeds {BODY_BYTES_MAX}")
    if delivery.reply_to is not None:
        raise Permanent("events are not answered, yet reply_to is set")
    envelope = _envelope(delivery.body)
    if delivery.message_id != envelope.id:
        raise Permanent("message id differs from the envelope's")
    if delivery.type != envelope.type:
        raise Permanent("message type differs from the envelope's")
    return _event(envelope, delivery.body)


def unseal(body: bytes) -> Event:
    """Read an envelope that was kept, `Event.envelope` of an event that `decode` has let through."""
    return _event(_envelope(body), body)


def timestamp(message: Message, field_name: str) -> datetime:
    """The moment in a field, in UTC; raises Permanent where there is none."""
    if not message.HasField(field_name):
        raise Permanent(f"{field_name} is not set")
    try:
        return cast(Timestamp, getattr(message, field_name)).ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError) as error:
        raise Permanent(f"{field_name} is not a moment") from error


def _envelope(body: bytes) -> Envelope:
    envelope = Envelope()
    try:
        envelope.ParseFromString(body)
    except DecodeError as error:
        raise Permanent("body is not an envelope") from error
    try:
        canonical = str(uuid.UUID(envelope.id))
    except ValueError as error:
        raise Permanent("envelope id is not a UUID") from error
    if canonical != envelope.id:
        raise Permanent("envelope id is not a UUID in its canonical form")
    # PostgreSQL stores no NUL in text: caught here, it is one dead letter and not a transaction that fails for ever.
    if "\x00" in envelope.source + envelope.subject + envelope.actor:
        raise Permanent("envelope has a NUL character in source, subject or actor")
    return envelope


def _event(envelope: Envelope, body: bytes) -> Event:
    return Event(
        id=envelope.id,
        type=envelope.type,
        source=envelope.source,
        subject=envelope.subject,
        actor=envelope.actor,
        occur_time=timestamp(envelope, "occur_time"),
        payload=_payload(envelope),
        envelope=body,
        lane=envelope.lane if lanes.is_name(envelope.lane) else "",
    )


def _payload(envelope: Envelope) -> Message:
    payload_class = _PAYLOADS.get(envelope.type)
    if payload_class is None:
        raise Permanent(f"unknown event type {envelope.type[:200]!r}")
    if envelope.payload.type_url != _ANY_PREFIX + envelope.type:
        raise Permanent("payload type differs from the envelope's")
    payload = payload_class()
    try:
        payload.ParseFromString(envelope.payload.value)
    except DecodeError as error:
        raise Permanent(f"payload is not a {envelope.type}") from error
    return payload
