"""Asking the catalog: orders' client of it, tested against the contract; `tests/contracts/orders` has what it needs."""

from collections.abc import Iterator

import pytest

from svc.chassis.client import Peer
from svc.chassis.errors import Aborted, Internal, NotFound, Unauthenticated
from svc.contract_tests.mock import Mock, Stage
from svc.contract_tests.session import Provider
from svc.orders.catalog import CatalogClient
from svc.orders.model import Product
from tests.fakes.orders import make_call
from weft_protos import policy

PRICE = {"currency_code": "GBP", "units": 3, "nanos": 990_000_000}
MUG = {"name": "products/contract-mug", "display_name": "A mug", "price": PRICE}
TEA = {"name": "products/contract-tea", "display_name": "Some tea", "price": PRICE}
NONE = "products/contract-none"


@pytest.fixture
def catalog(provider: Provider) -> Mock:
    return provider("weft.catalog.v1.CatalogService", consumer="orders")


@pytest.fixture
def stocked(catalog: Mock) -> Stage:
    """The catalog with two products."""
    return catalog.given("a product", **MUG).given("a product", **TEA)


@pytest.fixture
def client(catalog: Mock) -> Iterator[CatalogClient]:
    with catalog.channel() as channel:
        yield CatalogClient(Peer(channel, catalog.service))


def test_products_come_in_the_order_asked_for_with_the_callers_token(
    catalog: Mock, stocked: Stage, client: CatalogClient
) -> None:
    stocked.expects("BatchGetProducts", names=[TEA["name"], MUG["name"]]).returns(products=[TEA, MUG])

    products = client.products(["contract-tea", "contract-mug"], call=make_call())

    expected = [Product("contract-tea", "Some tea", "GBP", 399), Product("contract-mug", "A mug", "GBP", 399)]
    assert expected == products
    assert ["t"] == [call.token for call in catalog.calls]


def test_an_unknown_product_is_named(stocked: Stage, client: CatalogClient) -> None:
    asked = stocked.given("no product", name=NONE).expects("BatchGetProducts", names=[MUG["name"], NONE])
    asked.fails("NOT_FOUND", "PRODUCT_NOT_FOUND", resource=("product", NONE))

    with pytest.raises(NotFound) as refusal:
        client.products(["contract-mug", "contract-none"], call=make_call())
    assert ("product", NONE) == refusal.value.resource


def test_a_catalog_that_is_away_is_asked_as_often_as_the_contract_says_and_then_by_the_client_not_the_gateway(
    catalog: Mock, client: CatalogClient
) -> None:
    attempts = policy.effective(catalog.service.methods_by_name["BatchGetProducts"]).retry.max_attempts
    catalog.expects("BatchGetProducts", names=[MUG["name"]]).fails("UNAVAILABLE").times(attempts)

    with pytest.raises(Aborted) as refusal:
        client.products(["contract-mug"], call=make_call())
    assert "PEER_UNAVAILABLE" == refusal.value.reason
    assert refusal.value.retry_after is not None
    assert attempts == len(catalog.calls) > 1


def test_a_refused_token_is_the_callers_matter(catalog: Mock, client: CatalogClient) -> None:
    catalog.expects("BatchGetProducts", names=[MUG["name"]]).fails("UNAUTHENTICATED")

    with pytest.raises(Unauthenticated):
        client.products(["contract-mug"], call=make_call())


def test_an_answer_about_other_products_is_not_believed(catalog: Mock, client: CatalogClient) -> None:
    catalog.expects("BatchGetProducts", names=[MUG["name"]]).returns().off_record()

    with pytest.raises(Internal):
        client.products(["contract-mug"], call=make_call())
