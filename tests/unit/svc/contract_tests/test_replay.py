"""Records replayed: against the real catalog on fakes, and against one that does not keep to them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from svc.contract_tests import records
from svc.contract_tests.__main__ import main
from svc.contract_tests.errors import ContractTestError
from svc.contract_tests.records import Failure, Interaction, Record
from svc.contract_tests.replay import States, replay, verify
from svc.contract_tests.session import Provider
from tests.fakes.catalog import World, make_world
from tests.fakes.catalog_provider import CATALOG, Served, served, states_of
from weft_protos import policy

RECORDS = Path(__file__).resolve().parents[3] / "contracts"
ORDER = "orders/00000000-0000-4000-8000-000000000001"
ORDERS = next(service for service in policy.SERVICES if service.name == "OrderService")

#: Where the command finds states.
states = States()


@states.on("a product")
@states.on("no product")
def nothing(**_: Any) -> None:
    """Brings about nothing."""


@pytest.fixture
def world() -> World:
    return make_world()


@pytest.fixture
def catalog(world: World) -> Iterator[Served]:
    with served(world.ports) as running:
        yield running


def mismatches(record: Record, served_: Served, using: States) -> list[str]:
    with grpc.insecure_channel(served_.address) as channel:
        results = replay(record, channel, states=using, token=served_.token)
    return [mismatch for result in results for mismatch in result.mismatches]


def changed(**fields: Any) -> Record:
    """The record of orders with its first answered interaction changed."""
    (record,) = records.load(RECORDS, provider=CATALOG.full_name)
    chosen = next(each for each in record.interactions if each.error is None)
    return records.make("orders", CATALOG, [chosen.model_copy(update=fields)])


@pytest.mark.parametrize("record", records.load(RECORDS, provider=CATALOG.full_name), ids=lambda each: each.consumer)
def test_the_catalog_does_what_its_consumers_rely_on(record: Record, world: World, catalog: Served) -> None:
    with grpc.insecure_channel(catalog.address) as channel:
        verify(record, channel, states=states_of(world.ports), token=catalog.token)
    assert {} == world.memory.products


def test_every_record_is_as_its_tests_write_it() -> None:
    found = records.load(RECORDS)

    assert {"orders", "weft-cli"} == {record.consumer for record in found}
    for record in found:
        assert record.text() == records.path_of(RECORDS, record.consumer, record.provider).read_text()


def test_a_difference_is_named_with_its_path(world: World, catalog: Served) -> None:
    answer = {"products": [{"price": {"units": "3"}}, {"price": {"units": "4", "nanos": 1}, "display_name": "A mug"}]}

    found = mismatches(changed(answers=(answer,)), catalog, states_of(world.ports))

    assert [
        "products[1].price.nanos: expected 1, was 990000000",
        'products[1].price.units: expected "4", was "3"',
    ] == sorted(found)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"answers": ({"products": []},)}, "products: expected 0 entries, was 2"),
        ({"answers": (), "error": Failure(code="NOT_FOUND", reason="X")}, "expected NOT_FOUND X, was answered"),
        ({"given": ()}, "expected an answer, failed with NOT_FOUND PRODUCT_NOT_FOUND: There is no products/contract"),
        ({"request": {"names": ["mug"]}}, "expected an answer, failed with INVALID_ARGUMENT INVALID_FIELDS"),
        ({"request": {"ids": ["mug"]}}, "has no field 'ids'"),
        ({"answers": ({"product": []},)}, "has no field 'product'; did you mean 'products'?"),
        ({"method": "MultiGetProducts"}, "has no method 'MultiGetProducts'"),
        ({"given": (records.Given(state="a cart"),)}, "nothing brings about the state 'a cart'; known are 'a product'"),
        (
            {"given": (records.Given(state="no product", parameters={"id": 1}),)},
            "the state 'no product': missing a req",
        ),
    ],
)
def test_a_record_that_does_not_hold_says_why(world: World, catalog: Served, fields: dict[str, Any], says: str) -> None:
    (found,) = mismatches(changed(**fields), catalog, states_of(world.ports))

    assert says in found


def test_who_may_not_call_is_told_so(world: World, catalog: Served) -> None:
    nobody = Served(catalog.address, catalog.issuer, "")

    (found,) = mismatches(changed(), nobody, states_of(world.ports))

    assert "expected an answer, failed with UNAUTHENTICATED TOKEN_MISSING: A token is required." == found


def test_verify_fails_with_every_mismatch_and_the_question(world: World, catalog: Served) -> None:
    record = changed(answers=({"products": []},))

    with grpc.insecure_channel(catalog.address) as channel, pytest.raises(ContractTestError) as broken:
        verify(record, channel, states=states_of(world.ports), token=catalog.token)

    assert [
        "orders -> weft.catalog.v1.CatalogService: BatchGetProducts answers given a product, a product",
        '    asked {"names": ["products/contract-tea", "products/contract-mug"]}',
        "    products: expected 0 entries, was 2",
    ] == str(broken.value).splitlines()


def test_a_stream_is_read_as_far_as_it_was_recorded(provider: Provider) -> None:
    orders = provider(ORDERS)
    orders.expects("WatchOrder", name=ORDER).streams({"order": {"revision": 1}}, {"order": {"revision": 2}}).times(3)
    orders.expects("WatchOrder", name=ORDER).streams({"order": {"revision": 1}}).fails("NOT_FOUND")

    def found(*revisions: str, error: Failure | None = None) -> list[str]:
        answers = tuple({"order": {"revision": revision}} for revision in revisions)
        asked = Interaction(method="WatchOrder", request={"name": ORDER}, answers=answers, error=error)
        with orders.channel() as channel:
            (result,) = replay(records.make("shop", ORDERS, [asked]), channel, states=States())
        return list(result.mismatches)

    assert [] == found("1")
    assert ['order.revision: expected "3", was "2"'] == found("1", "3")
    assert ["expected 3 messages, came 2"] == found("1", "2", "3")
    assert [] == found("1", error=Failure(code="NOT_FOUND", reason="ORDER_NOT_FOUND"))


def test_a_zero_that_a_test_states_is_relied_on(provider: Provider) -> None:
    inventory = provider("weft.orders.v1.InventoryService", consumer="")
    inventory.expects("GetStock", name="stock/a").returns(name="stock/a", quantity=0)
    method = inventory.service.methods_by_name["GetStock"]
    with inventory.channel() as channel:
        path = f"/{inventory.service.full_name}/{method.name}"
        channel.unary_unary(path)(b"\n\x07stock/a", timeout=10)

    assert ({"name": "stock/a", "quantity": "0"},) == inventory.interactions()[0].answers


def test_the_command_replays_a_directory(catalog: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    token = tmp_path / "token"
    token.write_text(f"{catalog.token}\n")
    arguments = ["replay", str(RECORDS), "--address", catalog.address, "--token-file", str(token)]
    arguments += ["--provider", CATALOG.full_name, "--states", f"{__name__}:states"]

    assert 1 == main(arguments)
    said = capsys.readouterr()
    assert "1 of 2 interactions hold" == said.out.splitlines()[-1]
    assert "    expected an answer, failed with NOT_FOUND PRODUCT_NOT_FOUND" in said.out
    assert (catalog.token in said.out, said.err) == (False, "")
    assert 1 == main([*arguments, "--json"])
    assert "1 of 2 interactions hold" == json.loads(capsys.readouterr().out)["summary"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["none"], "none is not a directory of records"),
        ([str(RECORDS), "--provider", "x.Y"], "has no record of x.Y"),
        ([str(RECORDS), "--states", "nowhere:states"], "--states nowhere:states: No module named 'nowhere'"),
        ([str(RECORDS), "--states", "json:dumps"], "--states json:dumps: is no States"),
        ([str(RECORDS), "--token-file", "none"], "--token-file none: No such file or directory"),
    ],
)
def test_a_wrong_argument_is_one_line_and_another_exit_code(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert 2 == main(["replay", *arguments, "--address", "127.0.0.1:1"])
    said = capsys.readouterr()

    assert ("", 1) == (said.out, len(said.err.splitlines()))
    assert says in said.err


@pytest.mark.parametrize(
    ("content", "says"),
    [("{", "Invalid JSON"), ("{}", "consumer: Field required"), ('{"x": 1}', "consumer: Field required")],
)
def test_a_file_that_is_no_record_is_named(tmp_path: Path, content: str, says: str) -> None:
    path = records.path_of(tmp_path, "shop", "x")
    path.parent.mkdir()
    path.write_text(content)

    with pytest.raises(ContractTestError, match=f"{path.name} is not a record of contract tests: .*{says}"):
        records.load(tmp_path)
