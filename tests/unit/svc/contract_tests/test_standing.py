"""Mocked services that stand by themselves: examples, answers of a file, refusals, and both wires."""

import http.client
import json
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import protovalidate
import pytest
from google.protobuf.message_factory import GetMessageClass

from svc.contract_tests import standing
from svc.contract_tests.errors import ContractTestError
from weft.catalog.v1 import catalog_pb2
from weft.orders.v1 import orders_pb2
from weft_client import Weft, errors
from weft_protos import policy

ORDER = "orders/00000000-0000-4000-8000-000000000001"
GET = "/weft.catalog.v1.CatalogService/GetProduct"


@contextmanager
def standing_for(*names: str, answers: Path | None = None, scopes: Sequence[str] = ()) -> Iterator[standing.Places]:
    services = standing.services_of(names)
    said = standing.read_answers(answers, services) if answers else []
    mock = standing.Standing(services, said, scopes=scopes)
    try:
        yield mock.start()
    finally:
        mock.close()


def file_of(folder: Path, content: Any) -> Path:
    file = folder / "answers.json"
    file.write_text(json.dumps(content))
    return file


def test_without_answers_there_are_examples_with_the_request_s_own_words() -> None:
    with standing_for("catalog", "orders") as places, Weft(places.grpc) as weft:
        mug = weft.catalog.get_product("products/mug")
        made = weft.catalog.create_product({"display_name": "TEA", "price": {"currency_code": "EUR", "units": 3}})
        placed = weft.orders.place_order([{"product_id": "mug", "quantity": 2}], region_code="DE")

    assert "products/mug" == mug.name
    assert mug.display_name
    assert ("TEA", 3) == (made.display_name, made.price.units)
    assert "DE" == placed.region_code


@pytest.mark.parametrize("service", policy.SERVICES, ids=lambda service: service.name)
def test_every_example_keeps_the_rules_and_leads_to_no_page_that_is_not_there(service: Any) -> None:
    for method in service.methods:
        made: Any = standing.example(method, GetMessageClass(method.input_type)())
        protovalidate.validate(made)
        assert "" == getattr(made, "next_page_token", "")


def test_the_first_answer_that_fits_is_given(tmp_path: Path) -> None:
    said = [
        {"method": "GetProduct", "request": {"name": "products/mug"}, "answer": {"display_name": "MUG"}},
        {
            "method": "CatalogService/GetProduct",
            "request": {"name": "products/none"},
            "error": {
                "code": "NOT_FOUND",
                "reason": "PRODUCT_NOT_FOUND",
                "resource": ["product", "products/none"],
            },
        },
        {"method": "WatchOrder", "answers": [{"order": {"revision": 1}}, {"order": {"revision": 2}}]},
        {"method": "ListOrders", "hangs": True},
    ]
    with standing_for("catalog", "orders", answers=file_of(tmp_path, said)) as places, Weft(places.grpc) as weft:
        assert ["MUG", "MUG"] == [weft.catalog.get_product("products/mug").display_name for _ in range(2)]
        with pytest.raises(errors.ProductNotFound) as refusal:
            weft.catalog.get_product("products/none")
        assert ("product", "products/none") == refusal.value.resource
        assert [1, 2] == [change.order.revision for change in weft.orders.watch_order(ORDER)]
        with pytest.raises(errors.DeadlineExceeded):
            weft.orders.list_orders(timeout=0.2)


def test_a_record_of_contract_tests_has_answers() -> None:
    record = Path(__file__).parents[3] / "contracts" / "orders" / "weft.catalog.v1.CatalogService.json"
    interactions = json.loads(record.read_text())["interactions"]
    one = next(each for each in interactions if each["method"] == "BatchGetProducts" and "answers" in each)

    with standing_for("catalog", answers=record) as places, Weft(places.grpc) as weft:
        found = weft.catalog.batch_get_products(one["request"]["names"]).products

    assert [product["name"] for product in one["answers"][0]["products"]] == [product.name for product in found]


def test_the_contract_s_rules_hold() -> None:
    with standing_for("orders") as places, Weft(places.grpc) as weft, pytest.raises(errors.InvalidFields):
        weft.orders.place_order([])


def test_where_access_is_asked_for_the_printed_token_has_its_scopes() -> None:
    with standing_for("orders", scopes=["orders.read"]) as places:
        with Weft(places.grpc, token=places.token) as weft:
            assert ORDER == weft.orders.get_order(ORDER).name
            with pytest.raises(errors.ScopeMissing):
                weft.orders.place_order([{"product_id": "mug", "quantity": 1}])
        with Weft(places.grpc) as nobody, pytest.raises(errors.TokenMissing):
            nobody.orders.get_order(ORDER)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([{"method": "GetProdct", "answer": {}}], "did you mean 'GetProduct'"),
        ([{"method": "GetProduct"}], "has neither"),
        ([{"method": "GetProduct", "answer": {"nme": "x"}}], "did you mean 'name'"),
        ([{"method": "GetProduct", "error": {"code": "NOT_FOUND", "reason": "GONE"}}], "does not declare"),
        ([{"method": "GetProduct", "answers": [{}, {}]}], "is no stream"),
        ([{"method": "OrderService/GetOrder", "answer": {}}], "no service that is mocked"),
        ([{"methd": "GetProduct"}], "method: Field required"),
        ("x", "has no answers"),
    ],
)
def test_a_mistake_in_the_answers_is_told_before_anybody_calls(tmp_path: Path, content: Any, said: str) -> None:
    with pytest.raises(ContractTestError, match=said):
        standing.read_answers(file_of(tmp_path, content), standing.services_of(["catalog"]))


def web(url: str, path: str, message: bytes, **headers: str) -> tuple[int, list[tuple[int, bytes]], dict[str, str]]:
    """Status, frames and headers of a gRPC-web call."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=30)
    kind = {"content-type": "application/grpc-web+proto"}
    connection.request("POST", path, struct.pack(">BI", 0, len(message)) + message, kind | headers)
    answer = connection.getresponse()
    body, frames = answer.read(), []
    while body:
        flag, size = struct.unpack_from(">BI", body)
        frames.append((flag, body[5 : 5 + size]))
        body = body[5 + size :]
    connection.close()
    return answer.status, frames, {key.lower(): value for key, value in answer.getheaders()}


def test_grpc_web_gets_the_same_answers(tmp_path: Path) -> None:
    said = [{"method": "WatchOrder", "answers": [{"order": {"revision": 1}}, {"order": {"revision": 2}}]}]
    with standing_for("catalog", "orders", answers=file_of(tmp_path, said)) as places:
        request = catalog_pb2.GetProductRequest(name="products/mug").SerializeToString()
        status, frames, headers = web(places.web, GET, request)
        watch = orders_pb2.WatchOrderRequest(name=ORDER).SerializeToString()
        _, streamed, _ = web(places.web, "/weft.orders.v1.OrderService/WatchOrder", watch)
        _, refused, _ = web(places.web, GET, b"")
        other, _, _ = web(places.web, GET, request, **{"content-type": "application/json"})

    assert (200, "*") == (status, headers["access-control-allow-origin"])
    assert [0, 0x80] == [flag for flag, _ in frames]
    assert "products/mug" == catalog_pb2.Product.FromString(frames[0][1]).name
    assert frames[1][1].startswith(b"grpc-status: 0\r\n")
    assert [0, 0, 0x80] == [flag for flag, _ in streamed]
    assert [0x80] == [flag for flag, _ in refused]
    assert b"grpc-status: 3\r\n" in refused[0][1]
    assert b"grpc-status-details-bin: " in refused[0][1]
    assert 415 == other


def test_the_command_says_where_it_stands_and_ends_when_told() -> None:
    weft = str(Path(sys.executable).parent / "weft")
    with subprocess.Popen([weft, "mock", "catalog", "--json"], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            places = json.loads(process.stdout.readline())
            with Weft(places["grpc"]) as client:
                assert "products/mug" == client.catalog.get_product("products/mug").name
            process.send_signal(signal.SIGTERM)
            assert 0 == process.wait(30)
        finally:
            process.kill()


def test_a_service_that_no_contract_has_is_one_line() -> None:
    command = [sys.executable, "-m", "svc.contract_tests", "mock", "catlog"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    assert (2, 1) == (done.returncode, done.stderr.count("\n"))
    assert "catlog" in done.stderr
