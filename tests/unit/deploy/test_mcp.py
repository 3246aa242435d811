"""Methods as tools for language models: what they are told, and what comes of a call."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx2
import jsonschema
import pytest
from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client
from mcp.types import CallToolResult, TextContent

from deploy.cli.__main__ import run
from deploy.mcp import serving
from svc.contract_tests.mock import Mock
from svc.contract_tests.session import Provider
from weft_client import AsyncWeft
from weft_protos import policy, tools

ORDER = "orders/00000000-0000-4000-8000-000000000001"
MUG = {"product_id": "mug", "quantity": 2}


@pytest.fixture
def orders(provider: Provider) -> Mock:
    return provider("weft.orders.v1.OrderService")


def with_client(mock: Mock, use: Callable[[Client], Awaitable[Any]], *, token: str = "ann") -> Any:
    """What `use` makes of a client of the tools of a mocked service."""

    async def serve() -> Any:
        async with AsyncWeft(mock.address, token=token) as weft, Client(serving.server(weft)) as client:
            return await use(client)

    return asyncio.run(serve())


def called(mock: Mock, name: str, /, **arguments: Any) -> CallToolResult:
    result = with_client(mock, lambda client: client.call_tool(name, arguments))
    assert isinstance(result, CallToolResult)
    return result


def words(result: CallToolResult) -> str:
    (content,) = result.content
    assert isinstance(content, TextContent)
    return content.text


def test_the_tools_are_the_methods_whose_contracts_say_so(orders: Mock) -> None:
    listed = with_client(orders, lambda client: client.list_tools()).tools

    said = {
        method.full_name
        for service in policy.SERVICES
        for method in service.methods
        if policy.effective(method).HasField("mcp")
    }
    assert said == {tool.method.full_name for tool in tools.every().values()}
    assert set(tools.every()) == {tool.name for tool in listed}
    assert {"catalog_get_product", "orders_place_order"} <= set(tools.every())
    assert "identity_create_session" not in tools.every()


def test_a_model_is_told_what_a_tool_may_do(orders: Mock) -> None:
    listed = {tool.name: tool for tool in with_client(orders, lambda client: client.list_tools()).tools}

    hints = {
        name: (told.read_only_hint, told.destructive_hint, told.idempotent_hint)
        for name in ("orders_get_order", "orders_place_order")
        if (told := listed[name].annotations) is not None
    }
    assert {"orders_get_order": (True, False, True), "orders_place_order": (False, False, False)} == hints
    assert str(listed["orders_place_order"].description).startswith("Order products for the signed-in user.")
    assert "Reads an order of the caller's own." == listed["orders_get_order"].description


@pytest.mark.parametrize(
    ("arguments", "fits"),
    [
        ({"items": [MUG]}, True),
        ({"items": [MUG], "region_code": "DE"}, True),
        ({"items": []}, False),
        ({}, False),
        ({"items": [{"product_id": "mug", "quantity": 0}]}, False),
        ({"items": [{"product_id": "a mug", "quantity": 1}]}, False),
        ({"items": [{"product_id": "mug", "quantty": 1}]}, False),
        ({"items": [MUG], "region_code": "Germany"}, False),
    ],
)
def test_the_schema_of_a_tool_is_the_contract_s_own_rules(arguments: dict[str, Any], fits: bool) -> None:
    schema = dict(tools.every()["orders_place_order"].schema)

    jsonschema.Draft202012Validator.check_schema(schema)
    assert fits == jsonschema.Draft202012Validator(schema).is_valid(arguments)


def test_every_schema_is_one(orders: Mock) -> None:
    for tool in tools.every().values():
        jsonschema.Draft202012Validator.check_schema(dict(tool.schema))


def test_a_call_is_made_with_the_user_s_token(orders: Mock) -> None:
    orders.expects("PlaceOrder", Provider.like(items=[MUG])).returns(name=ORDER, state="STATE_PLACED")

    result = called(orders, "orders_place_order", items=[MUG])

    assert not result.is_error
    said = result.structured_content
    assert (ORDER, "STATE_PLACED", "0") == (said["name"], said["state"], said["revision"])
    assert ["ann"] == [call.token for call in orders.calls]


def test_a_refusal_is_the_tool_s_answer(orders: Mock) -> None:
    refused = orders.expects("PlaceOrder", Provider.like(items=[MUG]))
    refused.fails("FAILED_PRECONDITION", "OUT_OF_STOCK", violations=[("STOCK", "stock/mug", "1 left")])

    result = called(orders, "orders_place_order", items=[MUG])

    assert result.is_error
    assert "FAILED_PRECONDITION OUT_OF_STOCK" in words(result)
    assert "1 left" in words(result)
    assert "OUT_OF_STOCK" == result.structured_content["reason"]


def test_a_model_is_told_when_to_come_back(orders: Mock) -> None:
    orders.expects("GetOrder", name=ORDER).fails("RESOURCE_EXHAUSTED", "RATE_LIMITED", retry_after=30.0)

    result = called(orders, "orders_get_order", name=ORDER)

    assert words(result).endswith("try again in 30 s")
    assert 30.0 == result.structured_content["retry_after_s"]


def test_the_contract_is_kept_whatever_a_model_sends(orders: Mock) -> None:
    broken = called(orders, "orders_place_order", items=[])
    misspelt = called(orders, "orders_place_order", itms=[MUG])
    unknown = called(orders, "orders_watch_order", name=ORDER)

    assert [True, True, True] == [result.is_error for result in (broken, misspelt, unknown)]
    assert "items" == broken.structured_content["violations"][0]["field"]
    assert "itms" in words(misspelt)
    assert "no tool" in words(unknown)


def test_a_scope_that_the_token_lacks_is_told(provider: Provider) -> None:
    orders = provider("weft.orders.v1.OrderService", access=True)
    token = provider.token("orders.read")

    result = with_client(orders, lambda client: client.call_tool("orders_place_order", {"items": [MUG]}), token=token)

    assert result.is_error
    assert "SCOPE_MISSING" == result.structured_content["reason"]


def test_the_command_serves_over_standard_input_and_output(orders: Mock, tmp_path: Path) -> None:
    orders.expects("GetOrder", name=ORDER).returns(name=ORDER)
    token = tmp_path / "token"
    token.write_text("ann\n")
    weft = str(Path(sys.executable).parent / "weft")
    arguments = ["mcp", "--address", orders.address, "--token-file", str(token)]

    async def talk() -> Any:
        parameters = StdioServerParameters(command=weft, args=arguments, env={"WEFT_DATA": str(tmp_path)})
        async with Client(parameters) as client:
            return await client.call_tool("orders_get_order", {"name": ORDER})

    assert ORDER == asyncio.run(talk()).structured_content["name"]
    assert ["ann"] == [call.token for call in orders.calls]


def test_a_token_that_is_gone_is_told_without_its_place(orders: Mock, tmp_path: Path) -> None:
    token = tmp_path / "token"

    async def talk() -> Any:
        weft = AsyncWeft(orders.address, token=token.read_text)
        async with weft, Client(serving.server(weft)) as client:
            return await client.call_tool("orders_get_order", {"name": ORDER})

    result = asyncio.run(talk())
    assert (True, "UNAUTHENTICATED") == (result.is_error, result.structured_content["code"])
    assert str(tmp_path) not in words(result)


def test_over_http_each_request_brings_its_own_token(orders: Mock) -> None:
    orders.expects("GetOrder", name=ORDER).returns(name=ORDER).times(2)

    async def talk() -> None:
        started: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        weft = AsyncWeft(orders.address, token=serving.bearer)
        serve = asyncio.create_task(serving.http(weft, 0, on_start=started.set_result))
        url = await started
        for name in ("ann", "bob"):
            headers = {"authorization": f"Bearer {name}"}
            async with (
                httpx2.AsyncClient(headers=headers, trust_env=False) as http,
                Client(streamable_http_client(url, http_client=http)) as client,
            ):
                await client.call_tool("orders_get_order", {"name": ORDER})
        serve.cancel()
        await asyncio.gather(serve, return_exceptions=True)

    asyncio.run(talk())
    assert ["ann", "bob"] == [call.token for call in orders.calls]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--user", "ann@example.com"], "go together"),
        (["--token-file", "t", "--http", "0"], "goes neither"),
        (["--address", "localhost:1", "--token-file", "none"], "none"),
        (["--address", "shop.example:80", "--token-file", "token"], "in clear"),
    ],
)
def test_a_wrong_argument_is_one_line(
    arguments: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "token").write_text("ann")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WEFT_DATA", str(tmp_path))

    code = run(["mcp", *arguments])

    errors = capsys.readouterr().err
    assert (2, 1) == (code, errors.count("\n"))
    assert said in errors
