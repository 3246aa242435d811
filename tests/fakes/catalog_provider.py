"""The catalog as its consumers' records meet it: served in process over any ports, with the states they suppose."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from google.protobuf import json_format
from google.type.money_pb2 import Money

from svc.catalog.model import PRODUCTS_PREFIX, Price, Product
from svc.catalog.rpc import CatalogHandler
from svc.catalog.usecases import Ports
from svc.chassis import money
from svc.chassis.config import Address
from svc.chassis.context import Deadline
from svc.chassis.pages import PageTokens
from svc.chassis.server import Limits, Server
from svc.contract_tests.replay import States
from svc.contract_tests.tokens import Issuer
from tests.fakes.clock import START
from weft.catalog.v1 import catalog_pb2

CATALOG = catalog_pb2.DESCRIPTOR.services_by_name["CatalogService"]


@dataclass(frozen=True)
class Served:
    """A catalog that answers."""

    address: str
    issuer: Issuer
    token: str


@contextmanager
def served(ports: Ports) -> Iterator[Served]:
    """The catalog's own handler behind the chassis' server, with access as ever."""
    issuer = Issuer()
    handler = CatalogHandler(ports, PageTokens(bytes(32)))
    server = Server([(CATALOG, handler)], verifier=issuer.verifier, limits=Limits(threads=2, streams=0))
    port = server.bind(Address("127.0.0.1", 0))
    server.start()
    try:
        yield Served(f"127.0.0.1:{port}", issuer, issuer.token("catalog.read", subject="ann"))
    finally:
        server.stop(0.5)


def states_of(ports: Ports) -> States:
    """Every state that a record of the catalog may name."""
    states = States()

    @states.on("a product")
    def a_product(name: str, display_name: str, price: Mapping[str, Any]) -> Iterator[None]:
        amount = json_format.ParseDict(dict(price), Money())
        product_id = name.removeprefix(PRODUCTS_PREFIX)
        worth = Price(amount.currency_code, money.to_minor(amount))
        product = Product(product_id, display_name, worth, "etag", START, START)
        deadline = Deadline.after(30)
        assert ports.transactions.serializable(lambda tx: ports.products.insert(tx, product), deadline=deadline)
        yield
        ports.transactions.serializable(lambda tx: ports.products.delete(tx, product_id), deadline=deadline)

    @states.on("no product")
    def no_product(name: str) -> None:
        found = ports.transactions.read(
            lambda tx: ports.products.get(tx, name.removeprefix(PRODUCTS_PREFIX)), deadline=Deadline.after(30)
        )
        assert found is None

    return states
