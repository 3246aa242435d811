"""What lies among the dead letters, told to people: which event, why, since when. Pure.

A letter keeps the bytes of its message as they came. What is shown of them is what the contracts allow to be shown; the
bytes themselves only where somebody asks for them.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from google.protobuf import json_format
from google.protobuf.message import DecodeError

from weft.events.v1.envelope_pb2 import Envelope
from weft_protos import redaction
from worker.delivery import PARKED_HEADER, REASON_HEADER, Delivery, decode
from worker.errors import Permanent

#: What the broker calls it when consumers vanished too often with a message in hand.
_CRASHES = "delivery_limit"


@dataclass(frozen=True, slots=True)
class Letter:
    """One message of a dead-letter queue. `delivery.queue` is the work queue that it was taken from."""

    delivery: Delivery

    @property
    def id(self) -> str:
        """The message's id; where it has none, one made of its bytes: copies of one message have one id."""
        return self.delivery.message_id or f"sha256:{self.digest[:32]}"

    @property
    def digest(self) -> str:
        """SHA-256 of the bytes."""
        return hashlib.sha256(self.delivery.body).hexdigest()

    @property
    def reason(self) -> str:
        """Why it is here."""
        said = self.delivery.headers.get(REASON_HEADER)
        if isinstance(said, str):
            return said
        if self.delivery.headers.get("x-first-death-reason") == _CRASHES:
            return "its consumers vanished with it in hand, too often"
        return "not said"

    @property
    def parked(self) -> str:
        """Since when, in UTC; empty where the broker put it here."""
        said = self.delivery.headers.get(PARKED_HEADER)
        if not isinstance(said, int) or isinstance(said, bool):
            return ""
        try:
            return datetime.fromtimestamp(said, UTC).isoformat().replace("+00:00", "Z")
        except (ValueError, OverflowError, OSError):
            return ""


@dataclass(frozen=True, slots=True)
class Choice:
    """Which letters are meant; what is left empty excludes none."""

    ids: frozenset[str] = frozenset()
    reason: str = ""
    """A part of the reason, in any case."""
    type: str = ""
    """A message type, whole or its last part: `OrderPlaced`."""

    def takes(self, letter: Letter) -> bool:
        """Whether a letter is meant."""
        kind = letter.delivery.type or ""
        return (
            (not self.ids or letter.id in self.ids)
            and self.reason.casefold() in letter.reason.casefold()
            and (not self.type or kind == self.type or kind.endswith(f".{self.type}"))
        )


def summary(letter: Letter) -> dict[str, object]:
    """A letter in a line."""
    return {
        "queue": letter.delivery.queue,
        "id": letter.id,
        "type": letter.delivery.type or "",
        "reason": letter.reason,
        "deliveries": max(1, letter.delivery.attempt - 1),
        "parked": letter.parked,
        "bytes": len(letter.delivery.body),
    }


def whole(letter: Letter, *, body: bool) -> dict[str, object]:
    """Everything about a letter that may be shown; with `body`, its bytes in base64 as well, whatever they hold."""
    found = summary(letter) | {"traceparent": letter.delivery.traceparent, "sha256": letter.digest}
    found |= _event(letter.delivery)
    return found | ({"body": base64.b64encode(letter.delivery.body).decode()} if body else {})


def _event(delivery: Delivery) -> Mapping[str, object]:
    try:
        decode(delivery)
        envelope = redaction.redacted(Envelope.FromString(delivery.body))
        return {"event": json_format.MessageToDict(envelope, preserving_proto_field_name=True)}
    except (Permanent, DecodeError, json_format.Error, TypeError) as error:
        return {"event": None, "unreadable": str(error)}
