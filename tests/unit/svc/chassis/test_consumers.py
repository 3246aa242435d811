"""Which consumer uses which fields: what is noted of a call, how often, and what never is."""

from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.type.money_pb2 import Money

from svc.chassis import consumers
from svc.chassis.call import Call, Method
from svc.chassis.consumers import Flushing, Recorder
from tests.unit.svc.chassis.instance import NOW_S, Instance, StandingClock, eventually
from weft.catalog.v1 import catalog_pb2
from weft.orders.v1 import orders_pb2
from weft_protos import consumer, usage
from weft_protos.usage import Entry

HOUR = NOW_S // 3600
GET = "weft.orders.v1.OrderService/GetOrder"
PLACE = "weft.orders.v1.OrderService/PlaceOrder"
LIST = "weft.orders.v1.OrderService/ListOrders"
SERVICE = orders_pb2.DESCRIPTOR.services_by_name["OrderService"]


def call(name: str, message: object, **metadata: str) -> Call:
    method = Method.of(SERVICE.methods_by_name[name], instance="orders-1")
    said = {key.replace("_", "-"): (value,) for key, value in metadata.items()}
    return Call(method, said, b"", None, lambda: True, message=message)  # type: ignore[arg-type]


def get(*paths: str, client: str = "shop/1") -> Call:
    request = orders_pb2.GetOrderRequest(name="orders/secret-1", read_mask=FieldMask(paths=paths))
    return call("GetOrder", request, x_weft_client=client)


@pytest.fixture
def clock() -> StandingClock:
    return StandingClock()


@pytest.fixture
def recorder(clock: StandingClock) -> Recorder:
    return Recorder("orders", one_in=20, clock=clock)


def notes(recorder: Recorder) -> dict[Entry, int]:
    return usage.decode(recorder.unsaid() or b"")


def noted(recorder: Recorder, kind: str) -> set[tuple[str, str, str]]:
    return {(one.method, one.consumer, one.path) for one in notes(recorder) if one.kind == kind}


def test_a_call_is_noted_with_the_fields_it_sends_and_asks_for(recorder: Recorder) -> None:
    recorder.saw(get("state", "items.quantity"))

    said = {
        Entry(GET, "shop/1", "call", ""): HOUR,
        Entry(GET, "shop/1", "sent", "name"): HOUR,
        Entry(GET, "shop/1", "sent", "read_mask"): HOUR,
        Entry(GET, "shop/1", "read", "state"): HOUR,
        Entry(GET, "shop/1", "read", "items.quantity"): HOUR,
        usage.since("orders"): HOUR,
    }
    assert said == notes(recorder)


def test_names_are_noted_and_values_never(recorder: Recorder) -> None:
    items = [orders_pb2.ItemQuantity(product_id="canary", quantity=2), orders_pb2.ItemQuantity(product_id="canary2")]
    recorder.saw(call("PlaceOrder", orders_pb2.PlaceOrderRequest(items=items, request_id="canary3")))

    content = recorder.unsaid() or b""
    assert b"canary" not in content
    sent = {one.path for one in usage.decode(content) if one.kind == "sent"}
    assert {"items", "items.product_id", "items.quantity", "request_id"} == sent


@pytest.mark.parametrize("paths", [(), ("*",), ("state", "*")])
def test_who_asks_for_no_fields_reads_them_all(recorder: Recorder, paths: tuple[str, ...]) -> None:
    recorder.saw(get(*paths))

    assert {(GET, "shop/1", "*")} == noted(recorder, "read")


def test_a_mask_of_a_list_is_about_its_items_and_invented_paths_are_not_noted(recorder: Recorder) -> None:
    mask = FieldMask(paths=["name", "nonsense", "x" * 5000, "items.quantity", "orders.state"])
    recorder.saw(call("ListOrders", orders_pb2.ListOrdersRequest(read_mask=mask), x_weft_client="shop"))

    assert {(LIST, "shop", path) for path in ("name", "items.quantity", "orders.state")} == noted(recorder, "read")


def test_the_first_call_of_each_consumer_and_method_is_looked_at_then_one_in_so_many(recorder: Recorder) -> None:
    recorder.saw(get("state"))
    for _ in range(19):
        recorder.saw(get("total"))
    assert {(GET, "shop/1", "state")} == noted(recorder, "read")

    recorder.saw(get("total"))
    recorder.saw(get("user", client="other/1"))

    assert {(GET, "shop/1", "total"), (GET, "other/1", "user")} <= noted(recorder, "read")


def test_the_first_call_of_an_hour_is_looked_at(recorder: Recorder, clock: StandingClock) -> None:
    recorder.saw(get("state"))
    clock.move(timedelta(hours=1).total_seconds())
    recorder.saw(get("state"))

    assert HOUR + 1 == notes(recorder)[Entry(GET, "shop/1", "read", "state")]


def test_who_does_not_name_itself_is_known_by_its_user_agent(recorder: Recorder) -> None:
    request = orders_pb2.GetOrderRequest(name="x")
    recorder.saw(call("GetOrder", request, user_agent="grpc-go/1.60.0"))
    recorder.saw(call("GetOrder", request))

    assert {"user-agent:grpc-go", "unknown"} == {who for _, who, _ in noted(recorder, "call")}


def test_more_consumers_than_are_kept_apart_are_counted_as_one(recorder: Recorder) -> None:
    for number in range(consumers.CONSUMERS_MAX + 50):
        recorder.saw(get(client=f"shop-{number}"))

    found = {who for _, who, _ in noted(recorder, "call")}
    assert consumers.CONSUMERS_MAX + 1 == len(found)
    assert consumer.OTHER in found


def test_a_sample_of_none_notes_nothing(clock: StandingClock) -> None:
    recorder = Recorder("orders", one_in=0, clock=clock)
    recorder.saw(get())

    assert recorder.unsaid() is None


def test_what_the_registry_knows_is_kept_and_is_not_said_again(recorder: Recorder) -> None:
    recorder.saw(get("state"))
    before = usage.encode({Entry(GET, "old/1", "call", ""): HOUR - 5}, "orders", now_hour=HOUR)
    recorder.learn(before)
    merged = recorder.unsaid()
    assert merged is not None
    assert {"old/1", "shop/1"} == {one.consumer for one in usage.decode(merged) if one.kind == "call"}

    recorder.learn(merged)

    assert recorder.unsaid() is None
    recorder.saw(get("state", client="new/1"))
    assert recorder.unsaid() is not None


def test_two_instances_that_overwrite_each_other_end_up_with_the_same_notes(clock: StandingClock) -> None:
    one, two = (Recorder("orders", one_in=1, clock=clock) for _ in range(2))
    one.saw(get("state", client="a/1"))
    two.saw(get("total", client="b/1"))
    stored = b""
    for recorder in (one, two, one, two):
        stored = recorder.unsaid() or stored
        for each in (one, two):
            each.learn(stored)

    assert (None, None) == (one.unsaid(), two.unsaid())
    assert {"a/1", "b/1"} == {each.consumer for each in usage.decode(stored) if each.kind == "call"}


def test_a_document_that_is_none_changes_nothing(recorder: Recorder) -> None:
    recorder.learn(b"nonsense")

    assert {usage.since("orders"): HOUR} == notes(recorder)


def test_a_request_is_looked_into_only_so_far() -> None:
    many = catalog_pb2.BatchGetProductsResponse(
        products=[catalog_pb2.Product(name="a", price=Money(units=1)) for _ in range(1000)]
    )

    assert ("products", "products.name", "products.price", "products.price.units") == consumers.sent_paths(many)


def test_a_server_tells_of_valid_calls_alone() -> None:
    seen: list[str] = []
    running = Instance(observe=lambda each: seen.append(each.method.name))
    try:
        running.get_stock(metadata=(("x-weft-client", "shop/1"),))
        with pytest.raises(Exception, match="INVALID_ARGUMENT"):
            running.raw("/weft.orders.v1.InventoryService/GetStock", b"\xff")
        with pytest.raises(Exception, match="UNAUTHENTICATED"):
            running.get_stock(token="")
    finally:
        running.close()

    assert ["/weft.orders.v1.InventoryService/GetStock"] == seen


@pytest.fixture
def flushing() -> Iterator[Callable[[Recorder, Callable[[bytes], None]], Flushing]]:
    made: list[Flushing] = []

    def make(recorder: Recorder, publish: Callable[[bytes], None]) -> Flushing:
        made.append(Flushing(recorder, publish, every_s=0.01))
        return made[-1]

    yield make
    for each in made:
        each.stop()


def test_notes_are_published_while_they_change_and_a_failure_does_not_end_that(
    recorder: Recorder, flushing: Callable[[Recorder, Callable[[bytes], None]], Flushing]
) -> None:
    published: list[bytes] = []

    def publish(content: bytes) -> None:
        published.append(content)
        if len(published) == 1:
            raise OSError("the registry is away")
        recorder.learn(content)

    flushing(recorder, publish).start()
    assert eventually(lambda: len(published) == 2)
    recorder.saw(get("state"))
    assert eventually(lambda: b"shop/1" in published[-1])
