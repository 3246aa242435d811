"""Whom a change meets: the methods and fields a violation is about, and the consumers noted for them."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

from deploy.cli import consumers, sources
from deploy.cli.__main__ import run
from deploy.cli.impact import Contracts
from deploy.supervisor.config import PROJECT
from weft_protos import usage
from weft_protos.usage import Entry

ORDERS = "weft/orders/v1/orders.proto"
SERVICE = "weft.orders.v1.OrderService"
PLACE, GET, LIST = f"{SERVICE}/PlaceOrder", f"{SERVICE}/GetOrder", f"{SERVICE}/ListOrders"
NOW = datetime(2026, 11, 22, 12, 30, tzinfo=UTC)
HOUR = int(NOW.timestamp()) // 3600
PLACED, MAIL = "weft.orders.v1.OrderPlaced", "email-worker; contract=0123456789ab"
EVENTS = "protos/weft/orders/v1/events.proto"
WEB, APP = "shop-web/1.4; contract=0123456789ab", "shop-app/7"

NOTES = {
    Entry(PLACE, WEB, "call", ""): HOUR,
    Entry(PLACE, WEB, "sent", "items"): HOUR,
    Entry(PLACE, WEB, "sent", "items.quantity"): HOUR - 2,
    Entry(PLACE, WEB, "read", "*"): HOUR,
    Entry(GET, APP, "call", ""): HOUR - 1,
    Entry(GET, APP, "sent", "name"): HOUR - 1,
    Entry(GET, APP, "read", "items.display_name"): HOUR - 1,
    Entry(LIST, APP, "read", "total"): HOUR - 3,
    usage.since("orders"): HOUR - 100,
    **dict.fromkeys(usage.taken(PLACED, MAIL), HOUR - 5),
    usage.since(PLACED): HOUR - 50,
}


@pytest.fixture(scope="module")
def contracts() -> Contracts:
    return Contracts((PROJECT / sources.GENERATED).read_bytes())


@pytest.fixture(autouse=True)
def data(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data directory on which nothing runs."""
    monkeypatch.setenv("WEFT_DATA", str(folder))
    return folder


def who(contracts: Contracts, message: str, file: str = f"protos/{ORDERS}") -> list[str]:
    impact = contracts.impact({"message": message, "file": file})
    return [] if impact is None else [str(use) for use in consumers.uses(NOTES, impact)]


def test_who_sends_a_field_is_named(contracts: Contracts) -> None:
    said = 'Previously present field "2" with name "quantity" on message "ItemQuantity" was deleted'

    assert [f"{WEB} sends items.quantity (PlaceOrder), last 2026-11-22T10:00Z"] == who(contracts, said)


def test_who_asks_for_a_field_and_who_reads_everything_is_named(contracts: Contracts) -> None:
    said = 'Field "2" on message "OrderItem" changed name from "display_name" to "title"'

    assert [
        f"{WEB} reads the whole answer (PlaceOrder), last 2026-11-22T12:00Z",
        f"{APP} asks for items.display_name (GetOrder), last 2026-11-22T11:00Z",
    ] == who(contracts, said)


def test_a_mask_that_leaves_a_field_out_is_no_use_of_it(contracts: Contracts) -> None:
    said = 'Field "4" with name "cancelled_quantity" on message "OrderItem" changed type'

    assert [f"{WEB} reads the whole answer (PlaceOrder), last 2026-11-22T12:00Z"] == who(contracts, said)


def test_a_mask_asks_for_what_lies_inside_a_message(contracts: Contracts) -> None:
    said = 'Field "4" with name "total" on message "Order" changed cardinality'

    assert f"{APP} asks for total (ListOrders), last 2026-11-22T09:00Z" in who(contracts, said)


@pytest.mark.parametrize(
    "said",
    [
        'Previously present RPC "GetOrder" on service "OrderService" was deleted',
        'Previously present service "OrderService" was deleted from file',
        'RPC "GetOrder" on service "OrderService" changed request type from "a" to "b"',
        'Previously present message "GetOrderRequest" was deleted from file',
        f"{GET} demands orders.admin and took orders.read before: tokens are refused",
    ],
)
def test_who_calls_a_method_is_named(contracts: Contracts, said: str) -> None:
    assert f"{APP} calls it (GetOrder), last 2026-11-22T11:00Z" in who(contracts, said)


def test_an_enum_is_found_in_what_holds_it(contracts: Contracts) -> None:
    said = 'Previously present enum value "3" on enum "State" was deleted'

    assert [f"{WEB} reads the whole answer (PlaceOrder), last 2026-11-22T12:00Z"] == who(contracts, said)


@pytest.mark.parametrize(
    ("said", "does"),
    [
        (f"{PLACED} has the routing key 'a', before 'b': queues bound to that starve", "consumes it"),
        (f"{PLACED} is no event any more: what lies in outbox and queues cannot be delivered", "consumes it"),
        ('Previously present message "OrderPlaced" was deleted from file', "consumes it"),
        ('Field "1" with name "order" on message "OrderPlaced" changed type', "reads the whole event"),
    ],
)
def test_workers_that_consume_an_event_are_named(contracts: Contracts, said: str, does: str) -> None:
    assert [f"{MAIL} {does} ({PLACED}), last 2026-11-22T07:00Z"] == who(contracts, said, EVENTS)


def test_an_event_that_no_worker_took_is_said_to_be_so_since_when_that_is_known(contracts: Contracts) -> None:
    impact = contracts.impact({"message": "weft.orders.v1.OrderCancelled is no event any more", "file": EVENTS})
    assert impact is not None
    began = {usage.since("weft.orders.v1.OrderCancelled"): HOUR - 7}

    assert "nothing is known of its consumers" == consumers.unused(NOTES, impact, now=NOW)
    assert "since 2026-11-22T05:00Z" in consumers.unused({**NOTES, **began}, impact, now=NOW)


@pytest.mark.parametrize(
    "said",
    ["weft.orders.v1.Nothing has the routing key 'a', before 'b'", 'field "1" on message "Unheard"', "no words"],
)
def test_what_is_about_no_method_and_no_field_of_one_names_nobody(contracts: Contracts, said: str) -> None:
    assert contracts.impact({"message": said, "file": f"protos/{ORDERS}"}) is None


def test_a_field_that_nobody_uses_is_said_to_be_so_since_when_that_is_known(contracts: Contracts) -> None:
    impact = contracts.impact({"message": 'field "2" on message "ListOrdersRequest"', "file": f"protos/{ORDERS}"})
    assert impact is not None

    assert () == consumers.uses(NOTES, impact)
    assert "no consumer has sent or asked for it since 2026-11-18T08:00Z" == consumers.unused(NOTES, impact, now=NOW)
    assert "nothing is known of its consumers" == consumers.unused({}, impact, now=NOW)
    forgotten = {usage.since("orders"): 1, usage.dropped("orders"): HOUR}
    assert consumers.unused(forgotten, impact, now=NOW).startswith(
        "no consumer has sent or asked for it since 2026-08-24"
    )
    assert "some notes were left out" in consumers.unused(forgotten, impact, now=NOW)


def test_what_is_printed_as_json_is_read_back() -> None:
    called = {entry: hour for entry, hour in NOTES.items() if entry.kind != "call"}
    latest = {
        Entry(PLACE, WEB, "call", ""): HOUR,
        Entry(GET, APP, "call", ""): HOUR - 1,
        Entry(LIST, APP, "call", ""): HOUR - 3,
        Entry(PLACED, MAIL, "call", ""): HOUR - 5,
    }

    assert called | latest == consumers.parse(json.dumps(consumers.as_object(NOTES)).encode())


def test_the_list_says_who_sends_and_reads_what() -> None:
    text = "\n".join(consumers.lines(NOTES))

    assert "shop-web/1.4  contract 0123456789ab" in text
    assert "sends items, items.quantity; reads the whole answer" in text
    assert "orders notes its consumers since" in text
    assert ["no consumer has been noted"] == list(consumers.lines({}))


def breaking(change: Callable[[FileDescriptorProto], object], tmp_path: Path) -> str:
    files = FileDescriptorSet.FromString((PROJECT / sources.GENERATED).read_bytes())
    change(next(file for file in files.file if file.name == ORDERS))
    path = tmp_path / "changed.binpb"
    path.write_bytes(files.SerializeToString())
    return str(path)


def delete_quantity(orders: FileDescriptorProto) -> None:
    item = next(message for message in orders.message_type if message.name == "ItemQuantity")
    del item.field[1]


def test_the_check_names_consumers_beside_each_breaking_change(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    notes = tmp_path / "notes.json"
    notes.write_text(json.dumps(consumers.as_object(NOTES)))
    asked = ["contracts", "check", "--descriptors", breaking(delete_quantity, tmp_path), "--consumers"]

    assert 1 == run([*asked, str(notes)])
    assert f"    used by {WEB} sends items.quantity (PlaceOrder)" in capsys.readouterr().err
    assert 1 == run([*asked, str(notes), "--json"])
    (found,) = json.loads(capsys.readouterr().out)["violations"]
    assert [("sends items.quantity", PLACE)] == [(use["how"], use["method"]) for use in found["consumers"]]
    assert 1 == run([*asked, "none"])
    assert "used by" not in capsys.readouterr().err


def test_without_a_mesh_the_check_is_made_without_consumers_unless_they_are_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["contracts", "check", "--descriptors", breaking(delete_quantity, tmp_path)]

    assert 1 == run(asked)
    assert "quantity" in capsys.readouterr().err
    assert 3 == run([*asked, "--consumers", "running"])
    assert 3 == run(["contracts", "consumers"])


@pytest.mark.parametrize("content", [None, "", "[]", '{"consumers": [{"name": "A B"}], "since": {}, "dropped": {}}'])
def test_notes_that_are_none_are_a_wrong_argument(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | None
) -> None:
    notes = tmp_path / "notes.json"
    if content is not None:
        notes.write_text(content)
    asked = ["contracts", "check", "--descriptors", breaking(delete_quantity, tmp_path), "--consumers", str(notes)]

    assert 2 == run(asked)
    assert "--consumers" in capsys.readouterr().err


def test_notes_that_are_not_there_are_a_wrong_argument_even_where_nothing_breaks(tmp_path: Path) -> None:
    assert 2 == run(["contracts", "check", "--consumers", str(tmp_path / "none")])
