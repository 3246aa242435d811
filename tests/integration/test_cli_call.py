"""`weft call` against a running mesh: what it prints is what a program reads, and an error says all that is known."""

import json
import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.cli.gateway_client import GatewayClient
from deploy.supervisor.mesh import Mesh
from tests.integration.shop import Customer, Shop
from tests.integration.weft_command import COMMAND, environ, weft
from tests.waiting import eventually

pytestmark = pytest.mark.calls

Run = Callable[..., "subprocess.CompletedProcess[str]"]

_TRACE = re.compile(r"weft explain ([0-9a-f]{32})")


@pytest.fixture
def data(mesh: Mesh) -> Path:
    return mesh.secrets.parent


@pytest.fixture
def run(data: Path) -> Run:
    return lambda *arguments, **more: weft(data, *arguments, **more)


@pytest.fixture(scope="module")
def shop(mesh: Mesh, operator: GatewayClient) -> Shop:
    return Shop(mesh, operator)


@pytest.fixture(scope="module")
def customer(shop: Shop) -> Customer:
    return shop.customer()


def test_the_answer_is_json_and_nothing_else_is_said(run: Run, shop: Shop) -> None:
    product = shop.product(name="A mug")

    answer = run("call", "GetProduct", "-d", json.dumps({"name": f"products/{product}"}))

    assert (0, "") == (answer.returncode, answer.stderr)
    said = json.loads(answer.stdout)
    assert (f"products/{product}", "A mug") == (said["name"], said["displayName"])


@pytest.mark.parametrize("name", ["CatalogService/GetProduct", "/weft.catalog.v1.CatalogService/GetProduct"])
def test_any_name_of_a_method_and_a_request_from_standard_input_do(run: Run, shop: Shop, name: str) -> None:
    product = shop.product()

    answer = run("call", name, "--json", "-d", "-", stdin=json.dumps({"name": f"products/{product}"}))

    assert (0, 1) == (answer.returncode, answer.stdout.count("\n"))
    assert f"products/{product}" == json.loads(answer.stdout)["name"]


def test_it_acts_for_a_user(run: Run, shop: Shop, customer: Customer) -> None:
    order = shop.place(customer, {shop.product(): 1})

    mine = run("call", "GetOrder", "--as", customer.id, "-d", json.dumps({"name": order.name}))
    anybody = run("call", "GetOrder", "--as", shop.customer().id, "-d", json.dumps({"name": order.name}))

    assert order.name == json.loads(mine.stdout)["name"]
    assert (1, "") == (anybody.returncode, anybody.stdout)
    assert "ORDER_NOT_FOUND: there is no such order" in anybody.stderr


def test_a_user_that_is_not_there_is_told(run: Run) -> None:
    answer = run("call", "GetProduct", "--as", "nobody-at-all", "-d", '{"name": "products/x"}')

    assert (1, 1) == (answer.returncode, answer.stderr.count("\n"))
    assert "there is no token for nobody-at-all: NOT_FOUND" in answer.stderr


def test_a_refusal_names_reason_rule_and_fix_and_its_trace_can_be_explained(run: Run, shop: Shop) -> None:
    request = json.dumps({"name": f"products/{shop.product()}"})

    answer = run("call", "GetProduct", "--scope", "orders.read", "-d", request)

    assert (1, "") == (answer.returncode, answer.stdout)
    for part in (
        "weft: PERMISSION_DENIED: ",
        "SCOPE_MISSING: The token has none of the scopes catalog.read.",
        "scopes: catalog.read  weft/catalog/v1/catalog.proto:",
        "said by   gateway-",
        "--scope catalog.read",
        f"{str(shop.mesh.status().urls['traces']).rstrip('/')}/traces/",
    ):
        assert part in answer.stderr
    found = _TRACE.search(answer.stderr)
    assert found is not None
    eventually(lambda: "refused by  scopes: catalog.read" in run("explain", found[1]).stdout)


def test_without_a_token_it_says_that_one_is_missing(run: Run) -> None:
    answer = run("call", "ListProducts", "--as", "", "--json")

    error = json.loads(answer.stderr)["error"]
    assert (1, "") == (answer.returncode, answer.stdout)
    assert ("UNAUTHENTICATED", "TOKEN_MISSING") == (error["code"], error["reason"])
    assert error["explanation"]
    assert error["fix"]


def test_what_does_not_exist_is_named_with_the_contracts_own_words(run: Run) -> None:
    answer = run("call", "GetProduct", "-d", '{"name": "products/never-there"}')

    assert 1 == answer.returncode
    assert "reason    PRODUCT_NOT_FOUND: there is no such product" in answer.stderr
    assert "resource  " in answer.stderr


def test_a_request_that_breaks_its_contract_is_not_sent_unless_somebody_insists(run: Run) -> None:
    request = ("-d", '{"name": "no such name"}')

    here, there = run("call", "GetProduct", *request), run("call", "GetProduct", "--no-check", *request)

    assert (2, "", 1) == (here.returncode, here.stdout, here.stderr.count("\n"))
    assert "name: " in here.stderr
    assert 1 == there.returncode
    assert "weft: INVALID_ARGUMENT" in there.stderr
    assert "field     name: " in there.stderr


def test_metadata_goes_along(run: Run, shop: Shop) -> None:
    trace = "0af7651916cd43dd8448eb21" + shop.run[:8]

    answer = run(
        "call", "GetProduct", "-d", '{"name": "products/gone"}', "-H", f"traceparent: 00-{trace}-b7ad6b7169203331-01"
    )

    assert f"weft explain {trace}" in answer.stderr


def test_a_stream_is_printed_as_it_comes_until_ctrl_c(data: Path, shop: Shop, customer: Customer) -> None:
    order = shop.place(customer, {shop.product(): 1})
    command = [*COMMAND, "call", "WatchOrder", "--as", customer.id, "--json", "-d", json.dumps({"name": order.name})]

    with subprocess.Popen(
        command, env=environ(data), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as watching:
        assert watching.stdout is not None
        first = json.loads(watching.stdout.readline())
        watching.send_signal(signal.SIGINT)
        _, complaint = watching.communicate(timeout=60)

    assert order.name == first["order"]["name"]
    assert (130, "weft: stopped\n") == (watching.returncode, complaint)


def test_a_shell_completes_what_runs(run: Run) -> None:
    asking = {"_WEFT_COMPLETE": "complete_bash", "COMP_CWORD": "2"}

    parts = run(more={**asking, "COMP_WORDS": "weft restart catalog-"}).stdout.split()
    services = run(more={**asking, "COMP_WORDS": "weft roll contr"}).stdout.split()

    assert {"catalog-1", "catalog-2"} <= set(parts)
    assert ["control-plane"] == services
