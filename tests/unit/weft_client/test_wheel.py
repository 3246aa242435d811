"""The wheel, installed where nothing else is: it calls, and a program that uses it is typed."""

import subprocess
import sys
from pathlib import Path

import pytest

from svc.contract_tests.session import Provider
from tests.clients import kept, wheel

ORDER = "orders/00000000-0000-4000-8000-000000000001"

PROGRAM = """
import asyncio
import importlib.util
import sys

from weft_client import AsyncWeft, Weft, errors


def place(weft: Weft) -> str:
    try:
        weft.orders.place_order([{"product_id": "none", "quantity": 1}])
    except errors.OutOfStock as refusal:
        print(refusal.violations[0].subject)
    return weft.orders.place_order([{"product_id": "mug", "quantity": 2}]).name


async def watch(address: str, order: str) -> list[int]:
    async with AsyncWeft(address) as weft:
        return [change.order.revision async for change in weft.orders.watch_order(order)]


with Weft(sys.argv[1]) as weft:
    name = place(weft)
print(name)
print(asyncio.run(watch(sys.argv[1], name)))
print([module for module in ("opentelemetry", "svc", "deploy") if importlib.util.find_spec(module)])
"""

WRONG = """
from weft_client import Weft

with Weft() as weft:
    weft.catalog.get_product(1)
    weft.catalog.get_product(names=["products/mug"])
    weft.catalogue
"""


@pytest.fixture(scope="session")
def python() -> Path:
    return wheel.installed()


def test_the_wheel_calls_with_nothing_else_installed(python: Path, provider: Provider) -> None:
    orders = provider("weft.orders.v1.OrderService")
    none = Provider.like(items=[{"product_id": "none", "quantity": 1}])
    missing = [("STOCK", "stock/none", "0 left")]
    orders.expects("PlaceOrder", none).fails("FAILED_PRECONDITION", "OUT_OF_STOCK", violations=missing)
    orders.expects("PlaceOrder", Provider.like(items=[{"product_id": "mug", "quantity": 2}])).returns(name=ORDER)
    orders.expects("WatchOrder", name=ORDER).streams({"order": {"revision": 1}}, {"order": {"revision": 2}})

    command = [str(python), "-I", "-c", PROGRAM, orders.address]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    assert (["stock/none", ORDER, "[1, 2]", "[]"], "") == (done.stdout.splitlines(), done.stderr)


def test_a_program_that_uses_the_wheel_is_typed(python: Path, tmp_path: Path) -> None:
    def checked(program: str) -> list[str]:
        source = tmp_path / "program.py"
        source.write_text(program)
        cache = kept.ROOT / "build" / "clients" / "mypy"
        command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--python-executable", str(python)]
        command += ["--cache-dir", str(cache), "--no-error-summary", "--disable-error-code=import-untyped", str(source)]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False)
        assert "" == done.stderr
        return [line.partition("error: ")[2] for line in done.stdout.splitlines() if "error: " in line]

    assert [] == checked(PROGRAM)
    wrong = checked(WRONG)
    assert any('has incompatible type "int"; expected "str"' in line for line in wrong)
    assert any('Unexpected keyword argument "names"' in line for line in wrong)
    assert any('"Weft" has no attribute "catalogue"' in line for line in wrong)
