"""Old events decode: what was once written to outbox, queues and audit log is read by the contracts of today.

`testdata/events` holds one recorded envelope of every event type, as bytes, with what it said. A recording is never
made anew: `pytest tests/contract/test_events.py --rewrite` only adds those of event types that have none yet.
"""

import base64
import json
from pathlib import Path
from typing import Any

import protovalidate
import pytest
from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.unknown_fields import UnknownFieldSet

from weft.events.v1.envelope_pb2 import Envelope
from weft_protos import policy

RECORDED = Path(__file__).parent / "testdata" / "events"
EVERY_EVENT = pytest.mark.parametrize("kind", policy.EVENTS, ids=lambda kind: kind.full_name)


def recording(kind: Descriptor, request: pytest.FixtureRequest) -> dict[str, Any]:
    path = RECORDED / f"{kind.full_name}.json"
    if request.config.getoption("--rewrite", default=False) and not path.exists():
        RECORDED.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(recorded(kind), indent=1) + "\n")
    assert path.exists(), f"no {kind.full_name} is recorded; add one with --rewrite"
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def recorded(kind: Descriptor) -> dict[str, Any]:
    """An envelope with an event that has every field of today."""
    payload: Any = GetMessageClass(kind)()
    fill(payload)
    key = str(getattr(payload, policy.event_policy(kind).ordering_key))  # type: ignore[union-attr]
    envelope = Envelope(
        id="5d6f7c1e-52a7-4a53-9a3a-6a8f2f9d0c11",
        type=kind.full_name,
        source=policy.service_owner(kind.full_name),
        ordering_key=key,
        subject="ada",
    )
    envelope.occur_time.FromJsonString("2026-11-22T12:30:00Z")
    envelope.payload.Pack(payload)
    content = base64.b64encode(envelope.SerializeToString(deterministic=True)).decode()
    return {"envelope": content, "payload": json_format.MessageToDict(payload)}


def fill(message: Any) -> None:
    for field in message.DESCRIPTOR.fields:
        if field.message_type is not None:
            fill(getattr(message, field.name).add() if field.is_repeated else getattr(message, field.name))
        elif field.is_repeated:
            getattr(message, field.name).append(value_of(field))
        else:
            setattr(message, field.name, value_of(field))


def value_of(field: FieldDescriptor) -> Any:
    if field.enum_type is not None:
        return field.enum_type.values[-1].number
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        return "GBP" if field.name == "currency_code" else f"{field.name}-1"
    return field.cpp_type == FieldDescriptor.CPPTYPE_BOOL or 10 + field.number


def unknown(message: Message) -> list[str]:
    """Where a message holds what its type does not know."""
    found = [message.DESCRIPTOR.full_name] if len(UnknownFieldSet(message)) else []
    for field, value in message.ListFields():
        if field.message_type is not None:
            found += [name for item in (value if field.is_repeated else [value]) for name in unknown(item)]
    return found


@EVERY_EVENT
def test_an_event_of_old_is_read_by_the_contracts_of_today(kind: Descriptor, request: pytest.FixtureRequest) -> None:
    said = recording(kind, request)
    envelope = Envelope.FromString(base64.b64decode(said["envelope"]))
    payload = GetMessageClass(kind)()

    assert envelope.payload.Unpack(payload)
    now = json_format.MessageToDict(payload)
    assert said["payload"] == {name: now.get(name) for name in said["payload"]}
    assert [] == unknown(payload), "a field was removed or has another type"
    assert [] == protovalidate.collect_violations(payload)


@EVERY_EVENT
def test_an_event_of_old_still_has_its_type_and_its_place_in_the_order(
    kind: Descriptor, request: pytest.FixtureRequest
) -> None:
    envelope = Envelope.FromString(base64.b64decode(recording(kind, request)["envelope"]))
    payload = GetMessageClass(kind)()
    assert envelope.payload.Unpack(payload)
    routing = policy.event_policy(kind)
    assert routing is not None

    assert kind.full_name == envelope.type
    assert envelope.ordering_key == getattr(payload, routing.ordering_key)


def test_no_event_type_that_was_ever_written_is_gone() -> None:
    assert {path.stem for path in RECORDED.glob("*.json")} <= {kind.full_name for kind in policy.EVENTS}
