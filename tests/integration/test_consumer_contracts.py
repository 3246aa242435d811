"""What consumers recorded, replayed against real services: the catalog on its own database, both in a whole mesh."""

import uuid
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
from svc.chassis import outbox
from svc.chassis.database import Database
from svc.contract_tests import records
from svc.contract_tests.records import Record
from svc.contract_tests.replay import States, verify
from tests.fakes.catalog import make_world
from tests.fakes.catalog_provider import CATALOG, served, states_of
from tests.integration.edge_calls import Edge, edge
from weft.catalog.v1 import catalog_pb2, catalog_pb2_grpc
from weft.identity.v1 import identity_pb2, identity_pb2_grpc

pytestmark = pytest.mark.calls

__all__ = ["edge"]

MIGRATIONS = str(Path(svc.catalog.__file__).parent / "migrations")
CONTRACTS = Path(__file__).resolve().parents[1] / "contracts"
OF_CATALOG = records.load(CONTRACTS, provider=CATALOG.full_name)
OF_IDENTITY = records.load(CONTRACTS, provider="weft.identity.v1.IdentityService")


@pytest.fixture
def database(migrated_url: Callable[[str, str], str]) -> Iterator[Database]:
    database = Database(migrated_url("catalog", MIGRATIONS), pool_size=2, name="catalog")
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

    @states.on("a user")
    def a_user(user_id: str, email: str) -> None:
        stub = identity_pb2_grpc.IdentityServiceStub(operator.channel())
        request = identity_pb2.CreateUserRequest(user_id=user_id, email=email, password=uuid.uuid4().hex)
        try:
            operator.call(stub.CreateUser, request)
        except grpc.RpcError as error:
            # Users cannot be deleted: it may be there from an earlier run.
            if error.code() is not grpc.StatusCode.ALREADY_EXISTS:
                raise

    @states.on("no user")
    def no_user(user_id: str) -> None:
        """Nobody else makes users with the names of records."""

    return states


@pytest.mark.parametrize("record", OF_CATALOG, ids=lambda record: record.consumer)
def test_the_catalog_on_its_database_does_what_its_consumers_rely_on(record: Record, database: Database) -> None:
    ports = replace(make_world().ports, transactions=database, products=ProductStore(), append=outbox.append)

    with served(ports) as catalog, grpc.insecure_channel(catalog.address) as channel:
        verify(record, channel, states=states_of(ports), token=catalog.token)


@pytest.mark.parametrize("record", OF_CATALOG, ids=lambda record: record.consumer)
def test_the_catalog_of_a_mesh_does_what_its_consumers_rely_on(
    record: Record, edge: Edge, operator: GatewayClient
) -> None:
    # A customer of its own has a limit of its own.
    token = edge.token("orders.write", user=edge.new_user())

    with grpc.insecure_channel(edge.address) as channel:
        verify(record, channel, states=mesh_states(operator), token=token)


@pytest.mark.parametrize("record", OF_IDENTITY, ids=lambda record: record.consumer)
def test_the_identity_of_a_mesh_does_what_its_consumers_rely_on(
    record: Record, edge: Edge, operator: GatewayClient
) -> None:
    with grpc.insecure_channel(edge.address) as channel:
        verify(record, channel, states=mesh_states(operator), token=edge.token("mesh.operate"))
