"""What consumers recorded, replayed against the real catalog: on its own database, and in a whole mesh."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import json_format

import svc.catalog
from deploy.cli.gateway_client import GatewayClient
from svc.catalog.store import ProductStore
from svc.chassis import migrate, outbox
from svc.chassis.database import Database
from svc.contract_tests import records
from svc.contract_tests.records import Record
from svc.contract_tests.replay import States, verify
from tests.fakes.catalog import make_world
from tests.fakes.catalog_provider import CATALOG, served, states_of
from tests.integration.edge_calls import Edge, edge
from weft.catalog.v1 import catalog_pb2, catalog_pb2_grpc

__all__ = ["edge"]

MIGRATIONS = str(Path(svc.catalog.__file__).parent / "migrations")
RECORDS = records.load(Path(__file__).resolve().parents[1] / "contracts", provider=CATALOG.full_name)


@pytest.fixture
def database(postgres_url: Callable[[str], str]) -> Iterator[Database]:
    url = postgres_url("catalog")
    migrate.upgrade(url, MIGRATIONS)
    database = Database(url, pool_size=2, name="catalog")
    yield database
    database.close()


def mesh_states(operator: GatewayClient) -> States:
    """The states, brought about through the gateway; the products have names that nothing else uses."""
    states = States()
    stub = catalog_pb2_grpc.CatalogServiceStub(operator.channel())

    def forget(name: str) -> None:
        try:
            operator.call(stub.DeleteProduct, catalog_pb2.DeleteProductRequest(name=name))
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.NOT_FOUND:
                raise

    @states.on("a product")
    def a_product(name: str, display_name: str, price: Mapping[str, Any]) -> Iterator[None]:
        # A run that was killed may have left it.
        forget(name)
        wanted = json_format.ParseDict({"display_name": display_name, "price": dict(price)}, catalog_pb2.Product())
        request = catalog_pb2.CreateProductRequest(product_id=name.removeprefix("products/"), product=wanted)
        operator.call(stub.CreateProduct, request)
        yield
        forget(name)

    @states.on("no product")
    def no_product(name: str) -> None:
        forget(name)

    return states


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.consumer)
def test_the_catalog_on_its_database_does_what_its_consumers_rely_on(record: Record, database: Database) -> None:
    ports = replace(make_world().ports, transactions=database, products=ProductStore(), append=outbox.append)

    with served(ports) as catalog, grpc.insecure_channel(catalog.address) as channel:
        verify(record, channel, states=states_of(ports), token=catalog.token)


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.consumer)
def test_the_catalog_of_a_mesh_does_what_its_consumers_rely_on(
    record: Record, edge: Edge, operator: GatewayClient
) -> None:
    # A customer of its own has a limit of its own.
    token = edge.token("orders.write", user=edge.new_user())

    with grpc.insecure_channel(edge.address) as channel:
        verify(record, channel, states=mesh_states(operator), token=token)
