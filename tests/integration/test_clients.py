"""The clients against a real mesh: Python, TypeScript through Envoy's gRPC-web, Go, and tools for models."""

import asyncio
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, StdioServerParameters

from deploy.cli.gateway_client import GatewayClient
from deploy.supervisor.layout import Layout
from deploy.supervisor.mesh import Mesh
from tests.clients import golang, kept, typescript
from tests.integration.shop import Customer, Shop
from tests.waiting import eventually
from weft_client import AsyncWeft, Weft, errors

pytestmark = pytest.mark.calls


@pytest.fixture
def shop(mesh: Mesh, operator: GatewayClient) -> Shop:
    return Shop(mesh, operator)


@pytest.fixture
def ann(shop: Shop) -> Customer:
    return shop.customer()


def client(shop: Shop, customer: Customer, **more: Any) -> Weft:
    ca = Layout(shop.mesh.secrets.parent).authority if shop.mesh.gateway.startswith("https://") else None
    return Weft(shop.mesh.gateway, user=customer.email, password=customer.password, ca=ca, **more)


def test_a_customer_orders_and_reads_what_was_ordered(shop: Shop, ann: Customer) -> None:
    product = shop.product(stock=3)
    with client(shop, ann, client="shop-tests/1.0") as weft:
        order = weft.orders.place_order([{"product_id": product, "quantity": 2}])

        assert order.name == weft.orders.get_order(order.name).name
        assert order.name in {each.name for each in weft.orders.list_orders().orders}
        changes = weft.orders.watch_order(order.name)
        assert order.name == next(changes).order.name
        weft.orders.cancel_order(order.name)
        assert 2 == next(changes).order.revision
    assert [3] == shop.left(product)


def test_a_refusal_is_an_exception_of_its_reason_with_what_the_mesh_says_of_it(shop: Shop, ann: Customer) -> None:
    product = shop.product(stock=1)
    with client(shop, ann) as weft:
        with pytest.raises(errors.OutOfStock) as short:
            weft.orders.place_order([{"product_id": product, "quantity": 2}])
        with pytest.raises(errors.InvalidFields) as invalid:
            weft.orders.place_order([])
        with pytest.raises(errors.ScopeMissing):
            weft.inventory.set_stock(f"stock/{product}", quantity=5)
        with pytest.raises(errors.ProductNotFound):
            weft.catalog.get_product("products/none-of-this-name")
    assert product in short.value.violations[0].subject
    assert short.value.trace_id
    assert ["items"] == [violation.field for violation in invalid.value.violations]


def test_a_wrong_password_is_told(shop: Shop, ann: Customer) -> None:
    wrong = Customer(ann.id, ann.email, secrets.token_urlsafe(24), ann.session)
    with client(shop, wrong) as weft, pytest.raises(errors.BadCredentials):
        weft.orders.list_orders()


def test_a_session_that_was_ended_is_opened_anew_without_a_word(shop: Shop, ann: Customer) -> None:
    with client(shop, ann) as weft:
        weft.orders.list_orders()
        first = weft._session.held  # type: ignore[union-attr]
        assert first is not None
        with client(shop, ann) as other:
            other.identity.delete_session(first.name)

        def replaced() -> bool:
            weft.orders.list_orders()  # refused within five seconds, and not once to be seen here
            held = weft._session.held  # type: ignore[union-attr]
            return held is not None and held.name != first.name

        eventually(replaced)


def test_tasks_of_one_client_share_its_session(shop: Shop, ann: Customer) -> None:
    ca = Layout(shop.mesh.secrets.parent).authority if shop.mesh.gateway.startswith("https://") else None

    async def calls() -> int:
        async with AsyncWeft(shop.mesh.gateway, user=ann.email, password=ann.password, ca=ca) as weft:
            return len(await asyncio.gather(*(weft.orders.list_orders() for _ in range(8))))

    assert 8 == asyncio.run(calls())


@pytest.mark.parametrize("wire", ["node", "web"])
def test_typescript_orders_through_the_gateway(shop: Shop, ann: Customer, wire: str) -> None:
    program = [typescript.node(), typescript.program(), wire, f"http://{shop.mesh.gateway}"]

    _orders_and_is_refused(program, shop, ann)


def test_go_orders_through_the_gateway(shop: Shop, ann: Customer) -> None:
    _orders_and_is_refused([golang.program(), shop.mesh.gateway], shop, ann)


def _orders_and_is_refused(program: Sequence[str | Path], shop: Shop, customer: Customer) -> None:
    product = shop.product(stock=2, name="MUG")
    who = {"email": customer.email, "password": customer.password, "user": customer.name}

    said = kept.said(*program, given={**who, "product": product, "changes": 1})

    assert said["order"].startswith("orders/")
    assert ([1], "MUG", [customer.name] * 2) == (said["revisions"], said["product"], said["users"])
    assert "PRODUCT_NOT_FOUND" == said["none"]["reason"]
    assert ("INVALID_FIELDS", ["items"]) == (said["empty"]["reason"], said["empty"]["fields"])
    assert "SCOPE_MISSING" == said["once"]["reason"]
    assert [0] == shop.left(product)


def test_a_model_orders_with_its_user_s_rights(shop: Shop, ann: Customer, tmp_path: Path) -> None:
    product = shop.product(stock=2)
    password = tmp_path / "password"
    password.write_text(ann.password)
    arguments = ["mcp", "--user", ann.email, "--password-file", str(password)]
    weft = StdioServerParameters(
        command=str(Path(sys.executable).parent / "weft"),
        args=arguments,
        env={"WEFT_DATA": str(shop.mesh.secrets.parent)},
    )

    async def talk() -> tuple[Any, Any, Any]:
        async with Client(weft) as model:
            placed = await model.call_tool("orders_place_order", {"items": [{"product_id": product, "quantity": 2}]})
            again = await model.call_tool("orders_place_order", {"items": [{"product_id": product, "quantity": 1}]})
            stock = await model.call_tool("inventory_get_stock", {"name": f"stock/{product}"})
            return placed, again, stock

    placed, again, stock = asyncio.run(talk())
    assert "STATE_PLACED" == placed.structured_content["state"]
    assert (True, "OUT_OF_STOCK") == (again.is_error, again.structured_content["reason"])
    assert "0" == stock.structured_content["quantity"]
