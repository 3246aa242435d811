"""Marked fields are in nothing that is shown: whatever they are nested in, and whatever else is in the message."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc_tools
import pytest
from google.protobuf import descriptor_pool, message_factory, struct_pb2
from google.protobuf.any_pb2 import Any as Packed
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.message import Message
from grpc_tools import protoc

from weft.catalog.v1 import catalog_pb2
from weft.events.v1.envelope_pb2 import Envelope
from weft.identity.v1 import identity_pb2
from weft.identity.v1.events_pb2 import UserCreated
from weft.options.v1 import policy_pb2
from weft_protos import policy, redaction

ROOT = Path(__file__).resolve().parents[3]
CANARY = "canary-9f31c2"

EVERY_SHAPE = """syntax = "proto3";
package weft.test.v1;
import "google/protobuf/any.proto";
import "google/protobuf/struct.proto";
import "google/protobuf/timestamp.proto";
import "weft/options/v1/policy.proto";
enum Colour { COLOUR_UNSPECIFIED = 0; COLOUR_RED = 1; }
message Inner { string plain = 1; string hidden = 2 [(weft.options.v1.sensitive) = SENSITIVITY_PERSONAL]; }
message Shapes {
  string plain = 1;
  string text = 2 [(weft.options.v1.sensitive) = SENSITIVITY_SECRET];
  bytes raw = 3 [(weft.options.v1.sensitive) = SENSITIVITY_SECRET];
  int64 number = 4 [(weft.options.v1.sensitive) = SENSITIVITY_PERSONAL];
  Colour colour = 5 [(weft.options.v1.sensitive) = SENSITIVITY_PERSONAL];
  Inner whole = 6 [(weft.options.v1.sensitive) = SENSITIVITY_PERSONAL];
  repeated string texts = 7 [(weft.options.v1.sensitive) = SENSITIVITY_PERSONAL];
  repeated Inner list = 8;
  map<string, Inner> table = 9;
  oneof choice { string chosen = 10 [(weft.options.v1.sensitive) = SENSITIVITY_SECRET]; string other = 11; }
  Shapes itself = 12;
  google.protobuf.Any packed = 13;
  google.protobuf.Struct open = 14;
  string harmless_token = 15 [(weft.options.v1.sensitive) = SENSITIVITY_NONE];
  google.protobuf.Timestamp moment = 16;
  repeated google.protobuf.Any parcels = 17;
  bytes harmless_bytes = 18;
  map<string, string> labels = 19;
  double ratio = 20;
  Colour seen = 21;
}
"""


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """Makes messages of a type with a marked field of every shape."""
    folder = tmp_path_factory.mktemp("shapes")
    (folder / "shapes.proto").write_text(EVERY_SHAPE)
    out = folder / "set.binpb"
    includes = [folder, ROOT / "protos", Path(grpc_tools.__file__).parent / "_proto"]
    command = ["protoc", *(f"-I{path}" for path in includes), f"--descriptor_set_out={out}"]
    assert 0 == protoc.main([*command, str(folder / "shapes.proto")])
    pool = descriptor_pool.Default()
    # Loaded into the pool by its import, as the other files are.
    assert struct_pb2.DESCRIPTOR.pool is pool
    for file in FileDescriptorSet.FromString(out.read_bytes()).file:
        pool.AddSerializedFile(file.SerializeToString())
    made: type[Any] = message_factory.GetMessageClass(pool.FindMessageTypeByName("weft.test.v1.Shapes"))
    return made


def printed(message: Message) -> str:
    """Everything in which a sink may show it, in one text."""
    record = redaction.clean(None, "info", {"event": "shown", "it": message, "list": [message]})
    copy = redaction.redacted(message)
    return "\n".join([json.dumps(redaction.shown(message)), json.dumps(record), str(copy), repr(copy)]) + repr(
        copy.SerializeToString()
    )


def messages() -> Iterator[Descriptor]:
    """Every message of the contracts, nested ones too."""
    files = {service.file for service in policy.SERVICES} | {event.file for event in policy.EVENTS}
    pending = [message for file in files for message in file.message_types_by_name.values()]
    while pending:
        message = pending.pop()
        yield message
        pending += message.nested_types


def filled(descriptor: Descriptor, above: tuple[str, ...] = ()) -> Message:
    """A message whose every string says where it stands, marked ones with the canary."""
    message: Any = message_factory.GetMessageClass(descriptor)()
    for field in descriptor.fields:
        marked = redaction.sensitivity(field) in (policy_pb2.SENSITIVITY_SECRET, policy_pb2.SENSITIVITY_PERSONAL)
        value: Any
        if field.type == FieldDescriptor.TYPE_STRING:
            value = CANARY if marked else f"plain-{field.name}"
        elif field.message_type is not None and field.message_type.full_name not in above:
            value = filled(field.message_type, (*above, descriptor.full_name))
        else:
            continue
        if field.is_repeated:
            getattr(message, field.name).append(value)
        elif field.message_type is not None:
            getattr(message, field.name).CopyFrom(value)
        else:
            setattr(message, field.name, value)
    return message


SECRETS = ("password", "old_password", "password_hash", "refresh_token", "token", "client_secret", "api_key", "cookie")
PEOPLE = ("email", "work_email", "phone", "phone_number", "family_name", "date_of_birth", "iban", "postal_address")
TELLING = (*SECRETS, *PEOPLE, "authorization")
CURSORS = ("page_token", "next_page_token")
SILENT = (*CURSORS, "request_id", "token_type", "tokens_from", "display_name", "name", "secretary", "address", "key")

SENSITIVE = sorted((one for one in messages() if CANARY in str(filled(one))), key=lambda one: one.full_name)


def test_the_contracts_mark_passwords_tokens_addresses_and_names() -> None:
    marked = {
        f"{field.containing_type.name}.{field.name}": redaction.sensitivity(field)
        for message in messages()
        for field in message.fields
        if redaction.sensitivity(field) and field.containing_type is not None
    }

    secret, personal = policy_pb2.SENSITIVITY_SECRET, policy_pb2.SENSITIVITY_PERSONAL
    expected = {
        "CreateUserRequest.password": secret,
        "CreateSessionRequest.password": secret,
        "RefreshSessionRequest.refresh_token": secret,
        "Session.access_token": secret,
        "Session.refresh_token": secret,
        "CreateUserRequest.email": personal,
        "CreateUserRequest.display_name": personal,
        "CreateSessionRequest.email": personal,
        "User.email": personal,
        "User.display_name": personal,
        "UserCreated.email": personal,
        "UserCreated.display_name": personal,
    }
    assert expected == {name: marked[name] for name in expected}


@pytest.mark.parametrize("descriptor", SENSITIVE, ids=lambda descriptor: descriptor.full_name)
def test_no_marked_value_of_the_contracts_is_shown(descriptor: Descriptor) -> None:
    message = filled(descriptor)
    envelope = Envelope(type=descriptor.full_name)
    envelope.payload.Pack(message)

    for whole in (message, envelope):
        assert CANARY.encode() in whole.SerializeToString()
        assert CANARY not in printed(whole)
        assert redaction.MARK in json.dumps(redaction.shown(whole))
        assert {CANARY} == redaction.values(whole)


@pytest.mark.parametrize("descriptor", SENSITIVE, ids=lambda descriptor: descriptor.full_name)
def test_what_is_not_marked_stays_as_it_was(descriptor: Descriptor) -> None:
    message = filled(descriptor)

    copy = redaction.redacted(message)

    assert str(message).replace(CANARY, redaction.MARK) == str(copy)
    assert CANARY in str(message), "the original is not touched"


def test_most_messages_with_secrets_are_known() -> None:
    assert {"CreateUserRequest", "ListUsersResponse", "Session", "UpdateUserRequest", "UserCreated"} <= {
        one.name for one in SENSITIVE
    }


def test_a_message_without_marks_is_shown_whole() -> None:
    product = catalog_pb2.Product(name="products/mug", display_name="MUG")

    assert {"name": "products/mug", "display_name": "MUG"} == redaction.shown(product)
    assert product == redaction.redacted(product)


def test_every_shape_of_a_field_is_hidden_and_everything_else_kept(shapes: Callable[..., Any]) -> None:
    message = shapes(
        plain="kept",
        text=CANARY,
        raw=CANARY.encode(),
        number=31337,
        colour=1,
        whole={"plain": CANARY},
        texts=[CANARY, CANARY],
        list=[{"plain": "kept", "hidden": CANARY}],
        table={"key": {"hidden": CANARY}},
        chosen=CANARY,
        itself={"text": CANARY, "itself": {"chosen": CANARY}},
        harmless_token="kept",
        harmless_bytes=b"\x00\xff",
        labels={"a": "b"},
        ratio=float("nan"),
        seen=1,
    )
    mark = redaction.MARK

    expected = {
        "plain": "kept",
        "text": mark,
        "raw": mark,
        "number": mark,
        "colour": mark,
        "whole": mark,
        "texts": mark,
        "list": [{"plain": "kept", "hidden": mark}],
        "table": {"key": {"hidden": mark}},
        "chosen": mark,
        "itself": {"text": mark, "itself": {"chosen": mark}},
        "harmless_token": "kept",
        "harmless_bytes": "AP8=",
        "labels": {"a": "b"},
        "ratio": "nan",
        "seen": "COLOUR_RED",
    }
    assert expected == redaction.shown(message)
    assert CANARY not in printed(message)
    assert "31337" not in printed(message)
    copy = redaction.redacted(message)
    assert ("kept", mark, b"", 0, 0, [mark, mark]) == (
        copy.plain,
        copy.text,
        copy.raw,
        copy.number,
        copy.colour,
        list(copy.texts),
    )
    assert not copy.HasField("whole")
    assert "chosen" == copy.WhichOneof("choice")
    assert {CANARY} == redaction.values(message)


def test_what_is_packed_is_hidden_and_what_cannot_be_read_is_only_named(shapes: Callable[..., Any]) -> None:
    user, unknown = UserCreated(user="users/ada", email=CANARY), Packed(type_url="type.googleapis.com/no.such.Type")
    unknown.value = CANARY.encode()
    broken = Packed(type_url="type.googleapis.com/weft.identity.v1.UserCreated", value=b"\x1a\x7f" + CANARY.encode())
    inner, message = shapes(), shapes()
    inner.packed.Pack(user)
    message.packed.Pack(inner)
    message.parcels.extend([unknown, broken])

    user_shown = {"@type": broken.type_url, "user": "users/ada", "email": redaction.MARK}
    expected = {
        "packed": {"@type": "type.googleapis.com/weft.test.v1.Shapes", "packed": user_shown},
        "parcels": [{"@type": unknown.type_url}, {"@type": broken.type_url}],
    }
    assert expected == redaction.shown(message)
    assert CANARY not in printed(message)
    copy, unpacked = redaction.redacted(message), shapes()
    assert [b"", b""] == [one.value for one in copy.parcels]
    assert copy.packed.Unpack(unpacked)
    assert unpacked.packed.Unpack(user)
    assert redaction.MARK == user.email


def test_unknown_fields_are_dropped_also_inside_of_what_is_packed() -> None:
    envelope = Envelope(id="1")
    envelope.payload.Pack(UserCreated(user="users/ada"))
    envelope.payload.value += b"\xfa\x7f" + bytes([len(CANARY)]) + CANARY.encode()
    whole = Envelope.FromString(envelope.SerializeToString() + b"\xfa\x7f" + bytes([len(CANARY)]) + CANARY.encode())

    assert 2 == whole.SerializeToString().count(CANARY.encode())
    assert CANARY not in printed(whole)


def test_values_of_no_meaning_are_named_and_break_nothing(shapes: Callable[..., Any]) -> None:
    message = shapes(moment={"seconds": 1 << 62}, seen=77)

    assert {"moment": redaction.INVALID, "seen": 77} == redaction.shown(message)


def test_nesting_without_end_is_cut(shapes: Callable[..., Any]) -> None:
    packed = Packed()
    packed.Pack(UserCreated(email=CANARY))
    for _ in range(3000):
        outer = Packed()
        outer.Pack(packed)
        packed = outer

    assert CANARY not in printed(packed)
    assert redaction.CUT in json.dumps(redaction.shown(packed))
    record = redaction.clean(None, "info", {"deep": nested(5000)})
    assert redaction.CUT in json.dumps(record)


def nested(depth: int) -> object:
    found: object = CANARY
    for _ in range(depth):
        found = [found]
    return found


def test_a_record_is_cleaned_of_messages_telling_names_and_values(shapes: Callable[..., Any]) -> None:
    request = identity_pb2.CreateUserRequest(user_id="ada", email="ada@example.com", password=CANARY)
    message = shapes()
    message.open.update({"password": CANARY, "size": 2})
    record = {
        "event": f"cannot store {CANARY}",
        "request": request,
        "open": message,
        "password": CANARY,
        "headers": {"authorization": CANARY, "accept": "*/*", "cookie": ""},
        "exception": [{"exc_value": f"{CANARY}x for 'ada@example.com'", "frames": []}],
        "object": ValueError(CANARY),
        "attempt": 3,
        "page_token": "abc",
        redaction.WITHOUT: redaction.values(request) | {f"{CANARY}x"},
    }

    mark = redaction.MARK
    expected = {
        "event": f"cannot store {mark}",
        "request": {"user_id": "ada", "email": mark, "password": mark},
        "open": {"open": {"password": mark, "size": 2.0}},
        "password": mark,
        "headers": {"authorization": mark, "accept": "*/*", "cookie": ""},
        "exception": [{"exc_value": f"{mark} for '{mark}'", "frames": []}],
        "object": f"ValueError('{mark}')",
        "attempt": 3,
        "page_token": "abc",
    }
    assert expected == redaction.clean(None, "error", record)


def test_a_value_is_found_in_a_text_that_quotes_it() -> None:
    request = identity_pb2.CreateUserRequest(password="two\nlines", display_name="Al")

    record = redaction.clean(None, "error", {"event": repr("two\nlines"), "without": redaction.values(request)})

    assert {"event": f"'{redaction.MARK}'"} == record


@pytest.mark.parametrize("name", TELLING)
def test_a_name_tells_of_a_secret_or_a_person(name: str) -> None:
    assert redaction.tells(name)


@pytest.mark.parametrize("name", SILENT)
def test_a_name_tells_of_nothing(name: str) -> None:
    assert not redaction.tells(name)
