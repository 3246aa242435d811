"""`weft call`: requests are held against their contract, errors are decoded, and a real server is really called."""

import json
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from deploy.cli import call, failure, methods, request_json, troubleshooting
from deploy.cli.__main__ import run
from deploy.cli.failure import Failure, Named
from weft.catalog.v1 import catalog_pb2, catalog_pb2_grpc
from weft.orders.v1 import orders_pb2, orders_pb2_grpc
from weft_protos import grounds

TRACE = "0af7651916cd43dd8448eb211c80319c"
PRODUCT = {"name": "products/mug"}
GET = "weft.catalog.v1.CatalogService/GetProduct"


@pytest.mark.parametrize(
    "name",
    [
        "GetProduct",
        "CatalogService/GetProduct",
        "CatalogService.GetProduct",
        "weft.catalog.v1.CatalogService/GetProduct",
        "/weft.catalog.v1.CatalogService/GetProduct",
    ],
)
def test_a_method_is_found_by_any_of_its_names(name: str) -> None:
    assert GET == methods.full_name(methods.find(name))


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("GetProdukt", "did you mean GetProduct"),
        ("", "there are BatchGetProducts"),
        ("Product", "did you mean"),
        ("weft.orders.v1.CatalogService/GetProduct", "did you mean GetProduct"),
    ],
)
def test_an_unknown_method_is_answered_with_those_that_may_be_meant(name: str, says: str) -> None:
    with pytest.raises(methods.UnknownMethodError, match=says):
        methods.find(name)


def faults(text: str, method: str = "PlaceOrder") -> dict[str, str]:
    with pytest.raises(request_json.RequestRefusedError) as raised:
        request_json.parse(text, methods.find(method).input_type)
    return dict(raised.value.faults)


KEY = '"request_id": "7d444840-9dc0-11d1-b245-5ffdce74fad2"'


@pytest.mark.parametrize(
    ("text", "field", "says"),
    [
        ("{", "the request", "is not JSON"),
        ("[]", "the request", "is no object of weft.orders.v1.PlaceOrderRequest"),
        ('{"items": [{"product_id": "a", "quantty": 1}]}', "items[0].quantty", "no such field; did you mean quantity?"),
        ('{"zzz": 1}', "zzz", "no such field; PlaceOrderRequest has items"),
        ('{"items": [{"quantity": 1}, {"quantity": "many"}]}', "items[1].quantity", "is no whole number of 64 bits"),
        ('{"items": [{"quantity": 1, "quantity": 2}]}', "items[0].quantity", "is given twice"),
        ('{"items": [{"productId": "a", "product_id": "b"}]}', "items[0].product_id", "is given twice"),
        ('{"items": {}}', "items", "{} is no list"),
        ('{"items": [3]}', "items[0]", "3 is no object of weft.orders.v1.ItemQuantity"),
        ('{"request_id": 5}', "request_id", "5 is no string"),
        (f'{{"items": [{{"product_id": "a", "quantity": 0}}], {KEY}}}', "items[0].quantity", "greater than"),
        (f'{{"items": {"[" * 700}{"]" * 700}}}', "the request", "is nested deeper than any request may be"),
        ("[" * 100_000, "the request", "is nested deeper than any request may be"),
    ],
)
def test_every_mistake_in_a_request_is_named_by_its_path(text: str, field: str, says: str) -> None:
    found = faults(text)

    assert [field] == list(found)
    assert says in found[field]


@pytest.mark.parametrize(
    ("method", "text", "field", "says"),
    [
        ("CreateReport", '{"kind": "KIND_TOP_PRODUCT"}', "kind", "did you mean KIND_TOP_PRODUCTS?"),
        ("GetProduct", '{"name": "products/mug", "read_mask": 7}', "read_mask", "is no google.protobuf.FieldMask"),
    ],
)
def test_enums_and_known_types_are_explained(method: str, text: str, field: str, says: str) -> None:
    assert says in faults(text, method)[field]


def test_all_mistakes_are_told_at_once() -> None:
    assert {"items[0].quantty", "request_id"} == set(faults('{"items": [{"quantty": 1}], "request_id": 5}'))


def test_a_good_request_becomes_its_message() -> None:
    text = f'{{"items": [{{"productId": "mug", "quantity": "2"}}], "regionCode": null, {KEY}}}'

    found = request_json.parse(text, orders_pb2.PlaceOrderRequest.DESCRIPTOR)

    item = orders_pb2.ItemQuantity(product_id="mug", quantity=2)
    key = "7d444840-9dc0-11d1-b245-5ffdce74fad2"
    assert orders_pb2.PlaceOrderRequest(items=[item], request_id=key) == found


def test_a_broken_rule_may_be_sent_where_somebody_insists() -> None:
    found = request_json.parse('{"name": "no/name"}', catalog_pb2.GetProductRequest.DESCRIPTOR, check=False)

    assert catalog_pb2.GetProductRequest(name="no/name") == found


def refusal(code: grpc.StatusCode, message: str, *details: Message) -> status_pb2.Status:
    packed = []
    for detail in details:
        packed.append(any_pb2.Any())
        packed[-1].Pack(detail)
    return status_pb2.Status(code=code.value[0], message=message, details=packed)


def test_every_detail_of_an_error_is_decoded() -> None:
    violation = error_details_pb2.BadRequest.FieldViolation(field="items[0].quantity", description="is too many")
    wrong = error_details_pb2.PreconditionFailure.Violation(type="STOCK", subject="mug", description="2 are left")
    status = refusal(
        grpc.StatusCode.FAILED_PRECONDITION,
        "no\x1b[31m stock",
        error_details_pb2.ErrorInfo(reason="OUT_OF_STOCK", metadata={grounds.RULE: "service: X", "left": "2"}),
        error_details_pb2.BadRequest(field_violations=[violation]),
        error_details_pb2.PreconditionFailure(violations=[wrong]),
        error_details_pb2.ResourceInfo(resource_type="product", resource_name="products/mug", description="is out"),
        error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(nanos=500_000_000)),
        error_details_pb2.Help(links=[error_details_pb2.Help.Link(url="http://x", description="the runbook")]),
        error_details_pb2.DebugInfo(detail="secret"),
        catalog_pb2.Product(name="products/mug"),
    )

    found = failure.decoded(status, code="FAILED_PRECONDITION", trace_id=TRACE)

    assert (
        Failure(
            code="FAILED_PRECONDITION",
            message="no [31m stock",
            reason="OUT_OF_STOCK",
            metadata={grounds.RULE: "service: X", "left": "2"},
            fields=(Named("items[0].quantity", "is too many"),),
            conditions=(Named("mug", "2 are left"),),
            resource=Named("product products/mug", "is out"),
            retry_after_s=0.5,
            links=(Named("http://x", "the runbook"),),
            others=("DebugInfo", "weft.catalog.v1.Product"),
            trace_id=TRACE,
        )
        == found
    )
    shown = "\n".join(failure.lines(found, explanation="too few are left", fix=failure.fix_of(found, ())))
    for part in ("OUT_OF_STOCK: too few are left", "items[0].quantity: is too many", "after 0.5 s", "wait 0.5 s"):
        assert part in shown
    assert "secret" not in shown


def test_a_detail_that_is_broken_is_named_and_does_no_harm() -> None:
    broken = any_pb2.Any(type_url="type.googleapis.com/google.rpc.ErrorInfo", value=b"\xff\xff")

    found = failure.decoded(status_pb2.Status(code=5, message="no", details=[broken]), code="NOT_FOUND")

    assert ("", ("google.rpc.ErrorInfo",)) == (found.reason, found.others)


def test_every_code_has_something_to_do_about_it() -> None:
    assert {code.name for code in grpc.StatusCode} - {"OK"} == set(failure.FIXES)


def test_a_missing_scope_is_named_in_the_fix() -> None:
    found = failure.fix_of(Failure("PERMISSION_DENIED", "no"), methods.scopes(methods.find("GetProduct")))

    assert "--scope catalog.read" in found


class Catalog(catalog_pb2_grpc.CatalogServiceServicer):
    """Answers with what it is given, and remembers what it was sent."""

    def __init__(self) -> None:
        self.answer: Message = catalog_pb2.Product()
        self.metadata: dict[str, Any] = {}
        self.calls = 0

    def GetProduct(  # noqa: N802
        self, request: catalog_pb2.GetProductRequest, context: grpc.ServicerContext
    ) -> catalog_pb2.Product:
        self.calls += 1
        self.metadata = dict(context.invocation_metadata())
        context.send_initial_metadata(((failure.TRACE_ID, TRACE),))
        if isinstance(self.answer, status_pb2.Status):
            context.abort_with_status(rpc_status.to_status(self.answer))
        assert isinstance(self.answer, catalog_pb2.Product)
        return self.answer


class Orders(orders_pb2_grpc.OrderServiceServicer):
    """Tells of an order twice."""

    def WatchOrder(  # noqa: N802
        self, request: orders_pb2.WatchOrderRequest, context: grpc.ServicerContext
    ) -> Iterator[orders_pb2.WatchOrderResponse]:
        for _ in range(2):
            yield orders_pb2.WatchOrderResponse(order=orders_pb2.Order(name=request.name))


@pytest.fixture
def catalog() -> Catalog:
    return Catalog()


Show = Callable[..., int | None]


@pytest.fixture
def show(catalog: Catalog) -> Iterator[Show]:
    """Makes a call to a server of the test's own, as the verb does to a gateway."""
    server = grpc.server(futures.ThreadPoolExecutor(2))
    catalog_pb2_grpc.add_CatalogServiceServicer_to_server(catalog, server)
    orders_pb2_grpc.add_OrderServiceServicer_to_server(Orders(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()

    def shown(name: str, request: dict[str, Any], *, at: int = port, as_json: bool = True, **more: Any) -> int | None:
        method = methods.find(name)
        message = request_json.parse(json.dumps(request), method.input_type)
        sent = call.Sent(method, message, tuple(more.items()), 20.0)
        with grpc.insecure_channel(f"127.0.0.1:{at}") as channel:
            return call._show(sent, channel, as_json=as_json, traces="http://127.0.0.1:1/")

    yield shown
    server.stop(0).wait()


def test_the_answer_alone_is_on_standard_output(
    show: Show, catalog: Catalog, capsys: pytest.CaptureFixture[str]
) -> None:
    catalog.answer = catalog_pb2.Product(name="products/mug", display_name="MUG")

    assert show("GetProduct", PRODUCT, as_json=False, shop="7") is None

    said = capsys.readouterr()
    assert ({"name": "products/mug", "displayName": "MUG"}, "") == (json.loads(said.out), said.err)
    assert "7" == catalog.metadata["shop"]


def test_a_stream_is_printed_a_message_a_line(show: Show, capsys: pytest.CaptureFixture[str]) -> None:
    assert show("WatchOrder", {"name": "orders/7d444840-9dc0-11d1-b245-5ffdce74fad2"}) is None

    printed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [{"order": {"name": "orders/7d444840-9dc0-11d1-b245-5ffdce74fad2"}}] * 2 == printed


def test_an_error_is_explained_on_standard_error_by_its_contract_and_its_trace(
    show: Show, catalog: Catalog, capsys: pytest.CaptureFixture[str]
) -> None:
    info = error_details_pb2.ErrorInfo(reason="PRODUCT_NOT_FOUND", metadata={grounds.INSTANCE: "catalog-1"})
    catalog.answer = refusal(grpc.StatusCode.NOT_FOUND, "There is no products/mug.", info)

    assert 1 == show("GetProduct", PRODUCT, as_json=False)

    said = capsys.readouterr()
    assert "" == said.out
    assert [
        "weft: NOT_FOUND: There is no products/mug.",
        "  reason    PRODUCT_NOT_FOUND: there is no such product",
        "  said by   catalog-1",
        f"  fix       {failure.FIXES['NOT_FOUND']}",
        "  docs      docs/troubleshooting.md#product_not_found",
        f"  trace     http://127.0.0.1:1/traces/{TRACE}",
        f"  explain   weft explain {TRACE}",
    ] == said.err.splitlines()
    assert 1 == catalog.calls


def test_an_error_is_one_json_object_where_that_is_asked_for(
    show: Show, catalog: Catalog, capsys: pytest.CaptureFixture[str]
) -> None:
    catalog.answer = refusal(grpc.StatusCode.NOT_FOUND, "no", error_details_pb2.ErrorInfo(reason="PRODUCT_NOT_FOUND"))

    assert 1 == show("GetProduct", PRODUCT)

    error = json.loads(capsys.readouterr().err)["error"]
    assert ("NOT_FOUND", "PRODUCT_NOT_FOUND", TRACE) == (error["code"], error["reason"], error["trace_id"])
    assert "there is no such product" == error["explanation"]
    assert "docs/troubleshooting.md#product_not_found" == error["docs"]


def test_a_reason_that_follows_from_the_policy_is_explained_by_the_compiler(
    show: Show, catalog: Catalog, capsys: pytest.CaptureFixture[str]
) -> None:
    catalog.answer = refusal(
        grpc.StatusCode.PERMISSION_DENIED, "no", error_details_pb2.ErrorInfo(reason="SCOPE_MISSING")
    )

    assert 1 == show("GetProduct", PRODUCT)

    error = json.loads(capsys.readouterr().err)["error"]
    assert "The token has none of the scopes catalog.read." == error["explanation"]
    assert "--scope catalog.read" in error["fix"]


@pytest.mark.parametrize(
    ("code", "reason", "anchor"),
    [
        ("UNAUTHENTICATED", "TOKEN_EXPIRED", "#token_expired"),
        # A name that stands there twice has the second anchor of that name.
        ("FAILED_PRECONDITION", "USER_SUSPENDED", "#user_suspended"),
        ("UNAUTHENTICATED", "USER_SUSPENDED", "#user_suspended-1"),
        ("NOT_FOUND", "NOBODY_HAS_WRITTEN_OF_IT", "#not_found"),
        ("NOT_FOUND", "", "#not_found"),
    ],
)
def test_an_error_leads_to_where_its_reason_is_explained_or_else_its_code(code: str, reason: str, anchor: str) -> None:
    assert f"docs/troubleshooting.md{anchor}" == troubleshooting.place(code, reason)


def test_an_error_of_which_nothing_is_written_leads_nowhere() -> None:
    assert "" == troubleshooting.place("DATA_LOSS", "")


def test_where_nobody_answers_the_mesh_is_not_reached(show: Show, capsys: pytest.CaptureFixture[str]) -> None:
    assert 3 == show("GetProduct", PRODUCT, at=1, as_json=False)

    said = capsys.readouterr()
    assert "" == said.out
    assert "weft check" in said.err


@pytest.fixture
def nothing_runs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WEFT_DATA", str(folder))
    return folder


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        ([], 2, "Missing argument"),
        (["GetProdukt"], 2, "did you mean GetProduct"),
        (["GetProduct", "-d", "{"], 2, "is not JSON"),
        (["GetProduct", "-d", '{"nam": 1}'], 2, "nam: no such field; did you mean name?"),
        (["GetProduct", "-d", "@/none.json"], 2, "/none.json: No such file"),
        (["GetProduct", "--no-check", "-H", "x"], 2, "'x' is not NAME:VALUE"),
        (["GetProduct", "--no-check", "-H", "grpc-timeout: 1"], 2, "grpc-timeout is not for callers to set"),
        (["GetProduct", "--no-check", "-H", "a-bin: %"], 2, "the value of a-bin is not base64"),
        (["GetProduct", "--no-check", "-H", "a: b\x07"], 2, "characters other than ASCII"),
        (["GetProduct", "--no-check", "--scope", "orders.fly"], 2, "no contract names the scope"),
        (["GetProduct", "--no-check", "--timeout", "soon"], 2, "soon is not a duration"),
        (["GetProduct", "--no-check"], 3, "no mesh runs here"),
    ],
)
def test_what_is_wrong_is_one_line_before_anything_is_sent(
    arguments: list[str], code: int, says: str, nothing_runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert code == run(["call", *arguments])

    said = capsys.readouterr()
    assert ("", 1) == (said.out, said.err.count("\n"))
    assert says in said.err


def test_a_secret_in_an_argument_is_warned_of_and_never_repeated(
    nothing_runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    request = '{"email": "ada@example.com", "password": "correct horse battery"}'

    assert 3 == run(["call", "CreateSession", "-d", request])

    said = capsys.readouterr().err
    assert "password could be read in the list of processes" in said
    assert "horse" not in said


def test_a_file_holds_a_request_as_well(nothing_runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (nothing_runs / "request.json").write_text('{"nam": 1}')

    assert 2 == run(["call", "GetProduct", "-d", f"@{nothing_runs / 'request.json'}"])
    assert "did you mean name?" in capsys.readouterr().err
